"""What of each slice there is to restore: micro-batches of slices of similar size, each cut to what it holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bida.physics.operators import SliceOperator, apply_along

CONSTANT = 1e-3  # range, of the [-1, 1] that the prior knows, below which there is nothing to restore
MARGIN = 8  # voxels of background that the network sees around what there is
SIDE_LOBES = 1e-2  # of a profile's peak: what lies below is not reached by it


@dataclass(frozen=True)
class Cut:
    """A micro-batch of slices and the windows that it sees of them, all of one size.

    Attributes:
        index: which slices, [B].
        corners: first row and column of each one's window.
        size: rows and columns of the windows.
    """

    index: Tensor
    corners: Sequence[tuple[int, int]]
    size: tuple[int, int]

    def of(self, slices: Tensor) -> Tensor:
        """Return the windows of slices [N, C, H, W], [B, C, h, w]."""
        parts = [slices[i][(slice(None), *self._window(k))] for k, i in enumerate(self.index.tolist())]
        return torch.stack(parts)

    def put(self, windows: Tensor, slices: Tensor) -> None:
        """Write windows [B, C, h, w] into slices [N, C, H, W]."""
        for k, i in enumerate(self.index.tolist()):
            slices[i][(slice(None), *self._window(k))] = windows[k]

    def _window(self, k: int) -> tuple[slice, slice]:
        (top, left), (height, width) = self.corners[k], self.size
        return slice(top, top + height), slice(left, left + width)


def content(y: Tensor, operator: SliceOperator) -> Tensor:
    """Return which voxels a slice sees that holds something other than `background` there, [R, A, S] of bool.

    Of a scan with noise in the air nearly every voxel counts, of a brain that was extracted the brain.

    Args:
        y: the scan's slices, [R, A, S], coarse along the through-plane axis, missing ones filled in.
        operator: that made them.
    """
    # what a missing slice would see is to be restored, too
    weights = np.abs(SliceOperator.build(operator.geometry.complete()).matrix)
    reach = (weights > SIDE_LOBES * weights.max()).astype(np.float64)
    # a slice that varies by CONSTANT about the background must hold something: half of it, and room for rounding
    other = ((y - background(y)).abs() >= CONSTANT / 4).to(torch.float32)
    return apply_along(reach.T, other, operator.geometry.axis, "slices") > 0.5


def background(y: Tensor) -> Tensor:
    """Return the median of a volume's outer faces, [] (not its least value, which is the ringing of a resampling)."""
    faces = [y.select(axis, end).flatten() for axis in range(y.ndim) for end in (0, -1)]
    return torch.cat(faces).median()


def cuts(held: Tensor, active: Tensor, micro_batch: int, stride: int) -> list[Cut]:
    """Sort slices by the area of what they hold into micro-batches.

    Args:
        held: where slices hold something, [N, H, W] of bool; H and W are multiples of the stride.
        active: the slices to sort, indices [K], each of which holds something.
        micro_batch: slices in each cut; in the last one as many as are left.
        stride: windows are multiples of it in size.
    """
    boxes = torch.tensor([_box(held[i]) for i in active.tolist()]).reshape(-1, 2, 2)  # [K, axis, first and past last]
    limits = torch.tensor(held.shape[1:])
    wanted = boxes[..., 1] - boxes[..., 0] + 2 * MARGIN
    sizes = torch.minimum((wanted + stride - 1) // stride * stride, limits)
    order = torch.argsort(sizes.prod(dim=1), stable=True)
    found = []
    for mine in order.split(micro_batch) if len(order) else ():  # split makes an empty part of nothing
        size = sizes[mine].amax(dim=0)
        centred = (boxes[mine].sum(dim=2) - size) // 2
        corners = torch.minimum(centred.clamp(min=0), limits - size)
        height, width = size.tolist()
        places = [(top, left) for top, left in corners.tolist()]
        found.append(Cut(active[mine.to(active.device)], places, (height, width)))
    return found


def _box(held: Tensor) -> list[tuple[int, int]]:
    """Return the first index of what [H, W] holds, and the index past its last, on both axes."""
    lines = [torch.nonzero(held.any(dim=1 - axis)).flatten() for axis in range(2)]
    return [(int(line[0]), int(line[-1]) + 1) for line in lines]
