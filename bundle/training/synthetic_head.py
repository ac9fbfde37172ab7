"""Heads grown around brains: skull, muscle, skin, eyes, ears and airways of random shape and contrast.

Brain-extracted scans and label maps teach nothing of heads. A head of the right topology, whose shapes and
intensities are drawn anew for every sample, teaches a network to find the brain whatever the contrast is (Billot et
al., Medical Image Analysis 86:102789, 2023, for human brains). No shape is copied from a scan. All lengths are in mm
of a mouse; larger animals are drawn by scaling the coordinates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from torch import Tensor
from torch.nn.functional import interpolate

Draw = np.random.Generator
Lengths = Sequence[float] | NDArray[np.float64]


@dataclass(frozen=True)
class Frame:
    """Where a window of voxels lies in a head.

    Attributes:
        position_mm: [3, X, Y, Z], R, A, S coordinates of every voxel from the brain's centre, mm of a mouse.
        half_mm: half of the brain's extent along R, A and S, mm of a mouse.
        voxel_mm: size of a voxel, mm of a mouse.
        end_mm: R, A and S of the middle of the section in which what is known of brainstem and cord ends, and its
            radius, mm of a mouse; None where nothing is known.
    """

    position_mm: Tensor
    half_mm: tuple[float, float, float]
    voxel_mm: float
    end_mm: tuple[float, float, float, float] | None = None


def smooth_field(draw: Draw, shape: Sequence[int], length: float) -> Tensor:
    """Return a random field, of unit variance at its knots, at most ``length`` voxels apart, linear between them."""
    knots = [max(2, math.ceil(size / length) + 1) for size in shape]
    coarse = torch.from_numpy(draw.standard_normal(knots, dtype=np.float32))
    return interpolate(coarse[None, None], size=tuple(shape), mode="trilinear", align_corners=True)[0, 0]


def paint_labels(draw: Draw, labels: Tensor) -> Tensor:
    """Return an image of a label map [X, Y, Z], a random mean for every label around that of the brain."""
    count = int(labels.max()) + 1
    means = draw.uniform(0.2, 0.9) + draw.uniform(0.02, 0.2) * draw.standard_normal(count)
    extreme = draw.random(count) < 0.08  # fluid is far brighter or darker than tissue
    means[extreme] = draw.uniform(0, 1.3, int(extreme.sum()))
    return torch.from_numpy(np.clip(means, 0.02, 1.5).astype(np.float32))[labels.long()]


def paint_tissues(draw: Draw, tissues: Tensor) -> Tensor:
    """Return an image [X, Y, Z] of the probabilities of fluid, grey and white matter [3, X, Y, Z]; partial volumes mix.

    A slow change within a tissue stands for regions, which probabilities do not tell.
    """
    level = draw.uniform(0.2, 0.9)
    means = level * np.exp(draw.uniform(0.02, 0.35) * draw.standard_normal(3))
    means[0] = draw.uniform(0, 1.4) if draw.random() < 0.7 else means[0]
    weights = torch.from_numpy(np.clip(means, 0.02, 1.5).astype(np.float32)).reshape(3, 1, 1, 1)
    image = (tissues * weights).sum(dim=0) / tissues.sum(dim=0).clamp(min=0.05)
    bare = tissues.sum(dim=0) < 0.05  # a hole of the maps within the brain
    image = torch.where(bare, torch.full_like(image, float(level)), image)
    return image * (1 + draw.uniform(0, 0.12) * smooth_field(draw, image.shape, draw.uniform(3, 12)))


def grow_head(
    draw: Draw,
    brain: Tensor,
    mask: Tensor,
    frame: Frame,
    bone: Tensor | None = None,
    rest: Tensor | None = None,
) -> Tensor:
    """Surround a brain with a random head.

    Args:
        draw: source of all chance.
        brain: [X, Y, Z], about 0 to 1; only its voxels within the mask and the rest are used.
        mask: [X, Y, Z] bool, the brain.
        frame: where the voxels are.
        bone: [2, X, Y, Z], probabilities of skull and fluid, where the shape of the skull is known; it is drawn so in
            most heads, or around the brain as in others.
        rest: [X, Y, Z] bool, what is shown as it is in ``brain`` and isn't part of it: the cord.

    Returns:
        Image [X, Y, Z], air near 0.
    """
    shape = tuple(mask.shape)
    per_mm = 1 / frame.voxel_mm

    def field(length_mm: float) -> Tensor:
        return smooth_field(draw, shape, length_mm * per_mm)

    rest = torch.zeros_like(mask) if rest is None else rest
    cord = grow_cord(draw, mask | rest, frame)
    outside = distance_mm(mask | rest | cord, frame.voxel_mm)
    gap = max(0.0, draw.uniform(-0.2, 0.35)) * (1 + 0.5 * field(2))
    skull = draw.uniform(0.1, 0.6) * (1 + 0.5 * field(2)).clamp(min=0)
    scalp = draw.uniform(0.3, 1.5) * (1 + 0.3 * field(3))
    radius = head_radius(draw, frame) + draw.uniform(0, 0.12) * field(4)
    head = (radius < 1) | (outside < gap + skull + scalp)
    image = soft_tissue(draw, shape, per_mm, float(brain[mask].mean()) if mask.any() else 0.5)
    if draw.random() < 0.6:  # skin and fat
        image[radius > 1 - draw.uniform(0.03, 0.12)] = float(draw.uniform(0.2, 1.2))
    draw_organs(draw, image, frame)
    image *= 1 + draw.uniform(0, 0.25) * field(draw.uniform(0.4, 2))
    fluid, within_skull = outside < gap, outside < gap + skull
    if bone is not None and draw.random() < 0.8:
        fluid = bone[1] > 0.5
        within_skull = fluid | (bone[0] > draw.uniform(0.2, 0.8)) | (outside < draw.uniform(0, 0.25))
    dark = draw.random() < 0.8  # bone has little signal; with fat or marrow it can have much
    marrow = draw.uniform(0, 0.25) if dark else draw.uniform(0, 0.8)
    image[within_skull] = float(marrow) * (1 + draw.uniform(0, 0.6) * field(0.8)[within_skull])
    level = near_end(brain, mask, frame)
    # nerves at the base of the skull are fluid in tissue maps
    nerves = bone is not None and draw.random() < 0.35
    image[fluid] = level * float(draw.normal(1, 0.1)) if nerves else float(draw.uniform(0, 1.2))
    draw_base(draw, image, level, frame)
    same = draw.random() < 0.7  # nothing in brightness tells where the brain ends
    image[cord] = level * float(draw.normal(1, 0.04) if same else draw.uniform(0.6, 1.4)) * (1 + 0.04 * field(1)[cord])
    image *= head
    image = torch.where(mask | rest, brain, image)
    return image.clamp(min=0)


def distance_mm(mask: Tensor, voxel_mm: float) -> Tensor:
    """Return the distance to a mask [X, Y, Z] in mm, found on every second voxel and interpolated."""
    coarse = mask[::2, ::2, ::2].numpy()
    if not coarse.any():
        return torch.full(tuple(mask.shape), math.inf)
    found = torch.from_numpy(distance_transform_edt(~coarse, sampling=2 * voxel_mm).astype(np.float32))
    return interpolate(found[None, None], size=tuple(mask.shape), mode="trilinear", align_corners=False)[0, 0]


def head_radius(draw: Draw, frame: Frame) -> Tensor:
    """Return the distance from the head's centre in units of its surface's: below 1 inside; the head hangs below."""
    x, y, z = frame.position_mm
    right, front, up = frame.half_mm
    side, long = right + draw.uniform(1.5, 6), front + draw.uniform(3, 15)
    above, below = up + draw.uniform(0.5, 2.5), up + draw.uniform(3, 12)
    height = torch.where(z > 0, z / above, z / below)
    return (x / side).square().add((y / long).square()).add(height.square()).sqrt()


def soft_tissue(draw: Draw, shape: Sequence[int], per_mm: float, brain: float) -> Tensor:
    """Return muscles, glands and fat: regions of random shape, one intensity each, mostly like the brain's.

    Where muscle is as bright as brain, the skull between them alone tells where the brain ends.
    """
    regions = int(draw.integers(1, 7))
    fields = torch.stack([smooth_field(draw, shape, draw.uniform(1.5, 5) * per_mm) for _ in range(regions)])
    means = draw.uniform(0.05, draw.choice([0.6, 1.2]), regions)
    if draw.random() < 0.65:
        means = brain * draw.normal(1, draw.uniform(0.02, 0.2), regions)
    image = torch.from_numpy(means.astype(np.float32))[fields.argmax(dim=0)]
    if regions > 1 and draw.random() < 0.5:  # fascia and fat between muscles
        best, second = fields.topk(2, dim=0).values
        image[best - second < draw.uniform(0.02, 0.15)] = float(draw.uniform(0, 1.3))
    return image


def ellipsoid(frame: Frame, centre: Lengths, radii: Lengths) -> Tensor:
    """Return the voxels within an ellipsoid, mm."""
    square = torch.zeros(frame.position_mm.shape[1:])
    for axis in range(3):
        square += ((frame.position_mm[axis] - float(centre[axis])) / float(radii[axis])).square()
    return square < 1


def draw_organs(draw: Draw, image: Tensor, frame: Frame) -> None:
    """Draw eyes, ear canals with air, the airway and some glands into the soft tissue, in place."""
    right, front, up = frame.half_mm
    eye = (right * draw.uniform(0.8, 1.3), front * draw.uniform(0.3, 0.8), -up * draw.uniform(0.1, 0.9))
    ear = (right * draw.uniform(0.9, 1.3), -front * draw.uniform(0.1, 0.7), -up * draw.uniform(0.3, 1.2))
    eye_mm, ear_mm = draw.uniform(1, 2), draw.uniform(0.6, 1.8, 3)
    eye_value, ear_value = float(draw.uniform(0, 1.5)), float(draw.uniform(0, 0.15))
    eyes, ears = draw.random() < 0.7, draw.random() < 0.8
    for side in (-1, 1):
        if eyes:
            image[ellipsoid(frame, (side * eye[0], *eye[1:]), [eye_mm] * 3)] = eye_value
        if ears:
            image[ellipsoid(frame, (side * ear[0], *ear[1:]), ear_mm)] = ear_value
    if draw.random() < 0.8:  # pharynx and nose
        width = draw.uniform(0.4, 1.5, 2)
        image[
            ellipsoid(frame, (0, front * draw.uniform(0, 1.5), -up - draw.uniform(1, 4)), (width[0], 8, width[1]))
        ] = 0
    for _ in range(int(draw.integers(0, 6))):
        centre = draw.uniform(-1, 1, 3) * (right + 4, front + 4, up + 4)
        image[ellipsoid(frame, centre, draw.uniform(0.5, 2, 3))] = float(draw.uniform(0, 1.5))


def draw_base(draw: Draw, image: Tensor, level: float, frame: Frame) -> None:
    """Draw what lies within the skull below the brain and isn't brain, in place: trigeminal nerves and the pituitary.

    They touch the brain, and are often as bright.
    """
    right, front, up = frame.half_mm
    if draw.random() < 0.5:
        aside, along = right * draw.uniform(0.3, 0.65), front * draw.uniform(-0.35, 0.2)
        radii = draw.uniform((0.4, 1.0, 0.3), (0.9, 3.0, 0.8))
        value = level * float(draw.normal(1, 0.2))
        for side in (-1, 1):
            image[ellipsoid(frame, (side * aside, along, -up * draw.uniform(0.75, 1.05)), radii)] = value
    if draw.random() < 0.5:
        centre = (0, front * draw.uniform(-0.2, 0.2), -up * draw.uniform(0.95, 1.15))
        radii = draw.uniform((0.6, 0.5, 0.3), (1.4, 1.2, 0.6))
        image[ellipsoid(frame, centre, radii)] = level * float(draw.normal(1, 0.3))


def near_end(brain: Tensor, mask: Tensor, frame: Frame) -> float:
    """Return how bright the brain is at its back, or anywhere where the window does not show that."""
    back = mask & (frame.position_mm[1] < 1.5 - frame.half_mm[1])
    shown = back if back.any() else mask
    return float(brain[shown].mean()) if shown.any() else 0.5


def grow_cord(draw: Draw, nervous: Tensor, frame: Frame) -> Tensor:
    """Return the voxels of the cord behind what is known of it: as wide where it begins, then thinner, and curved."""
    _, front, up = frame.half_mm
    x, y, z = frame.position_mm
    width, level = draw.uniform(0.8, 1.6), -up * draw.uniform(0, 0.6)
    middle, start, level, width = frame.end_mm or (0.0, -0.95 * front, level, width)
    slope, curve = draw.uniform(-0.1, 0.6), draw.uniform(-0.02, 0.04)
    narrow, flat = draw.uniform(0.6, 1.0), draw.uniform(1.0, 1.35)
    if draw.random() < 0.1:
        return torch.zeros_like(nervous)
    behind = (start - y).clamp(min=0)
    radius = width * (narrow + (1 - narrow) * torch.exp(-behind / 1.5))
    height = z - level + slope * behind + curve * behind.square()
    inside = ((x - middle) / flat).square() + (height * flat).square() < radius.square()
    return inside & (y < start + 0.3) & ~nervous
