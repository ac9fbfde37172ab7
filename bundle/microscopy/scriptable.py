"""A stack's least error by a guided network, from planes to volume, as TorchScript takes it: it needs no bida."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bida.diffusion.prediction import estimates
from bida.errors import SettingsError
from bida.microscopy.inferer import visited_times
from bida.microscopy.prior import REACH, UNIT, MaskedPrior

AT_ONCE = 16  # slices that the network sees at once


class ScriptableMean(nn.Module):
    """What `bida.microscopy.MaskedSliceInferer` makes of a stack by default, without tiles.

    Args:
        prior: Of method ``guided``, on the CPU; the new module shares its weights.
        factor: Plane spacing over voxel size, a whole number from 2 on.

    Raises:
        SettingsError: The network is of another method, or the factor is no such number.
    """

    def __init__(self, prior: MaskedPrior, factor: int) -> None:
        """Keep the network, and what its one step makes of its output."""
        super().__init__()
        if prior.method != "guided":
            raise SettingsError(
                f"weights: must be of method guided, which gives the mean in one step, got {prior.method}; name others"
            )
        if factor != int(factor) or factor < 2:
            raise SettingsError(f"factor: must be a whole number from 2 on, got {factor:g}")
        self.network, self.factor = prior.network, int(factor)
        ((self.time, _),) = visited_times(prior, 1)
        nothing, one = torch.zeros(1), torch.ones(1)
        self.of_output = float(estimates(nothing, one, float(prior.alpha_bar[self.time]), prior.prediction)[0])
        self.unit, self.reach, self.at_once = UNIT, REACH, AT_ONCE  # TorchScript knows no constants of a module

    def forward(self, planes: Tensor) -> Tensor:
        """Return the volume [B, C, (m - 1) F + 1, Y, X] of planes [B, C, m, Y, X].

        0 and 1 are the percentiles of a channel that a network knows as -1 and 1. Acquired planes come back exactly.
        """
        count, y = planes.shape[2], 2 * planes - 1
        z = torch.arange((count - 1) * self.factor + 1, device=planes.device)
        below = torch.div(z, self.factor, rounding_mode="floor")
        past = z - below * self.factor
        share = (past / self.factor).to(y.dtype)[:, None, None]
        upper = y.index_select(2, (below + 1).clamp(max=count - 1))
        guide = y.index_select(2, below) * (1 - share) + upper * share
        distances = torch.stack([past, (self.factor - past) % self.factor]).to(y.dtype) / self.reach
        low = (y.amin(dim=(2, 3, 4), keepdim=True) - guide) / self.unit
        high = (y.amax(dim=(2, 3, 4), keepdim=True) - guide) / self.unit
        xz = self.lacking(guide.permute(0, 1, 3, 2, 4), distances).permute(0, 1, 3, 2, 4)
        yz = self.lacking(guide.permute(0, 1, 4, 2, 3), distances).permute(0, 1, 3, 4, 2)
        lacking = (torch.clamp(xz, low, high) + torch.clamp(yz, low, high)) / 2
        volume = (guide + self.unit * lacking + 1) / 2
        return torch.where((past == 0)[:, None, None], planes.index_select(2, below), volume)

    def lacking(self, guide: Tensor, distances: Tensor) -> Tensor:
        """Return what interpolated slices [B, C, N, n, W] lack, in units of `UNIT`; distances are [2, n]."""
        rows, columns = guide.shape[3], guide.shape[4]
        slices = guide.reshape(-1, 1, rows, columns)
        known = distances[None, :, :, None].expand(slices.shape[0], 2, rows, columns)
        seen = torch.cat([torch.zeros_like(slices), slices, known], dim=1)
        for axis, side in ((2, rows), (3, columns)):  # to even sides, by one pixel of the mirror image
            if side % 2 == 1:
                seen = torch.cat([seen, seen.narrow(axis, max(side - 2, 0), 1)], dim=axis)
        time = torch.full((1,), self.time, device=guide.device)
        out = [self.network(part, time, torch.zeros_like(time)) for part in seen.split(self.at_once)]
        return self.of_output * torch.cat(out)[:, :, :rows, :columns].reshape(guide.shape)
