"""How far apart pixels differ as much as planes do: known fields, noise of each plane, planes that do not count."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from bida.microscopy.likeness import alike_distance, finer_factor
from bida.microscopy.load import Seen
from bida.microscopy.stacks.stack import Stack

FACTOR = 3


def planes(data):
    return Stack(data, (3.0, 1.0, 1.0), tuple("abc"[: len(data)]), "made")


def field(seed=0, shape=(40, 96, 96)):
    """An isotropic field, 3 pixels wide, whose every third plane is kept: [1, 14, 96, 96]."""
    drawn = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 3, mode="wrap")
    return (drawn / drawn.std())[None, ::FACTOR]


def test_an_isotropic_field_differs_as_much_as_far_as_its_planes_are_apart():
    # 96 x 96 pixels hold some 250 patches as wide as the field's structure: 1 in 16 of a variance, half of a distance
    assert alike_distance(planes(field()), FACTOR) == pytest.approx(FACTOR, rel=0.04)


def test_white_noise_leaves_it_and_noise_of_a_plane_that_its_pixels_share_raises_it():
    draw = np.random.default_rng(1)
    noise = draw.normal(size=field().shape)
    smooth = gaussian_filter(noise, (0, 0, 3, 3))
    shared = smooth * (noise.std() / smooth.std())
    white, in_plane = (alike_distance(planes(field() + 0.5 * one), FACTOR) for one in (noise, shared))
    # D = 2 (1 - exp(-d^2 / 4 w^2)), w = 3; the shared noise of variance 1/4 adds 1/2 between planes, and within them
    # 1/2 of the same exponential
    lag = np.linspace(0, 6, 601)
    rising = 1 - np.exp(-(lag**2) / 36)
    expected = np.interp(2 * (1 - np.exp(-9 / 36)) + 0.5, 2.5 * rising, lag)
    assert white == pytest.approx(FACTOR, rel=0.05)
    assert in_plane == pytest.approx(expected, rel=0.06) and expected > 4


def test_dark_planes_and_brightness_do_not_count():
    data = field()
    expected = alike_distance(planes(data), FACTOR)
    data = data + np.arange(data.shape[1])[None, :, None, None]  # each plane as a whole
    data[:, [4, 9]] = 0
    assert alike_distance(planes(data), FACTOR) == pytest.approx(expected, rel=0.1)


def test_bright_spots_are_seen_as_the_network_sees_them():
    data = field().astype(np.float32)
    expected = alike_distance(planes(data), FACTOR)
    data[:, ::2, 40:44, 40:44] = 1e4
    spotted = planes(data)
    assert alike_distance(spotted, FACTOR, Seen.of(spotted, 99.0)) == pytest.approx(expected, rel=0.1)
    assert alike_distance(spotted, FACTOR) > 1.2 * expected


@pytest.mark.parametrize("shape", [(1, 1, 96, 96), (1, 4, 12, 96)])
def test_it_cannot_be_told_of_one_plane_or_of_small_ones(shape):
    data = np.random.default_rng(0).normal(size=shape)
    assert alike_distance(planes(data), FACTOR) is None


def test_nor_of_constant_planes():
    empty = planes(np.ones((2, 4, 96, 96), np.uint8))
    assert alike_distance(empty, FACTOR) is None
    half = replace(empty, data=np.concatenate([field(), np.ones_like(field())]))
    assert alike_distance(half, FACTOR) == alike_distance(planes(field()), FACTOR)


@pytest.mark.parametrize(
    "factor, distance, expected",
    [
        (1, 1.4, 1),  # there is nothing between planes
        (2, 1.5, 3),
        (2, 3.6, 4),
        (2.5, None, 3),
        (4, 4.9, 5),
        (4, 7.3, 7),
        (6, 9.9, 8),  # networks were taught no more
        (8, 16, 8),
        (10, 16, 10),
    ],
)
def test_the_factor_that_follows(factor, distance, expected):
    assert finer_factor(factor, distance) == expected
