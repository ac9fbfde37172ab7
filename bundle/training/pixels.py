"""Slices of 8 bits in the memory of one device: how they are rounded, drawn and read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bida.diffusion.prior import X0_RANGE

STEP = (X0_RANGE[1] - X0_RANGE[0]) / 255  # of an 8-bit number; 0 is the exact background, -1


def rounded(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return values on the scale of [-1, 1], at most `X0_RANGE`, as 8-bit numbers."""
    return np.rint((np.clip(values, *X0_RANGE) - X0_RANGE[0]) / STEP).astype(np.uint8)


class PixelStore:
    """Slices of all sizes, 8 bits and C channels, one after the other, so that windows of many are one indexing.

    Args:
        slices: [H, W, C] each, uint8.
        device: Where they are kept.

    Attributes:
        sizes: [N, 2], on the CPU.
        device: see above.
    """

    def __init__(self, slices: Sequence[NDArray[np.uint8]], device: torch.device | str = "cpu") -> None:
        """Put them on the device."""
        flat = [torch.from_numpy(one).reshape(-1, one.shape[2]) for one in slices]
        self.pixels = torch.cat(flat).T.contiguous().to(device)  # [C, pixels]
        self.device = self.pixels.device
        self.sizes = torch.tensor([one.shape[:2] for one in slices])
        starts = torch.cat([torch.zeros(1, dtype=torch.int64), self.sizes.prod(dim=1).cumsum(0)[:-1]])
        self._starts, self._extent = starts.to(device), self.sizes.to(device)

    def at(self, index: Tensor, rows: Tensor, columns: Tensor, mirror: bool = False) -> Tensor:
        """Return the pixels at places of slices, [B, C, h, w] uint8.

        Args:
            index: Which slices, [B].
            rows, columns: Whole numbers that broadcast to [B, h, w]; those outside count as the nearest inside, or as
                their mirror's.
            mirror: See above.
        """
        index = index.to(self.device)
        extent, start = self._extent[index], self._starts[index]
        inside = mirrored if mirror else nearest
        rows = inside(rows.to(self.device), extent[:, 0, None, None])
        columns = inside(columns.to(self.device), extent[:, 1, None, None])
        flat = start[:, None, None] + rows * extent[:, 1, None, None] + columns
        return self.pixels[:, flat].movedim(0, 1)


class Lottery:
    """Draws slices: a plane first, evenly, then one of the slices that serve it, by its chance.

    Args:
        chances: [P, N], of each slice where a plane is drawn.
        planes: [P], the planes, as indices into `bida.physics.grid.PLANES`.
    """

    def __init__(self, chances: Tensor, planes: Tensor) -> None:
        """Sum the chances up."""
        self.planes, self.upto = planes, chances.double().cumsum(dim=1)
        self.last = (chances > 0).long().cumsum(dim=1).argmax(dim=1)  # the last that may be drawn

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return (slices, planes), [count] each."""
        place = torch.randint(len(self.planes), (count,), generator=generator)
        level = torch.rand(count, generator=generator, dtype=torch.float64)
        found = torch.zeros(count, dtype=torch.int64)
        for index, upto in enumerate(self.upto):
            mine = place == index
            found[mine] = torch.searchsorted(upto, level[mine] * upto[-1], right=True).clamp(max=int(self.last[index]))
        return found, self.planes[place]


def mirrored(places: Tensor, size: Tensor) -> Tensor:
    """Return places on a line of ``size`` voxels, mirrored about its first and last one as often as it takes."""
    period = 2 * (size - 1).clamp(min=1)
    folded = places.remainder(period)
    return torch.minimum(folded, period - folded).minimum(size - 1)


def nearest(places: Tensor, size: Tensor) -> Tensor:
    """Return places on a line of ``size`` voxels, those outside at its ends."""
    return places.clamp(min=0).minimum(size - 1)
