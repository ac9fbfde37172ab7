"""Microscopy stacks as training data."""

import numpy as np
import pytest

from bida.errors import SettingsError
from bida.microscopy import load
from bida.microscopy.dataset import StackSlices
from bida.microscopy.load import IntensityLine, load_stack
from bida.microscopy.stacks.paths import split_range
from bida.microscopy.stacks.stack import Stack, block_mean
from bida.training.start import names

RNG = np.random.default_rng(0)
STACKS = {
    "one.tif": RNG.integers(0, 200, (1, 8, 10, 12)).astype(np.uint8),
    "two.tif": RNG.integers(0, 4000, (1, 6, 9, 9)).astype(np.uint16),
    "pair.tif": RNG.integers(0, 4000, (2, 6, 9, 9)).astype(np.uint16),
    "flat.tif": np.ones((1, 4, 9, 9), np.uint8),
}


@pytest.fixture(autouse=True)
def files(monkeypatch):
    monkeypatch.setattr(
        load,
        "read_stack",
        lambda path, voxel_um, **more: Stack(STACKS[path], (2.0, 1.0, 1.0), ("a", "b")[: len(STACKS[path])], path),
    )


def slices(stacks, **options):
    return StackSlices(stacks, lambda data: data, **options)


@pytest.mark.parametrize(
    "spec, expected",
    [
        ("a.tif", ("a.tif", slice(None))),
        ("a.tif[3:7]", ("a.tif", slice(3, 7))),
        ("a.tif[:7]", ("a.tif", slice(None, 7))),
        ("d[1]/a.tif[3:]", ("d[1]/a.tif", slice(3, None))),
        ("d[1]/a.tif", ("d[1]/a.tif", slice(None))),
    ],
)
def test_ranges(spec, expected):
    assert split_range(spec) == expected


def test_names():
    assert names("a.tif, b.tif[0:3]") == ["a.tif", "b.tif[0:3]"] == names(["a.tif", "b.tif[0:3]"])


def test_block_mean_against_loops():
    data = STACKS["pair.tif"]
    mean = block_mean(Stack(data, (2.0, 1.0, 1.0), ("a", "b")), 2)
    found = mean.data
    assert found.shape == (2, 3, 4, 4) and found.dtype == np.float32 and mean.spacing_um == (4.0, 2.0, 2.0)
    for index in np.ndindex(found.shape):
        c, z, y, x = index
        cube = data[c, 2 * z : 2 * z + 2, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2]
        assert found[index] == pytest.approx(cube.astype(float).mean(), rel=1e-6)


def test_a_range_is_taken_before_the_mean_and_the_clip():
    stack = load_stack("one.tif[2:7]", block=2, clip_percentile=50)
    expected = block_mean(Stack(STACKS["one.tif"][:, 2:7], (2.0, 1.0, 1.0), ("a",)), 2).data
    np.testing.assert_allclose(stack.data, np.minimum(expected, np.percentile(expected, 50)), rtol=1e-6)
    assert stack.spacing_um == (4.0, 2.0, 2.0)


def test_the_line_and_its_inverse():
    data = STACKS["pair.tif"].astype(np.float32)
    line = IntensityLine.of(data)
    found = line.forward(data)
    for channel, values in enumerate(data):
        ends = np.percentile(values, load.PERCENTILES).astype(np.float32)
        np.testing.assert_allclose(np.interp(ends, [line.low[channel], line.high[channel]], [-1, 1]), [-1, 1])
    assert found.min() < -1 and found.max() > 1  # nothing is clipped
    np.testing.assert_allclose(line.backward(found), data, atol=1e-3)


@pytest.mark.parametrize("plane, shape", [("xy", (1, 10, 12)), ("xz", (1, 8, 12)), ("yz", (1, 8, 10))])
def test_slices_are_those_of_the_stack_with_z_along_the_rows(plane, shape):
    data = slices(["one.tif"], planes=[plane])
    normal = IntensityLine.of(STACKS["one.tif"]).forward(STACKS["one.tif"])[0]
    every = np.moveaxis(normal, {"xy": 0, "xz": 1, "yz": 2}[plane], 0)
    for index in range(5):
        image = data[index]["image"].numpy()
        assert image.shape == shape
        assert any(np.array_equal(image[0], one) for one in every)
        assert np.array_equal(image, data[index]["image"].numpy())


def test_stacks_count_by_their_slices():
    data = slices(["one.tif[0:2]", "two.tif"], length=10)
    share = np.mean([data[index]["image"].shape[1] == 9 for index in range(800)])
    assert share == pytest.approx(6 / 8, abs=5 * np.sqrt(0.75 * 0.25 / 800))
    assert data.channels == 1


@pytest.mark.parametrize(
    "stacks, options, message",
    [
        ([], {}, "stacks: at least one"),
        (["one.tif"], {"planes": ["axial"]}, "planes: must be some of xy, xz, yz"),
        (["one.tif", "pair.tif"], {}, "one number of channels"),
        (["flat.tif"], {}, "more than one value"),
        (["one.tif[8:]"], {}, "must hold planes of 8, it holds none"),
        (["one.tif"], {"block_mean": 9}, "one.tif: block mean must be from 1 to the stack's shortest side, 8 voxels"),
        (["one.tif"], {"block_mean": 0}, "block mean must be from 1 to the stack's shortest side, 8 voxels, got 0"),
        (["one.tif"], {"clip_percentile": 0}, "clip_percentile: must be above 0"),
        (["one.tif", "two.tif"], {"block_mean": [2]}, "block_mean: must be one value or one a stack, 2, got 1"),
    ],
)
def test_what_cannot_be_used_is_refused(stacks, options, message):
    with pytest.raises(SettingsError, match=message):
        slices(stacks, **options)


def test_each_stack_has_its_own_mean_and_clip_and_channels_may_stand_apart():
    data = slices(["one.tif", "pair.tif"], block_mean=[2, 1], clip_percentile=[None, 50], apart=True)
    first, *channels = (volume for volume, _ in data.slices["axial"])
    one, pair = load_stack("one.tif", 2).data, load_stack("pair.tif", 1, 50).data
    assert np.array_equal(first[..., 0], IntensityLine.of(one).forward(one)[0]) and data.channels == 1
    for found, expected in zip(channels, IntensityLine.of(pair).forward(pair), strict=True):
        assert np.array_equal(found[..., 0], expected)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["diffusion", "msunet", "e2e", "guided"])
def test_training_writes_weights_and_resumes(method, tmp_path):
    """Through the bundle's configurations; the average of a run in two parts is that of the whole run."""
    import torch
    from conftest import ROOT
    from monai.bundle import ConfigWorkflow

    from bida.microscopy.prior import MaskedPrior

    def train(folder, **overrides):
        configs = [str(ROOT / "configs" / name) for name in ("train.yaml", "masked_train.yaml", "masked_small.yaml")]
        workflow = ConfigWorkflow(
            configs, workflow_type="train", run_id="training", logging_file=False, stacks=["one.tif"],
            validation_stacks=["two.tif"], output_dir=str(tmp_path / folder), method=method,
            widths=[8] if method == "guided" else [8, 16], rows=None if method in ("e2e", "guided") else [2, 3],
            mask_channel=method in ("diffusion", "msunet"), crop=[8, 8], steps_per_epoch=3, batch_size=2, warmup=2,
            epochs=2, **overrides,
        )  # fmt: skip
        workflow.initialize()
        workflow.run()
        return workflow.parser.get_parsed_content("average_network").state_dict()

    whole = train("whole")
    train("parts", **{"train#trainer#max_epochs": 1})
    resumed = train("parts")
    for name, value in whole.items():
        torch.testing.assert_close(resumed[name], value, msg=name)
    assert MaskedPrior.load(tmp_path / "whole" / "model.pt").method == method
