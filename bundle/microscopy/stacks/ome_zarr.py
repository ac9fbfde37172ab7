"""Microscopy stacks as OME-Zarr: NGFF 0.4 (zarr 2) and 0.5 (zarr 3) are read, 0.5 is written."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import zarr
from numpy.typing import NDArray

from bida.errors import ScanError
from bida.io.claim import clear, temporary_name
from bida.microscopy.stacks.axes import Found, to_czyx, to_um
from bida.microscopy.stacks.paths import is_zarr

CHUNK = (1, 64, 256, 256)  # c, z, y, x: 8 MB of 16-bit voxels


def read_zarr(path: Path, frames_are_z: bool = False) -> Found:
    """Read the highest resolution level of an OME-Zarr image.

    Args:
        path: its folder.
        frames_are_z: see `to_czyx`.

    Raises:
        ScanError: no image, several, another version than 0.4 or 0.5, or damage; see also `to_czyx`.
    """
    try:
        group = zarr.open_group(path, mode="r")
        attributes = dict(group.attrs)
        described = cast(Mapping[str, Any], attributes.get("ome", attributes))  # 0.5 has a room of its own for it
        image = _image(described, path)
        level = image["datasets"][0]  # the specification orders them from the highest resolution
        data = np.asarray(cast(zarr.Array, group[level["path"]])[...])
        axes = [axis if isinstance(axis, Mapping) else {"name": axis} for axis in image["axes"]]
        scale = _scale(level, len(axes)) * _scale(image, len(axes))
        sizes = {axis["name"].upper(): to_um(float(s), axis.get("unit")) for axis, s in zip(axes, scale)}
        data = to_czyx(data, "".join(name[:1] for name in sizes), path, frames_are_z)
        labels = [channel.get("label") for channel in described.get("omero", {}).get("channels", ())]
    except ScanError:
        raise
    except Exception as error:  # whatever zarr, its codecs or a field that is missing make of damage
        reason = f"{type(error).__name__} {' '.join(str(error).split())}"[:120]
        raise ScanError(f"{path}: must be OME-Zarr 0.4 or 0.5, got '{reason}'; look at its metadata") from error
    names = tuple(map(str, labels)) if len(labels) == len(data) and all(labels) else None
    return Found(data, (sizes.get("Z"), sizes.get("Y"), sizes.get("X")), names)


def _image(described: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
    images = described.get("multiscales")
    if not images:
        raise ScanError(
            f"{path}: must be an OME-Zarr image (multiscales), it is not; name the image in it, as {path}/0"
        )
    if len(images) != 1:
        raise ScanError(f"{path}: must hold one image, got {len(images)}; save one of them")
    version = str(described.get("version", images[0].get("version", "0.4")))
    if not version.startswith(("0.4", "0.5")):
        raise ScanError(f"{path}: must be OME-Zarr 0.4 or 0.5, got {version}; convert it")
    return cast(Mapping[str, Any], images[0])


def _scale(holder: Mapping[str, Any], axes: int) -> NDArray[np.float64]:
    """Return the product of the scale transformations of a level or an image, ones where it has none."""
    product = np.ones(axes)
    for transformation in holder.get("coordinateTransformations", ()):
        if transformation.get("type") == "scale":
            product = product * np.asarray(transformation["scale"], dtype=np.float64)
    return product


def write_zarr(path: Path, data: NDArray, spacing_um: Sequence[float], channels: Sequence[str], name: str) -> None:
    """Write [C, Z, Y, X] as OME-Zarr 0.5 of one level, an image with a name, into a folder that is not there yet."""
    group = zarr.open_group(path, mode="w-", zarr_format=3)
    chunks = tuple(min(size, most) for size, most in zip(data.shape, CHUNK))
    array = group.create_array("0", shape=data.shape, dtype=data.dtype, chunks=chunks, dimension_names=list("czyx"))
    array[...] = data
    space = [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
    scale = {"type": "scale", "scale": [1.0, *map(float, spacing_um)]}
    described: dict[str, Any] = {
        "version": "0.5",
        "multiscales": [
            {
                "name": name,
                "axes": [{"name": "c", "type": "channel"}, *space],
                "datasets": [{"path": "0", "coordinateTransformations": [scale]}],
            }
        ],
        "omero": {"channels": [_channel(name, plane) for name, plane in zip(channels, data)]},
    }
    group.attrs["ome"] = described


def _channel(name: str, volume: NDArray) -> dict[str, Any]:
    """Describe a channel to viewers: the specification wants a colour and the window of intensities."""
    low, high = float(volume.min()), float(volume.max())
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
