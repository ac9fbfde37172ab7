"""Packed files hold what folders would have given."""

import nibabel as nib
import numpy as np
import pytest

from bida.errors import SettingsError
from bida.io.bids import find_animals
from bida.training.data import label_bank, training_images, write_pack
from bida.training.dataset import SliceDataset
from bida.training.label_maps import LabelMap
from bida.training.pack import read_packed_labels
from bida.training.pixels import STEP


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("sub-1", "sub-2"):
        path = tmp_path / "mice" / name / "anat" / f"{name}_T2w.nii.gz"
        path.parent.mkdir(parents=True)
        data = np.pad(rng.uniform(200, 1000, (10, 12, 8)), 2).astype(np.float32)
        nib.save(nib.Nifti1Image(data, np.diag([0.15, 0.15, 0.15, 1])), path)
    return tmp_path / "mice"


def test_images_and_labels_come_back(folder, tmp_path):
    labels = LabelMap("labels/one", np.ones((4, 5, 6), np.uint8), 0.1)
    images = {"train": find_animals([folder], exclude=["sub-2"]), "tuning": find_animals([folder], include=["sub-2"])}
    write_pack(tmp_path / "pack.npz", images, [labels])
    for split, name in (("train", "sub-1"), ("tuning", "sub-2")):
        (one,) = training_images(["nowhere"], packed=tmp_path / "pack.npz", tuning=split == "tuning")
        assert (one.subject, one.data_set, one.split) == (name, "mice", split)
        packed, plain = (
            SliceDataset(data, lambda item: item, pairs=True, shares={"mice": 1.0}) for data in ([one], images[split])
        )
        for plane in plain.planes:
            (a, useful_a), (b, useful_b) = packed.slices[plane][0], plain.slices[plane][0]
            assert np.array_equal(useful_a, useful_b) and np.abs(a - b).max() <= STEP / 2 + 1e-6
    (back,) = read_packed_labels(tmp_path / "pack.npz")
    assert back.name == labels.name and back.voxel_mm == 0.1 and np.array_equal(back.labels, labels.labels)
    assert label_bank(None, tmp_path / "pack.npz") is not None


def test_what_is_no_pack_is_said(folder, tmp_path):
    (tmp_path / "text.npz").write_text("no pack")
    np.save(tmp_path / "array.npy", np.zeros(3))
    write_pack(tmp_path / "pack.npz", {"train": find_animals([folder])})
    for name in ("text.npz", "array.npy", "missing.npz"):
        with pytest.raises(SettingsError, match="packed must be a file of benchmarks/pack"):
            training_images([], packed=tmp_path / name)
    with pytest.raises(SettingsError, match="must hold images for tuning"):
        training_images([], packed=tmp_path / "pack.npz", tuning=True)
