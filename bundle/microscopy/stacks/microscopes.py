"""Stacks as microscopes write them: CZI, LIF and ND2 through bioio's readers, Imaris' IMS, which is HDF5."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask.array as da
import h5py
import numpy as np

from bida.errors import ScanError, SettingsError
from bida.microscopy.stacks.axes import Found, to_czyx, to_um
from bida.microscopy.stacks.paths import IMARIS_SUFFIXES, SCENE

# what reads a file, and the extra of this package that installs it; bioio-czi is under the GPL and has one of its own
READERS = {
    ".czi": ("bioio_czi", "czi"),
    ".lif": ("bioio_lif", "microscopes"),
    ".nd2": ("bioio_nd2", "microscopes"),
}


def open_microscope(spec: str | Path, frames_are_z: bool = False) -> Found:
    """Open a file of a microscope; voxels are read where they are asked for.

    Args:
        spec: ``FILE``, or ``FILE[SCENE]`` for one of its images, counted from 0.
        frames_are_z: See `to_czyx`.

    Returns:
        A dask array; read it inside of `whole_file`.

    Raises:
        ScanError: The reader is not installed, the file is damaged or holds no such stack; see also `to_czyx`.
        SettingsError: The file holds several images and none is named, or the one that is named is not there.
    """
    match = SCENE.match(str(spec))
    if match is None:
        raise SettingsError(f"{spec}: must be named as FILE or FILE[SCENE]; rename it")
    path = Path(match["path"])
    scene = None if match["scene"] is None else int(match["scene"])
    if not path.is_file():
        raise ScanError(f"{path}: a stack must exist, nothing is there; check the path")
    if path.name.lower().endswith(IMARIS_SUFFIXES):
        if scene:
            raise SettingsError(f"{spec}: the image must be one of 1, counted from 0, it is not; leave [{scene}] out")
        return _imaris(path, frames_are_z)
    return _bioio(path, scene, frames_are_z)


@contextmanager
def whole_file(path: str | Path) -> Iterator[None]:
    """Raise a `ScanError` of one line where the block cannot read a file, or not all of it."""
    try:
        yield
    except (ScanError, SettingsError):
        raise
    except Exception as error:  # whatever a reader of another's format makes of damage
        reason = f"{type(error).__name__} {' '.join(str(error).split())}"[:120]
        raise ScanError(f"{path}: must be a whole file that can be read, got '{reason}'; copy it again") from error


def _bioio(path: Path, scene: int | None, frames_are_z: bool) -> Found:
    suffix = path.suffix.lower()
    module, extra = READERS[suffix]
    try:
        bioio, reader = importlib.import_module("bioio"), importlib.import_module(module)
    except ImportError as error:
        raise ScanError(
            f"{path}: {suffix} must be read by {module.replace('_', '-')}, which is not installed; "
            f"pip install 'bida-mri[{extra}]', or save it as OME-TIFF"
        ) from error
    with whole_file(path):
        image: Any = bioio.BioImage(path, reader=reader.Reader)
        image.set_scene(_chosen(path, scene, list(map(str, image.scenes))))
        data = to_czyx(image.dask_data, str(image.dims.order), path, frames_are_z)
        # each of these readers gives micrometres
        sizes = [None if size is None else to_um(float(size), "um") for size in image.physical_pixel_sizes]
        names = tuple(map(str, image.channel_names or ()))
    return Found(data, (sizes[0], sizes[1], sizes[2]), names if len(names) == len(data) and all(names) else None)


def _chosen(path: Path, scene: int | None, scenes: list[str]) -> int:
    if scene is None and len(scenes) != 1:
        some = ", ".join(f"{place} {name}" for place, name in enumerate(scenes[:4]))
        more = ", ..." if len(scenes) > 4 else ""
        raise SettingsError(
            f"{path}: one of its {len(scenes)} images must be named, got none; give '{path}[NUMBER]' of {some}{more}"
        )
    if scene is not None and scene >= len(scenes):
        raise SettingsError(f"{path}: the image must be one of {len(scenes)}, counted from 0, got {scene}; mend it")
    return scene or 0


def _imaris(path: Path, frames_are_z: bool) -> Found:
    """Open an IMS file of Imaris 5.5 and later: HDF5, chunks padded beyond the sizes that its attributes say."""
    with whole_file(path):
        file = h5py.File(path, "r")  # stays open as long as the array that reads from it
        about = file["DataSetInfo/Image"].attrs
        shape = tuple(int(_text(about[axis])) for axis in "ZYX")
        level = file["DataSet/ResolutionLevel 0"]
        times = sorted(level, key=_number)
        channels = sorted(level[times[0]], key=_number)
        arrays = [[level[time][channel]["Data"] for channel in channels] for time in times]
        lazy = da.stack([da.stack([da.from_array(one, chunks=one.chunks or one.shape) for one in t]) for t in arrays])
        cut = lazy[:, :, : shape[0], : shape[1], : shape[2]]
        data = to_czyx(cut, "TCZYX", path, frames_are_z)
        # the outer faces of the volume along x, y and z
        extents = [float(_text(about[f"ExtMax{i}"])) - float(_text(about[f"ExtMin{i}"])) for i in (2, 1, 0)]
        sizes = [to_um(extent / size, _text(about["Unit"])) for extent, size in zip(extents, shape)]
        names = [_text(_attribute(file, f"DataSetInfo/Channel {_number(one)}", "Name")) for one in channels]
    return Found(data, (sizes[0], sizes[1], sizes[2]), tuple(names) if all(names) else None)


def _number(name: str) -> int:
    return int(name.rsplit(" ", 1)[-1])


def _attribute(file: h5py.File, group: str, name: str) -> Any:
    return file[group].attrs.get(name, "") if group in file else ""


def _text(value: Any) -> str:
    """Return an attribute of an IMS file, which is an array of single characters."""
    if isinstance(value, np.ndarray):
        return b"".join(np.asarray(value, dtype="S1").ravel().tolist()).decode("latin-1").strip()
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)
