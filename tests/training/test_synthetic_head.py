"""Synthetic heads: the brain stays what it was, the head lies around it, chance comes from the draw alone."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt

from bida.training.synthetic_head import (
    Frame,
    distance_mm,
    ellipsoid,
    grow_cord,
    grow_head,
    paint_labels,
    paint_tissues,
    smooth_field,
)

SHAPE = (40, 44, 36)
VOXEL_MM = 0.4


def frame() -> Frame:
    lines = [(torch.arange(n) - (n - 1) / 2) * VOXEL_MM for n in SHAPE]
    return Frame(torch.stack(torch.meshgrid(*lines, indexing="ij")), (4.0, 5.5, 3.0), VOXEL_MM)


def brain() -> tuple[torch.Tensor, torch.Tensor]:
    mask = ellipsoid(frame(), (0, 0, 0), (4.0, 5.5, 3.0))
    return torch.full(SHAPE, 0.7), mask


def draw(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


@pytest.mark.parametrize("seed", range(4))
def test_the_brain_is_left_as_it_is(seed):
    image, mask = brain()
    head = grow_head(draw(seed), image, mask, frame())
    torch.testing.assert_close(head[mask], image[mask], rtol=0, atol=0)
    assert head.shape == SHAPE and torch.isfinite(head).all() and head.min() >= 0


@pytest.mark.parametrize("seed", range(4))
def test_a_head_is_larger_than_its_brain_and_leaves_air(seed):
    image, mask = brain()
    tissue = grow_head(draw(seed), image, mask, frame()) > 0
    assert tissue.sum() > 1.3 * mask.sum()
    assert not tissue[:, :, -1].all(), "the head must not fill the field of view to its top"


def test_heads_differ_by_their_draw_alone():
    image, mask = brain()
    first, again, other = (grow_head(draw(seed), image, mask, frame()) for seed in (1, 1, 2))
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    assert not torch.equal(first, other)


def test_distance_is_that_of_a_fine_transform():
    _, mask = brain()
    fine = torch.from_numpy(distance_transform_edt(~mask.numpy(), sampling=VOXEL_MM).astype(np.float32))
    # found on every second voxel: off by a coarse voxel's diagonal at most
    assert (distance_mm(mask, VOXEL_MM) - fine).abs().max() < 2 * VOXEL_MM * math.sqrt(3)


def test_distance_to_nothing_is_infinite():
    assert torch.isinf(distance_mm(torch.zeros(SHAPE, dtype=torch.bool), VOXEL_MM)).all()


def test_an_ellipsoid_has_its_volume():
    found = float(ellipsoid(frame(), (0, 0.3, 0), (4.0, 5.5, 3.0)).sum()) * VOXEL_MM**3
    assert found == pytest.approx(4 / 3 * math.pi * 4.0 * 5.5 * 3.0, rel=0.02)


def test_labels_get_one_mean_each():
    labels = torch.tensor([[[0, 1], [2, 2]], [[1, 0], [0, 3]]])
    image = paint_labels(draw(), labels)
    for label in range(4):
        assert image[labels == label].unique().numel() == 1
    assert image.unique().numel() == 4


def test_a_smooth_field_is_linear_between_its_knots():
    field = smooth_field(draw(), (13, 13, 13), 4)  # 5 knots, 3 voxels apart
    torch.testing.assert_close(field[1], (2 * field[0] + field[3]) / 3, rtol=1e-4, atol=1e-5)
    assert not torch.equal(field[0], field[3])


@pytest.mark.parametrize("seed", range(3))
def test_mixed_tissues_lie_between_pure_ones(seed):
    pure = torch.zeros(3, 6, 5, 4)
    for tissue, row in enumerate((slice(0, 2), slice(2, 4), slice(4, 6))):
        pure[tissue, row] = 1
    fluid, grey, white = (paint_tissues(flat(seed), pure)[row].mean() for row in (0, 2, 4))
    half = paint_tissues(flat(seed), torch.tensor([0.0, 0.5, 0.5]).reshape(3, 1, 1, 1).expand(3, 6, 5, 4))
    assert fluid > 0 and min(grey, white) - 1e-6 <= half.mean() <= max(grey, white) + 1e-6


def flat(seed: int) -> np.random.Generator:
    """A draw whose fields are zero: normal numbers come from it as they are for means, as nothing for fields."""

    class Flat(np.random.Generator):
        def standard_normal(self, size=None, dtype=np.float64):
            return np.zeros(size, dtype) if dtype == np.float32 else super().standard_normal(size)

    return Flat(np.random.Philox(seed))


def test_a_known_skull_is_where_it_was():
    image, mask = brain()
    bone = torch.zeros(2, *SHAPE)
    far = ellipsoid(frame(), (0, 0, 0), (6.5, 7.5, 5.0)) & ~ellipsoid(frame(), (0, 0, 0), (6.0, 7.0, 4.5))
    bone[0] = far.float()
    shown = 0
    for seed in range(6):
        head, other = (grow_head(draw(seed), image, mask, frame(), known) for known in (bone, torch.zeros_like(bone)))
        torch.testing.assert_close(head[mask], image[mask], rtol=0, atol=0)
        changed = head != other
        assert not changed[~far].any(), "bone changes the head where it is, nowhere else"
        shown += bool(changed.any())
    assert shown >= 3, "four heads of five have the skull that is known"


@pytest.mark.parametrize("seed", [0, 1, 3, 4])  # one head in ten has none, that of seed 2
def test_the_cord_goes_on_where_the_brain_ends(seed):
    image, mask = brain()
    x, y, z = frame().position_mm
    known = replace(frame(), end_mm=(0.6, -5.5, -1.0, 1.2))
    found = grow_cord(draw(seed), mask, known)
    assert found.any() and not (found & mask).any() and not found[y > -5.0].any()
    first = found & (y < -5.5) & (y > -5.5 - VOXEL_MM)
    middle = [float(line[first].mean()) for line in (x, z)]
    assert middle == pytest.approx([0.6, -1.0], abs=VOXEL_MM)
    assert float(first.sum()) * VOXEL_MM**2 == pytest.approx(math.pi * 1.2**2, rel=0.25)
    head = grow_head(draw(seed), image, mask, known, rest=found)
    torch.testing.assert_close(head[found], image[found], rtol=0, atol=0)  # what is known of the cord is shown


def test_most_cords_are_as_bright_as_the_brain():
    image, mask = brain()
    known = replace(frame(), end_mm=(0.0, -5.5, 0.0, 1.5))
    x, y, z = frame().position_mm
    core = (y < -5.6) & (y > -6.6) & (x.square() + z.square() < 0.8**2)
    levels = [float(grow_head(draw(seed), image, mask, known)[core].mean()) for seed in range(12)]
    alike = [abs(level / 0.7 - 1) < 0.15 for level in levels]
    assert sum(alike) >= 7, levels
