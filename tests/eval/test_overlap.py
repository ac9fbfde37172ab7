import math

import numpy as np
import pytest
from scipy.ndimage import binary_erosion, distance_transform_edt, generate_binary_structure
from scipy.optimize import brentq

from bida.errors import SettingsError, StripperError
from bida.eval import cdsc, dice, hd95_mm

RNG = np.random.default_rng(0)


def ball(size: int, radius: float, shift: float = 0.0) -> np.ndarray:
    """A ball of a radius in voxels, its centre off the grid so that no symmetry helps, shifted along axis 1."""
    index = np.indices((size, size, size)) - (size - 1) / 2
    return (index[0] - 0.31) ** 2 + (index[1] - shift - 0.17) ** 2 + (index[2] + 0.29) ** 2 <= radius**2


def threshold(volume, affine):
    return volume > 0.5


MASKS = {
    "sparse": RNG.random((2, 9, 8, 7)) < 0.05,
    "half": RNG.random((2, 9, 8, 7)) < 0.5,
    "full": np.ones((2, 5, 6, 7), bool),
    "disjoint": np.stack([np.arange(27).reshape(3, 3, 3) < 13, np.arange(27).reshape(3, 3, 3) >= 13]),
    "single voxels": np.stack([np.arange(64).reshape(4, 4, 4) == 0, np.arange(64).reshape(4, 4, 4) == 63]),
    "one inside the other": np.stack([ball(12, 5), ball(12, 3)]),
}


@pytest.mark.parametrize("case", [*MASKS, "first empty", "both empty"])
def test_dice_equals_monai(case):
    import torch
    from monai.metrics import compute_dice

    a, b = MASKS.get(case, MASKS["half"])
    if "empty" in case:
        a = np.zeros_like(a)
        b = np.zeros_like(b) if case == "both empty" else b
    monai = float(compute_dice(torch.tensor(a[None, None]).float(), torch.tensor(b[None, None]).float())[0, 0])
    assert dice(a, b) == pytest.approx(monai, rel=1e-6, nan_ok=True)
    assert dice(b, a) == pytest.approx(dice(a, b), rel=1e-15, nan_ok=True)
    assert math.isnan(dice(a, b)) == (case == "both empty")


def test_dice_of_known_masks():
    a, b = np.array([1, 1, 1, 0, 0]), np.array([0, 0, 1, 1, 0])
    assert dice(a, b) == 2 * 1 / (3 + 2)
    assert dice(a, a) == 1.0
    assert type(dice(a, b)) is float  # numpy's own numbers do not go to JSON
    assert dice(a, 1 - a) == 0.0


@pytest.mark.parametrize("shift", [1.0, 2.5, 7.0, 15.0, 23.0, 24.5])
def test_cdsc_of_a_shifted_ball(shift):
    radius = 12.0
    volume, moved = (ball(49, radius, s).astype(np.float32) for s in (-shift / 2, shift / 2))
    expected = max(0.0, 1 - 3 * shift / (4 * radius) + shift**3 / (16 * radius**3))
    # Voxels on the surface count whole or not at all, with errors of 1 / sqrt(12) voxel that hardly depend on each
    # other: of a ball's 4 pi r^2 and of the at most as many of the intersection. Four standard deviations of both.
    surface, ball_voxels = 4 * math.pi * radius**2, 4 / 3 * math.pi * radius**3
    tolerance = 4 * math.sqrt(2 * surface / 12) / ball_voxels
    assert tolerance < 0.011
    assert cdsc(moved, volume, np.eye(4), threshold) == pytest.approx(expected, abs=tolerance)


def test_cdsc_of_a_volume_with_itself_is_one():
    volume = RNG.normal(size=(9, 8, 7)).astype(np.float32)
    assert cdsc(volume, volume.copy(), np.diag([0.15, 0.15, 0.15, 1]), threshold) == 1.0


def test_cdsc_hands_the_stripper_volume_and_affine_and_keeps_its_own():
    affine = np.diag([0.1, 0.2, 0.3, 1.0])
    volume = ball(15, 5).astype(np.float32)
    seen = []

    def greedy(given, where):
        seen.append((given.copy(), where.copy()))
        mask = given > 0.5
        given[:], where[:] = 0, 0
        return mask

    assert cdsc(volume, volume, affine, greedy) == 1.0
    assert volume.any() and affine[0, 0] == 0.1
    assert all(np.array_equal(given, volume) and np.array_equal(where, affine) for given, where in seen)


@pytest.mark.parametrize(
    "stripper, message",
    [
        (lambda volume, affine: np.zeros(volume.shape, bool), "empty mask"),
        (lambda volume, affine: volume[1:] > 0.5, "volume's shape"),
        (lambda volume, affine: volume, "boolean"),
    ],
    ids=["empty", "another grid", "not a mask"],
)
def test_cdsc_refuses_what_is_no_brain_mask(stripper, message):
    volume = ball(15, 5).astype(np.float32)
    with pytest.raises(StripperError, match=message):
        cdsc(volume, volume, np.eye(4), stripper)


def hd95_by_distance_transform(a, b, spacing):
    """The definition by another route: erosion with a 6-neighbourhood, exact Euclidean distance transform."""
    faces = generate_binary_structure(3, 1)
    edges = [mask & ~binary_erosion(mask, faces, border_value=0) for mask in (a, b)]
    to = [distance_transform_edt(~edge, sampling=spacing) for edge in edges]
    return max(np.percentile(to[1][edges[0]], 95), np.percentile(to[0][edges[1]], 95))


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.15, 0.15, 0.75)])
@pytest.mark.parametrize("case", MASKS)
def test_hd95_equals_a_distance_transform(case, spacing):
    a, b = MASKS[case]
    expected = hd95_by_distance_transform(a, b, spacing)
    # MONAI keeps distances as float32
    assert hd95_mm(a, b, spacing) == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert hd95_mm(b, a, spacing) == pytest.approx(expected, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("axis", range(3))
def test_hd95_of_a_shifted_box_is_the_shift(axis):
    """A third of a cube's surface, far more than a twentieth, lies a whole shift from the other cube's."""
    spacing = (0.1, 0.2, 0.3)
    box = np.zeros((20, 20, 20), bool)
    box[4:14, 4:14, 4:14] = True
    assert hd95_mm(np.roll(box, 2, axis), box, spacing) == pytest.approx(2 * spacing[axis], rel=1e-6)
    assert hd95_mm(box, box, spacing) == 0.0


def test_hd95_of_a_shifted_ball():
    """From a point at angle t, cos t uniform on the surface, the other sphere is | |p - d| - r | away."""
    radius, shift, voxel = 12.0, 5.0, 0.15

    def share_below(distance):  # of the sphere, by the cosines at which the distance is reached on either side
        outer = ((radius + distance) ** 2 - radius**2 - shift**2) / (2 * radius * shift)
        inner = (radius**2 + shift**2 - (radius - distance) ** 2) / (2 * radius * shift)
        return (min(outer, 1.0) + min(inner, 1.0)) / 2

    expected = brentq(lambda d: share_below(d) - 0.95, 0.1, shift)
    a, b = ball(41, radius, -shift / 2), ball(41, radius, shift / 2)
    # either surface is that of voxel centres inside a sphere, up to one voxel below it: their difference is below one
    assert hd95_mm(a, b, (voxel,) * 3) == pytest.approx(expected * voxel, abs=voxel)
    assert hd95_mm(a, b, (voxel,) * 3) == pytest.approx(voxel * hd95_mm(a, b, (1, 1, 1)), rel=1e-5)


def test_bad_input_is_refused():
    a = ball(9, 3)
    with pytest.raises(SettingsError, match=r"on one grid, got shapes \(8, 9, 9\) and \(9, 9, 9\)"):
        dice(a[1:], a)
    with pytest.raises(SettingsError, match="b must be a mask of 0 and 1"):
        dice(a, 2 * a)
    with pytest.raises(SettingsError, match="a must be a mask of 0 and 1"):
        dice(np.where(a, np.nan, 0), a)
    for name, pair in (("a", (np.zeros_like(a), a)), ("b", (a, np.zeros_like(a)))):
        with pytest.raises(SettingsError, match=f"mask {name} must hold at least one voxel"):
            hd95_mm(*pair, (1, 1, 1))
    for bad in ((1, 1), (1, 1, 0), (1, math.nan, 1)):
        with pytest.raises(SettingsError, match="spacing_mm must be 3 positive numbers"):
            hd95_mm(a, a, bad)
    with pytest.raises(SettingsError, match="cdsc needs x and truth on one grid"):
        cdsc(a[1:], a, np.eye(4), threshold)
