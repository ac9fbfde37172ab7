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
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from bida.diffusion.leaning import WORTHWHILE_DB, best_weight, ratio_db
from bida.diffusion.prior import SlicePrior
from bida.mri.content import CONSTANT
from bida.mri.familiarity import familiarity, is_mere_noise, kind_of_scan
from bida.mri.moments import mean_of
from bida.physics.consistency import TISSUE, cubic, interpolated
from bida.physics.geometry import SliceGeometry
from bida.physics.grid import NORMAL, PLANES
from bida.physics.operators import SliceOperator, exact_dtype

SLICES = 4  # checked along each axis
WINDOW = 128  # voxels: a slice is cut down to it around its content
CONTENT = 0.25  # of the largest standard deviation within a slice: what has less is at the edge of the head
NLM_STRENGTH = 0.8  # cut-off of non-local means over the noise's standard deviation, scikit-image's advice
Z90 = 1.645  # standard deviations on either side of the mean within which nine tenths of a normal distribution lie
# errors across the slices over those within them: of 1 to 1.2 the one that held nearest to nine tenths on three tuning
# mice, two made heads and a template, at 2.5x and 5x, without noise and at SNR 10 (86-97%)
ACROSS = 1.1
TOLD = 0.1  # of the noise's variance: a mean square error below it can't be told from noise
LEAST_VOXELS = 200  # of tissue, to tell nine tenths of them


class Restored(NamedTuple):
    """Slices that were restored.

    Attributes:
        volume: [R, A, S].
        spread: standard deviation of its error as the network tells it, likewise; None where it tells none.
    """

    volume: Tensor
    spread: Tensor | None = None


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
        spread_scale: how many times as large errors are as the network says (`Voxels.scale`); None where it says
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


class Slices(NamedTuple):
    """Sharp slices that are made thick and restored, stacked along an axis, [R, A, S].

    Attributes:
        truth: without most of their noise.
        seen: as they are.
        axis: along which they are stacked.
        noise: its standard deviation; 0 for none, both are then the same.
    """

    truth: Tensor
    seen: Tensor
    axis: int
    noise: float

    @classmethod
    def of(cls, seen: Tensor, axis: int, noise: float) -> Slices:
        """Take slices and the noise that they have."""
        return cls(denoised(seen, axis, noise) if noise > 0 else seen, seen, axis, max(noise, 0.0))

    @property
    def inside(self) -> Tensor:
        """What of them is tissue, of bool: air has nothing to restore, and noise of another kind."""
        return self.truth > TISSUE


class Voxels(NamedTuple):
    """Voxels of tissue in slices that were restored, x the truth, g the guide and r what was restored, [N] each.

    Attributes:
        lacking: x - g.
        added: r - g.
        told: standard deviation of the error of r as the network tells it.
    """

    lacking: Tensor
    added: Tensor
    told: Tensor

    def scale(self, weight: float) -> float | None:
        """Return by how much what is told of g + weight (r - g) is too small for nine tenths of the errors.

        What is told goes with the weight as in a result (`bida.mri.sampler.BiplanarSampler.draws`). Of the errors over
        it the nine tenths are taken that a 90% interval is to hold: split conformal prediction, by the scan's own
        slices (Angelopoulos and Bates 2023, section 2.3).

        Returns:
            The factor, `ACROSS` included; None of too few voxels.
        """
        told = torch.hypot(weight * self.told, (1 - weight) * self.added)
        error, known = (self.lacking - weight * self.added).abs(), told > 0
        if int(known.sum()) < LEAST_VOXELS:
            return None
        return ACROSS * float((error[known] / told[known]).quantile(0.9)) / Z90


@dataclass(frozen=True)
class Errors:
    """Errors of restored slices in tissue, x the truth, g the guide and r what was restored.

    Each is [N], of the slices made thick along one axis first, then along the other.

    Attributes:
        xx: |x - g|^2.
        rr: |r - g|^2.
        xr: <x - g, r - g>.
        cc: |x - c|^2, c the cubic interpolation that does not agree with the slices.
        voxels: of these slices; None where nothing is told of them.
        least: of |x - ...|^2 what can be told; None for all.
        seen: the same of x with its noise, whose variance is taken off; None where x has none.
    """

    xx: Tensor
    rr: Tensor
    xr: Tensor
    cc: Tensor
    voxels: Voxels | None = None
    least: Tensor | None = None
    seen: Errors | None = None

    @classmethod
    def of(cls, slices: Slices, g: Tensor, restored: Restored, c: Tensor) -> Errors:
        """Measure slices that were restored.

        Args:
            slices: what they were.
            g: the guide, [R, A, S].
            restored: r and what is told of it.
            c: cubic interpolation.
        """
        x, r, inside = slices.truth - g, restored.volume - g, slices.inside

        def sums(x: Tensor, c: Tensor) -> tuple[Tensor, ...]:
            pairs = ((x, x), (r, r), (x, r), (c, c))
            return tuple(sums_over_slices(inside.to(x.dtype) * a, b, slices.axis) for a, b in pairs)

        told = restored.spread
        voxels = None if told is None else Voxels(*(volume[inside].cpu() for volume in (x, r, told)))
        seen = None
        if slices.noise > 0:
            xx, rr, xr, cc = sums(slices.seen - g, slices.seen - c)
            noise = slices.noise**2 * inside.movedim(slices.axis, 0).flatten(1).sum(dim=1).to(xx)
            seen = cls(xx - noise, rr, xr, cc - noise, least=TOLD * noise)
        xx, rr, xr, cc = sums(x, slices.truth - c)
        return cls(xx, rr, xr, cc, voxels=voxels, seen=seen)

    @classmethod
    def joined(cls, parts: Sequence[Errors]) -> Errors:
        """Return the errors of all slices of several parts, one part after the other."""
        xx, rr, xr, cc = map(torch.cat, zip(*((one.xx, one.rr, one.xr, one.cc) for one in parts)))
        told = [one.voxels for one in parts if one.voxels is not None]
        voxels = Voxels(*map(torch.cat, zip(*told))) if len(told) == len(parts) else None
        least = torch.cat([torch.zeros_like(one.xx) if one.least is None else one.least for one in parts])
        noisy = any(one.seen is not None for one in parts)
        return cls(xx, rr, xr, cc, voxels, least, cls.joined([one.seen or one for one in parts]) if noisy else None)

    def total(self, weight: float) -> float:
        """Return the sum of |x - (g + weight (r - g))|^2 over the slices, as far as it can be told."""
        total = self.xx.sum() - 2 * weight * self.xr.sum() + weight**2 * self.rr.sum()
        return max(float(total), self.smallest())

    def smallest(self) -> float:
        """Return the least sum of squares that can be told: rounding, or the noise taken off, may leave it below."""
        return 0.0 if self.least is None else float(self.least.sum())

    def gain_db(self, weight: float) -> float:
        """Return the PSNR of g + weight (r - g) less that of g, dB; 0 where neither has an error."""
        return ratio_db(self.total(0.0), self.total(weight))

    def better_db(self, weight: float, parts: Sequence[int]) -> float:
        """Return the PSNR of g + weight (r - g) less that of cubic interpolation, dB, of the part that gains less.

        Along the scan's own axis anatomy may be like that of either of the others. It is that of x as it was seen.

        Args:
            weight: of r.
            parts: how many slices each part has, one after the other.
        """
        told = self.seen or self
        least = torch.zeros_like(told.xx) if told.least is None else told.least
        rows = (part.split(list(parts)) for part in (told.xx, told.rr, told.xr, told.cc, least))
        along = [Errors(xx, rr, xr, cc, least=least) for xx, rr, xr, cc, least in zip(*rows)]
        return min(ratio_db(max(float(one.cc.sum()), one.smallest()), one.total(weight)) for one in along)


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


def denoised(slices: Tensor, axis: int, noise: float) -> Tensor:
    """Return slices [R, A, S] along an axis without most of their noise, by non-local means (Buades et al. 2005)."""
    from skimage.restoration import denoise_nl_means

    stack = slices.movedim(axis, 0).cpu().numpy()
    smooth = [denoise_nl_means(one, 5, 6, h=NLM_STRENGTH * noise, sigma=noise) for one in stack]
    return torch.from_numpy(np.stack(smooth)).to(slices).movedim(0, axis)


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


def sums_over_slices(a: Tensor, b: Tensor, axis: int) -> Tensor:
    """Return the inner product of each slice of two volumes along an axis, [N], float64 where the device has it."""
    exact = exact_dtype(a.device)
    return (a.to(exact) * b.to(exact)).movedim(axis, 0).flatten(1).sum(dim=1)


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
