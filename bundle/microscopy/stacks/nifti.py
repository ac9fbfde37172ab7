"""Microscopy stacks as NIfTI: the file's first axis is x, its second y, its third z; channels are its fifth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from bida.errors import ScanError
from bida.microscopy.stacks.axes import Found, to_czyx, to_um

_COMMENT = 6  # NIfTI's code of an extension of plain text, where the names of channels are kept


def read_nifti(path: Path, frames_are_z: bool = False) -> Found:
    """Read a NIfTI file in its own voxel order; where it scales its voxels, the scaled values.

    Args:
        path: the file.
        frames_are_z: see `to_czyx`.

    Raises:
        ScanError: not NIfTI, damaged, or colour voxels; see also `to_czyx`.
    """
    try:
        image = cast(nib.Nifti1Image, nib.load(path))
        data = np.asanyarray(image.dataobj)
        unit = image.header.get_xyzt_units()[0]
        zooms = image.header.get_zooms()
    except (nib.filebasedimages.ImageFileError, OSError, EOFError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:120]
        raise ScanError(f"{path}: must be a NIfTI file that can be read, got '{reason}'; look at the file") from error
    if data.dtype.fields is not None:
        raise ScanError(f"{path}: voxels must be numbers, got colours; save them as channels")
    if not 2 <= data.ndim <= 5:
        raise ScanError(
            f"{path}: must have 2 to 5 dimensions (x, y, z, t, channel), got shape {data.shape}; convert it"
        )
    volume = to_czyx(data, "XYZTC"[: data.ndim], path, frames_are_z)
    # the header keeps float32, which tells 7 digits
    sizes = [to_um(float(f"{zoom:.7g}"), unit) for zoom in zooms[:3]] + [None] * (3 - min(data.ndim, 3))
    return Found(volume, (sizes[2], sizes[1], sizes[0]), _names(image, len(volume)))


def _names(image: nib.Nifti1Image, channels: int) -> tuple[str, ...] | None:
    for extension in image.header.extensions:
        if extension.get_code() == _COMMENT:
            try:
                found: Any = json.loads(extension.text)
            except (ValueError, AttributeError):  # a comment of other software
                continue
            names = found.get("channels") if isinstance(found, dict) else None
            if isinstance(names, list) and len(names) == channels:
                return tuple(map(str, names))
    return None


def check_type(path: Path, dtype: np.dtype) -> None:
    """Check that NIfTI has such voxels.

    Raises:
        ScanError: it has not.
    """
    try:
        nib.Nifti1Header().set_data_dtype(dtype)
    except nib.spatialimages.HeaderDataError as error:
        raise ScanError(f"{path}: NIfTI has no voxels of {dtype}; convert, or write OME-Zarr") from error


def write_nifti(path: Path, data: NDArray, spacing_um: tuple[float, float, float], channels: tuple[str, ...]) -> None:
    """Write [C, Z, Y, X] as NIfTI in mm, [X, Y, Z] or, for several channels, [X, Y, Z, 1, C].

    Raises:
        ScanError: NIfTI has no such type of voxel.
    """
    volume = data.transpose(3, 2, 1, 0)[:, :, :, None]  # [X, Y, Z, 1, C]
    volume = volume[..., 0, 0] if len(data) == 1 else volume
    affine = np.diag([*(size / 1000 for size in spacing_um[::-1]), 1.0])
    check_type(path, data.dtype)
    image = nib.Nifti1Image(volume, affine, dtype=data.dtype)
    image.header.set_xyzt_units(xyz="mm")
    image.set_qform(affine, code=1)
    image.set_sform(affine, code=1)
    names = json.dumps({"channels": list(channels)}).encode()
    image.header.extensions.append(nib.nifti1.Nifti1Extension(_COMMENT, names))
    nib.save(image, path)
