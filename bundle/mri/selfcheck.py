"""The self-check: what the prior is worth on this scan, measured on the scan's own sharp slices.

Within its slices a scan is sharp, so they are the truth of an experiment: some are made thick along each of their own
two axes by the scan's own operator, restored, and compared with what physics alone makes of them
(`bida.physics.consistency.interpolated`). The slices of a noisy scan are taken without their noise, and what is made
thick gets as much as a slice of the scan has. Where the prior does not help, the result is drawn towards the
interpolation g, r' = g + w (r - g), by the weight w that served these slices best, or the larger one that the mean of
two planes bears (`averaged_weight`), or 0 where that hardly gains. Both g and r agree with the scan, so r' does for any
w.

What is promised is told by the slices with their noise, less its variance: a filter takes detail off, too, which no
prior would then have to restore. How far off the restored slices are also tells how many times as large errors are as
the network says.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bida.diffusion.leaning import WORTHWHILE_DB, best_weight
from bida.diffusion.prior import SlicePrior
from bida.mri.content import CONSTANT
from bida.mri.familiarity import familiarity, is_mere_noise, kind_of_scan
from bida.mri.moments import mean_of
from bida.mri.slice_errors import Errors, Restored, Slices
from bida.physics.consistency import cubic, interpolated
from bida.physics.geometry import SliceGeometry
from bida.physics.grid import NORMAL, PLANES
from bida.physics.operators import SliceOperator, exact_dtype

SLICES = 4  # checked along each axis
WINDOW = 128  # voxels: a slice is cut down to it around its content
CONTENT = 0.25  # of the largest standard deviation within a slice: what has less is at the edge of the head


Restore = Callable[[Tensor, SliceGeometry, str], Restored]  # slices y, their geometry, plane -> what they become


@dataclass(frozen=True)
class SelfCheck:
    """What the self-check found.

    Attributes:
        gain_db: PSNR of the restored slices, by the prior of one plane, less that of the guide, dB.
        gain_shrunk_db: the same after drawing the slices towards the guide by the weight.
        weight: of the prior of one plane that served the slices best, 0 to 1; 0 where it gained under `WORTHWHILE_DB`.
        plane: of the slices that were checked; the result is made by the other two.
        slices: number of slices checked, each along both of its axes.
        familiarity: the gain over that of scans of such a kind that the prior knows (`bida.mri.familiarity`).
        better_db: PSNR of the slices that the weight makes less that of cubic interpolation, dB, by the lesser axis.
        weight_of_result: of the mean of the planes' priors in the result (`averaged_weight`); None before there is one.
        spread_scale: how many times as large errors are as the network says (`slice_errors.Voxels`); None where it says
            nothing, as of draws.
    """

    gain_db: float
    gain_shrunk_db: float
    weight: float
    plane: str
    slices: int
    familiarity: float
    better_db: float
    weight_of_result: float | None = None
    spread_scale: float | None = None

    def record(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return {key: round(value, 4) if isinstance(value, float) else value for key, value in asdict(self).items()}


def self_check(
    y: Tensor, geometry: SliceGeometry, network: SlicePrior, restore: Restore, noise: float = 0.0
) -> SelfCheck | None:
    """Measure what a prior gains on the slices of a scan, made thick within their own plane.

    Args:
        y: the scan's slices [R, A, S], in the prior's space.
        geometry: of the scan's slices.
        network: the prior.
        restore: the way of restoring that is checked, for slices of the one plane.
        noise: standard deviation of a slice's noise, in the units of y.

    Returns:
        What was found; None where slices are smaller than the network's stride or than two slices' spacing, or none
        has content.
    """
    chosen = chosen_indices(y, geometry.axis, geometry.missing)
    if not chosen or min(size for axis, size in enumerate(y.shape) if axis != geometry.axis) < network.stride:
        return None
    sharp = window(y.index_select(geometry.axis, torch.tensor(chosen, device=y.device)), geometry.axis, network.stride)
    slices = Slices.of(sharp, geometry.axis, noise)
    errors = measure(slices, geometry, restore)
    if errors is None:
        return None
    noisy, plane = is_mere_noise(slices.truth, noise), plane_across(geometry.axis)
    return check_of(errors, [len(chosen)] * 2, plane, len(chosen), kind_of_scan(y), noisy)


def check_of(
    errors: Errors, parts: Sequence[int], plane: str, slices: int, kind: str, mere_noise: bool = False
) -> SelfCheck:
    """Return what errors say of a prior, and the weight that it deserves.

    Args:
        errors: of slices.
        parts: how many of them each way of making them thick has.
        plane, slices: see `SelfCheck`.
        kind: of the scan, see `bida.mri.familiarity`.
        mere_noise: whether the slices hold hardly more than noise: nothing is promised then, since to smooth it is no
            sign of anatomy, but the weight stays: interpolation would keep all of the noise.
    """
    weight = best_weight(errors.rr, errors.xr)
    if errors.gain_db(weight) < WORTHWHILE_DB:
        weight = 0.0
    gain, better = errors.gain_db(1.0), errors.better_db(weight, parts)
    known, promised = (0.0, 0.0) if mere_noise else (familiarity(gain, kind), better)
    scale = None if errors.voxels is None else errors.voxels.scale(weight)
    return SelfCheck(gain, errors.gain_db(weight), weight, plane, slices, known, promised, spread_scale=scale)


def measure(slices: Slices, geometry: SliceGeometry, restore: Restore) -> Errors | None:
    """Make sharp slices thick along each of their two axes, restore them, and return the errors.

    Args:
        slices: sharp ones, stacked along ``geometry.axis``.
        geometry: how thick slices lie.
        restore: see `self_check`.

    Returns:
        The errors; None where an axis is too short for two thick slices.
    """
    parts: list[Errors] = []
    truth, noise = slices.truth, slices.noise
    for axis in (axis for axis in range(3) if axis != geometry.axis):
        own = slice_geometry(geometry, axis, truth.shape[axis])
        if own.slices < 2:
            return None
        thick = SliceOperator.build(own).forward(truth)
        if noise > 0:
            drawn = np.random.Generator(np.random.Philox(axis)).standard_normal(tuple(thick.shape), dtype=np.float32)
            thick = thick + noise * torch.from_numpy(drawn).to(thick.device)
        reference = interpolated(thick, own, noise)
        found = restore(thick, own, plane_across(geometry.axis))
        parts.append(Errors.of(slices, reference, found, cubic(thick, own)))
    return Errors.joined(parts)


def plane_across(axis: int) -> str:
    """Return the plane whose slices stack along an axis."""
    return next(name for name in PLANES if NORMAL[name] == axis)


def averaged_weight(weight: float, volumes: Sequence[Tensor], reference: Tensor) -> float:
    """Return the weight of the mean r of estimates r_i of one volume, given the best weight of a single one.

    The best weight of r is <x - g, r - g> / |r - g|^2, x the truth and g the guide. Its numerator is the mean of the
    single estimates' numerators, whatever x is; its denominator is smaller than theirs by what the estimates differ in,
    which needs no truth:

        w = min(1, w_i mean |r_i - g|^2 / |r - g|^2)

    It takes the single estimates to have one best weight w_i; the result is w_i or more, and w_i for a lone estimate.

    Args:
        weight: of a single estimate, 0 to 1.
        volumes: the estimates r_i, [R, A, S].
        reference: the guide g, [R, A, S].
    """
    if len(volumes) == 1 or not 0 < weight < 1:
        return weight
    single = sum(_square(volume - reference) for volume in volumes) / len(volumes)
    mean = _square(mean_of(volumes) - reference)
    return min(1.0, weight * single / mean) if mean > 0 else weight


def _square(volume: Tensor) -> float:
    """Return |volume|^2, summed in float64 where the device has it."""
    return float(volume.square().sum(dtype=exact_dtype(volume.device)))


def chosen_indices(y: Tensor, axis: int, missing: Sequence[int] = ()) -> list[int]:
    """Return the indices of `SLICES` slices along an axis, none missing, spread evenly over those with content."""
    useful = [index for index in with_content(y, axis) if index not in missing]
    places = [int((i + 0.5) / SLICES * len(useful)) for i in range(SLICES)]
    return sorted({useful[place] for place in places}) if useful else []


def with_content(y: Tensor, axis: int) -> list[int]:
    """Return the indices of the slices along an axis that hold more than the edge of the head."""
    spread = y.movedim(axis, 0).flatten(1).std(dim=1)
    return torch.nonzero(spread > max(CONTENT * float(spread.max()), CONSTANT)).squeeze(1).tolist()


def window(slices: Tensor, axis: int, stride: int) -> Tensor:
    """Return the part of slices, at most `WINDOW` voxels along each of their axes, whose content is largest."""
    out = slices
    for other in (other for other in range(3) if other != axis):
        size = out.shape[other]
        keep = min(WINDOW, size) // stride * stride
        content = (out - out.amin()).movedim(other, 0).flatten(1).sum(dim=1)
        middle = float((content * torch.arange(size, device=out.device)).sum() / content.sum())
        start = min(max(round(middle - keep / 2), 0), size - keep)
        out = out.narrow(other, start, keep)
    return out


def slice_geometry(geometry: SliceGeometry, axis: int, voxels: int) -> SliceGeometry:
    """Return the scan's slices laid along another axis of its grid."""
    return replace(
        geometry,
        axis=axis,
        slices=max(1, math.floor(voxels / geometry.factor)),
        voxels=voxels,
        offset_mm=0.0,
        pad_before=0,
        pad_after=0,
        missing=(),
    )
