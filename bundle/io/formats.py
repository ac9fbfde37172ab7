"""Read the formats other than NIfTI that nibabel knows: MINC 1 and 2, MGH, AFNI, Analyze."""

from __future__ import annotations

import math
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.spatialimages import SpatialImage
from numpy.typing import NDArray

from bida.errors import ScanError
from bida.io.nifti_file import head_of, line_of, quiet_nibabel, read_to_end

HDF = b"\x89HDF"  # of MINC 2; MINC 1 is netCDF
_MOST_PACKED = 1100  # bytes that one byte of deflate gives at most (1032), and room
ANALYZE = (
    "Analyze does not say which side is left: it is taken as stored from right to left, as SPM and nibabel do; look at "
    "something that marks the side"
)
NO_UNIT = "Analyze has no unit of length, taken as mm"


def suffix_of(path: Path) -> str:
    """Return the suffix of a file's name in lower case, of a packed file that before .gz."""
    name = path.name.lower()
    return Path(name.removesuffix(".gz")).suffix


def read_format(path: Path) -> tuple[NDArray, NDArray[np.float64], list[str]]:
    """Read an image by its suffix: ``.mnc``, ``.mgh``, ``.mgz``, ``.HEAD`` or ``.BRIK``, ``.hdr`` or ``.img``.

    Returns:
        values [X, Y, Z, ...], scaled; affine 4 x 4 in mm (RAS+); what was assumed.

    Raises:
        ScanError: It is none of its kind, or is cut or damaged.
    """
    suffix = suffix_of(path)
    image: SpatialImage
    try:
        with quiet_nibabel():
            if suffix == ".mnc":
                image, warnings = _minc(path), list[str]()
            elif suffix in (".mgh", ".mgz"):
                image, warnings = _sized(path, nib.MGHImage.from_filename(path)), []
            elif suffix in (".head", ".brik"):
                image, warnings = _afni(path), []
            else:
                image, warnings = _analyze(path)
            values = np.asanyarray(image.dataobj)
    except Exception as error:  # whatever nibabel, netCDF and HDF5 make of damage
        if isinstance(error, ScanError):
            raise
        raise ScanError(
            f"{path}: must be a whole image of its format ({suffix}), got '{line_of(error)}'; copy it again"
        ) from error
    affine = np.array(image.affine, dtype=np.float64)
    if affine.shape != (4, 4) or not np.isfinite(affine).all() or abs(np.linalg.det(affine)) < 1e-15:
        raise ScanError(f"{path}: the affine must be invertible, got determinant 0 or NaN; correct the header")
    return values, affine, warnings


def _sized(path: Path, image: SpatialImage, most: float = 1.0) -> SpatialImage:
    """Return an image, where the file holds as many bytes as its header promises, up to a factor of packing."""
    shape = tuple(int(size) for size in image.shape)
    needed, found = math.prod(shape) * image.get_data_dtype().itemsize, read_to_end(path)
    if len(shape) < 3 or min(shape) < 1 or found * most < needed:
        raise ScanError(
            f"{path}: the file must be whole, its header says {needed} bytes of voxels {shape}, got {found}; "
            "copy it again"
        )
    return image


def _minc(path: Path) -> SpatialImage:
    # ITK reads MINC 2 as well, but leaves its world, which is RAS, as though it were LPS: turned by 180 degrees
    if not head_of(path).startswith(HDF):
        return _sized(path, nib.Minc1Image.from_filename(path))
    try:
        import h5py  # noqa: F401  # nibabel's error of its lack has no cure
    except ImportError as error:
        raise ScanError(f"{path}: MINC 2 is read with h5py, which is missing; pip install h5py") from error
    return _sized(path, nib.Minc2Image.from_filename(path), _MOST_PACKED)


def _afni(path: Path) -> SpatialImage:
    image = nib.brikhead.AFNIImage.from_filename(path)
    return _sized(Path(str(image.file_map["image"].filename)), image)


def _analyze(path: Path) -> tuple[SpatialImage, list[str]]:
    image = nib.Spm2AnalyzeImage.from_filename(path)
    header = Path(str(image.file_map["header"].filename))
    _sized(Path(str(image.file_map["image"].filename)), image)
    written = nib.AnalyzeHeader(header.read_bytes()[:348], check=False)
    sizes = [float(size) for size in written["pixdim"][1:4]]
    if not all(math.isfinite(size) and size != 0 for size in sizes):
        found = " x ".join(f"{size:g}" for size in sizes)
        raise ScanError(
            f"{path}: voxel sizes must be above 0, got pixdim {found}; correct the header, or convert to NIfTI"
        )
    return image, [ANALYZE, NO_UNIT]
