"""Label maps and masks are no scans."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from conftest import MakeScan, smooth_phantom

from bida.errors import ScanError
from bida.io.label_map import looks_like_labels
from bida.io.scan import read_scan
from bida.mri.synthetic_brain import synthetic_brain

SHAPE = (40, 10, 30)


def patches(count: int = 60, seed: int = 0) -> np.ndarray:
    """Return cells around random points, [X, Y, Z], in a ball."""
    from scipy.spatial import cKDTree

    grid = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1) / SHAPE
    cells = cKDTree(np.random.default_rng(seed).uniform(size=(count, 3))).query(grid)[1] + 1
    return np.where(np.linalg.norm(grid - 0.5, axis=-1) < 0.45, cells, 0)


LABELS = {
    "patches": patches(),
    "numbers of the Allen atlas": patches() * 10_000_019,
    "as floats": patches().astype(np.float32),
    "mask": patches() > 0,
    "mask of 255": (patches() > 0) * 255.0,
    "labels without a background": patches(8) + 5,
}


@pytest.mark.parametrize("name", LABELS)
def test_labels_are_known(name: str) -> None:
    assert looks_like_labels(np.asarray(LABELS[name], dtype=LABELS[name].dtype if name != "mask" else np.uint8))


@pytest.mark.parametrize("levels", [10, 255, 4000])
@pytest.mark.parametrize("extracted", [False, True])
def test_scans_of_few_grey_levels_are_not(levels: int, extracted: bool) -> None:
    volume, _ = synthetic_brain(0.25, (48, 60, 40), 1)
    noisy = np.abs(volume / volume.max() + np.random.default_rng(0).normal(0, 0.05, volume.shape))
    if extracted:
        noisy[volume < 0.2 * volume.max()] = 0
    for values in (np.rint(noisy * levels).astype(np.int16), np.rint(noisy * levels)):
        assert not looks_like_labels(values)
    assert not looks_like_labels(noisy)


@pytest.mark.parametrize("step", [2.0, 10.0])
def test_a_smooth_scan_without_noise_is_not(step: float) -> None:
    shape, affine = (40, 12, 40), np.diag([0.15, 0.75, 0.15, 1.0])
    assert not looks_like_labels(np.rint(smooth_phantom(shape, affine) / step).astype(np.int16))


def test_labels_as_a_scan_are_refused_with_a_hint(make_scan: MakeScan) -> None:
    path = make_scan(SHAPE, values=patches(), dtype=np.int16)
    with pytest.raises(ScanError, match=r"scan\.nii\.gz: a scan must hold intensities, .* --labels"):
        read_scan(path, labels=False)
    np.testing.assert_array_equal(read_scan(path, labels=True).data, patches())


def test_a_scan_as_labels_is_refused(make_scan: MakeScan) -> None:
    with pytest.raises(ScanError, match=r"--labels is for label maps and masks, got intensities; leave it out"):
        read_scan(make_scan(values=smooth_phantom), labels=True)


def test_large_numbers_of_labels_stay(make_scan: MakeScan) -> None:
    numbers = patches() * 10_000_019  # float32 would round them
    data = read_scan(make_scan(SHAPE, values=numbers, dtype=np.int32), labels=True).data
    np.testing.assert_array_equal(data, numbers)
    assert nib.load(make_scan(SHAPE, values=numbers, dtype=np.int32)).get_data_dtype() == np.int32
