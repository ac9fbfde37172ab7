"""Two 2D priors as denoisers of one volume: slices of a plane in fixed micro-batches, and the fusion of two planes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor

from bida.diffusion.int8 import IntegerPass, integer_network
from bida.diffusion.prior import PlanePrior, SlicePrior
from bida.mri.content import CONSTANT, Cut, background, brightest, cuts, slices_at_once
from bida.physics.grid import from_slices, to_slices

RANGED, RANGED_SIZE = 2, 48  # windows, and voxels along their sides, that ranges of integers come from
WATCHED = 8  # slices, spread evenly, in which it is seen which channels of a network in integers do little


class PlaneDenoiser:
    """Denoise a volume slice by slice of one plane.

    The prior sees the same slices in the same micro-batches at every step, cut to what they hold (`bida.mri.content`),
    whatever the batch size: bfloat16 results differ by 1e-3 between batch shapes. Slices whose measurement is
    constant keep that constant and skip the prior; so does the background around what the others hold.

    Args:
        prior: the network.
        plane: one of `PLANES`.
        y: the scan's slices [R, A, S], coarse along the through-plane axis.
        held: where a volume has more than background (`bida.mri.content.content`), [R, A, S] of bool.
        batch_size: slices gathered at once, rounded up to whole micro-batches.
        micro_batch: slices that the prior sees at once; None for those of the device (`slices_at_once`).
        guide: what a guided prior is shown (`bida.physics.guide.shown`), 8 volumes [R, A, S]; None to sample without.
        grain: whether a guided prior draws the grain of scans.
        along: the axis within the plane's slices along which the scan's slices are thick, 0 or 1.
        inside: the slices, rows and columns that are part of the result. Other slices skip the prior, and it does not
            see what else lies beyond. All when None.
        spread: keep what the prior says of its error.
        int8: compute in integers (`bida.diffusion.int8`) what a guided prior is asked for: `WATCHED` slices, the first,
            the last and others evenly between, with all channels, and the rest with those that did something in them.

    Attributes:
        cuts: the micro-batches, in order.
        watched: how many of them, the first, have the slices that are looked at.
        spread: standard deviation of the error of the last x0 [R, A, S], 0 where the prior was skipped; None where it
            is not kept.
    """

    def __init__(
        self,
        prior: SlicePrior,
        plane: str,
        y: Tensor,
        held: Tensor,
        batch_size: int,
        micro_batch: int | None,
        guide: Sequence[Tensor] | None = None,
        grain: bool = True,
        along: int = 0,
        inside: tuple[range, range, range] | None = None,
        spread: bool = False,
        int8: bool = False,
    ) -> None:
        """Find the slices, and the parts of them, that the prior is needed for."""
        self.prior, self.plane, self.grain, self.along, self.int8 = prior, plane, grain, along, int8
        self.guides = None if guide is None else [to_slices(part, plane) for part in guide]
        self.keep_spread = spread
        self.spread: Tensor | None = None
        low, high = torch.aminmax(to_slices(y, plane).flatten(1), dim=1)
        active = high - low >= CONSTANT
        found, of_plane = torch.nonzero(active).squeeze(1), to_slices(held, plane)[:, 0]
        slices, *within = inside or map(range, of_plane.shape)
        found = found[(found >= slices.start) & (found < slices.stop)]
        self.micro_batch = micro_batch or slices_at_once(y.device.type, len(found), *of_plane.shape[1:])
        self.at_once = math.ceil(batch_size / self.micro_batch)
        self.background = torch.where(active, background(y), (low + high) / 2)[:, None, None, None]
        network = integer_network(prior) if int8 and isinstance(prior, PlanePrior) else None
        early = torch.zeros(len(found), dtype=torch.bool, device=found.device)
        if network is not None and len(found) > WATCHED:  # else none are left to gain by it
            early[torch.linspace(0, len(found) - 1, WATCHED).long()] = True
        # those that are looked at come first, in micro-batches of their own
        watched, others = (
            cuts(of_plane, some, self.micro_batch, (network or prior).stride, within)
            for some in (found[early], found[~early])
        )
        self.cuts, self.watched = watched + others, len(watched)

    def __call__(self, x: Tensor, t: int) -> tuple[Tensor, Tensor]:
        """Return (x0, e) of a volume x [R, A, S] at time t; x0 is clipped to the range where the prior made it.

        What is brighter than that range is interpolation's: the prior never saw it.
        """
        slices = to_slices(x, self.plane)
        ab = float(self.prior.alpha_bar[t])
        x0 = self.background.expand_as(slices).contiguous()
        spread = torch.zeros_like(slices) if self.keep_spread else slices
        e = math.sqrt(ab) * x0
        e = torch.sub(slices, e, out=e).div_(math.sqrt(1 - ab))
        way: dict[str, Any] = {"network": self._in_integers(slices, t)} if self.int8 and self.cuts else {}
        for first in range(0, len(self.cuts), self.at_once):
            group = self.cuts[first : first + self.at_once]
            for cut, part in zip(group, [cut.of(slices) for cut in group]):
                given, how = (part.contiguous(), t, self.plane), self._condition(cut) | way
                if self.keep_spread:
                    # only a prior that `tells_spread` is asked for it
                    clean, noise, told = cast(PlanePrior, self.prior).estimate(*given, **how)
                    cut.put(cast(Tensor, told), spread)
                else:
                    clean, noise = self.prior.predict(*given, **how)
                cut.put(self._ranged(clean, cut), x0)
                cut.put(noise, e)
        self.spread = from_slices(spread, self.plane) if self.keep_spread else None
        return from_slices(x0, self.plane), from_slices(e, self.plane)

    def _ranged(self, clean: Tensor, cut: Cut) -> Tensor:
        """Return clean slices in the range of the prior's training, and above it where the interpolation is."""
        low, high = self.prior.x0_range
        clean = clean.clamp(low, high)
        return clean if self.guides is None else clean + (cut.of(self.guides[0]) - high).clamp(min=0)

    def _in_integers(self, slices: Tensor, t: int) -> IntegerPass:
        """Return the network in integers, whose ranges come from parts of slices that are the same in every run."""
        guides = cast(list[Tensor], self.guides)
        parts = brightest(self.cuts, guides[0], RANGED, RANGED_SIZE, self.prior.stride)
        windows = [(part.of(slices), torch.cat([part.of(guide) for guide in guides], dim=1)) for part in parts]
        how = (t, self.plane, self.grain, self.along, self.watched)
        return IntegerPass.of(cast(PlanePrior, self.prior), windows, *how)

    def _condition(self, cut: Cut) -> dict[str, Any]:
        """Return what a guided prior is told of a micro-batch."""
        if not self.prior.guided:
            return {}
        guide = None if self.guides is None else torch.cat([cut.of(part) for part in self.guides], dim=1)
        return {"guide": guide, "grain": self.grain, "along": self.along}
