"""Microscopy stacks as OME-Zarr: NGFF 0.4 (zarr 2) and 0.5 (zarr 3) are read, 0.5 is written by ome-zarr."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import dask
import dask.array as da
import numpy as np
import zarr
from numpy.typing import NDArray

from bida.errors import ScanError
from bida.io.claim import clear, temporary_name
from bida.microscopy.stacks.axes import Found, to_czyx, to_um
from bida.microscopy.stacks.paths import is_zarr

CHUNK = (1, 64, 128, 128)  # c, z, y, x: 2 MB of 16-bit voxels
SMALLEST_LEVEL = 64  # voxels: levels are halved until no side is longer
WRITERS = 2  # chunks at once: what more of them hold is memory


def read_zarr(path: Path, frames_are_z: bool = False) -> Found:
    """Read the highest resolution level of an OME-Zarr image into memory.

    Args:
        path: its folder.
        frames_are_z: see `to_czyx`.

    Raises:
        ScanError: see `open_zarr`, or a chunk is damaged.
    """
    found = open_zarr(path, frames_are_z)
    with whole_zarr(path):
        return Found(np.asarray(found.data), found.spacing_um, found.channels)


def open_zarr(path: Path, frames_are_z: bool = False) -> Found:
    """Open the highest resolution level of an OME-Zarr image; voxels are read where they are asked for.

    Args:
        path: its folder; of a plate that of a field of view, as ``plate.zarr/A/1/0``.
        frames_are_z: see `to_czyx`.

    Returns:
        A dask array; read it inside of `whole_zarr`.

    Raises:
        ScanError: no image, several, another version than 0.4 or 0.5, or damage; see also `to_czyx`.
    """
    with whole_zarr(path):
        array, image, described = _highest(path)
        level = image["datasets"][0]
        axes = [axis if isinstance(axis, Mapping) else {"name": axis} for axis in image["axes"]]
        scale = _scale(level, len(axes)) * _scale(image, len(axes))
        sizes = {axis["name"].upper(): to_um(float(s), axis.get("unit")) for axis, s in zip(axes, scale)}
        lazy = da.from_array(array, chunks=array.chunks, asarray=False, inline_array=True)
        data = to_czyx(lazy, "".join(name[:1] for name in sizes), path, frames_are_z)
        labels = [channel.get("label") for channel in described.get("omero", {}).get("channels", ())]
    names = tuple(map(str, labels)) if len(labels) == len(data) and all(labels) else None
    return Found(data, (sizes.get("Z"), sizes.get("Y"), sizes.get("X")), names)


@contextmanager
def whole_zarr(path: str | Path) -> Iterator[None]:
    """Raise a `ScanError` of one line where the block cannot read an OME-Zarr image, or not all of it."""
    try:
        yield
    except ScanError:
        raise
    except Exception as error:  # whatever zarr, its codecs or a field that is missing make of damage
        reason = f"{type(error).__name__} {' '.join(str(error).split())}"[:120]
        raise ScanError(
            f"{path}: must be a whole OME-Zarr 0.4 or 0.5, got '{reason}'; look at its metadata, or copy it again"
        ) from error


def absent_chunks(path: Path) -> tuple[int, int]:
    """Return how many chunks of an image's highest level have no file, and how many chunks it has.

    The format lets chunks of one value out, so that a folder that was not copied whole looks the same.

    Raises:
        ScanError: see `open_zarr`.
    """
    with whole_zarr(path):
        array = _highest(path)[0]
        return array.nchunks - array.nchunks_initialized, array.nchunks


def _highest(path: Path) -> tuple[zarr.Array, Mapping[str, Any], Mapping[str, Any]]:
    """Return the array of the highest level, what describes its image, and the whole description."""
    group = zarr.open_group(path, mode="r")
    attributes = dict(group.attrs)
    described = cast(Mapping[str, Any], attributes.get("ome", attributes))  # 0.5 has a room of its own for it
    image = _image(described, path)
    # the specification orders levels from the highest resolution
    return cast(zarr.Array, group[image["datasets"][0]["path"]]), image, described


def _image(described: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
    images = described.get("multiscales")
    if not images:
        raise ScanError(f"{path}: must be an OME-Zarr image (multiscales), it is {_other(described, path)}")
    if len(images) != 1:
        raise ScanError(f"{path}: must hold one image, got {len(images)}; save one of them")
    version = str(described.get("version", images[0].get("version", "0.4")))
    if not version.startswith(("0.4", "0.5")):
        raise ScanError(f"{path}: must be OME-Zarr 0.4 or 0.5, got {version}; convert it")
    return cast(Mapping[str, Any], images[0])


def _other(described: Mapping[str, Any], path: Path) -> str:
    """Say what a group is that is no image, and which image in it may be named."""
    if "plate" in described:
        wells = [str(well["path"]) for well in described["plate"].get("wells", ())]
        first = wells[0] if wells else "A/1"
        return f"a plate of {len(wells)} well(s); name a field of view in it, as {path}/{first}/0"
    if "well" in described:
        fields = [str(image["path"]) for image in described["well"].get("images", ())]
        return f"a well of {len(fields)} field(s) of view; name one, as {path}/{fields[0] if fields else 0}"
    return f"not; name the image in it, as {path}/0"


def _scale(holder: Mapping[str, Any], axes: int) -> NDArray[np.float64]:
    """Return the product of the scale transformations of a level or an image, ones where it has none."""
    product = np.ones(axes)
    for transformation in holder.get("coordinateTransformations", ()):
        if transformation.get("type") == "scale":
            product = product * np.asarray(transformation["scale"], dtype=np.float64)
    return product


def write_zarr(
    path: Path, data: NDArray | da.Array, spacing_um: Sequence[float], channels: Sequence[str], name: str
) -> None:
    """Write [C, Z, Y, X] as OME-Zarr 0.5 with a pyramid of halved levels, an image with a name, into a new folder.

    A dask array is written chunk by chunk, so it may be larger than memory.
    """
    from ome_zarr.format import FormatV05
    from ome_zarr.scale import Methods
    from ome_zarr.writer import write_image

    chunks = tuple(min(size, most) for size, most in zip(data.shape, CHUNK))
    lazy = data if isinstance(data, da.Array) else da.from_array(np.ascontiguousarray(data), chunks=chunks)
    lazy = lazy.astype(lazy.dtype.newbyteorder("="))
    with dask.config.set(scheduler="threads", num_workers=WRITERS), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of dask's and zarr's, to the library that calls them
        lows, highs = (np.asarray(end) for end in dask.compute(lazy.min(axis=(1, 2, 3)), lazy.max(axis=(1, 2, 3))))
        described = [_channel(*one) for one in zip(channels, lows, highs)]
        write_image(
            lazy,
            zarr.open_group(path, mode="w-", zarr_format=3),
            scale_factors=level_factors(data.shape[1:]),
            method=Methods.LOCAL_MEAN,
            fmt=FormatV05(),
            axes=["c", "z", "y", "x"],
            scale={"c": 1.0, **dict(zip("zyx", map(float, spacing_um)))},
            axes_units=dict.fromkeys("zyx", "micrometer"),
            storage_options={"chunks": chunks},
            name=name,
            omero={"channels": described},
        )


def level_factors(shape: Sequence[int]) -> list[dict[str, int]]:
    """Return by how much each lower level of a volume [Z, Y, X] is coarser along each axis."""
    factors: list[dict[str, int]] = []
    now = dict.fromkeys("zyx", 1)
    while max(size // now[axis] for axis, size in zip("zyx", shape)) > SMALLEST_LEVEL:
        now = {a: now[a] * 2 if size // now[a] > SMALLEST_LEVEL else now[a] for a, size in zip("zyx", shape)}
        factors.append(dict(now))
    return factors


def _channel(name: str, low: Any, high: Any) -> dict[str, Any]:
    """Describe a channel to viewers: the specification wants a colour and the window of intensities."""
    low, high = float(low), float(high)
    return {"label": name, "color": "FFFFFF", "window": {"min": low, "max": high, "start": low, "end": high}}


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder's path beside `path`, moved to `path` when the block ends well, else removed.

    Raises:
        ScanError: the operating system refuses the write, or what would be replaced is no zarr group.
    """
    if path.exists() and not is_zarr(path):
        raise ScanError(f"{path}: only a zarr group may be replaced, it is another folder or a file; rename the output")
    temporary, old = (path.with_name(temporary_name(path, ".zarr")) for _ in range(2))
    try:
        clear(path)
        yield temporary
        if path.exists():
            os.replace(path, old)  # a folder that is not empty cannot be replaced in one step
        os.replace(temporary, path)
    except OSError as error:
        if old.exists() and not path.exists():
            os.replace(old, path)
        raise ScanError(f"{path}: output must be writable, got '{error.strerror or error}'; choose another") from error
    finally:
        for folder in (temporary, old):
            shutil.rmtree(folder, ignore_errors=True)
