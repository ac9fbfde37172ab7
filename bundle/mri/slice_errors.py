"""Errors of sharp slices that were made thick and restored: what a prior gains, and how large its errors are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from bida.diffusion.leaning import ratio_db
from bida.physics.consistency import TISSUE
from bida.physics.operators import exact_dtype

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


def denoised(slices: Tensor, axis: int, noise: float) -> Tensor:
    """Return slices [R, A, S] along an axis without most of their noise, by non-local means (Buades et al. 2005)."""
    from skimage.restoration import denoise_nl_means

    stack = slices.movedim(axis, 0).cpu().numpy()
    smooth = [denoise_nl_means(one, 5, 6, h=NLM_STRENGTH * noise, sigma=noise) for one in stack]
    return torch.from_numpy(np.stack(smooth)).to(slices).movedim(0, axis)


def sums_over_slices(a: Tensor, b: Tensor, axis: int) -> Tensor:
    """Return the inner product of each slice of two volumes along an axis, [N], float64 where the device has it."""
    exact = exact_dtype(a.device)
    return (a.to(exact) * b.to(exact)).movedim(axis, 0).flatten(1).sum(dim=1)
