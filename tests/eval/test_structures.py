import math

import numpy as np
import pytest

from bida.errors import SettingsError
from bida.eval import agreement, dice, structure_dice, structure_volumes, volume_errors

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 5, size=(7, 8, 9))
OTHER = np.where(RNG.random(LABELS.shape) < 0.3, RNG.integers(0, 5, size=LABELS.shape), LABELS)


def test_volumes_of_known_boxes():
    labels = np.zeros((6, 5, 4), np.uint8)
    labels[:2, :3, :4] = 7
    labels[4, 4, 0] = 12
    affine = np.diag([0.1, 0.2, 0.5, 1.0])  # 0.01 mm^3 a voxel
    assert structure_volumes(labels, affine) == pytest.approx({"7": 0.24, "12": 0.01})


def test_volumes_do_not_depend_on_where_the_grid_points():
    """Shear keeps a voxel's volume, a turn and a flip too; the product of the columns' lengths would be wrong."""
    affine = np.diag([0.1, 0.2, 0.5, 1.0])
    c, s = math.cos(0.4), math.sin(0.4)
    turn, shear, flip = np.eye(4), np.eye(4), np.diag([-1.0, 1, 1, 1])
    turn[:2, :2], shear[0, 2], shear[1, 2] = [[c, -s], [s, c]], 0.8, -0.3
    moved = turn @ shear @ flip @ affine
    moved[:3, 3] = (3.0, -2.0, 9.0)
    assert not np.isclose(np.prod(np.linalg.norm(moved[:3, :3], axis=0)), 0.01, rtol=0.1)
    assert structure_volumes(LABELS, moved) == pytest.approx(structure_volumes(LABELS, affine), rel=1e-12)


def test_volumes_add_up_to_the_foreground():
    assert sum(structure_volumes(LABELS, np.eye(4)).values()) == np.count_nonzero(LABELS)


def test_names_choose_order_and_join_structures():
    names = {3: "hippocampus", 1: "cortex", 4: "hippocampus", 99: "absent"}
    found = structure_volumes(LABELS, np.eye(4), names)
    assert list(found) == ["hippocampus", "cortex", "absent"]
    assert found["hippocampus"] == np.isin(LABELS, (3, 4)).sum()
    assert found["cortex"] == (LABELS == 1).sum()
    assert found["absent"] == 0.0


def test_structure_dice_is_the_dice_of_every_mask():
    found = structure_dice(LABELS, OTHER)
    assert found == pytest.approx(
        {str(k): dice(np.isin(LABELS, k), np.isin(OTHER, k)) for k in (1, 2, 3, 4)}, rel=1e-12
    )
    assert all(0.3 < value < 1 for value in found.values())
    assert structure_dice(LABELS.astype(np.float32), LABELS) == dict.fromkeys("1234", 1.0)


def test_structure_dice_of_named_and_absent_structures():
    found = structure_dice(LABELS, np.where(OTHER == 1, 0, OTHER), {2: "joint", 3: "joint", 1: "lost", 50: "absent"})
    assert found["joint"] == pytest.approx(dice(np.isin(LABELS, (2, 3)), np.isin(OTHER, (2, 3))), rel=1e-12)
    assert found["lost"] == 0.0
    assert math.isnan(found["absent"])


def test_a_structure_of_either_map_is_compared():
    a, b = np.array([[[1, 0]]]), np.array([[[0, 2]]])
    assert structure_dice(a, b) == {"1": 0.0, "2": 0.0}
    assert structure_dice(np.zeros_like(a), np.zeros_like(b)) == {}


def test_volume_errors():
    errors = volume_errors({"a": 1.1, "b": 3.0, "d": 9.0}, {"a": 1.0, "b": 4.0, "c": 2.0, "e": 0.0})
    assert errors == pytest.approx({"a": 10.0, "b": -25.0, "c": -100.0, "e": math.nan}, nan_ok=True)


def test_agreement_of_a_case_by_hand():
    """Differences 1, 2, 3: mean 2, standard deviation 1 with 3 - 1 as divisor; 10%, 10% and 30% of the reference."""
    found = agreement([11.0, 22.0, 13.0], [10.0, 20.0, 10.0])
    assert (found.bias, found.sd, found.n) == (2.0, 1.0, 3)
    assert (found.lower, found.upper) == pytest.approx((2 - 1.96, 2 + 1.96))
    assert found.bias_percent == pytest.approx(50 / 3)


def test_limits_of_agreement_hold_95_percent():
    """Of Gaussian differences; the share of 20 000 has a standard deviation of sqrt(.95 .05 / 20 000) = 0.0015."""
    rng = np.random.default_rng(1)
    reference = rng.uniform(1, 2, 20_000)
    test = reference + rng.normal(0.3, 0.2, reference.size)
    found = agreement(test, reference)
    difference = test - reference
    assert np.mean((difference > found.lower) & (difference < found.upper)) == pytest.approx(0.95, abs=0.006)
    assert agreement(reference, test).bias == pytest.approx(-found.bias)


def test_agreement_of_one_animal_has_no_spread():
    found = agreement([1.5], [1.0])
    assert (found.bias, found.bias_percent, found.n) == (0.5, 50.0, 1)
    assert all(math.isnan(value) for value in (found.sd, found.lower, found.upper))


def test_a_reference_of_zero_has_no_percentage():
    found = agreement([1.0, 2.0], [0.0, 2.0])
    assert found.bias == 0.5
    assert math.isnan(found.bias_percent)


def test_bad_input_is_refused():
    affine = np.eye(4)
    with pytest.raises(SettingsError, match="labels must be a label map of integers"):
        structure_volumes(LABELS + 0.5, affine)
    with pytest.raises(SettingsError, match="b must be a label map of integers"):
        structure_dice(LABELS, np.where(LABELS == 1, np.nan, LABELS))
    with pytest.raises(SettingsError, match="on one grid"):
        structure_dice(LABELS, LABELS[1:])
    for bad in (np.diag([1.0, 1, 0, 1]), np.diag([1.0, 1, math.nan, 1]), np.eye(3)):
        with pytest.raises(SettingsError, match="affine must be an invertible 4 x 4"):
            structure_volumes(LABELS, bad)
    with pytest.raises(SettingsError, match="label 0 is background"):
        structure_volumes(LABELS, affine, {0: "outside", 1: "cortex"})
    with pytest.raises(SettingsError, match="two lists of one length"):
        agreement([1.0, 2.0], [1.0])
    with pytest.raises(SettingsError, match="two lists of one length"):
        agreement([], [])
    with pytest.raises(SettingsError, match="NaN or Inf"):
        agreement([1.0, math.nan], [1.0, 1.0])
