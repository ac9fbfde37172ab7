"""Atomic writing of volumes and sidecars: a file under its final name is always whole."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.arrayproxy import ArrayProxy
from numpy.typing import ArrayLike, DTypeLike, NDArray

from bida.errors import ScanError
from bida.io.files import atomic, check_output
from bida.io.nifti_file import is_nifti, open_nifti, quiet_nibabel
from bida.io.own_results import said_by
from bida.physics.grid import corner_distance_voxels, spacing_of

# A qform holds a rotation and three sizes. Where it moves no corner of the field of view by more than this share
# of a voxel it is written beside the sform; a sheared affine moves corners by far more and goes without.
QFORM_TOLERANCE_VOXELS = 1e-3


def source_header(source: str | Path | nib.Nifti1Pair) -> nib.Nifti1Header | None:
    """Return the header of a NIfTI file or image with the scaling of its voxels, None for other formats."""
    if isinstance(source, nib.Nifti1Pair):
        return scaled_header(source)
    return scaled_header(open_nifti(Path(source))) if is_nifti(source) else None


def scaled_header(image: nib.Nifti1Pair) -> nib.Nifti1Header:
    """Return the header of an image with the scaling of its voxels, which nibabel takes out when it loads."""
    with quiet_nibabel():
        header = image.header.copy()
    if isinstance(image.dataobj, ArrayProxy):
        header.set_slope_inter(image.dataobj.slope, image.dataobj.inter)
    return header


def write_volume(
    path: str | Path,
    data: ArrayLike,
    affine: ArrayLike,
    header_like: nib.Nifti1Header | None = None,
    dtype: DTypeLike | None = None,
    *,
    overwrite: bool = False,
    says: str | None = None,
) -> None:
    """Write a volume as NIfTI, atomically, in mm, with qform and sform equal.

    An affine with shears gets a sform only, since a qform cannot hold them.

    Args:
        path: ends in .nii or .nii.gz.
        data: [X, Y, Z] or [X, Y, Z, T], in the file's orientation.
        affine: 4 x 4, voxel index to mm (RAS+).
        header_like: header of the scan that the volume came from; its description and its coordinate code are kept,
            the step, start and unit of its fourth axis, and its scaling where `dtype` is an integer type.
        dtype: type on disk, float32 when not given. An integer type is rounded to and clipped to its range.
        overwrite: replace an existing file.
        says: the description, instead of the header's; one that calls the volume a result of bida is not kept without.

    Raises:
        ScanError: see `check_output`; data that has not 3 or 4 dimensions or is not finite.
    """
    path = check_output(path, overwrite=overwrite)
    volume, affine = np.asarray(data), np.asarray(affine, dtype=np.float64)
    if volume.ndim not in (3, 4) or not np.isfinite(volume).all():
        raise ScanError(
            f"{path}: a volume must be finite and have 3 or 4 dimensions, got shape {volume.shape}; not written"
        )
    image = volume_image(volume, affine, header_like, dtype, says)
    with atomic(path) as temporary:
        nib.save(image, temporary)


def volume_image(
    data: ArrayLike,
    affine: ArrayLike,
    header_like: nib.Nifti1Header | None = None,
    dtype: DTypeLike | None = None,
    says: str | None = None,
) -> nib.Nifti1Image:
    """Return a volume as the image that `write_volume` writes; see there for the arguments."""
    volume, affine = np.asarray(data), np.asarray(affine, dtype=np.float64)
    stored, slope, inter = _stored(volume, np.dtype(dtype or np.float32), header_like)
    image = nib.Nifti1Image(stored, affine)
    _set_forms(image, affine, header_like)
    if says is not None:
        image.header["descrip"] = says
    elif header_like is not None and said_by(header_like) is None:
        image.header["descrip"] = header_like["descrip"]
    image.header.set_xyzt_units(xyz="mm")
    if volume.ndim == 4 and header_like is not None:
        image.header["pixdim"][4], image.header["toffset"] = header_like["pixdim"][4], header_like["toffset"]
        image.header.set_xyzt_units(xyz="mm", t=header_like.get_xyzt_units()[1])
    image.header.set_slope_inter(slope, inter)
    return image


def _stored(volume: NDArray, dtype: np.dtype, like: nib.Nifti1Header | None) -> tuple[NDArray, float, float]:
    """Return the values as they lie on disk, with the slope and intercept that turn them back."""
    if dtype.kind not in "iu":
        return volume.astype(dtype), 1.0, 0.0
    slope, inter = (None, None) if like is None else like.get_slope_inter()
    slope, inter = float(slope or 1.0), float(inter or 0.0)
    limits = np.iinfo(dtype)
    levels = np.rint((volume.astype(np.float64) - inter) / slope)
    return np.clip(levels, limits.min, limits.max).astype(dtype), slope, inter


def as_stored(volume: NDArray, dtype: np.dtype, like: nib.Nifti1Header | None) -> NDArray[np.float64]:
    """Return the values that a reader finds in a volume written in a type, see `write_volume`."""
    stored, slope, inter = _stored(volume, dtype, like)
    return stored.astype(np.float64) * slope + inter


def _set_forms(image: nib.Nifti1Image, affine: NDArray, like: nib.Nifti1Header | None) -> None:
    """Set sform and qform to the same affine, or the sform alone where the affine has shears."""
    code = 1 if like is None else int(like["sform_code"]) or int(like["qform_code"]) or 1
    image.set_sform(affine, code=code)
    image.set_qform(affine, code=code, strip_shears=True)
    if corner_distance_voxels(affine, image.get_qform(), image.shape[:3]) > QFORM_TOLERANCE_VOXELS:
        image.set_qform(None, code=0)
        image.header["pixdim"][1:4] = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))


def ras(volume: ArrayLike, affine: ArrayLike) -> tuple[NDArray[np.float32], tuple[float, float, float]]:
    """Return a volume turned to [R, A, S], with its voxel sizes in mm."""
    image = nib.as_closest_canonical(nib.Nifti1Image(np.asarray(volume, dtype=np.float32), np.asarray(affine)))
    return np.asarray(image.dataobj), spacing_of(image.affine)
