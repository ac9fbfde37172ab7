"""Microscopy stacks for training and scoring: planes chosen, averaged in blocks, clipped, brought to [-1, 1]."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from bida.errors import ScanError, SettingsError
from bida.microscopy.ranks import between, percentiles
from bida.microscopy.settings import check_percentile
from bida.microscopy.stacks.paths import split_range
from bida.microscopy.stacks.stack import Stack, block_mean, open_stack, part_of, read_stack

Float = NDArray[np.float32]

# Of a stack's acquired planes, channel by channel, they go to -1 and 1: in training and in use, from the stack at hand.
PERCENTILES = (0.5, 99.5)


@dataclass(frozen=True)
class IntensityLine:
    """The straight lines, one a channel, between a stack's own numbers and the [-1, 1] that a network knows.

    Attributes:
        low: [C], goes to -1.
        high: [C], goes to 1.
    """

    low: Float
    high: Float

    @staticmethod
    def of(data: NDArray) -> IntensityLine:
        """Return the line of a stack [C, Z, Y, X] by `PERCENTILES`; a constant channel gets a width of 1."""
        flat = data.reshape(len(data), -1)
        low, high = np.percentile(flat, PERCENTILES, axis=1).astype(np.float32)
        return IntensityLine(low, np.where(high > low, high, low + 1).astype(np.float32))

    def forward(self, data: NDArray) -> Float:
        """Return a stack [C, Z, Y, X] on the network's scale, float32; nothing is clipped."""
        low, high = (end[:, None, None, None] for end in (self.low, self.high))
        return ((data.astype(np.float32) - low) * (2 / (high - low)) - 1).astype(np.float32)

    def backward(self, data: Float) -> Float:
        """Return a stack [C, Z, Y, X] in its own numbers, float32."""
        low, high = (end[:, None, None, None] for end in (self.low, self.high))
        return ((data + 1) / 2 * (high - low) + low).astype(np.float32)


@dataclass(frozen=True)
class Seen:
    """How a network sees a stack: clipped at a percentile of each channel, on its line, within limits.

    Attributes:
        line: Of the stack after the clip.
        clip_percentile: None: nothing is clipped.
        caps: [C] in the stack's type, where channels are clipped, or None.
        lowest, highest: [C], of the stack after the clip.
    """

    line: IntensityLine
    clip_percentile: float | None
    caps: NDArray | None
    lowest: NDArray
    highest: NDArray

    @staticmethod
    def of(stack: Stack, clip_percentile: float | None = None) -> Seen:
        """Return it for a stack that is read block by block, or is in memory.

        Raises:
            SettingsError: The percentile is out of its range.
            ScanError: Intensities are not finite, or cannot be read.
        """
        check_percentile(clip_percentile)
        which = [0.0, 100.0, *PERCENTILES, *(() if clip_percentile is None else (clip_percentile,))]
        dtype, count = stack.data.dtype, stack.data[0].size
        lows, highs, lines, caps = [], [], [], []
        for channel in range(len(stack.data)):
            pairs = percentiles(partial(blocks_of, stack, channel), dtype, count, which)
            cap = None
            if clip_percentile is not None:
                cap = np.float64(between(*pairs[-1])).astype(dtype)
                caps.append(cap)
                pairs = [(np.minimum(pair, cap), place) for pair, place in pairs]
            low, high, first, last = (between(*pair) for pair in pairs[:4])
            lows.append(low)
            highs.append(high)
            lines.append((first, last))
        first, last = np.array(lines).T.astype(np.float32)
        line = IntensityLine(first, np.where(last > first, last, first + 1).astype(np.float32))
        return Seen(line, clip_percentile, np.array(caps) if caps else None, np.array(lows), np.array(highs))

    def capped(self, data: NDArray) -> NDArray:
        """Return a part [C, Z, Y, X] of the stack with each channel clipped."""
        return data if self.caps is None else np.minimum(data, self.caps[:, None, None, None])

    def limits(self) -> tuple[Float, Float]:
        """Return the lowest and the highest value of each channel on the network's scale, each [C, 1, 1, 1]."""
        low, high = (self.line.forward(end[:, None, None, None]) for end in (self.lowest, self.highest))
        return low, high


def blocks_of(stack: Stack, channel: int) -> Iterator[NDArray]:
    """Yield a channel of a stack in blocks as its file has them; one that is in memory is a block.

    Raises:
        ScanError: Intensities are not finite, or cannot be read.
    """
    volume = stack.data[channel]
    parts = getattr(volume, "blocks", None)
    for index in np.ndindex(*(volume.numblocks if parts is not None else (1,))):
        block = part_of(stack.path, volume if parts is None else parts[index])
        if block.dtype.kind == "f" and not np.isfinite(block).all():
            raise ScanError(f"{stack.path}: intensities must be finite, got NaN or Inf; replace them")
        yield block


def load_stack(
    spec: str,
    block: int = 1,
    clip_percentile: float | None = None,
    voxel_um: Sequence[float] | None = None,
    frames_are_z: bool = False,
) -> Stack:
    """Read a stack, or a range of its planes.

    Args:
        spec: A file, or ``FILE[START:STOP]`` for planes START to STOP - 1 along z, in the file's own count.
        block: Average cubes of so many voxels a side, see `block_mean`.
        clip_percentile: See `clipped`.
        voxel_um: Voxel sizes (z, y, x) before the mean, um, which go before those of the file.
        frames_are_z: Time points are planes.

    Raises:
        SettingsError: No plane is left, or an argument is out of its range.
    """
    path, planes = split_range(spec)
    stack = taken(read_stack(path, voxel_um, frames_are_z=frames_are_z), planes, spec)
    stack = block_mean(stack, block)
    return replace(stack, data=clipped(stack.data, clip_percentile))


def open_planes(spec: str, voxel_um: Sequence[float] | None = None, frames_are_z: bool = False) -> Stack:
    """Open a stack, or a range of its planes; see `load_stack` and `open_stack`."""
    path, planes = split_range(spec)
    return taken(open_stack(path, voxel_um, frames_are_z=frames_are_z), planes, spec)


def taken(stack: Stack, planes: slice, spec: str) -> Stack:
    """Return some planes of a stack.

    Raises:
        SettingsError: None is left.
    """
    found = stack.data[:, planes]
    if not found.shape[1]:
        raise SettingsError(f"{spec}: the range must hold planes of {stack.data.shape[1]}, it holds none")
    return replace(stack, data=found)


def middle(data: NDArray, most: int) -> NDArray:
    """Return the middle of a stack [C, Z, Y, X], all its planes, at most so many pixels along y and x."""
    y, x = (slice((side - min(side, most)) // 2, (side + min(side, most)) // 2) for side in data.shape[2:])
    return data[..., y, x]


def clipped(data: NDArray, percentile: float | None) -> NDArray:
    """Return a stack [C, Z, Y, X] with each channel clipped at this percentile of it; None clips nothing.

    Raises:
        SettingsError: The percentile is out of its range.
    """
    check_percentile(percentile)
    if percentile is None:
        return data
    highest = np.percentile(data.reshape(len(data), -1), percentile, axis=1)
    return np.minimum(data, highest.astype(data.dtype)[:, None, None, None])
