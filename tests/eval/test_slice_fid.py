import numpy as np
import pytest

from bida.errors import SettingsError
from bida.eval import plane_slices, seam_index, slice_fid


def test_slices_of_the_three_planes():
    stack = np.random.default_rng(0).normal(size=(2, 3, 4, 5))
    xy, xz, yz = (plane_slices(stack, plane) for plane in ("XY", "XZ", "YZ"))
    for c, z, y, x in np.ndindex(stack.shape):
        assert stack[c, z, y, x] == xy[z, c, y, x] == xz[y, c, z, x] == yz[x, c, z, y]
    with pytest.raises(SettingsError, match="plane must be one of XY, XZ, YZ, got 'ZX'"):
        plane_slices(stack, "ZX")
    with pytest.raises(SettingsError, match=r"stack must be \[C, Z, Y, X\]"):
        plane_slices(stack[0], "XY")


def two_rows(slices):
    """First and last row's mean: two features that tell planes apart."""
    return slices[:, 0, [0, -1]].mean(axis=2)


def test_slice_fid_of_known_gaussians():
    """Independent planes of means N(0, 1): XY features (a, a); along z the first and last plane are fixed numbers."""
    stack = np.zeros((1, 400, 6, 7))
    stack[0] = np.random.default_rng(1).normal(size=(400, 1, 1))
    reference = np.broadcast_to(3 + 2 * np.random.default_rng(2).normal(size=(500, 1, 1, 1)), (500, 1, 6, 7))
    got = slice_fid(stack, reference, two_rows, "none")
    m, s = stack[0, :, 0, 0].mean(), stack[0, :, 0, 0].std(ddof=1)
    M, S = reference[:, 0, 0, 0].mean(), reference[:, 0, 0, 0].std(ddof=1)
    ends = stack[0, [0, -1], 0, 0]
    assert got.xy == pytest.approx(2 * (m - M) ** 2 + 2 * (s - S) ** 2)  # both covariances are s^2 [[1, 1], [1, 1]]
    side = np.square(ends - M).sum() + 2 * S**2  # all XZ slices are alike: no covariance
    assert got.xz == pytest.approx(side) and got.yz == pytest.approx(side)
    assert got.mean == pytest.approx((got.xy + got.xz + got.yz) / 3)


@pytest.mark.parametrize("axis", [1, 2, 3])
@pytest.mark.parametrize("period", [2, 4, 8])
def test_copies_have_the_root_of_period_less_one(axis, period):
    planes = np.random.default_rng(3).normal(size=(1, 6, 20, 20))
    copies = np.moveaxis(np.repeat(planes, period, axis=1), 1, axis)
    assert seam_index(copies, period, axis) == pytest.approx(np.sqrt(period - 1), rel=1e-9)


def test_truth_and_linear_interpolation_have_no_seam_and_a_stitched_volume_has():
    truth = np.random.default_rng(4).normal(size=(1, 65, 40, 40))
    ramps = np.linspace(0, 1, 4, endpoint=False)[:, None, None]
    linear = np.concatenate([a + (b - a) * ramps for a, b in zip(truth[0, :-1:4], truth[0, 4::4])])[None]
    assert seam_index(truth, 4) < 0.01
    assert seam_index(linear, 4) < 1e-6
    offsets = np.repeat(np.random.default_rng(5).normal(size=17), 4)[:65, None, None]  # a step at each tile border
    assert seam_index(truth + 5 * offsets, 4) > 0.2


def test_steps_that_grow_evenly():
    """From plane to plane by 2.5% of the mean: by s = 10% a period, whose phases are s (j - 1.5) / 4 off."""
    z = np.cumsum([0, *np.tile(1 + 0.025 * (np.arange(4) - 1.5), 6)])
    stack = np.broadcast_to(z[:, None, None], (1, 25, 3, 3))
    assert seam_index(stack, 4) == pytest.approx(0.1 / np.sqrt(12) * np.sqrt(1 - 1 / 4**2), rel=1e-9)


def test_a_known_profile():
    """Steps 1, 1, 1, 3 in every period: relative to the mean 1.5, two thirds three times and 2."""
    z = np.cumsum([0, *[1, 1, 1, 3] * 5]).astype(float)
    stack = np.broadcast_to(z[:, None, None], (1, 21, 3, 3))
    expected = np.sqrt((3 * (1 / 3) ** 2 + 1) / 4)
    assert seam_index(stack, 4) == pytest.approx(expected)
    assert seam_index(stack, 5) < expected / 2


def test_seam_refusals():
    stack = np.random.default_rng(6).normal(size=(1, 8, 3, 3))
    with pytest.raises(SettingsError, match="at least 9 planes are needed for period 4, got 8"):
        seam_index(stack, 4)
    with pytest.raises(SettingsError, match="period >= 2, got 1 and 1"):
        seam_index(stack, 1)
    with pytest.raises(SettingsError, match="must hold a change"):
        seam_index(np.zeros((1, 9, 3, 3)), 2)


def test_scatter_of_the_steps_is_not_a_seam():
    """Steps with a spread of 20% leave 0.2 / sqrt(3 periods) x sqrt(3/4) = 0.1 at the phases by chance."""
    found = []
    for seed in range(200):
        z = np.cumsum([0, *(1 + 0.2 * np.random.default_rng(seed).normal(size=12))])
        found.append(seam_index(np.broadcast_to(z[:, None, None], (1, 13, 2, 2)), 4))
    assert np.mean(np.array(found) == 0) > 0.15 and np.sqrt(np.mean(np.square(found))) < 0.08
