"""Microscopy stacks for training and scoring: planes chosen, averaged in blocks, clipped, brought to [-1, 1]."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bida.errors import SettingsError
from bida.physics.grid import STACK_PLANES
from bida.stack import Stack, block_mean, read_stack
from bida.training.dataset import SliceStacks, Transform

Float = NDArray[np.float32]

# Of a stack's acquired planes, channel by channel, they go to -1 and 1: in training and in use, from the stack at hand.
PERCENTILES = (0.5, 99.5)

_RANGE = re.compile(r"^(?P<path>.+)\[(?P<start>\d*):(?P<stop>\d*)\]$")


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


def split_range(spec: str) -> tuple[str, slice]:
    """Split ``FILE[START:STOP]`` into the file and the range of its planes; all of them where no range is given."""
    match = _RANGE.match(spec)
    if match is None:
        return spec, slice(None)
    start, stop = (int(match[name]) if match[name] else None for name in ("start", "stop"))
    return match["path"], slice(start, stop)


def load_stack(
    spec: str, block: int = 1, clip_percentile: float | None = None, voxel_um: Sequence[float] | None = None
) -> Stack:
    """Read a stack, or a range of its planes.

    Args:
        spec: A file, or ``FILE[START:STOP]`` for planes START to STOP - 1 along z, in the file's own count.
        block: Average cubes of so many voxels a side, see `block_mean`.
        clip_percentile: See `clipped`.
        voxel_um: Voxel sizes (z, y, x) before the mean, um, which go before those of the file.

    Raises:
        SettingsError: No plane is left, or an argument is out of its range.
    """
    path, planes = split_range(spec)
    stack = read_stack(path, voxel_um)
    taken = stack.data[:, planes]
    if not taken.shape[1]:
        raise SettingsError(f"{spec}: the range must hold planes of {stack.data.shape[1]}, it holds none")
    stack = block_mean(replace(stack, data=taken), block)
    return replace(stack, data=clipped(stack.data, clip_percentile))


def clipped(data: NDArray, percentile: float | None) -> NDArray:
    """Return a stack [C, Z, Y, X] with each channel clipped at this percentile of it; None clips nothing.

    Raises:
        SettingsError: The percentile is out of its range.
    """
    if percentile is None:
        return data
    if not 0 < percentile <= 100:
        raise SettingsError(f"clip_percentile: must be above 0 and at most 100, got {percentile}")
    highest = np.percentile(data.reshape(len(data), -1), percentile, axis=1)
    return np.minimum(data, highest.astype(data.dtype)[:, None, None, None])


class StackSlices(SliceStacks):
    """Slices of microscopy stacks, each stack on its own `IntensityLine`.

    A plane is drawn first, then a stack with the chance of its number of slices, then a slice. Slices of one value
    are left out.

    Args:
        stacks: Files, with ranges of planes where wanted, see `load_stack`.
        transform: See ``SliceStacks``; it gets [C, H, W].
        seed: Seed of all draws.
        planes: Where slices are taken from: ``xy``, and ``xz`` and ``yz`` where the stacks are sharp along z.
        length: Number of samples of one pass.
        block_mean, clip_percentile, voxel_um: See `load_stack`.

    Raises:
        SettingsError: There is no stack, a plane is unknown, or the stacks differ in their number of channels.
    """

    def __init__(
        self,
        stacks: Sequence[str],
        transform: Transform,
        seed: int = 0,
        planes: Sequence[str] = ("xy",),
        length: int = 256,
        block_mean: int = 1,
        clip_percentile: float | None = None,
        voxel_um: Sequence[float] | None = None,
    ) -> None:
        """Load every stack into memory."""
        if not stacks:
            raise SettingsError("stacks: at least one must be named to train on and one to validate on, got none")
        unknown = sorted(set(planes) - STACK_PLANES.keys())
        if unknown or not planes:
            raise SettingsError(f"planes: must be some of {', '.join(STACK_PLANES)}, got {list(planes)}")
        volumes = []
        for spec in stacks:
            data = load_stack(spec, block_mean, clip_percentile, voxel_um).data
            volumes.append(np.moveaxis(IntensityLine.of(data).forward(data), 0, -1))  # [Z, Y, X, C]
        channels = sorted({volume.shape[-1] for volume in volumes})
        if len(channels) > 1:
            raise SettingsError(f"stacks: must have one number of channels, got {channels}")
        normals = {"xy": 0, "xz": 1, "yz": 2}
        slices, weights = {}, {}
        for plane in planes:
            taken = []
            for volume in volumes:
                turned = np.moveaxis(volume, normals[plane], 0)  # [N, H, W, C]
                taken.append((turned, np.flatnonzero(np.ptp(turned.reshape(len(turned), -1), axis=1) > 0)))
            counts = np.array([len(useful) for _, useful in taken], dtype=np.float64)
            if not counts.sum():
                raise SettingsError(f"stacks: the {plane} plane must have slices of more than one value, it has none")
            slices[STACK_PLANES[plane]], weights[STACK_PLANES[plane]] = taken, counts / counts.sum()
        super().__init__(slices, transform, seed, weights, length)
        self.channels = channels[0]
