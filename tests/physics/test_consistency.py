import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.signal import wiener

from bida.physics.consistency import WINDOW, agreeing, interpolated, without_noise
from bida.physics.geometry import SliceGeometry
from bida.physics.guide import guide
from bida.physics.operators import SliceOperator

GEOMETRY = SliceGeometry(axis=1, slices=6, slice_spacing_mm=0.5, thickness_mm=0.5, voxels=30, voxel_mm=0.1).padded(2, 0)


def normal(shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape)).float()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_what_is_certain_is_kept_in_each_slice_by_itself(axis):
    """A step far above the noise stays, a slice beside it that is noise alone goes."""
    r = 0.01 * normal((30, 30, 30))
    r.select(axis, 7)[10:20] += 1.0
    found = without_noise(r, 0.01, axis)
    torch.testing.assert_close(found.select(axis, 7), r.select(axis, 7), atol=0.05, rtol=0)
    assert float(found.select(axis, 8).square().mean().sqrt()) < 0.1 * 0.01


def test_noise_alone_hardly_passes_where_lees_filter_lets_it():
    r = normal((80, 3, 80))
    lee = wiener(r[:, 1].numpy().astype(np.float64), WINDOW, 1.0)
    assert float(without_noise(r, 1.0, 1)[:, 1].square().mean().sqrt()) < 0.4 * np.sqrt(np.square(lee).mean())


def test_noise_is_taken_out_and_what_was_missed_stays():
    noise, missed = 0.1 * normal((64, 4, 64)), torch.zeros(64, 4, 64)
    missed[20:28, 2, 20:28] = 0.5
    found = without_noise(noise + missed, 0.1, axis=1)
    assert float(found[:, 0].std()) < 0.1 * 0.1
    assert float(found[22:26, 2, 22:26].mean()) == pytest.approx(0.5, abs=0.05)
    assert torch.equal(without_noise(noise, 0.0, 1), noise)


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
    errors = [float((agreeing(truth, y, operator, noise) - truth)[:, 2:].std()) for noise in (0.0, 0.3)]
    assert errors[1] < 0.4 * errors[0]
