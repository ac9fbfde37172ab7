"""Microscopy stacks as OME-TIFF, ImageJ TIFF, plain TIFF, or a series of single planes.

ImageJ alone, without Bio-Formats, reads of an OME-TIFF neither z nor channels, so ``.tif`` and ``.tiff`` are written as
its own kind, and ``.ome.tif`` and ``.ome.tiff`` as OME-TIFF.
"""

from __future__ import annotations

import glob
import logging
import re
import struct
import xml.etree.ElementTree as ET
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from bida.errors import ScanError
from bida.microscopy.stacks.axes import Found, SizesUm, merge_sizes, to_czyx, to_um
from bida.microscopy.stacks.paths import BIG_TIFF_SUFFIXES, TIFF_SUFFIXES

OME_TYPES = ("int8", "int16", "int32", "uint8", "uint16", "uint32", "float32", "float64")
IMAGEJ_TYPES = ("uint8", "uint16", "float32")
IMAGEJ_BYTES = 2**32 - 2**25  # of voxels: the rest of 4 GB is for what describes them
_LOST = ("zeroed", "missing", "incomplete", "out of range")  # in warnings of planes that are read as zeros
# what tifffile raises for damage, and for a compression whose decoder is not installed
DAMAGE = (
    tifffile.TiffFileError, ValueError, LookupError, TypeError, AttributeError, AssertionError, ArithmeticError,
    OSError, EOFError, RuntimeError, struct.error, zlib.error, MemoryError, ImportError,
)  # fmt: skip
_NOTHING: SizesUm = (None, None, None)


def read_tiff(path: Path, alone: bool = False, frames_are_z: bool = False) -> Found:
    """Read a TIFF file: sizes and names from OME-XML, else from ImageJ's description, else from the resolution tags.

    Args:
        path: the file.
        alone: it is the whole stack, not a plane of a series.
        frames_are_z: see `to_czyx`.

    Raises:
        ScanError: not a TIFF, a damaged one, or more than one image in it, or alone, ImageJ's, and of channels without
            planes: three axes that were not named are written as channels by tifffile; see also `to_czyx`.
    """
    with whole_tiff(path), tifffile.TiffFile(path) as file:
        series = file.series
        if len(series) != 1:
            shapes = ", ".join(str(one.shape) for one in series[:3])
            raise ScanError(
                f"{path}: a TIFF must hold one image of one shape, got {len(series)} ({shapes}); save one of them"
            )
        data = to_czyx(series[0].asarray(), series[0].axes, path, frames_are_z)
        if alone and file.is_imagej and data.shape[1] == 1 < len(data):
            raise ScanError(
                f"{path}: a stack must say whether its images are planes or channels, got {len(data)} channels of one "
                "plane, as tifffile writes three axes without names; save it with axes ZYX, or in ImageJ by Stack to "
                "Hyperstack, slices (z)"
            )
        if file.is_ome and file.ome_metadata:
            return Found(data, *_ome(file.ome_metadata, len(data), path))
        if file.is_imagej:
            return Found(data, _imagej_sizes(file), _imagej_names(file, *data.shape[:2]))
        return Found(data, _tag_sizes(file))


@contextmanager
def whole_tiff(path: str | Path) -> Iterator[None]:
    """Raise a `ScanError` of one line where the block cannot read a TIFF, or not all of it."""
    try:
        with _nothing_missing(path):
            yield
    except ScanError:
        raise
    except DAMAGE as error:
        reason = " ".join(str(error).split())[:120]
        codec = "imagecodecs" in reason or isinstance(error, ImportError)
        cure = "install imagecodecs" if codec else "look at the file"
        raise ScanError(f"{path}: must be a TIFF that can be read, got '{reason}'; {cure}") from error


class _Faults(logging.Handler):
    """Collect what tifffile only logs: errors, and that missing planes read as zeros."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a message that means lost content."""
        text = record.getMessage()
        if record.levelno >= logging.ERROR or any(word in text for word in _LOST):
            self.found.append(" ".join(text.split()))


@contextmanager
def _nothing_missing(path: str | Path) -> Iterator[None]:
    """Raise a `ScanError` after a block in which tifffile logged that a part of the file is lost."""
    faults, logger = _Faults(), logging.getLogger("tifffile")
    logger.addHandler(faults)
    try:
        yield
    finally:
        logger.removeHandler(faults)
    if faults.found:
        raise ScanError(
            f"{path}: a TIFF must be whole, got '{faults.found[0][:120]}'; copy it again, with all its files"
        )


def _ome(text: str, channels: int, path: Path) -> tuple[SizesUm, tuple[str, ...] | None]:
    """Return voxel sizes and channel names of OME-XML; a PhysicalSize without a unit is in micrometres (the schema)."""
    try:
        pixels = ET.fromstring(text).find(".//{*}Pixels")
    except ET.ParseError as error:
        raise ScanError(f"{path}: its OME-XML must be well-formed, got '{error}'; save it again") from error
    if pixels is None:
        return _NOTHING, None
    z, y, x = (
        to_um(float(pixels.get(f"PhysicalSize{axis}", "nan")), pixels.get(f"PhysicalSize{axis}Unit", "µm"))
        for axis in "ZYX"
    )
    names = [channel.get("Name") for channel in pixels.findall("{*}Channel")]
    whole = [name for name in names if name]
    return (z, y, x), tuple(whole) if len(whole) == len(names) == channels else None


def _imagej_sizes(file: tifffile.TiffFile) -> SizesUm:
    """Return ImageJ's voxel sizes: z is `spacing`, x and y are pixels a `unit` in the resolution tags.

    ImageJ names `yunit` and `zunit` where they are not the `unit` of x.
    """
    described = file.imagej_metadata or {}
    unit = str(described.get("unit", ""))
    y, x = (to_um(_period(file, axis), str(described.get(f"{axis.lower()}unit", unit))) for axis in "YX")
    spacing = described.get("spacing")
    z = to_um(None if spacing is None else abs(float(spacing)), str(described.get("zunit", unit)))
    return z, y, x


def _imagej_names(file: tifffile.TiffFile, channels: int, planes: int) -> tuple[str, ...] | None:
    """Return what every plane of a channel is labelled with; None where planes have labels of their own, or none."""
    labels = (file.imagej_metadata or {}).get("Labels")
    if planes == 1 or not isinstance(labels, list) or len(labels) != channels * planes or not all(labels):
        return None
    names = labels[:channels]
    return tuple(map(str, names)) if labels == names * planes else None


def _tag_sizes(file: tifffile.TiffFile) -> SizesUm:
    """Return the sizes y and x that the resolution tags give in inches or centimetres; a plain TIFF has no z."""
    tag = file.pages.first.tags.get("ResolutionUnit")
    unit = {2: "inch", 3: "cm"}.get(0 if tag is None else int(tag.value))
    y, x = (to_um(_period(file, axis), unit) for axis in "YX")
    return None, y, x


def _period(file: tifffile.TiffFile, axis: str) -> float | None:
    """Return the distance between pixels in the unit of the resolution tags, a fraction of pixels a unit."""
    tag = file.pages.first.tags.get(f"{axis}Resolution")
    if tag is None or not tag.value[0]:
        return None
    return tag.value[1] / tag.value[0]


def series_files(path: str | Path) -> list[Path]:
    """Return the TIFF files of a folder or a glob in natural order: z2 before z10.

    Raises:
        ScanError: there are none.
    """
    found = Path(path).iterdir() if Path(path).is_dir() else map(Path, glob.glob(str(path)))
    files = [file for file in found if file.name.lower().endswith(TIFF_SUFFIXES) and not file.name.startswith(".")]
    if not files:
        raise ScanError(
            f"{path}: a series must hold TIFF files ({', '.join(TIFF_SUFFIXES)}), got none; check the folder"
        )
    return sorted(files, key=lambda file: [(int(d or 0), w) for d, w in re.findall(r"(\d+)|(\D+)", file.name)])


def read_series(path: str | Path, sizes_given: bool = False) -> Found:
    """Read single-plane TIFF files, one a z, in natural order of their names.

    Args:
        path: folder or glob.
        sizes_given: leave the voxel sizes of the files out, which may then differ.

    Raises:
        ScanError: a file holds more than one plane, or shape, type, sizes or channels differ.
    """
    files = series_files(path)
    planes = [read_tiff(file) for file in files]
    first = planes[0]
    for file, plane in zip(files, planes):
        if plane.data.shape[1] != 1:
            raise ScanError(f"{file}: a file of a series must hold one plane, got {plane.data.shape[1]}; read it alone")
        if (plane.data.shape, plane.data.dtype, plane.channels) != (first.data.shape, first.data.dtype, first.channels):
            raise ScanError(
                f"{file}: the planes of a series must be alike in shape, type and channels, got {plane.data.shape} "
                f"{plane.data.dtype} after {first.data.shape} {first.data.dtype}; take it out of the folder"
            )
    data = np.concatenate([plane.data for plane in planes], axis=1)
    sizes = _NOTHING if sizes_given else merge_sizes([plane.spacing_um for plane in planes], path)
    return Found(data, sizes, first.channels)


def for_imagej(path: Path) -> bool:
    """Tell whether a stack is written as ImageJ's own TIFF, by its name."""
    return path.name.endswith((".tif", ".tiff")) and not path.name.endswith((".ome.tif", ".ome.tiff"))


def check_type(path: Path, dtype: np.dtype, voxels: int = 0) -> None:
    """Check that the kind of TIFF that a name asks for has such voxels, and so many.

    Raises:
        ScanError: it has not.
    """
    ours, types = ("ImageJ's TIFF", IMAGEJ_TYPES) if for_imagej(path) else ("OME-TIFF", OME_TYPES)
    if dtype.name not in types:
        cure = "name it .ome.tif" if dtype.name in OME_TYPES else "convert"
        raise ScanError(f"{path}: voxels of {ours} must be one of {', '.join(types)}, got {dtype}; {cure}")
    if for_imagej(path) and voxels * dtype.itemsize > IMAGEJ_BYTES:
        raise ScanError(
            f"{path}: {ours} must hold less than 4 GB, got {voxels * dtype.itemsize / 1e9:.1f} GB; name it .ome.tif"
        )


def write_imagej(path: Path, data: NDArray, spacing_um: tuple[float, float, float], channels: tuple[str, ...]) -> None:
    """Write [C, Z, Y, X] as ImageJ's hyperstack, deflated; its labels are the channels' names.

    Sizes along y and x are kept to 9 digits, as fractions of 32 bits.

    Raises:
        ScanError: channels of one plane, which `read_tiff` could not tell from planes.
    """
    if data.shape[1] == 1 < len(data):
        raise ScanError(f"{path}: ImageJ's TIFF of channels must hold planes, got 1; name it .ome.tif")
    z, y, x = spacing_um
    metadata: dict[str, object] = {"axes": "ZCYX", "spacing": z, "unit": "um", "Labels": list(channels) * data.shape[1]}
    if len(channels) > 1:
        metadata["mode"] = "composite"
    planes = np.ascontiguousarray(data.transpose(1, 0, 2, 3))
    tifffile.imwrite(path, planes, imagej=True, resolution=(1 / x, 1 / y), compression="zlib", metadata=metadata)


def write_tiff(path: Path, data: NDArray, spacing_um: tuple[float, float, float], channels: tuple[str, ...]) -> None:
    """Write [C, Z, Y, X] as OME-TIFF, deflated, with sizes in micrometres and channel names."""
    metadata: dict[str, object] = {"axes": "CZYX", "Channel": {"Name": list(channels)}}
    for axis, size in zip("ZYX", spacing_um):
        metadata |= {f"PhysicalSize{axis}": size, f"PhysicalSize{axis}Unit": "µm"}
    big = True if path.name.endswith(BIG_TIFF_SUFFIXES) else None  # None: where it is beyond 4 GB
    tifffile.imwrite(path, data, ome=True, photometric="minisblack", compression="zlib", bigtiff=big, metadata=metadata)
