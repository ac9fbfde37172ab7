import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.signal import wiener

from bida.physics.consistency import FINE, KEPT_LEAST, LIKELY, agreeing, interpolated, share_kept, without_noise
from bida.physics.geometry import SliceGeometry
from bida.physics.guide import guide
from bida.physics.operators import SliceOperator

GEOMETRY = SliceGeometry(axis=1, slices=6, slice_spacing_mm=0.5, thickness_mm=0.5, voxels=30, voxel_mm=0.1).padded(2, 0)


def normal(shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape)).float()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_what_is_certain_is_kept_in_each_slice_by_itself(axis):
    """A block far above the noise stays, a slice beside it that is noise alone goes."""
    r = 0.01 * normal((40, 40, 40))
    r.select(axis, 7)[8:30, 8:30] += 1.0
    found = without_noise(r, 0.01, axis)
    assert float((found.select(axis, 7)[12:26, 12:26] - 1).abs().max()) < 0.01
    assert float(found.select(axis, 8).square().mean().sqrt()) < 0.1 * 0.01
    assert torch.equal(without_noise(r, 0.0, axis), r)


def test_noise_alone_hardly_passes_where_lees_filter_lets_it():
    r = normal((80, 3, 80))
    lee = np.sqrt(np.square(wiener(r[:, 1].numpy().astype(np.float64), 7, 1.0)).mean())
    coarse, fine = without_noise(r, 1.0, 1), without_noise(r, 1.0, 1, FINE, LIKELY)
    assert float(coarse[:, 1].square().mean().sqrt()) < 0.3 * lee
    assert float(fine[:, 1].square().mean().sqrt()) < 1.5 * lee


def test_a_small_lesion_is_found_by_fine_windows():
    """Three voxels across, two standard deviations bright: lost to the coarse window, mostly found by the fine ones."""
    r = torch.zeros(64, 200, 64)
    r[30:33, :, 30:33] = 2.0
    noisy = r + normal(r.shape)
    coarse, fine = (without_noise(noisy, 1.0, 1, *how) for how in ((), (FINE, LIKELY)))
    found = [float(one[31, :, 31].mean()) / 2 for one in (coarse, fine)]
    assert found[0] < 0.2 and 0.6 < found[1] < 1.05


def test_without_noise_the_slices_are_met_exactly():
    y, operator = normal((8, 6, 8)), SliceOperator.build(GEOMETRY)
    x = normal((8, 32, 8), 1)
    torch.testing.assert_close(operator.forward(agreeing(x, y, operator)), y, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(interpolated(y, GEOMETRY), guide(y, GEOMETRY), atol=1e-5, rtol=1e-5)


def test_a_noisy_scan_leaves_less_bars_than_one_taken_at_its_word():
    truth = torch.from_numpy(gaussian_filter(np.random.default_rng(2).standard_normal((40, 32, 40)), 5)).float()
    truth = truth / truth.std()
    operator = SliceOperator.build(GEOMETRY)
    y = operator.forward(truth) + 0.3 * normal((40, 6, 40), 3)
    assert share_kept(y, 0.3) == KEPT_LEAST and share_kept(y, 1e-3) == 1
    errors = [float((agreeing(truth, y, operator, noise) - truth)[:, 2:].std()) for noise in (0.0, 0.3)]
    assert errors[1] < 0.7 * errors[0]
