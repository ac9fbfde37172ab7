"""What of each slice there is to restore: micro-batches of slices of similar size, each cut to what it holds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from bida.physics.operators import SliceOperator, apply_along

CONSTANT = 1e-3  # range, of the [-1, 1] that the prior knows, below which there is nothing to restore
MARGIN = 4  # voxels of background that the network sees around what there is
SIDE_LOBES = 1e-2  # of a profile's peak: what lies below is not reached by it
SLICES = 8  # that the network sees at once: they fill a CPU
# On these kinds of device it sees as many as have so many pixels, which fill the largest: layers of 64 channels on a
# quarter of them take 0.13 GB each in bfloat16. Fixed for the kind, so that no free memory changes a result.
PIXELS = {"cuda": 1 << 22}


def slices_at_once(device: str, slices: int, height: int, width: int) -> int:
    """Return how many of a plane's slices [H, W] the network sees at once on a kind of device, the same in each batch.

    Args:
        device: the kind, as `torch.device.type` has it.
        slices: how many there are to see.
        height, width: H and W.
    """
    if device not in PIXELS:
        return SLICES
    batches = math.ceil(slices / max(1, PIXELS[device] // (height * width)))
    return math.ceil(slices / max(1, batches)) or 1


def at_once(device: str) -> dict[str, int]:
    """Return what the network sees at once on a kind of device, for the record: so many slices, or so many pixels."""
    return {"pixels": PIXELS[device]} if device in PIXELS else {"slices": SLICES}


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
        if self.size == tuple(slices.shape[2:]):
            return slices[self.index]
        if slices.device.type == "cpu":  # copies whole rows, a call for each slice
            return torch.stack([slices[where] for where in self._windows])
        return slices.movedim(1, -1)[self._places].movedim(-1, 1)

    def put(self, windows: Tensor, slices: Tensor) -> None:
        """Write windows [B, C, h, w] into slices [N, C, H, W]."""
        if self.size == tuple(slices.shape[2:]):
            slices[self.index] = windows
        elif slices.device.type == "cpu":
            for where, window in zip(self._windows, windows):
                slices[where] = window
        else:
            slices.movedim(1, -1)[self._places] = windows.movedim(1, -1)

    @cached_property
    def _windows(self) -> list[tuple[int, slice, slice, slice]]:
        """Slice, channels, rows and columns of each window."""
        (height, width), every = self.size, slice(None)
        return [
            (index, every, slice(top, top + height), slice(left, left + width))
            for index, (top, left) in zip(self.index.tolist(), self.corners)
        ]

    @cached_property
    def _places(self) -> tuple[Tensor, Tensor, Tensor]:
        """Slice, row and column of every pixel of the windows, in shapes that broadcast to [B, h, w]."""
        corners = torch.tensor(self.corners, device=self.index.device)
        rows, columns = (torch.arange(size, device=self.index.device) for size in self.size)
        return self.index[:, None, None], (corners[:, :1] + rows)[:, :, None], (corners[:, 1:] + columns)[:, None]


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


def cuts(
    held: Tensor, active: Tensor, micro_batch: int, stride: int, within: Sequence[range] | None = None
) -> list[Cut]:
    """Sort slices by the area of what they hold into micro-batches.

    Args:
        held: where slices hold something, [N, H, W] of bool; H and W are multiples of the stride.
        active: the slices to sort, indices [K], each of which holds something.
        micro_batch: slices in each cut; in the last one as many as are left.
        stride: windows are multiples of it in size.
        within: rows and columns that windows need not reach beyond, but for whole strides. All when None.
    """
    limits = torch.tensor(held.shape[1:])
    ends = torch.tensor([(part.start, part.stop) for part in within or map(range, held.shape[1:])])
    boxes = _boxes(held[active]).cpu() + torch.tensor([-MARGIN, MARGIN])  # [K, axis, first and past last]
    boxes = boxes.clamp(ends[:, :1], ends[:, 1:])
    sizes = torch.minimum((boxes[..., 1] - boxes[..., 0] + stride - 1) // stride * stride, limits)
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


def brightest(cuts: Sequence[Cut], slices: Tensor, count: int, size: int, stride: int) -> list[Cut]:
    """Return the brightest parts of some windows, of slices of the brighter half, spread evenly over it.

    Args:
        cuts: micro-batches, one or more.
        slices: [N, 1, H, W], by which brightness is told.
        count: windows to return, a cut of one each.
        size: largest size along their sides; whole windows are taken where they are smaller.
        stride: sizes and places within the windows are multiples of it.
    """
    brightness = slices.flatten(1).mean(dim=1).tolist()
    of_slices = [(cut, place) for cut in cuts for place in range(len(cut.index))]
    of_slices.sort(key=lambda one: brightness[int(one[0].index[one[1]])])
    found = []
    for number in range(count):
        cut, place = of_slices[int((1 - (number + 0.5) / (2 * count)) * len(of_slices))]
        height, width = (min(side, max(stride, size // stride * stride)) for side in cut.size)
        index, (top, left) = cut.index[place : place + 1], cut.corners[place]
        columns = F.avg_pool2d(Cut(index, [(top, left)], cut.size).of(slices), (height, 1), stride=(stride, 1))
        means = F.avg_pool2d(columns, (1, width), stride=(1, stride))
        row, column = divmod(int(means.argmax()), means.shape[-1])
        found.append(Cut(index, [(top + row * stride, left + column * stride)], (height, width)))
    return found


def _boxes(held: Tensor) -> Tensor:
    """Return the first index of what each of [K, H, W] holds, and the index past its last, on both axes: [K, 2, 2]."""
    found = []
    for lines in (held.any(dim=2), held.any(dim=1)):
        first, last = lines.to(torch.uint8).argmax(dim=1), lines.flip(1).to(torch.uint8).argmax(dim=1)
        found.append(torch.stack([first, lines.shape[1] - last], dim=1))
    return torch.stack(found, dim=1)
