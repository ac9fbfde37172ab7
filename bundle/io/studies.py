"""Folders as scanners leave them, DICOM series and ParaVision studies: which reader takes a path, and what is in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bida.errors import ScanError
from bida.io.volumes import Volumes


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Name a folder that may not be listed, or a file that vanished."""
    try:
        yield
    except OSError as error:
        raise ScanError(f"{path}: must be readable, got '{error.strerror or error}'; check its rights") from error


def read_study(
    path: Path, volume: int | None, own: Mapping[str, Any]
) -> tuple[NDArray[Any], NDArray[np.float64], dict[str, Any], list[str]] | None:
    """Read one volume where a path is DICOM or ParaVision's, see `bida.io.dicom` and `bida.io.bruker`.

    Args:
        path: file or folder.
        volume: which of several, from 0.
        own: ``series``, ``echo``, ``position``, ``subject``; None where not given.

    Returns:
        values [X, Y, Z], affine 4 x 4 in mm (RAS+), content of a sidecar, notes; None where the path is a file of
        another format.

    Raises:
        ScanError: it cannot be used, or something is asked of it that its format has not.
    """
    with _readable(path):
        return _read(path, volume, own)


def study_volumes(path: Path, own: Mapping[str, Any]) -> Volumes | None:
    """Return the volumes of what `read_study` reads, None where a path is a file of another format.

    Raises:
        ScanError: it cannot be used, or its volumes do not lie on one grid.
    """
    from bida.io.bruker import bruker_volumes, is_bruker
    from bida.io.dicom_frames import is_dicom

    with _readable(path):
        if is_bruker(path):
            return bruker_volumes(path)
        if path.is_dir() or is_dicom(path):
            from bida.io.dicom import dicom_volumes

            return dicom_volumes(path, own.get("series"), own.get("echo"))
    return None


def _read(path: Path, volume: int | None, own: Mapping[str, Any]) -> Any:
    from bida.io.bruker import is_bruker, read_bruker
    from bida.io.dicom_frames import is_dicom

    if is_bruker(path):
        for name in ("series", "echo"):
            if own.get(name) is not None:
                cure = "name the scan's folder" if name == "series" else "--volume chooses an echo"
                raise ScanError(f"{path}: --{name} is for DICOM, got {own[name]}; leave it out, {cure}")
        return read_bruker(path, volume, own.get("position"), own.get("subject"))
    if path.is_dir() or is_dicom(path):
        from bida.io.dicom import read_dicom

        return read_dicom(path, volume, **own)
    return None


def listed(path: Path, series: str | None = None) -> list[str] | None:
    """Return a line for each scan of a study, or series of a folder, where there are several to choose from.

    Raises:
        ScanError: the folder holds neither.
    """
    from bida.io.bruker import is_bruker, list_study

    with _readable(path):
        if is_bruker(path):
            return list_study(path)
        if not path.is_dir() or series is not None:
            return None
        from bida.io.dicom import find_series

        found = find_series(path)
    return [one.line for one in found] if len(found) > 1 else None
