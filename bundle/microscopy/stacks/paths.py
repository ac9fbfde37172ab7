"""Names of stacks: endings of the formats, ranges of planes, and checks that import nothing heavy and read nothing."""

from __future__ import annotations

import glob
import os
import re
from pathlib import Path

from bida.errors import ScanError
from bida.io.files import NIFTI_SUFFIXES, check_output, sidecar_path

BIG_TIFF_SUFFIXES = (".btf", ".tf8", ".tf2")  # of files beyond 4 GB, as OME and microscopes name them
TIFF_SUFFIXES = (".tif", ".tiff", *BIG_TIFF_SUFFIXES)
ZARR_SUFFIXES = (".zarr",)
IMARIS_SUFFIXES = (".ims",)
MICROSCOPE_SUFFIXES = (".czi", ".lif", ".nd2", *IMARIS_SUFFIXES)  # read alone
SUFFIXES = (*TIFF_SUFFIXES, *ZARR_SUFFIXES, *NIFTI_SUFFIXES)

# of the z-stacks of OpenSRH
FIELD = re.compile(r"^(?P<path>.+\.pth?)(\[(?P<row>\d+), ?(?P<column>\d+)\])?$")
# of a microscope's file, which may hold several images
SCENE = re.compile(r"^(?P<path>.+\.(czi|lif|nd2|ims))(\[(?P<scene>\d+)\])?$", re.IGNORECASE)
_RANGE = re.compile(r"^(?P<path>.+)\[(?P<start>\d*):(?P<stop>\d*)\]$")
_ZARR_MARKS = ("zarr.json", ".zgroup", ".zattrs")


def split_range(spec: str) -> tuple[str, slice]:
    """Split ``FILE[START:STOP]`` into the file and the range of its planes; all of them where no range is given."""
    match = _RANGE.match(spec)
    if match is None:
        return spec, slice(None)
    start, stop = (int(match[name]) if match[name] else None for name in ("start", "stop"))
    return match["path"], slice(start, stop)


def is_zarr(path: Path) -> bool:
    """Tell whether a folder is a zarr group."""
    return path.is_dir() and any((path / mark).is_file() for mark in _ZARR_MARKS)


def check_stack(spec: str) -> None:
    """Check that there is something at the path, or under the glob, of a stack.

    Raises:
        ScanError: There is nothing.
    """
    path = split_range(spec)[0]
    field = FIELD.match(path) or SCENE.match(path)
    if not Path(field["path"] if field else path).exists() and not glob.glob(path):
        raise ScanError(f"{path}: a stack must exist, nothing is there; check the path")


def check_stack_output(path: str | Path, *, overwrite: bool = False, with_record: bool = False) -> Path:
    """Check, before any work is done, that a stack can be written to `path`; `with_record`: one without is told.

    Raises:
        ScanError: See ``bida.io.files.check_output``; a folder that would be replaced must be a zarr group.
    """
    path = Path(path)
    if with_record and not overwrite and path.exists() and not sidecar_path(path).exists():
        raise ScanError(
            f"{path}: output must not exist, it does, without a record of how it was made; choose another name, or "
            "give --overwrite to make it again"
        )
    if not path.name.endswith(ZARR_SUFFIXES):
        return check_output(path, overwrite=overwrite, suffixes=SUFFIXES)
    if path.exists() and not is_zarr(path):
        raise ScanError(f"{path}: only a zarr group may be replaced, it is another folder or a file; rename the output")
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise ScanError(f"{path}: its folder must exist and be writable, '{path.parent}' is not; choose another folder")
    if path.exists() and not overwrite:
        raise ScanError(f"{path}: output must not exist, it does; choose another name or give --overwrite")
    return path
