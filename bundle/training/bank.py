"""Training slices as 8-bit numbers in the memory of one device, and windows of them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bida.diffusion.prior import X0_RANGE
from bida.physics.grid import PLANES
from bida.training.dataset import SliceStacks
from bida.training.pixels import STEP, Lottery, PixelStore, rounded


class SliceBank:
    """Pairs of sharp slices, as scanned and denoised, rounded to 8 bits, a third of a percent of the range.

    Args:
        stacks: The slices of each plane, pairs, and the weight of each stack.
        device: Where they are kept.

    Attributes:
        planes: [P], the planes that are taught, as indices into `bida.physics.grid.PLANES`.
        sizes: [N, 2] of the slices.
        device: see above.
    """

    def __init__(self, stacks: SliceStacks, device: torch.device | str = "cpu") -> None:
        """Round the slices and put them on the device."""
        places: dict[int, tuple[int, int]] = {}  # of a stack: its first slice, and how many there are
        parts: list[NDArray[np.uint8]] = []
        for drawable in (one for found in stacks.slices.values() for one in found):
            slices, useful = drawable
            if id(slices) not in places:
                places[id(slices)] = (len(parts), len(useful))
                parts += [rounded(np.asarray(slices[index], dtype=np.float32)) for index in useful]
        self.store = PixelStore(parts, device)
        self.device, self.sizes = self.store.device, self.store.sizes
        self.planes = torch.tensor([PLANES.index(plane) for plane in stacks.planes])
        chances = torch.stack([self._chances(stacks, plane, places) for plane in stacks.planes])
        self.draw = Lottery(chances, self.planes).draw

    def _chances(self, stacks: SliceStacks, plane: str, places: Mapping[int, tuple[int, int]]) -> Tensor:
        """Return the probability of each slice of the bank where a plane is drawn, [N]."""
        chances, weights = torch.zeros(len(self.sizes), dtype=torch.float64), stacks.weights[plane]
        for place, (slices, useful) in enumerate(stacks.slices[plane]):
            first, count = places[id(slices)]
            share = 1 / len(stacks.slices[plane]) if weights is None else float(weights[place])
            chances[first : first + count] += share / len(useful)
        return chances

    def windows(self, index: Tensor, corners: Tensor, size: tuple[int, int]) -> Tensor:
        """Return windows of slices, mirrored at their edges.

        Args:
            index: Which slices, [B].
            corners: First row and column of each window, [B, 2]; may lie outside.
            size: Rows and columns of the windows.

        Returns:
            Tensor [B, 2, h, w] float32, as scanned and denoised, on the scale of [-1, 1].
        """
        corners = corners.to(self.device)
        rows = corners[:, 0, None, None] + torch.arange(size[0], device=self.device)[:, None]
        columns = corners[:, 1, None, None] + torch.arange(size[1], device=self.device)
        found = self.store.at(index, rows, columns, mirror=True)
        return (found.float() * STEP + X0_RANGE[0]).contiguous()
