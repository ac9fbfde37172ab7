"""The scan in a network's inputs: A+ y on the padded grid, and what their meta tells of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from monai.data import MetaTensor
from torch import Tensor

from bida.diffusion.noise import NO_PADDING
from bida.errors import SettingsError
from bida.physics.geometry import SliceGeometry
from bida.physics.grid import AXES
from bida.physics.operators import SliceOperator

Padding = Sequence[tuple[int, int]]


@dataclass(frozen=True)
class Measurement:
    """A scan as the sampler sees it.

    Attributes:
        y: the scan's slices [R, A, S], normalised as the prior's training data, in-plane axes padded.
        geometry: of the slices, with the padding of the through-plane axis.
        padding: voxels (before, after) on each axis of the isotropic grid.
        scale: units of y a unit of the scan's intensities, 1 where the inputs do not tell.
    """

    y: Tensor
    geometry: SliceGeometry
    padding: Padding = NO_PADDING
    scale: float = 1.0

    @classmethod
    def of(
        cls, inputs: Tensor, stride: int, geometry: SliceGeometry | None = None, padding: Padding | None = None
    ) -> Measurement:
        """Read the inputs of a network.

        Args:
            inputs: A+ y, [1, 1, R, A, S], sizes multiples of ``stride``.
            stride: the network's.
            geometry: from ``inputs.meta["slice_geometry"]`` (JSON) when not given.
            padding: from ``inputs.meta["padding"]`` (JSON) when not given, else the geometry's alone.

        Raises:
            SettingsError: the inputs do not fit the network, or nothing tells the geometry.
        """
        geometry = geometry or _geometry_of(inputs)
        full = list(padding or _padding_of(inputs))
        full[geometry.axis] = (geometry.pad_before, geometry.pad_after)
        y = SliceOperator.build(geometry).forward(_volume(inputs, stride))
        return cls(y, geometry, full, _scale_of(inputs))

    def inside(self) -> Tensor:
        """Return the slices without the padding of their own axes."""
        own = [(0, 0) if axis == self.geometry.axis else margin for axis, margin in enumerate(self.padding)]
        return _without(self.y, own)

    def cropped(self, volume: Tensor) -> Tensor:
        """Return a volume [R, A, S] on the padded grid without its padding, a view of it."""
        return _without(volume, self.padding)


def _without(volume: Tensor, padding: Padding) -> Tensor:
    for axis, (before, after) in enumerate(padding):
        volume = volume.narrow(axis, before, volume.shape[axis] - before - after)
    return volume


def _volume(inputs: Tensor, stride: int) -> Tensor:
    """Return the volume [R, A, S], float32 and plain, of inputs [1, 1, R, A, S]."""
    if inputs.ndim != 5 or inputs.shape[:2] != (1, 1):
        raise SettingsError(f"inputs: must be one volume [1, 1, R, A, S], got shape {tuple(inputs.shape)}")
    for axis, size in zip(AXES, inputs.shape[2:]):
        if size % stride:
            raise SettingsError(
                f"inputs: axis {axis} must be a multiple of {stride} for this network, got {size}; pad it"
            )
    return inputs.as_subclass(Tensor)[0, 0].float()


def _meta(inputs: Tensor, key: str) -> Any:
    """Return an entry of a MetaTensor's metadata, out of the list that collation made of it; None when absent."""
    value = inputs.meta.get(key) if isinstance(inputs, MetaTensor) else None
    return value[0] if isinstance(value, list | tuple) and len(value) == 1 else value


def _geometry_of(inputs: Tensor) -> SliceGeometry:
    text = _meta(inputs, "slice_geometry")
    if text is None:
        raise SettingsError("geometry: must be given, or be in the inputs' metadata as slice_geometry, got neither")
    return SliceGeometry.from_json(text)


def _scale_of(inputs: Tensor) -> float:
    """Return the inputs' units a unit of the scan's intensities, 1 where their meta does not tell."""
    low, high = _meta(inputs, "intensity_low"), _meta(inputs, "intensity_high")
    return 1.0 if low is None or high is None else 2.0 / float(high - low)


def _padding_of(inputs: Tensor) -> Padding:
    text = _meta(inputs, "padding")
    return NO_PADDING if text is None else [(int(before), int(after)) for before, after in json.loads(text)]
