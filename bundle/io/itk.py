"""Read NRRD, MetaImage and GIPL by SimpleITK."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bida.errors import ScanError

_LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])  # ITK's world to NIfTI's


def read_itk(path: Path) -> tuple[NDArray, NDArray[np.float64], dict[str, Any]]:
    """Read an image file.

    Returns:
        values [X, Y, Z], or [X, Y, Z, N] of a 4D image; affine 4 x 4 in mm (RAS+); what would stand in a JSON sidecar.

    Raises:
        ScanError: unreadable, or several numbers a voxel.
    """
    import SimpleITK

    try:
        image = SimpleITK.ReadImage(str(path))
    except (RuntimeError, MemoryError) as error:
        lines = [line for line in str(error).strip().splitlines() if line.strip()]
        reason = lines[-1].strip() if lines else type(error).__name__
        raise ScanError(f"{path}: must be a whole image, got '{reason}'; check or copy it") from error
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise ScanError(f"{path}: a voxel must hold one number, got several (colours or vectors); convert it first")
    n = image.GetDimension()
    if n < 3:
        raise ScanError(f"{path}: a scan must have 3 dimensions, got {n}; give a volume")
    axes = np.array(image.GetDirection()).reshape(n, n) * image.GetSpacing()
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = axes[:3, :3], image.GetOrigin()[:3]
    affine[:3] *= _LPS_TO_RAS[:, None]
    return SimpleITK.GetArrayFromImage(image).T, affine, {}
