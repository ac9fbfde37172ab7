"""Read NRRD and MetaImage through MONAI's ITK reader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bida.errors import ScanError

_SEVERAL_NUMBERS = "{path}: a voxel must hold one number, got several (colours or vectors); convert it first"


def read_itk(path: Path) -> tuple[NDArray, NDArray[np.float64], dict[str, Any]]:
    """Read an image file.

    Returns:
        values [X, Y, Z], or [X, Y, Z, N] of a 4D image; affine 4 x 4 in mm (RAS+); what would stand in a JSON sidecar.

    Raises:
        ScanError: unreadable, or several numbers a voxel.
    """
    from monai.data.image_reader import ITKReader

    reader = ITKReader()
    try:
        image = reader.read(path)
        values, meta = reader.get_data(image)
    except (RuntimeError, OSError, ValueError, TypeError, LookupError, AttributeError, MemoryError) as error:
        if _numbers_a_voxel(path) > 1:  # of which ITK's Python package reads some types, and says little of others
            raise ScanError(_SEVERAL_NUMBERS.format(path=path)) from error
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise ScanError(f"{path}: must be a whole image, got '{reason}'; check or copy it") from error
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise ScanError(_SEVERAL_NUMBERS.format(path=path))
    affine = np.eye(4)
    found = np.asarray(meta["affine"], dtype=np.float64)
    if found.shape != (4, 4):
        raise ScanError(f"{path}: a scan must have 3 dimensions, got {found.shape[0] - 1}; give a volume")
    affine[:] = found
    return np.asarray(values), affine, {}


def _numbers_a_voxel(path: Path) -> int:
    """Return how many numbers a voxel has, by its header; 0 where that cannot be read."""
    import SimpleITK

    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        return 0
    return int(reader.GetNumberOfComponents())
