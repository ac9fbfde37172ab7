import itertools

import numpy as np
import pytest
import torch

from bida.diffusion.noise import INITIAL, slice_noise, volume_noise
from bida.errors import SettingsError
from bida.physics.grid import PLANES, to_slices

KEY = {"seed": 7, "draw": 1, "stream": 2, "slice_index": 5, "step": 3}


def test_noise_is_a_function_of_its_key():
    first = slice_noise((6, 5), **KEY)
    slice_noise((9, 9), **{**KEY, "slice_index": 6})
    assert first.dtype == np.float32
    assert np.array_equal(first, slice_noise((6, 5), **KEY))


def test_every_key_has_its_own_noise():
    keys = itertools.product((0, 1, 2**64 - 1), (0, 1), (0, 3), (-1, 0, 1), (INITIAL, 0, 1))
    values = {slice_noise((1, 1), *key).item() for key in keys}
    assert len(values) == 3 * 2 * 2 * 3 * 3


def test_noise_is_standard_normal_and_white():
    """Moments of 64^3 values lie within 4 standard errors, and neighbours on each axis are uncorrelated."""
    z = volume_noise((64, 64, 64), "axial", 0, 0, 2, INITIAL).double()
    se = z.numel() ** -0.5
    assert abs(z.mean()) < 4 * se
    assert abs(z.var() - 1) < 4 * se * 2**0.5
    assert abs((z**4).mean() - 3) < 4 * se * 96**0.5  # var(z^4) = 105 - 9
    for axis in range(3):
        neighbours = (z.narrow(axis, 1, 63) * z.narrow(axis, 0, 63)).mean()
        assert abs(neighbours) < 4 * se * 1.01


@pytest.mark.parametrize("plane", PLANES)
def test_a_volume_is_its_slices(plane):
    z = volume_noise((5, 6, 7), plane, 3, 1, 0, 4)
    for k, expected in enumerate(to_slices(z, plane)):
        assert np.array_equal(slice_noise(tuple(expected.shape[1:]), 3, 1, 0, k, 4), expected[0].numpy())


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("padding", [((3, 2), (0, 0), (0, 0)), ((1, 0), (2, 5), (4, 3))])
def test_noise_inside_does_not_depend_on_the_padding(plane, padding):
    shape = (5, 6, 7)
    bare = volume_noise(shape, plane, 0, 0, 1, INITIAL)
    padded_shape = [n + sum(pad) for n, pad in zip(shape, padding)]
    padded = volume_noise(padded_shape, plane, 0, 0, 1, INITIAL, padding)
    inside = tuple(slice(before, before + n) for n, (before, _) in zip(shape, padding))
    assert torch.equal(padded[inside], bare)
    assert padded.unique().numel() == padded.numel()  # the padding repeats nothing


def test_seed_must_fit_the_key():
    with pytest.raises(SettingsError, match="got -1"):
        slice_noise((2, 2), **{**KEY, "seed": -1})
