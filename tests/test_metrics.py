import math

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from bida.errors import SettingsError
from bida.eval import psnr, ssim

RNG = np.random.default_rng(0)
TRUTH = gaussian_filter(RNG.normal(size=(24, 20, 16)), 2) * 10
NOISY = TRUTH + 0.1 * RNG.normal(size=TRUTH.shape)
BOX = np.zeros(TRUTH.shape, bool)
BOX[7:15, 8:12, 6:10] = True


def test_psnr_of_a_known_error():
    x = TRUTH.copy()
    x[::2] += 0.3
    x[1::2] -= 0.3
    assert psnr(x, TRUTH, data_range=3.0) == pytest.approx(20.0)  # 10 log10(9 / 0.09)


def test_psnr_counts_the_mask_only():
    x = TRUTH + np.where(BOX, 0.1, 5.0)
    assert psnr(x, TRUTH, data_range=1.0, mask=BOX) == pytest.approx(20.0)


def test_psnr_of_equal_volumes_is_infinite():
    assert psnr(TRUTH, TRUTH, data_range=1.0) == math.inf


def ssim_by_definition(x, y, data_range, where):
    """Wang et al. 2004 eq. 13 at one voxel after another, with an explicit 11^3 Gaussian window."""
    axis = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    window = axis[:, None, None] * axis[None, :, None] * axis[None, None, :]
    window /= window.sum()
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    values = []
    for i, j, k in zip(*np.nonzero(where)):
        a, b = (v[i - 5 : i + 6, j - 5 : j + 6, k - 5 : k + 6] for v in (x, y))
        ma, mb = (window * a).sum(), (window * b).sum()
        va, vb = (window * (a - ma) ** 2).sum(), (window * (b - mb) ** 2).sum()
        cov = (window * (a - ma) * (b - mb)).sum()
        values.append((2 * ma * mb + c1) * (2 * cov + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2)))
    return float(np.mean(values))


@pytest.mark.parametrize("mask", [None, BOX], ids=["whole", "mask"])
def test_ssim_against_its_definition(mask):
    inner = np.zeros(TRUTH.shape, bool)
    inner[5:-5, 5:-5, 5:-5] = True
    where = inner if mask is None else inner & mask
    got = ssim(NOISY, TRUTH, data_range=2.0, mask=mask)
    assert 0.5 < got < 0.99
    assert got == pytest.approx(ssim_by_definition(NOISY, TRUTH, 2.0, where), rel=1e-6)


def test_ssim_is_symmetric_and_one_for_equal_volumes():
    assert ssim(TRUTH, TRUTH, data_range=2.0) == pytest.approx(1.0, abs=1e-12)
    assert ssim(NOISY, TRUTH, data_range=2.0) == pytest.approx(ssim(TRUTH, NOISY, data_range=2.0), rel=1e-12)


def test_a_full_mask_is_no_mask():
    everything = np.ones(TRUTH.shape, bool)
    for metric in (psnr, ssim):
        assert metric(NOISY, TRUTH, 2.0, mask=everything) == pytest.approx(metric(NOISY, TRUTH, 2.0), rel=1e-12)


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_bad_input_is_refused(metric):
    with pytest.raises(TypeError, match="data_range"):
        metric(NOISY, TRUTH)
    with pytest.raises(SettingsError, match=r"on one grid, got shapes \(24, 20, 15\) and \(24, 20, 16\)"):
        metric(NOISY[..., 1:], TRUTH, 1.0)
    for bad in (0.0, -1.0, math.nan):
        with pytest.raises(SettingsError, match="data_range must be > 0"):
            metric(NOISY, TRUTH, bad)
    with pytest.raises(SettingsError, match="mask must have the shape of x"):
        metric(NOISY, TRUTH, 1.0, mask=BOX[..., 1:])
    with pytest.raises(SettingsError, match="at least one voxel"):
        metric(NOISY, TRUTH, 1.0, mask=np.zeros_like(BOX))
    with pytest.raises(SettingsError, match="NaN or Inf in truth"):
        metric(NOISY, np.where(BOX, np.nan, TRUTH), 1.0)


def test_ssim_needs_room_for_its_window():
    with pytest.raises(SettingsError, match="every dimension must be >= 11 long"):
        ssim(NOISY[..., :10], TRUTH[..., :10], 1.0)
    rim = np.zeros_like(BOX)
    rim[0] = True
    with pytest.raises(SettingsError, match="away from the border"):
        ssim(NOISY, TRUTH, 1.0, mask=rim)
