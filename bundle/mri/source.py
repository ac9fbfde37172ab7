"""What a user may give as a scan: a file, a folder, an image, or voxels in memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import ArrayLike, NDArray

from bida.errors import SettingsError

Source = str | Path | nib.Nifti1Pair
STORED = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")  # as a NIfTI file holds them


def source_of(source: Any, affine: ArrayLike | None = None) -> Source | Sequence[Source]:
    """Return a scan, or a list of scans, as paths and nibabel images.

    Args:
        source: A path, a nibabel image, voxels [X, Y, Z] as a numpy array or a torch tensor (with MONAI's channel or
            without), or a list of paths and images.
        affine: Of voxels: 4 x 4, voxel index to mm (RAS+). MONAI's MetaTensor brings its own.

    Raises:
        SettingsError: It is none of these, voxels come without an affine, or anything else with one.
    """
    voxels = voxels_of(source)
    if voxels is not None:
        return image_of(voxels, getattr(source, "affine", None) if affine is None else affine)
    if affine is not None:
        raise SettingsError("affine: is for voxels in memory, got a file or an image, which has its own; leave it out")
    if isinstance(source, Source):
        return source
    scans = list(source) if isinstance(source, list | tuple) else [source]
    for scan in scans:
        if not isinstance(scan, Source):
            raise SettingsError(
                "source: must be a path, a nibabel image, voxels with an affine, or a list of paths and images, got "
                f"{type(scan).__name__}; give one of those"
            )
    return scans


def voxels_of(source: Any) -> NDArray | None:
    """Return the voxels of an array or a tensor, None of anything else; torch is not imported to know."""
    if isinstance(source, np.ndarray):
        return source
    if not hasattr(source, "detach"):
        return None
    tensor = source.detach().cpu()
    values = np.asarray(tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor)
    return values[0] if values.ndim == 4 and values.shape[0] == 1 else values  # MONAI's channel


def image_of(voxels: NDArray, affine: ArrayLike | None) -> nib.Nifti1Image:
    """Return voxels with their affine, in mm, as an image.

    Raises:
        SettingsError: The voxels are no real numbers, or the affine is missing or not 4 x 4.
    """
    if voxels.dtype.kind not in "iuf":
        raise SettingsError(f"source: voxels must be real numbers, got {voxels.dtype}; convert them")
    matrix, found = None, "none"
    if affine is not None:
        try:
            matrix = np.asarray(affine.detach().cpu() if hasattr(affine, "detach") else affine, dtype=np.float64)
            found = f"shape {matrix.shape}"
        except (TypeError, ValueError):
            found = type(affine).__name__
    if matrix is None or matrix.shape != (4, 4):
        raise SettingsError(f"affine: must be 4 x 4, voxel index to mm, got {found}; give it beside the voxels")
    if not np.isfinite(matrix).all() or np.linalg.det(matrix[:3, :3]) == 0:
        raise SettingsError("affine: must be finite and turn no axis to nothing, it does; correct it")
    kind = voxels.dtype if voxels.dtype.name in STORED else np.dtype(np.float64)
    image = nib.Nifti1Image(voxels.astype(kind), matrix)
    image.header.set_xyzt_units("mm")
    return image
