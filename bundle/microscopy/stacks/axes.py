"""Named axes and voxel sizes of microscopy files, brought to [C, Z, Y, X] and micrometres."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bida.errors import ScanError

UM: dict[str, float] = {  # micrometres in a unit, as OME, NGFF, ImageJ and NIfTI spell them
    **dict.fromkeys(("µm", "μm", "um", "micron", "microns", "micrometer", "micrometre", "\\u00b5m"), 1.0),
    **dict.fromkeys(("nm", "nanometer", "nanometre"), 1e-3),
    **dict.fromkeys(("pm", "picometer", "picometre"), 1e-6),
    **dict.fromkeys(("å", "angstrom"), 1e-4),
    **dict.fromkeys(("mm", "millimeter", "millimetre"), 1e3),
    **dict.fromkeys(("cm", "centimeter", "centimetre"), 1e4),
    **dict.fromkeys(("m", "meter", "metre"), 1e6),
    **dict.fromkeys(("inch", "in"), 25400.0),
}
SizesUm = tuple[float | None, float | None, float | None]


@dataclass(frozen=True)
class Found:
    """Hold what a file says of itself.

    Attributes:
        data: [C, Z, Y, X] in the file's own type.
        spacing_um: voxel sizes (z, y, x), None where the file does not say.
        channels: their names, None where the file does not say.
    """

    data: NDArray
    spacing_um: SizesUm = (None, None, None)
    channels: tuple[str, ...] | None = None


def to_um(size: float | None, unit: str | None) -> float | None:
    """Return a voxel size in micrometres, None where it is missing, not positive or in no unit of length."""
    factor = UM.get((unit or "").strip().lower())
    if size is None or factor is None or not (math.isfinite(size) and size > 0):
        return None
    return float(f"{size * factor:.12g}")  # 0.00065 mm is 0.65 um, without the dust of the product


def to_czyx(data: NDArray, axes: str, path: object, frames_are_z: bool = False) -> NDArray:
    """Bring an array to [C, Z, Y, X].

    An axis of length 1 is dropped, whatever its name. One axis without a name (tifffile's Q and I: the pages of a
    plain TIFF) is z where none is named so. Yes and no become 1 and 0 of 8 bits.

    Args:
        data: array with the axes named.
        axes: a letter an axis: T, C, Z, Y, X, S (colour samples), others as they come.
        path: for the message.
        frames_are_z: time points are planes, as some microscopes write them.

    Raises:
        ScanError: a time axis or colour samples longer than 1, an axis that has no place, nothing in it, or frames that
            shall be planes beside planes, or where there are none.
    """
    if data.ndim != len(axes) or not data.size:
        raise ScanError(f"{path}: a stack must hold voxels on named axes, got shape {data.shape}, axes '{axes}'")
    if any(axes.count(name) != 1 for name in "YX"):
        raise ScanError(f"{path}: a stack must have one axis Y and one X, got axes '{axes}'; save it as OME-TIFF")
    keep = [i for i, name in enumerate(axes) if name in "YX" or data.shape[i] > 1]
    names = "".join(axes[i] for i in keep)
    data = data.reshape([data.shape[i] for i in keep])
    if data.dtype.kind == "b":
        data = data.astype(np.uint8)
    if frames_are_z:
        if "Z" in names or "T" not in names:
            raise ScanError(
                f"{path}: frames are z where there are time points and no planes, got axes '{names}'; leave "
                "--frames-are-z out"
            )
        names = names.replace("T", "Z")
    if "Z" not in names and sum(name in "QI" for name in names) == 1:
        names = names.replace("Q", "Z").replace("I", "Z")
    for name, what in (
        ("T", "time points; save one of them, or give --frames-are-z"),
        ("S", "colour samples a pixel; save them as channels"),
    ):
        if name in names:
            raise ScanError(
                f"{path}: a stack must be one volume of channels, got {data.shape[names.index(name)]} {what}"
            )
    if not set(names) <= set("CZYX") or len(set(names)) < len(names):
        raise ScanError(
            f"{path}: axes must be among C, Z, Y and X, got '{names}' of shape {data.shape}; save it as OME-TIFF"
        )
    present = [name for name in "CZYX" if name in names]
    data = data.transpose([names.index(name) for name in present])
    return data.reshape([data.shape[present.index(name)] if name in present else 1 for name in "CZYX"])


def merge_sizes(sizes: Sequence[SizesUm], path: object) -> SizesUm:
    """Return the voxel sizes that the files of a series share.

    Raises:
        ScanError: two files differ.
    """
    if any(other != sizes[0] for other in sizes):
        raise ScanError(f"{path}: the planes of a series must have one voxel size, they differ; give --voxel-um Z Y X")
    return sizes[0]


def native(data: NDArray) -> NDArray:
    """Return the array in the machine's own byte order."""
    return np.ascontiguousarray(data, dtype=data.dtype.newbyteorder("="))
