"""OpenSRH's folder as training data of masked networks."""

import json

import numpy as np
import pytest
import torch
from conftest import ROOT
from monai.bundle import ConfigParser

from bida.cli.parser import main
from bida.errors import ScanError, SettingsError
from bida.microscopy import dataset
from bida.microscopy.dataset import OpenSrhSlices, masked_slices, validation_stacks
from bida.microscopy.load import PERCENTILES
from bida.microscopy.stacks.opensrh import opensrh_patches, read_patch
from bida.training import run as training_command


def slices(root, split="train", **options):
    return masked_slices([str(root)], split, lambda data: data, **options)


def normalised(path):
    """A patch [3, H, W], each channel between its own percentiles."""
    patch = read_patch(path).astype(np.float64)
    low, high = np.percentile(patch, PERCENTILES, axis=(1, 2), keepdims=True)
    return 2 * (patch - low) / (high - low) - 1


@pytest.mark.parametrize("split, kinds, count", [("train", None, 6), ("val", None, 2), ("train", ["normal"], 2)])
def test_every_patch_of_a_split_is_drawn_and_none_else(opensrh, split, kinds, count):
    data = slices(opensrh, split, kinds=kinds)
    paths = opensrh_patches(opensrh, split, kinds or dataset.KINDS)
    expected = np.stack([normalised(path) for path in paths])
    assert len(paths) == count and data.channels == 3
    draws, seen = 300, np.zeros(count)
    for index in range(draws):
        image = data[index]["image"].numpy()
        errors = np.abs(expected - image).max(axis=(1, 2, 3))
        assert image.dtype == np.float32 and errors.min() < 1e-5
        seen[errors.argmin()] += 1
    share = seen / draws
    assert np.abs(share - 1 / count).max() < 5 * np.sqrt(1 / count * (1 - 1 / count) / draws), share


def test_a_draw_is_that_of_a_stack_of_as_many_slices(opensrh):
    """Sample i is a function of the seed and i, the one that slices in memory have."""
    from bida.training.dataset import SliceStacks

    paths = opensrh_patches(opensrh, "train")
    held = np.stack([np.moveaxis(normalised(path).astype(np.float32), 0, -1) for path in paths])
    memory = SliceStacks({"axial": [(held, np.arange(len(held)))]}, lambda data: data, seed=4)
    lazy = slices(opensrh, seed=4)
    for index in (0, 3, 10**6):
        torch.testing.assert_close(lazy[index]["image"], memory[index]["image"], atol=1e-5, rtol=0)


def test_patches_are_read_when_they_are_drawn(opensrh, monkeypatch):
    read = []
    monkeypatch.setattr(dataset, "read_patch", lambda path: read.append(path) or read_patch(path))
    data = slices(opensrh)
    assert not read
    assert data[0]["image"].shape == (3, 16, 18) and len(read) == 1
    for path in opensrh_patches(opensrh, "train"):
        path.unlink()
    with pytest.raises(ScanError, match=r"\.tif: must be a TIFF that can be read"):
        data[0]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"planes": ["xy", "xz"]}, r"planes holds for stacks alone and must be \['xy'\] .*, got \['xy', 'xz'\]; leave"),
        ({"block_mean": 2}, "block_mean holds for stacks alone and must be 1 for OpenSRH's patches, got 2"),
        ({"clip_percentile": 99.0}, "clip_percentile holds for stacks alone and must be null .*, got 99.0"),
        ({"voxel_um": [1, 1, 1]}, "voxel_um holds for stacks alone"),
        ({"kinds": ["glioma"]}, "kinds: must be among tumor, normal, nondiagnostic, got glioma"),
        ({"kinds": ["normal"], "split": "val"}, "split val must list patches that are normal, it lists none"),
    ],
)
def test_what_does_not_hold_for_patches_is_refused(opensrh, options, message):
    with pytest.raises(SettingsError, match=message):
        slices(opensrh, **options)


def test_the_folder_is_named_alone_and_without_a_range(opensrh):
    for names in ([f"{opensrh}[0:4]"], [str(opensrh), "a.tif"], [str(opensrh)] * 2):
        with pytest.raises(SettingsError, match="opensrh: OpenSRH's folder must be named alone"):
            masked_slices(names, "train", lambda data: data)
    with pytest.raises(SettingsError, match="kinds: must be null for stacks"):
        masked_slices(["a.tif"], "train", lambda data: data, kinds=["tumor"])


def test_what_is_validated_on(opensrh):
    assert validation_stacks([str(opensrh)], []) == [str(opensrh)]
    assert validation_stacks(["a.tif"], ["b.tif"]) == ["b.tif"]
    with pytest.raises(SettingsError, match=r"must be named for stacks such as a\.tif, got none; give --val STACK"):
        validation_stacks(["a.tif"], [])


def test_the_command_names_the_folder_for_both_splits(opensrh, monkeypatch, capsys):
    called = []
    monkeypatch.setattr(training_command, "run_training", lambda *arguments: called.append(arguments))
    assert main(["train-masked", str(opensrh), "--output", "out"]) == 0
    fixed = called[0][-1]
    assert fixed == {"stacks": [str(opensrh)], "validation_stacks": [str(opensrh)], "output_dir": "out"}
    assert main(["train-masked", "a.tif"]) == 2 and "give --val STACK" in capsys.readouterr().err


def test_a_crop_is_refused_before_anything_is_read(tmp_path, capsys):
    words = ["--output", str(tmp_path / "run"), "--set", "method=e2e", "--set", "crop=[24, 48]"]
    assert main(["train-masked", "none.tif", "--val", "none.tif", *words]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("bida: error: crop: rows must be a multiple of 16"), error


@pytest.mark.parametrize("setting", ["method=e2e rows=[2,3]", "method=msunet prediction=v", "method=e2e timesteps=500"])
def test_a_setting_that_the_method_has_no_use_for_is_refused(tmp_path, capsys, setting):
    """Before anything is read."""
    method, (name, _, _) = setting.split()[0], setting.split()[1].partition("=")
    words = [word for pair in setting.split() for word in ("--set", pair)]
    assert main(["train-masked", "none.tif", "--val", "none.tif", "--output", str(tmp_path / "run"), *words]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith(f"bida: error: {name}: must be null with {method.replace('=', ' ')}, which has no"), error


def test_a_value_of_a_configuration_that_nothing_refers_to_is_refused(tmp_path, capsys):
    """`emphasis` and `unguided` are train.yaml's, for what masked slices have no part in."""
    (tmp_path / "own.yaml").write_text("emphasis: 3.0\nunguided: 0.5\nepoch: 2\nwidths: '@levels'\nlevels: [64, 128]\n")
    assert main(["train-masked", "none.tif", "--val", "none.tif", "--config", str(tmp_path / "own.yaml")]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith(f"bida: error: {tmp_path / 'own.yaml'}: every value must have a use"), error
    assert "nothing refers to emphasis, epoch, unguided;" in error, error


@pytest.mark.parametrize(
    "base, over",
    [
        (["train.yaml"], "on_device.yaml"),
        (["train.yaml", "on_device.yaml"], "release_train.yaml"),
        (["train.yaml"], "multi_gpu_train.yaml"),
        (["train.yaml", "masked_train.yaml"], "masked_small.yaml"),
        (["train.yaml", "masked_train.yaml"], "masked_release.yaml"),
        (["train.yaml", "masked_train.yaml"], "multi_gpu_train.yaml"),
    ],
)
def test_the_bundles_own_configurations_have_uses_for_all(base, over):
    names = [str(ROOT / "configs" / name) for name in (*base, over)]
    training_command.check_used(
        names[-1], ConfigParser.load_config_file(names[-1]), ConfigParser.load_config_files(names)
    )


@pytest.mark.slow
def test_training_on_patches(opensrh, tmp_path, monkeypatch):
    """Through the command: a network of three channels learns from one split and is validated on the other."""
    from bida.microscopy.prior import MaskedPrior

    split = []
    monkeypatch.setattr(dataset, "opensrh_patches", lambda *a: split.append(a[1]) or opensrh_patches(*a))
    values = {"widths": [8, 16], "rows": [2, 3], "crop": [8, 8], "steps_per_epoch": 2, "batch_size": 2, "warmup": 1}
    values |= {"epochs": 1, "num_workers": 0, "dtype": "float32"}
    words = [word for name, value in values.items() for word in ("--set", f"{name}={json.dumps(value)}")]
    assert main(["train-masked", str(opensrh), "--output", str(tmp_path / "run"), *words]) == 0
    assert sorted(split) == ["train", "val"]
    assert MaskedPrior.load(tmp_path / "run" / "model.pt").image_channels == 3


@pytest.mark.slow
def test_a_damaged_patch_is_one_line(opensrh, tmp_path, capsys):
    for path in opensrh_patches(opensrh, "train"):
        path.write_bytes(b"II*")
    words = ["--set", "widths=[8]", "--set", "crop=[8, 8]", "--set", "rows=[2, 3]", "--set", "dtype=float32"]
    assert main(["train-masked", str(opensrh), "--output", str(tmp_path / "run"), *words]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith(f"bida: error: {opensrh}") and "must be a TIFF that can be read" in error, error


def test_a_folder_without_lists_is_refused(tmp_path):
    with pytest.raises(ScanError, match="name the data set's root"):
        OpenSrhSlices(tmp_path, "train", lambda data: data)
