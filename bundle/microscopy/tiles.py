"""Slices of any size through a network of one input size: overlapping tiles whose outputs are blended."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from bida.errors import SettingsError
from bida.microscopy.settings import check_tile


@dataclass(frozen=True)
class Tiling:
    """Say how slices are cut into tiles.

    Along a side where two tiles overlap, each counts for nothing in the outer quarter of the overlap, where its network
    lacks surroundings, and gives way to the other over the middle half. Beyond the slice's own border it is mirrored.

    Args:
        tile: Side of a tile, pixels; a slice that is smaller is one tile.
        overlap: Pixels that neighbours share, at least.
        stride: All sides and places are multiples of it.

    Raises:
        SettingsError: A size does not fit.
    """

    tile: int = 128
    overlap: int = 32
    stride: int = 1

    def __post_init__(self) -> None:
        """Check the sizes."""
        for name, value in (("tile", self.tile), ("overlap", self.overlap)):
            if value % self.stride:
                raise SettingsError(f"{name}: must be a multiple of the network's stride {self.stride}, got {value}")
        check_tile(self.tile, self.overlap)

    def starts(self, length: int) -> list[int]:
        """Return where tiles start along a side, a multiple of the stride long."""
        if length <= self.tile:
            return [0]
        count = math.ceil((length - self.overlap) / (self.tile - self.overlap))
        places = [k * (length - self.tile) // (count - 1) for k in range(count)]
        return [place // self.stride * self.stride for place in places]

    def windows(self, length: int) -> list[Tensor]:
        """Return the weight of each tile along a side, a multiple of the stride long; they sum to 1 at every pixel."""
        starts, size = self.starts(length), min(self.tile, length)
        margin = self.overlap // 4
        inwards = torch.arange(1, size + 1, dtype=torch.float64)
        ramp = ((inwards - margin) / (self.overlap - 2 * margin + 1)).clamp(0, 1)
        windows, total = [], torch.zeros(length, dtype=torch.float64)
        for k, start in enumerate(starts):
            window = (ramp if k else torch.ones(size)) * (ramp.flip(0) if k < len(starts) - 1 else torch.ones(size))
            total[start : start + size] += window
            windows.append(window)
        return [(window / total[start : start + size]).float() for start, window in zip(starts, windows)]


def mirrored(length: int, padded: int) -> Tensor:
    """Return indices [padded] that continue a side of a length by its mirror image, the last pixel not repeated."""
    period = max(1, 2 * (length - 1))
    index = torch.arange(padded) % period
    return torch.minimum(index, period - index) if length > 1 else index


def tiled(
    network: Callable[[Tensor], Tensor], slices: Tensor, tiling: Tiling, batch_size: int = 16, micro_batch: int = 8
) -> Tensor:
    """Return a network's output for slices, tile by tile.

    The network sees micro-batches of one shape and always the same tiles in each, the last filled up with zeros, so
    that the result does not depend on `batch_size`.

    Args:
        network: [micro_batch, C, h, w] -> [micro_batch, K, h, w], h and w at most the tile.
        slices: [N, C, H, W].
        tiling: How they are cut.
        batch_size: Tiles gathered at once, rounded up to whole micro-batches.
        micro_batch: Tiles that the network sees at once.

    Returns:
        [N, K, H, W].
    """
    height, width = slices.shape[2:]
    rows, columns = (math.ceil(side / tiling.stride) * tiling.stride for side in (height, width))
    padded = slices[:, :, mirrored(height, rows).to(slices.device)][..., mirrored(width, columns).to(slices.device)]
    h, w = min(tiling.tile, rows), min(tiling.tile, columns)
    places = [
        (top, left, (across[:, None] * along).to(slices.device))
        for top, across in zip(tiling.starts(rows), tiling.windows(rows))
        for left, along in zip(tiling.starts(columns), tiling.windows(columns))
    ]
    pairs = [(index, place) for index in range(len(slices)) for place in places]
    group = math.ceil(batch_size / micro_batch) * micro_batch
    result: Tensor | None = None
    for first in range(0, len(pairs), group):
        members = pairs[first : first + group]
        gathered = padded.new_zeros(math.ceil(len(members) / micro_batch) * micro_batch, slices.shape[1], h, w)
        for k, (index, (top, left, _)) in enumerate(members):
            gathered[k] = padded[index, :, top : top + h, left : left + w]
        out = torch.cat([network(part) for part in gathered.split(micro_batch)])
        if result is None:
            result = out.new_zeros(len(slices), out.shape[1], rows, columns)
        for k, (index, (top, left, window)) in enumerate(members):
            result[index, :, top : top + h, left : left + w] += out[k] * window
    if result is None:
        raise SettingsError(f"slices: at least one is needed, got shape {tuple(slices.shape)}")
    return result[:, :, :height, :width]
