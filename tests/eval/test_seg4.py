"""The networks of seg-for-4modalities: layers as Keras defines them, read from a wheel; slices and the opened mask."""

from __future__ import annotations

import io
import json
import zipfile

import h5py
import nibabel as nib
import numpy as np
import pytest
import torch
from scipy.signal import correlate2d

from bida.errors import StripperError
from bida.eval.skullstrip import seg4
from bida.eval.skullstrip.seg4 import NETWORK, PATCH, KerasUNet, brain, mean_probability, network_of, probability


def layer(kind, name, inputs, **settings):
    nodes = [[[one, 0, 0, {}] for one in inputs]] if inputs else []
    return {"class_name": kind, "config": {"name": name, **settings}, "inbound_nodes": nodes}


LAYERS = [
    layer("InputLayer", "in", []),
    layer("Conv2D", "a", ["in"], kernel_size=[3, 3], activation="relu"),
    layer("BatchNormalization", "n", ["a"], epsilon=0.001),
    layer("MaxPooling2D", "p", ["n"], pool_size=[2, 2], strides=[2, 2]),
    layer("UpSampling2D", "u", ["p"], size=[2, 2]),
    layer("Conv2D", "b", ["u"], kernel_size=[2, 2], activation="relu"),
    layer("Concatenate", "c", ["n", "b"]),
    layer("Dropout", "d", ["c"], rate=0.5),
    layer("Conv2D", "s", ["d"], kernel_size=[1, 1], activation="sigmoid"),
]
SIZES = {"a": (3, 3, 1, 2), "b": (2, 2, 2, 2), "s": (1, 1, 4, 1)}


@pytest.fixture
def weights():
    draw = np.random.default_rng(0)
    found = {name: [draw.normal(0, 0.5, size), draw.normal(0, 0.5, size[-1])] for name, size in SIZES.items()}
    found["n"] = [draw.uniform(0.5, 1.5, 2), draw.normal(0, 1, 2), draw.normal(0, 1, 2), draw.uniform(0.5, 2, 2)]
    return {name: [one.astype(np.float32) for one in own] for name, own in found.items()}


@pytest.fixture
def content(weights):
    """Return a file of weights as Keras 2 writes it."""
    file = io.BytesIO()
    with h5py.File(file, "w") as h5:
        h5.attrs["model_config"] = json.dumps({"class_name": "Model", "config": {"layers": LAYERS}})
        groups = h5.create_group("model_weights")
        for one in LAYERS:
            name = one["config"]["name"]
            group, own = groups.create_group(name), weights.get(name, [])
            group.attrs["weight_names"] = [f"{name}/{number}:0".encode() for number in range(len(own))]
            for number, values in enumerate(own):
                group[f"{name}/{number}:0"] = values
    return file.getvalue()


def conv(image, kernel, bias):
    """Convolve [H, W, in] as Keras' padding "same" does: what is missing is zero, the odd line behind."""
    rows, columns = (size - 1 for size in kernel.shape[:2])
    padded = np.pad(image, [(rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2), (0, 0)])
    parts = [
        sum(correlate2d(padded[..., i], kernel[..., i, o], "valid") for i in range(kernel.shape[2])) + bias[o]
        for o in range(kernel.shape[3])
    ]
    return np.stack(parts, axis=-1)


def test_layers_are_those_of_keras(content, weights):
    image = np.random.default_rng(1).random((8, 6))
    a = np.maximum(conv(image[..., None], *weights["a"]), 0)
    gamma, beta, mean, variance = weights["n"]
    n = gamma * (a - mean) / np.sqrt(variance + 0.001) + beta
    pooled = n.reshape(4, 2, 3, 2, 2).max(axis=(1, 3))
    b = np.maximum(conv(pooled.repeat(2, axis=0).repeat(2, axis=1), *weights["b"]), 0)
    expected = 1 / (1 + np.exp(-conv(np.concatenate([n, b], axis=-1), *weights["s"])[..., 0]))
    found = KerasUNet.read(content)(torch.from_numpy(image).float()[None, None])[0, 0]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)


def test_weights_come_from_a_wheel_a_folder_or_a_file(content, tmp_path):
    (tmp_path / "unpacked").mkdir()
    (tmp_path / "unpacked" / NETWORK).write_bytes(content)
    with zipfile.ZipFile(tmp_path / "one.whl", "w") as wheel:
        wheel.writestr(f"package/{NETWORK}", content)
        wheel.writestr("package/other.hdf5", b"none")
    image = torch.rand(1, 1, 8, 8)
    first, *others = (network_of(tmp_path / name)(image) for name in ("one.whl", "unpacked", f"unpacked/{NETWORK}"))
    assert all(torch.equal(first, other) for other in others)


@pytest.mark.parametrize("name", ["nothing.whl", "empty.whl", "text.whl"])
def test_what_is_no_wheel_of_it_is_refused(tmp_path, name):
    zipfile.ZipFile(tmp_path / "empty.whl", "w").close()
    (tmp_path / "text.whl").write_text("none")
    with pytest.raises(StripperError, match=f"{name}: must be the wheel of seg-for-4modalities"):
        network_of(tmp_path / name)


def test_every_pixel_is_seen_once_and_where_it_is():
    volume = np.random.default_rng(0).random((PATCH + 30, 50, 2)).astype(np.float32)
    np.testing.assert_allclose(probability(lambda image: image, volume), volume, atol=1e-6)
    rows = probability(lambda image: torch.arange(PATCH)[:, None] + 0 * image, volume)
    assert (np.diff(rows[0, :, 0]) == 1).all(), "the volume's second axis is the image's, up is its end"


def test_pixel_sizes_are_averaged_on_the_volumes_grid():
    volume = np.linspace(0, 1, 40, dtype=np.float32)[:, None, None] * np.ones((40, 30, 3), np.float32)
    found = mean_probability(lambda image: image, 7 * volume + 2, (0.13, 0.13, 1.0))
    np.testing.assert_allclose(found[3:-3], volume[3:-3], atol=0.01)


def test_bridges_are_cut_and_holes_filled():
    x, y = np.meshgrid(np.arange(60), np.arange(60), indexing="ij")
    disc, other = np.hypot(x - 20, y - 30) < 14, np.hypot(x - 50, y - 30) < 6
    bridge = (abs(y - 30) < 2) & (x > 20) & (x < 50)
    probable = np.repeat((disc | other | bridge)[..., None], 3, axis=2).astype(np.float32)
    probable[18:22, 28:32, 1] = 0
    found = brain(probable, (0.1, 0.1, 1.0))
    assert not found[other].any() and found[disc & ~bridge].mean() > 0.97 and found[20, 30, 1]
    assert not brain(np.zeros((20, 20, 2), np.float32), (0.1, 0.1, 1.0)).any()


@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1)])
def test_the_mask_is_written_on_the_scans_grid_and_slices_are_the_thick_ones(tmp_path, monkeypatch, order):
    def middle(image):
        assert image.shape[2:] == (PATCH, PATCH) and (image.std(dim=(2, 3)) > 0).all(), "every slice shows the disc"
        return image

    monkeypatch.setattr(seg4, "network_of", lambda path: middle)
    x, y = np.meshgrid(np.arange(40), np.arange(40), indexing="ij")
    image = np.repeat(100.0 * (np.hypot(x - 18, y - 21) < 12)[..., None], 4, axis=2).astype(np.float32)
    image, sizes = image.transpose(order), np.array([0.13, 0.13, 0.5])[list(order)]
    nib.save(nib.Nifti1Image(image, np.diag([*sizes, 1])), tmp_path / "scan.nii.gz")
    seg4.strip("wheel", tmp_path / "scan.nii.gz", tmp_path / "mask.nii.gz")
    found = np.asarray(nib.load(tmp_path / "mask.nii.gz").dataobj) > 0
    assert 2 * (found & (image > 0)).sum() / (found.sum() + (image > 0).sum()) > 0.97
