"""Atomic writing of volumes and sidecars: a file under its final name is always whole."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import nibabel as nib
import numpy as np
from nibabel.arrayproxy import ArrayProxy
from numpy.typing import ArrayLike, DTypeLike, NDArray

from bida.errors import ScanError
from bida.physics.grid import corner_distance_voxels

NIFTI_SUFFIXES = (".nii.gz", ".nii")
# A qform holds a rotation and three sizes. Where it moves no corner of the field of view by more than this share
# of a voxel it is written beside the sform; a sheared affine moves corners by far more and goes without.
QFORM_TOLERANCE_VOXELS = 1e-3


def stem(path: str | Path) -> str:
    """Return the file name without its image suffix (`scan.nii.gz` gives `scan`)."""
    name = Path(path).name
    return name.removesuffix(".gz").removesuffix(".nii") if name.endswith(NIFTI_SUFFIXES) else Path(name).stem


def sidecar_path(path: str | Path) -> Path:
    """Return the path of the JSON sidecar beside an image."""
    return Path(path).with_name(stem(path) + ".json")


def result_path(folder: str | Path, scan: str | Path) -> Path:
    """Return the path of a scan's result in an output folder: ``<name>_superres.nii.gz``."""
    return Path(folder) / f"{stem(scan)}_superres.nii.gz"


def source_header(source: str | Path | nib.Nifti1Pair) -> nib.Nifti1Header | None:
    """Return the header of a NIfTI file or image with the scaling of its voxels, None for other formats."""
    if isinstance(source, nib.Nifti1Pair):
        return scaled_header(source)
    if not Path(source).name.lower().endswith((*NIFTI_SUFFIXES, ".hdr", ".img")):
        return None
    return scaled_header(cast(nib.Nifti1Pair, nib.load(source)))


def scaled_header(image: nib.Nifti1Pair) -> nib.Nifti1Header:
    """Return the header of an image with the scaling of its voxels, which nibabel takes out when it loads."""
    header = image.header.copy()
    if isinstance(image.dataobj, ArrayProxy):
        header.set_slope_inter(image.dataobj.slope, image.dataobj.inter)
    return header


def make_folder(path: str | Path) -> Path:
    """Make a folder for output, with its parents, and return it.

    Raises:
        ScanError: It cannot be made or written.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ScanError(f"{path}: the output folder must be writable, got '{reason}'; choose another") from error
    if not os.access(path, os.W_OK):
        raise ScanError(f"{path}: the output folder must be writable, it is not; choose another")
    return path


def check_output(path: str | Path, *, overwrite: bool = False, suffixes: tuple[str, ...] = NIFTI_SUFFIXES) -> Path:
    """Check, before any work is done, that `path` can be written.

    Raises:
        ScanError: wrong suffix, existing file without `overwrite`, missing or unwritable folder.
    """
    path = Path(path)
    if not path.name.endswith(suffixes):
        raise ScanError(f"{path}: output must end in {' or '.join(suffixes)}, got '{path.name}'; rename it")
    if path.is_dir():
        raise ScanError(f"{path}: output must be a file, got a folder; add a file name")
    if not path.parent.is_dir():
        raise ScanError(f"{path}: its folder must exist, '{path.parent}' is not a folder; make it first")
    if not os.access(path.parent, os.W_OK):
        raise ScanError(f"{path}: its folder must be writable, '{path.parent}' is not; choose another folder")
    if path.exists() and not overwrite:
        raise ScanError(f"{path}: output must not exist, it does; choose another name or give --overwrite")
    return path


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`, moved to `path` when the block ends well, else removed.

    Raises:
        ScanError: the operating system refuses the write (unwritable folder, disk full).
    """
    path = Path(path)
    suffix = next((s for s in NIFTI_SUFFIXES if path.name.endswith(s)), path.suffix)
    temporary = path.with_name(f".{uuid.uuid4().hex}{suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ScanError(f"{path}: output must be writable, got '{reason}'; choose another folder") from error
    finally:
        with suppress(OSError):  # its folder may be what is missing
            temporary.unlink(missing_ok=True)


def write_json(path: str | Path, content: Mapping[str, Any], *, overwrite: bool = False) -> None:
    """Write a JSON object atomically, its keys in the order given.

    Raises:
        ScanError: see `check_output`.
    """
    path = check_output(path, overwrite=overwrite, suffixes=(".json",))
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_volume(
    path: str | Path,
    data: ArrayLike,
    affine: ArrayLike,
    header_like: nib.Nifti1Header | None = None,
    dtype: DTypeLike | None = None,
    *,
    overwrite: bool = False,
) -> None:
    """Write a volume as NIfTI, atomically, in mm, with qform and sform equal.

    An affine with shears gets a sform only, since a qform cannot hold them.

    Args:
        path: ends in .nii or .nii.gz.
        data: [X, Y, Z], in the file's orientation.
        affine: 4 x 4, voxel index to mm (RAS+).
        header_like: header of the scan that the volume came from; its description and its coordinate code are kept,
            and its scaling where `dtype` is an integer type.
        dtype: type on disk, float32 when not given. An integer type is rounded to and clipped to its range.
        overwrite: replace an existing file.

    Raises:
        ScanError: see `check_output`; data that is not three-dimensional or not finite.
    """
    path = check_output(path, overwrite=overwrite)
    volume, affine = np.asarray(data), np.asarray(affine, dtype=np.float64)
    if volume.ndim != 3 or not np.isfinite(volume).all():
        raise ScanError(f"{path}: a volume must be finite and have 3 dimensions, got shape {volume.shape}; not written")
    stored, slope, inter = _stored(volume, np.dtype(dtype or np.float32), header_like)
    image = nib.Nifti1Image(stored, affine)
    _set_forms(image, affine, header_like)
    if header_like is not None:
        image.header["descrip"] = header_like["descrip"]
    image.header.set_xyzt_units(xyz="mm")
    image.header.set_slope_inter(slope, inter)
    with atomic(path) as temporary:
        nib.save(image, temporary)


def _stored(volume: NDArray, dtype: np.dtype, like: nib.Nifti1Header | None) -> tuple[NDArray, float, float]:
    """Return the values as they lie on disk, with the slope and intercept that turn them back."""
    if dtype.kind not in "iu":
        return volume.astype(dtype), 1.0, 0.0
    slope, inter = (None, None) if like is None else like.get_slope_inter()
    slope, inter = float(slope or 1.0), float(inter or 0.0)
    limits = np.iinfo(dtype)
    levels = np.rint((volume.astype(np.float64) - inter) / slope)
    return np.clip(levels, limits.min, limits.max).astype(dtype), slope, inter


def _set_forms(image: nib.Nifti1Image, affine: NDArray, like: nib.Nifti1Header | None) -> None:
    """Set sform and qform to the same affine, or the sform alone where the affine has shears."""
    code = 1 if like is None else int(like["sform_code"]) or int(like["qform_code"]) or 1
    image.set_sform(affine, code=code)
    image.set_qform(affine, code=code, strip_shears=True)
    if corner_distance_voxels(affine, image.get_qform(), image.shape) > QFORM_TOLERANCE_VOXELS:
        image.set_qform(None, code=0)
        image.header.set_zooms(np.sqrt((affine[:3, :3] ** 2).sum(axis=0)))
