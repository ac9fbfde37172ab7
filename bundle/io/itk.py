"""Read NRRD, MetaImage and DICOM series through MONAI's ITK reader."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bida.errors import ScanError

# DICOM tag -> name in a BIDS sidecar
_DICOM_SIDECAR = {"0018|0050": "SliceThickness", "0018|0088": "SpacingBetweenSlices"}
_SEVERAL_NUMBERS = "{path}: a voxel must hold one number, got several (colours or vectors); convert it first"
# ITK reads vectors of some types and names the others as types that it is not built for
_VECTORS = re.compile(r"not wrapped for input type `itk\.(Vector|RGB)")


def read_itk(path: Path) -> tuple[NDArray, NDArray[np.float64], dict[str, Any]]:
    """Read an image file or a folder with one DICOM series.

    Returns:
        values [X, Y, Z], or [X, Y, Z, N] of a 4D image; affine 4 x 4 in mm (RAS+); what DICOM tags say of the slices.

    Raises:
        ScanError: unreadable, no or several DICOM series, several numbers a voxel, a DICOM tag that is no number.
    """
    from monai.data.image_reader import ITKReader

    reader = ITKReader(series_meta=path.is_dir())
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            image = reader.read(path)
            values, meta = reader.get_data(image)
    except (RuntimeError, FileNotFoundError, ValueError, TypeError) as error:
        if _VECTORS.search(str(error)):
            raise ScanError(_SEVERAL_NUMBERS.format(path=path)) from error
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise ScanError(f"{path}: must be a whole image or a DICOM series, got '{reason}'; check or copy it") from error
    if any("more than one DICOM series" in str(w.message) for w in caught):
        raise ScanError(f"{path}: the folder must hold one DICOM series, got several; keep the wanted one alone")
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise ScanError(_SEVERAL_NUMBERS.format(path=path))
    affine = np.eye(4)
    found = np.asarray(meta["affine"], dtype=np.float64)
    if found.shape != (4, 4):
        raise ScanError(f"{path}: a scan must have 3 dimensions, got {found.shape[0] - 1}; give a volume")
    affine[:] = found
    return np.asarray(values), affine, _sidecar_from_tags(path, meta)


def _sidecar_from_tags(path: Path, meta: dict[str, Any]) -> dict[str, Any]:
    sidecar = {}
    for tag, name in _DICOM_SIDECAR.items():
        text = str(meta.get(tag, "")).strip()
        if not text:
            continue
        try:
            sidecar[name] = float(text)
        except ValueError as error:
            raise ScanError(
                f"{path}: DICOM tag {name} ({tag}) must be a number, got {text!r}; correct it, or convert to NIfTI"
            ) from error
    return sidecar
