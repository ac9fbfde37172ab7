"""Microscopy stacks for training and scoring: planes chosen, averaged in blocks, clipped, brought to [-1, 1]."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bida.errors import SettingsError
from bida.microscopy.settings import check_percentile
from bida.microscopy.stacks.paths import split_range
from bida.microscopy.stacks.stack import Stack, block_mean, read_stack

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
    stack = read_stack(path, voxel_um, frames_are_z=frames_are_z)
    taken = stack.data[:, planes]
    if not taken.shape[1]:
        raise SettingsError(f"{spec}: the range must hold planes of {stack.data.shape[1]}, it holds none")
    stack = block_mean(replace(stack, data=taken), block)
    return replace(stack, data=clipped(stack.data, clip_percentile))


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
