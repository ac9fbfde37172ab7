"""The brick index: 1 where borders are like the rest, the factor where they are not, whatever scale and direction."""

import math

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from bida.errors import SettingsError
from bida.eval import brick_index, slice_borders
from bida.physics.interpolation import cubic, spline
from bida.physics.simulate import simulate_slices

SHAPE = (30, 90, 34)


def smooth(seed=0, sigma=1.5):
    return gaussian_filter(np.random.default_rng(seed).normal(size=SHAPE), sigma, mode="wrap")


def acquired(volume, factor, axis=1):
    slices, geometry = simulate_slices(volume, 0.15, axis, factor)
    return slices, geometry, slice_borders(geometry.slice_centres_mm(), geometry.voxel_centres_mm())


@pytest.mark.parametrize("axis", range(3))
def test_against_the_definition_voxel_by_voxel(axis):
    rng = np.random.default_rng(axis)
    shape = [5, 6, 7]
    shape[axis] = 16
    volume, mask = rng.normal(size=shape), rng.random(shape) > 0.3
    borders = [2.5, 5.9, 12.9]  # within the pairs 2 | 3, 5 | 6 and 12 | 13
    across, within = [], {1: [], 2: [], 3: []}  # by whole voxels from the nearest border
    away = {3: 1, 4: 1, 6: 1, 7: 2, 8: 3, 9: 3, 10: 2, 11: 1}
    for p in np.ndindex(volume.shape):
        q = tuple(np.add(p, np.eye(3, dtype=int)[axis]))
        if q[axis] < volume.shape[axis] and mask[p] and mask[q]:
            step = abs(volume[q] - volume[p])
            if p[axis] in (2, 5, 12):
                across.append(step)
            elif p[axis] in away:
                within[away[p[axis]]].append(step)
    expected = np.mean(across) / np.median([np.mean(steps) for steps in within.values()])
    assert brick_index(volume, axis, borders, mask) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("factor", [2.5, 3.3, 5.0])
def test_structure_that_knows_nothing_of_borders_has_one(factor):
    found = [brick_index(volume := smooth(seed), 1, acquired(volume, factor)[2]) for seed in range(4)]
    # 2,000 to 4,000 independent patches a border at these sizes: means differ by about 1%
    assert np.mean(found) == pytest.approx(1, abs=0.03), found


@pytest.mark.parametrize("factor", [2.5, 3.3, 5.0])
def test_bars_a_slice_high_show_as_large_as_they_are(factor):
    volume = smooth()
    _, geometry, borders = acquired(volume, factor)
    offsets = np.random.default_rng(1).normal(size=(SHAPE[0], geometry.slices, SHAPE[2]))
    bars = spline(offsets.astype(np.float32), geometry, order=0)
    found = [brick_index(volume + strength * bars, 1, borders) for strength in (0, 0.1, 0.2, 0.4)]
    assert found[0] < 1.05 and found == sorted(found) and found[-1] > 2, found


def test_at_whole_factors_the_index_is_the_ratio_of_steps():
    # a ramp whose step is 3 at every fifth pair and 1 at the others: 20 slices of 5 voxels
    steps = np.where(np.arange(99) % 5 == 4, 3.0, 1.0)
    ramp = np.concatenate([[0], np.cumsum(steps)])
    volume = np.broadcast_to(ramp[None, :, None], (4, 100, 3))
    borders = slice_borders(np.arange(20) * 0.75, np.arange(100) * 0.15 - 0.3)
    np.testing.assert_allclose(borders, np.arange(1, 20) * 5 - 0.5)
    assert brick_index(volume, 1, borders) == pytest.approx(3.0, rel=1e-12)


def test_a_border_within_a_voxel_has_both_its_pairs():
    # 2.5x: every other border goes through a voxel, which takes half of either slice, so that both steps are larger
    borders = slice_borders(np.arange(8) * 2.5 + 0.75, np.arange(20))
    np.testing.assert_allclose(borders, np.arange(1, 8) * 2.5 - 0.5)
    steps = np.ones(19)
    pairs = [int(np.floor(b)) for b in borders] + [int(b) - 1 for b in borders if b == int(b)]
    steps[pairs] = 2.0
    volume = np.broadcast_to(np.concatenate([[0], np.cumsum(steps)]), (3, 4, 20))
    assert brick_index(volume, 2, borders) == pytest.approx(2.0, rel=1e-12)
    assert brick_index(volume, 2, borders + 1e-6) == pytest.approx(2.0, rel=1e-12), "headers round"


@pytest.mark.parametrize("factor", [2.5, 3.3, 5.0])
def test_scale_offset_sign_and_direction_do_not_matter(factor):
    slices, geometry, borders = acquired(smooth(), factor)
    volume = cubic(slices, geometry).astype(np.float64)
    expected = brick_index(volume, 1, borders)
    for changed in (3e4 * volume, volume + 500, -volume, 1e-3 * volume - 7):
        assert brick_index(changed, 1, borders) == pytest.approx(expected, rel=1e-9)
    mirrored = SHAPE[1] - 1 - borders[::-1]
    assert brick_index(volume[:, ::-1], 1, mirrored) == pytest.approx(expected, rel=1e-9)
    assert brick_index(np.moveaxis(volume, 1, 2), 2, borders) == pytest.approx(expected, rel=1e-9)


def test_what_lies_outside_the_mask_does_not_count():
    volume, mask = smooth(), np.zeros(SHAPE, dtype=bool)
    mask[5:25, 10:80, 6:30] = True
    borders = acquired(volume, 5.0)[2]
    expected = brick_index(volume, 1, borders, mask)
    assert expected == pytest.approx(brick_index(volume[5:25, 10:80, 6:30], 1, borders - 10), rel=1e-12)
    assert brick_index(np.where(mask, volume, 1e6), 1, borders, mask) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("factor", [2.0, 5.0])
def test_copies_of_slices_have_no_end_and_what_is_flat_has_one(factor):
    slices, geometry, borders = acquired(smooth(), factor)
    assert brick_index(spline(slices, geometry, order=0), 1, borders) == math.inf
    assert brick_index(np.full(SHAPE, 3.0), 1, borders) == 1.0


@pytest.mark.parametrize(
    "change, message",
    [
        ({"volume": np.zeros((3, 4))}, r"volume must be \[R, A, S\]"),
        ({"axis": 3}, "axis 0, 1 or 2"),
        ({"mask": np.ones((2, 2, 2))}, "mask must have the shape"),
        ({"volume": np.full((4, 8, 4), np.nan)}, "must be finite"),
        ({"borders": []}, "borders must be a list"),
        ({"borders": [[1.5]]}, "borders must be a list"),
        ({"borders": [20.5]}, "neighbours across slice borders"),
        ({"borders": np.arange(8) + 0.5}, "and within slices"),
        ({"borders": [3.5]}, "and within slices"),
        ({"mask": np.zeros((4, 8, 4))}, "neighbours across slice borders"),
    ],
)
def test_bad_requests_are_refused(change, message):
    given = {"volume": np.random.default_rng(0).normal(size=(4, 8, 4)), "axis": 1, "borders": [0.5, 3.5], **change}
    with pytest.raises(SettingsError, match=message) as error:
        brick_index(given["volume"], given["axis"], given["borders"], given.get("mask"))
    assert "\n" not in str(error.value)


def test_one_slice_has_no_border():
    with pytest.raises(SettingsError, match="at least 2 slices"):
        slice_borders([0.0], [0.0, 1.0])
