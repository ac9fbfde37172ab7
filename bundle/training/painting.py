"""Heads painted on slices of label maps: any contrast, skull, muscle, fat, air, eyes, fluid, vessels and texture.

No intensity is copied from a scan: a network that has seen every contrast depends on none (Billot et al., Medical Image
Analysis 86:102789, 2023). What lies around the brain is drawn in the plane of the slice, at twice the resolution, so
that voxels at edges hold a part of each tissue. All lengths are mm of a mouse; a rat's are longer by the ratio of their
label maps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from bida.diffusion.prior import X0_RANGE
from bida.training.label_maps import BONE, DISTANCE_MM, FLUID, LabelBank

FINER = 2  # paint at so many times the resolution along each side
KNOTS = 24  # of a random field's own grid
REGIONS = 6  # of soft tissue around the skull
DISCS = 5  # eyes, glands, airways
BIG_MM = 0.12  # label maps of coarser voxels are of rats


class Chance(Protocol):
    """Random numbers on a device, see `bida.training.batches`."""

    host: torch.Generator

    def normal(self, shape: Sequence[int]) -> Tensor:
        """Return standard normal numbers."""

    def evenly(self, shape: Sequence[int]) -> Tensor:
        """Return numbers spread evenly from 0 to 1."""

    def share(self, count: int, share: float) -> Tensor:
        """Return which of `count` are of a share."""


@dataclass(frozen=True)
class Painting:
    """How heads are painted; shares are of slices, ranges are drawn from evenly.

    Attributes:
        voxel_mm: range of the size of a pixel, even in its logarithm.
        rotate: largest turn, degrees.
        brains: share that is a brain alone on black.
        filled: share of the others whose head fills the window.
        bath: share of heads that lie in a bright fluid.
        texture: largest amplitude of texture, over the brightness of a tissue.
        coil: standard deviation of the logarithm of a coil's sensitivity.
        vessels: share with vessels.
        blur: range of the standard deviation of a final blur, pixels.
    """

    voxel_mm: tuple[float, float] = (0.06, 0.26)
    rotate: float = 25.0
    brains: float = 0.15
    filled: float = 0.3
    bath: float = 0.12
    texture: float = 0.1
    coil: float = 0.2
    vessels: float = 0.5
    blur: tuple[float, float] = (0.25, 0.7)


def paint(bank: LabelBank, count: int, size: int, how: Painting, chance: Chance) -> tuple[Tensor, Tensor]:
    """Return painted slices [count, 1, size, size] on the scale of [-1, 1], and their planes [count]."""
    index, planes = bank.draw(count, chance.host)
    labels, away, pixel = cut(bank, index, size * FINER, how, chance)
    return scaled(coarsened(painted(labels, away, pixel, how, chance), how, chance), chance), planes


def cut(bank: LabelBank, index: Tensor, side: int, how: Painting, chance: Chance) -> tuple[Tensor, Tensor, Tensor]:
    """Return windows of slices, turned and scaled: labels and distance, mm of a mouse, [B, side, side], pixels, mm."""
    device, count = bank.device, len(index)
    own = bank.voxel_mm[index].to(device)
    # a rat's head is to a rat's voxels as a mouse's to a mouse's, roughly
    animal = torch.where(own > BIG_MM, 1.6, 1.0)
    low, high = how.voxel_mm
    pixel = low * (high / low) ** chance.evenly((count,)) / FINER
    step = pixel * animal / own
    angle = torch.deg2rad((2 * chance.evenly((count,)) - 1) * how.rotate)
    turn = chance.share(count, 0.5)
    angle = angle + torch.where(turn, math.pi / 2, 0.0)
    flip = torch.where(chance.share(count, 0.5), -1.0, 1.0)
    line = torch.arange(side, device=device) - (side - 1) / 2
    y, x = line[:, None], line[None, :]
    cos, sin = (step * angle.cos())[:, None, None], (step * angle.sin())[:, None, None]
    size = bank.sizes[index].to(device)
    middle = size * (0.2 + 0.6 * chance.evenly((count, 2)))
    rows = middle[:, 0, None, None] + cos * y - sin * x
    columns = middle[:, 1, None, None] + (sin * y + cos * x) * flip[:, None, None]
    found = bank.store.at(index, rows.round().long(), columns.round().long())
    return found[:, 0].long(), found[:, 1].float() * DISTANCE_MM / animal[:, None, None], pixel


def painted(labels: Tensor, away: Tensor, pixel: Tensor, how: Painting, chance: Chance) -> Tensor:
    """Return images [B, M, M] of brightness, 0 to about 1.5, air near 0."""
    count, side = labels.shape[:2]

    def one(low: float, high: float) -> Tensor:
        return (low + (high - low) * chance.evenly((count,)))[:, None, None]

    def field(regions: int, length_mm: Tensor) -> Tensor:
        return random_field(regions, length_mm / pixel, side, chance)

    base, brain = one(0.2, 0.9), labels_painted(labels, chance)
    image = brain * base
    # around the brain: fluid, skull, skin, in between soft tissue of several kinds
    rough = field(3, one(1.0, 3.0).flatten())
    gap = (one(-0.2, 0.35).clamp(min=0)) * (1 + 0.5 * rough[:, 0])
    skull = one(0.1, 0.6) * (1 + 0.5 * rough[:, 1]).clamp(min=0) * one(-0.3, 1.0).sign().clamp(min=0)
    reach = gap + skull + 0.3 + 9 * one(0.0, 1.0) ** 2 * (1 + 0.3 * rough[:, 2]).clamp(min=0.1)
    reach = torch.where(chance.share(count, how.filled)[:, None, None], torch.full_like(reach, math.inf), reach)
    soft = field(REGIONS, one(0.8, 5.0).flatten()).argmax(dim=1)
    like_brain = chance.share(count, 0.6)[:, None]
    means = torch.where(
        like_brain,
        base.flatten()[:, None] * (1 + one(0.02, 0.25)[:, 0] * chance.normal((count, REGIONS))),
        chance.evenly((count, REGIONS)) * torch.where(chance.share(count, 0.5), 0.6, 1.3)[:, None],
    ).clamp(min=0.02)
    around = means.gather(1, soft.flatten(1)).reshape(labels.shape)
    around = discs(around, pixel, chance)
    fat = torch.where(chance.share(count, 0.5)[:, None, None], one(0.2, 1.3), around)
    around = torch.where(away > reach - one(0.1, 0.8), fat, around)
    bone = torch.where(chance.share(count, 0.8)[:, None, None], one(0.0, 0.25), one(0.0, 0.8))
    around = torch.where(away < gap + skull, bone, around)
    around = torch.where(away < gap, one(0.0, 1.3), around)
    outside = labels == 0
    image = torch.where(outside, around, image)
    image = torch.where(labels == BONE, bone, image)
    image = vessels(image, field(1, one(0.5, 2.5).flatten())[:, 0], how, chance)
    image = textured(image, labels, soft, how, chance)
    image = image * torch.exp(how.coil * field(1, one(4.0, 12.0).flatten())[:, 0])
    bath = torch.where(chance.share(count, how.bath)[:, None, None], one(0.2, 1.3), 0.0)
    bare = chance.share(count, how.brains)[:, None, None]
    image = torch.where(outside & (away >= reach), bath.expand_as(image), image)
    image = torch.where(outside & bare, torch.zeros_like(image), image)
    return image.clamp(0, 1.6)


def labels_painted(labels: Tensor, chance: Chance) -> Tensor:
    """Return a brightness for each label, around 1; a few labels, and fluid, are far brighter or darker."""
    count = len(labels)
    spread = 0.03 + 0.3 * chance.evenly((count, 1)) ** 1.5
    means = 1 + spread * chance.normal((count, 256))
    extreme = chance.evenly((count, 256)) < 0.06
    extreme[:, FLUID] = chance.share(count, 0.7)
    means = torch.where(extreme, 2.2 * chance.evenly((count, 256)), means).clamp(min=0.02)
    return means.gather(1, labels.flatten(1)).reshape(labels.shape)


def random_field(regions: int, length: Tensor, side: int, chance: Chance) -> Tensor:
    """Return smooth fields [B, regions, side, side] of about unit variance, knots ``length`` pixels apart, [B]."""
    count = len(length)
    knots = chance.normal((count, regions, KNOTS, KNOTS))
    # as many knots as fit, the window anywhere among them
    share = (side / length / (KNOTS - 4)).clamp(max=1.0)
    place = (1 - share[:, None]) * (2 * chance.evenly((count, 2)) - 1)
    theta = torch.zeros(count, 2, 3, device=knots.device)
    theta[:, 0, 0], theta[:, 1, 1], theta[:, :, 2] = share, share, place
    grid = F.affine_grid(theta, [count, regions, side, side], align_corners=False)
    return F.grid_sample(knots, grid, mode="bicubic", padding_mode="reflection", align_corners=False)


def discs(image: Tensor, pixel: Tensor, chance: Chance) -> Tensor:
    """Return images with ellipses: eyes, glands, airways."""
    count, side = image.shape[:2]
    line = torch.arange(side, device=image.device)
    for number in range(DISCS):
        centre = chance.evenly((count, 2)) * side
        radii = (0.3 + 1.7 * chance.evenly((count, 2))) / pixel[:, None]
        angle = math.pi * chance.evenly((count,))[:, None, None]
        y, x = line[:, None] - centre[:, 0, None, None], line - centre[:, 1, None, None]
        u, v = y * angle.cos() + x * angle.sin(), x * angle.cos() - y * angle.sin()
        inside = (u / radii[:, 0, None, None]).square() + (v / radii[:, 1, None, None]).square() < 1
        value = 0.0 if number == 0 else 1.4 * chance.evenly((count,))[:, None, None]
        drawn = chance.share(count, 0.5)[:, None, None]
        image = torch.where(inside & drawn, value, image)
    return image


def vessels(image: Tensor, field: Tensor, how: Painting, chance: Chance) -> Tensor:
    """Return images with thin lines, where a field passes through zero, darker or brighter than what is around them."""
    count = len(image)
    width = (0.02 + 0.1 * chance.evenly((count,)))[:, None, None]
    change = torch.exp(0.7 * chance.normal((count,)))[:, None, None]
    there = chance.share(count, how.vessels)[:, None, None]
    return torch.where((field.abs() < width) & there, image * change, image)


def textured(image: Tensor, labels: Tensor, soft: Tensor, how: Painting, chance: Chance) -> Tensor:
    """Return images whose tissues have texture of several scales, each of its own strength."""
    count, side = image.shape[:2]
    texture = torch.zeros_like(image)[:, None]
    total = torch.zeros(count, 1, 1, 1, device=image.device)
    for octave in (2, 4, 8, 16):
        weight = chance.evenly((count,))[:, None, None, None] ** 2
        noise = chance.normal((count, 1, math.ceil(side / octave) + 1, math.ceil(side / octave) + 1))
        grown = F.interpolate(noise, scale_factor=octave, mode="bicubic", align_corners=False)[..., :side, :side]
        texture, total = texture + weight * grown, total + weight.square()
    strength = how.texture * chance.evenly((count, 256)) * chance.evenly((count, 1))
    kind = torch.where(labels > 0, labels, soft)
    strength = strength.gather(1, kind.flatten(1)).reshape(image.shape)
    return image * (1 + strength * (texture / total.clamp(min=1e-3).sqrt())[:, 0]).clamp(min=0)


def coarsened(image: Tensor, how: Painting, chance: Chance) -> Tensor:
    """Return images [B, 1, N, N] of pixels that hold the mean of what was painted, and a little of their neighbours."""
    image = F.avg_pool2d(image[:, None], FINER)
    low, high = how.blur
    sigma = low + (high - low) * chance.evenly((len(image),))
    side = torch.exp(-0.5 / sigma.square())  # of a kernel of three taps; blur is below a pixel
    kernel = torch.stack([side, torch.ones_like(side), side], dim=1) / (1 + 2 * side)[:, None]
    padded = F.pad(image.movedim(0, 1), (1, 1, 1, 1), mode="replicate")
    rows = F.conv2d(padded, kernel[:, None, :, None], groups=len(sigma))
    return F.conv2d(rows, kernel[:, None, None, :], groups=len(sigma)).movedim(0, 1)


def scaled(image: Tensor, chance: Chance) -> Tensor:
    """Return images on the prior's scale: background -1, the bright end of a volume 1, as far as a window shows it."""
    flat = image.flatten(1)
    top = torch.quantile(flat, 0.985, dim=1).clamp(min=0.15)
    top = top * (0.85 + 0.65 * chance.evenly((len(image),)) ** 2)
    return (2 * image / top[:, None, None, None] - 1).clamp(*X0_RANGE)
