"""Slices that differ: what was done to a scan is found, and nothing else."""

from __future__ import annotations

from functools import cache

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from bida.mri.synthetic_brain import synthetic_brain
from bida.physics.simulate import simulate_slices
from bida.physics.slice_gains import slice_gains


@cache
def thick_slices(factor: float, seed: int) -> NDArray:
    brain, _ = synthetic_brain(0.15, (64, 100, 60), seed)
    return simulate_slices(brain.astype(np.float64), 0.15, 1, factor)[0]


def head(factor: float = 5.0, snr: float = 0.0, seed: int = 0) -> NDArray:
    """Return a made brain in thick slices along A, with Rician noise where a signal-to-noise ratio is given."""
    thick = thick_slices(float(factor), seed).copy()
    if not snr:
        return thick
    sigma = np.median(thick[thick > 0.3 * thick.max()]) / snr
    real, imaginary = sigma * np.random.default_rng(seed).standard_normal((2, *thick.shape))
    return np.hypot(thick + real, imaginary)


def changed(scan: NDArray, gains: dict[int, float]) -> NDArray:
    out = scan.copy()
    for k, gain in gains.items():
        out[:, k] *= gain
    return out


@pytest.mark.parametrize("snr", [0, 20, 5])
@pytest.mark.parametrize("factor", [2.5, 5])
def test_even_slices_stay_as_they_are(factor: float, snr: float) -> None:
    found = slice_gains(head(factor, snr), 1)
    assert (found.corrected, found.missing) == ((), ())
    assert set(found.divisors) == {1.0}
    known = [gain for gain in found.gains if not np.isnan(gain)]
    assert len(known) >= 8 and np.abs(np.log(known)).max() < 0.12


@pytest.mark.parametrize("snr", [0, 10])
@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("gain", [0.7, 0.9])
def test_every_other_darker_slice_is_found(gain: float, first: int, snr: float) -> None:
    scan = head(snr=snr)
    dark = range(first, scan.shape[1], 2)
    found = slice_gains(changed(scan, dict.fromkeys(dark, gain)), 1)
    assert found.corrected == tuple(dark) and not found.missing
    expected = [gain if k in dark else 1.0 for k in range(scan.shape[1])]
    np.testing.assert_allclose(found.divisors, expected, rtol=0.03)  # two standard errors of the ratio


def test_brighter_slices_are_what_the_others_are_measured_by() -> None:
    scan = head()
    bright = range(1, scan.shape[1], 2)
    found = slice_gains(changed(scan, dict.fromkeys(bright, 1.3)), 1)
    assert found.corrected == tuple(range(0, scan.shape[1], 2))
    np.testing.assert_allclose([found.divisors[k] for k in found.corrected], 1 / 1.3, rtol=0.03)


@pytest.mark.parametrize("snr", [0, 10])
@pytest.mark.parametrize("gain", [0.8, 1.25, 0.5])
@pytest.mark.parametrize("k", [7, 10])
def test_a_single_slice_is_found(k: int, gain: float, snr: float) -> None:
    found = slice_gains(changed(head(snr=snr), {k: gain}), 1)
    assert found.corrected == (k,) and not found.missing
    assert found.divisors[k] == pytest.approx(gain, rel=0.05)
    assert found.gains[k] == found.divisors[k] and 0 < found.uncertainty[k] < 0.1


def test_both_at_once() -> None:
    scan = head(2.5)
    gains = {k: 0.75 if k % 2 else 1.0 for k in range(scan.shape[1])}
    gains[16] = 0.7
    found = slice_gains(changed(scan, gains), 1)
    np.testing.assert_allclose(found.divisors, list(gains.values()), rtol=0.05)


@pytest.mark.parametrize(
    "gains",
    [
        {k: 1 + 0.08 * k for k in range(20)},  # a coil at one end
        {k: np.exp(-((k - 10) ** 2) / 60) for k in range(20)},  # a short coil
        dict.fromkeys(range(10, 20), 0.7),  # a step
        {9: 0.7, 10: 0.7},  # two next slices: which are right is not certain
    ],
)
def test_what_is_no_single_slice_is_not_corrected(gains: dict[int, float]) -> None:
    scan = head()
    assert scan.shape[1] == 20
    found = slice_gains(changed(scan, gains), 1)
    assert set(found.corrected) <= set(range(9, 11)) and not found.missing


@pytest.mark.parametrize("value", [0.0, 7.0])
@pytest.mark.parametrize("lost", [(8,), (6, 11), (9, 10)])
def test_empty_slices_are_found(lost: tuple[int, ...], value: float) -> None:
    scan = head()
    scan[:, list(lost)] = value
    found = slice_gains(scan, 1)
    assert found.empty == found.missing == lost and not found.corrected
    assert all(np.isnan(found.gains[k]) for k in lost)


@pytest.mark.parametrize("lost", [(8,), (6, 11), (9, 10)])
def test_noise_is_no_slice(lost: tuple[int, ...]) -> None:
    rng = np.random.default_rng(1)
    scan = head(snr=20)
    bright, faint = scan.copy(), scan.copy()
    for k in lost:
        bright[:, k] = np.abs(scan[:, k].mean() + scan[:, k].std() * rng.standard_normal(scan[:, k].shape))
        faint[:, k] = np.hypot(*(0.03 * scan.max() * rng.standard_normal((2, *scan[:, k].shape))))
    assert slice_gains(bright, 1).missing == lost
    found = slice_gains(faint, 1)
    assert found.empty == lost and not found.corrupt and not found.corrected


def test_an_outer_slice_without_noise_was_not_acquired() -> None:
    scan = head(snr=20)
    scan[:, 0] = 0
    assert slice_gains(scan, 1).empty == (0,)
    clean = head()
    clean[:, [0, 1, -1]] = 0  # where the air is even, it may be air
    assert slice_gains(clean, 1).missing == ()


def test_the_head_ends_without_a_false_alarm() -> None:
    """A ball whose cuts shrink to nothing, with texture, and air beyond it."""
    x, y, z = np.mgrid[-1:1:64j, -1.6:1.6:120j, -1:1:64j]
    texture = 1 + 0.3 * ndimage.gaussian_filter(np.random.default_rng(0).standard_normal(x.shape), 2) / 0.06
    ball = (x**2 + y**2 + z**2 < 0.9) * texture.clip(0.2)
    for factor in (2.5, 5, 8):
        thick, _ = simulate_slices(ball, 0.15, 1, factor)
        found = slice_gains(thick, 1)
        assert (found.corrected, found.missing) == ((), ())


def test_where_nothing_can_be_known_nothing_is_said() -> None:
    rng = np.random.default_rng(0)
    for scan in (
        200 + 50 * rng.standard_normal((20, 12, 18)),  # slices that have nothing in common
        np.zeros((8, 6, 8)),
        head()[:, 8:10],
        head() - 0.5 * head().max(),  # zero is no absence of signal
    ):
        found = slice_gains(scan, 1)
        assert (found.corrected, found.missing) == ((), ())
        assert set(found.divisors) == {1.0}


def test_the_axis_is_any() -> None:
    scan = changed(head(), {7: 0.7})
    expected = slice_gains(scan, 1)
    for axis in (0, 2):
        found = slice_gains(np.swapaxes(scan, 1, axis), axis)
        assert found.corrected == (7,)
        np.testing.assert_allclose(found.gains, expected.gains, rtol=1e-9)  # sums in another order


def test_the_record_is_plain() -> None:
    scan = changed(head(), {7: 0.7})
    scan[:, 11] = 0
    record = slice_gains(scan, 1).record()
    assert record["missing"] == record["empty"] == [11] and record["corrupt"] == []
    assert record["corrected"] == {"7": pytest.approx(0.7, rel=0.05)}
    assert record["gains"][11] is None and len(record["gains"]) == len(record["uncertainty"]) == 20


@pytest.mark.parametrize(
    "name",
    [
        "mouse-sherm/sub-01/anat/sub-01_T1w.nii.gz",
        "mouse-jax/sub-01/anat/sub-01_T2w.nii.gz",
        "rat-nirodents/sub-15/anat/sub-15_T2w.nii.gz",
        "rat-bold-pontes/sub-04/func/sub-04_run-1_boldref.nii.gz",
    ],
)
def test_real_scans_stay_as_they_are(name, shared_data) -> None:
    image = nib.load(shared_data / name)
    scan, axis = np.squeeze(image.get_fdata()), int(np.argmax(image.header.get_zooms()[:3]))
    found = slice_gains(scan, axis)
    assert (found.corrected, found.missing) == ((), ())
    # and the same scan with every other slice darker does not
    dark = np.moveaxis(scan.copy(), axis, 0)
    dark[1::2] *= 0.7
    assert slice_gains(dark, 0).corrected == tuple(range(1, len(dark), 2))


def test_interleaved_acquisition_of_a_real_scan_is_seen(shared_data) -> None:
    """In this mean of an EPI series even slices are 13% darker than odd ones, from one end to the other."""
    image = nib.load(shared_data / "mouse-jax/sub-01/func/sub-01_task-rest_desc-mean_bold.nii.gz")
    found = slice_gains(np.squeeze(image.get_fdata()), 2)
    assert found.corrected == tuple(range(1, 17, 2)) and not found.missing
    assert found.divisors[1] == pytest.approx(0.87, abs=0.01)
