"""Training slices as 8-bit numbers in the memory of one device, and windows of them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from bida.diffusion.prior import X0_RANGE
from bida.physics.grid import PLANES
from bida.training.dataset import SliceStacks

STEP = (X0_RANGE[1] - X0_RANGE[0]) / 255  # of an 8-bit number; 0 is the exact background, -1


class SliceBank:
    """Pairs of sharp slices, as scanned and denoised, rounded to 8 bits, a third of a percent of the range.

    The slices of all sizes lie one after the other, so that windows of many are read by one indexing.

    Args:
        stacks: The slices of each plane, pairs, and the weight of each stack.
        device: Where they are kept.

    Attributes:
        planes: [P], the planes that are taught, as indices into `bida.physics.grid.PLANES`.
    """

    def __init__(self, stacks: SliceStacks, device: torch.device | str = "cpu") -> None:
        """Round the slices and put them on the device."""
        places: dict[int, tuple[int, int]] = {}  # of a stack: its first slice, and how many there are
        parts: list[Tensor] = []
        sizes: list[tuple[int, int]] = []
        for drawable in (one for found in stacks.slices.values() for one in found):
            slices, useful = drawable
            if id(slices) in places:
                continue
            places[id(slices)] = (len(sizes), len(useful))
            for index in useful:
                pair = np.asarray(slices[index], dtype=np.float32)  # [H, W, 2]
                parts.append(torch.from_numpy(rounded(pair)).reshape(-1, 2))
                sizes.append(pair.shape[:2])
        self.pixels = torch.cat(parts).T.contiguous().to(device)  # [2, pixels]
        self.device = self.pixels.device
        self.sizes = torch.tensor(sizes)  # [N, 2]
        self.starts = torch.cat([torch.zeros(1, dtype=torch.int64), self.sizes.prod(dim=1).cumsum(0)[:-1]])
        self.planes = torch.tensor([PLANES.index(plane) for plane in stacks.planes])
        self.chances = torch.stack([self._chances(stacks, plane, places) for plane in stacks.planes])  # [P, N]

    def _chances(self, stacks: SliceStacks, plane: str, places: Mapping[int, tuple[int, int]]) -> Tensor:
        """Return the probability of each slice of the bank where a plane is drawn, [N]."""
        chances, weights = torch.zeros(len(self.sizes), dtype=torch.float64), stacks.weights[plane]
        for place, (slices, useful) in enumerate(stacks.slices[plane]):
            first, count = places[id(slices)]
            share = 1 / len(stacks.slices[plane]) if weights is None else float(weights[place])
            chances[first : first + count] += share / len(useful)
        return chances

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return (slices, planes), [count] each: a plane first, then a slice of it."""
        place = torch.randint(len(self.planes), (count,), generator=generator)
        found = torch.multinomial(self.chances[place], 1, generator=generator).squeeze(1)
        return found, self.planes[place]

    def windows(self, index: Tensor, corners: Tensor, size: tuple[int, int]) -> Tensor:
        """Return windows of slices, mirrored at their edges.

        Args:
            index: Which slices, [B].
            corners: First row and column of each window, [B, 2]; may lie outside.
            size: Rows and columns of the windows.

        Returns:
            Tensor [B, 2, h, w] float32, as scanned and denoised, on the scale of [-1, 1].
        """
        extent = self.sizes[index]
        rows, columns = (
            mirrored(corners[:, axis, None] + torch.arange(size[axis]), extent[:, axis, None]) for axis in range(2)
        )
        rows = self.starts[index, None] + rows * extent[:, 1:]
        flat = (rows[:, :, None] + columns[:, None, :]).to(self.device)
        return (self.pixels[:, flat].movedim(0, 1).float() * STEP + X0_RANGE[0]).contiguous()


def rounded(values: np.ndarray) -> np.ndarray:
    """Return values on the scale of [-1, 1], at most `X0_RANGE`, as 8-bit numbers."""
    return np.rint((np.clip(values, *X0_RANGE) - X0_RANGE[0]) / STEP).astype(np.uint8)


def mirrored(places: Tensor, size: Tensor) -> Tensor:
    """Return places on a line of ``size`` voxels, mirrored about its first and last one as often as it takes."""
    period = 2 * (size - 1).clamp(min=1)
    folded = places.remainder(period)
    return torch.minimum(folded, period - folded).minimum(size - 1)
