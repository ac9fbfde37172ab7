import math

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from bida.errors import SettingsError
from bida.eval import consistency_residual, psnr, ssim

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


SMALL = RNG.normal(size=(11, 11, 11))
CASES = {
    "random": (NOISY, TRUTH, 2.0),
    "smallest volume": (SMALL, SMALL + 0.5 * RNG.normal(size=SMALL.shape), 5.0),
    "anticorrelated": (-TRUTH, TRUTH, 2.0),
    "constant against structure": (np.full_like(TRUTH, 0.3), TRUTH, 2.0),
    "two constants": (np.full_like(TRUTH, 0.3), np.full_like(TRUTH, 0.5), 1.0),
    "scanner units": (3e4 + 1e4 * NOISY, 3e4 + 1e4 * TRUTH, 2e4),
    "far apart": (TRUTH + 50, TRUTH, 2.0),
}


@pytest.mark.parametrize("case", CASES)
def test_equal_to_scikit_image(case):
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    x, truth, data_range = CASES[case]
    expected = peak_signal_noise_ratio(truth, x, data_range=data_range)
    assert psnr(x, truth, data_range) == pytest.approx(expected, rel=1e-12)
    expected = structural_similarity(
        truth, x, data_range=data_range, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert ssim(x, truth, data_range) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_equal_to_monai(case):
    import torch
    from monai.metrics import PSNRMetric, SSIMMetric

    x, truth, data_range = CASES[case]
    a, b = (torch.from_numpy(v)[None, None] for v in (x, truth))
    expected = float(PSNRMetric(max_val=data_range)(a, b))
    assert psnr(x, truth, data_range) == pytest.approx(expected, rel=1e-6, abs=1e-5)
    # MONAI takes variances in float32 as mean square less squared mean: an error of some 1e-6 of the latter, beside the
    # constant (0.03 data_range)^2 that is all there is where both are constant
    expected = float(SSIMMetric(spatial_dims=3, data_range=data_range, win_size=11, kernel_sigma=1.5)(a, b))
    assert ssim(x, truth, data_range) == pytest.approx(expected, abs=1e-3)


def test_ssim_of_constants_is_its_first_factor():
    """(2 a b + C1) / (a^2 + b^2 + C1), C1 = (0.01 data_range)^2."""
    x, truth, data_range = CASES["two constants"]
    assert ssim(x, truth, data_range) == pytest.approx((2 * 0.3 * 0.5 + 1e-4) / (0.09 + 0.25 + 1e-4), rel=1e-9)


def test_consistency_residual_of_known_slices():
    slices = np.array([[1.0, 5.0], [2.0, 3.0]])
    degraded = np.array([[1.1, 5.0], [1.8, 3.0]])
    assert consistency_residual(degraded, slices) == pytest.approx(0.2 / 4)
    assert consistency_residual(slices, slices) == 0.0
    assert consistency_residual(3 * degraded + 7, 3 * slices + 7) == pytest.approx(0.2 / 4)


def test_consistency_residual_refuses_bad_slices():
    slices = np.array([1.0, 2.0])
    with pytest.raises(SettingsError, match=r"on one grid, got shapes \(1,\) and \(2,\)"):
        consistency_residual(slices[:1], slices)
    with pytest.raises(SettingsError, match="NaN or Inf in degraded"):
        consistency_residual(np.array([1.0, math.nan]), slices)
    with pytest.raises(SettingsError, match="slices must hold more than one value, got 2 everywhere"):
        consistency_residual(slices, np.array([2.0, 2.0]))


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
