"""Stacks as napari's layers, and back: data, scale and units, without napari."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bida.errors import ScanError, SettingsError
from bida.io.files import stem
from bida.microscopy.stacks.axes import to_um
from bida.microscopy.stacks.paths import TIFF_SUFFIXES, ZARR_SUFFIXES
from bida.microscopy.stacks.stack import Stack, read_stack, write_stack

LayerData = tuple[NDArray, dict[str, Any], str]  # what napari makes a layer of
PIXEL = "pixel"  # napari's unit where nobody said one


def reader(path: str | Sequence[str]) -> Callable[[str], list[LayerData]] | None:
    """Return what reads a path, as napari asks for it; None where bida reads no such file."""
    if not isinstance(path, str) or not path.lower().endswith((*TIFF_SUFFIXES, *ZARR_SUFFIXES)):
        return None
    return read_layers


def read_layers(path: str) -> list[LayerData]:
    """Return the channels of a stack as layers in micrometres.

    Raises:
        ScanError: See `bida.microscopy.read_stack`.
        SettingsError: The file does not say its voxel sizes.
    """
    stack = read_stack(path)
    several, name = len(stack.channels) > 1, stem(path).removesuffix(".ome")
    names = [f"{name} {channel}" if several else name for channel in stack.channels]
    colours = {"blending": "additive"} if several else {}
    return [
        (volume, {"name": name, **placed(stack.spacing_um), **colours}, "image")
        for name, volume in zip(names, stack.data)
    ]


def placed(spacing_um: Sequence[float]) -> dict[str, Any]:
    """Return what says to napari where the voxels of a stack [Z, Y, X] lie."""
    return {"scale": tuple(spacing_um), "units": ("micrometer",) * 3, "axis_labels": ("z", "y", "x")}


def stack_of(
    data: Any, scale: Sequence[float], units: Sequence[Any], name: str, rgb: bool = False, measured: bool = False
) -> Stack:
    """Return a layer as a stack of one channel.

    Args:
        data: Of the layer, [Z, Y, X], or several resolutions, the finest first, which alone is taken.
        scale: Its voxel sizes (z, y, x).
        units: A unit each, or what has the unit's name as text.
        name: Of the layer.
        rgb: It is of colours.
        measured: Its units must be of length. Without, a layer in pixels is taken as it is, one pixel for a um: to
            restore it, the sizes count only against each other.

    Raises:
        ScanError: It is no stack of numbers.
        SettingsError: Its voxel sizes are no lengths.
    """
    data = data[0] if isinstance(data, Sequence) else data
    if rgb or data.ndim != 3:
        what = "colours" if rgb else f"shape {data.shape}"
        raise ScanError(f"{name}: a layer must be one stack [z, y, x], got {what}; split or choose another layer")
    array = np.asarray(data)
    array = array.astype(np.uint8) if array.dtype.kind == "b" else array
    in_pixels = not measured and all(str(unit) == PIXEL for unit in units)
    z, y, x = (
        float(size) if in_pixels else to_um(float(size), str(unit)) for size, unit in zip(scale, units, strict=True)
    )
    if z is None or y is None or x is None:
        told = ", ".join(f"{size:g} {unit}" for size, unit in zip(scale, units))
        raise SettingsError(
            f"{name}: voxel sizes must be lengths, got {told}; set the layer's scale and units, as "
            'layer.units = ("um", "um", "um")'
        )
    return Stack(array[None], (z, y, x), (name,), name)


def write_layer(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write a layer with its voxel sizes, as napari asks for it; return the path.

    Raises:
        ScanError: See `stack_of` and `bida.microscopy.write_stack`; the file exists.
        SettingsError: Its voxel sizes are no lengths.
    """
    name, scale = str(attributes.get("name", Path(path).name)), attributes.get("scale", (1.0, 1.0, 1.0))
    units = attributes.get("units") or (PIXEL,) * len(scale)
    write_stack(path, stack_of(data, scale, units, name, bool(attributes.get("rgb")), measured=True))
    return [path]
