"""Read and validate a scan: what cannot be used is refused in one line naming file, rule, value and cure."""

from __future__ import annotations

import gzip
import json
import math
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from bida.errors import ScanError
from bida.io.files import check_exists, sidecar_path
from bida.io.nifti import scaled_header
from bida.io.studies import read_study
from bida.io.voxel_sizes import implausible, is_plausible
from bida.physics.grid import corner_distance_voxels, spacing_of

IN_MEMORY = "image.nii"  # what errors and records call an image that came from no file
_NIFTI = (".nii", ".nii.gz", ".hdr", ".img")
_ITK = (".nrrd", ".nhdr", ".mha", ".mhd")
_UNREADABLE = (OSError, EOFError, zlib.error, gzip.BadGzipFile, ImageFileError, HeaderDataError, ValueError)
# NIfTI unit code -> mm. Code 0 is unknown and taken as mm where the sizes are plausible.
_MM_PER_UNIT = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
_UNIT_NAME = {1: "metres", 3: "micrometres"}
# qform and sform are written as float32 and a quaternion: rounding stays far below, a real disagreement far above.
_FORMS_TOLERANCE_VOXELS = 0.1
_MIN_SLICES = 3


@dataclass(frozen=True)
class Scan:
    """A validated scan.

    Attributes:
        path: where it came from.
        data: [X, Y, Z] float32 in the file's orientation, scaled to the scan's intensities.
        affine: 4 x 4 float64, voxel index to mm (RAS+).
        dtype: type of the voxels on disk.
        header: the NIfTI header, with the scaling of the voxels on disk; None for other formats.
        sidecar: content of the JSON sidecar (or of the DICOM tags it would hold), empty when there is none.
        warnings: what was assumed or put right, a sentence each.
    """

    path: Path
    data: NDArray[np.float32]
    affine: NDArray[np.float64]
    dtype: np.dtype
    header: nib.Nifti1Header | None = None
    sidecar: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel sizes along the file's axes, mm."""
        return spacing_of(self.affine)


def read_scan(
    source: str | Path | nib.Nifti1Pair,
    volume: int | None = None,
    scale_header: float | None = None,
    *,
    series: str | None = None,
    echo: int | None = None,
    position: str | None = None,
    subject: str | None = None,
) -> Scan:
    """Read one volume of a scan and check that it can be used.

    Args:
        source: NIfTI, NRRD or MetaImage file, a DICOM file or a folder of them, a scan of a Bruker ParaVision study
            (its folder or its ``2dseq``), or a NIfTI image in memory.
        volume: which volume of a file of several, from 0; needed there.
        scale_header: divide the voxel sizes and the origin by this factor (headers scaled for human software), and
            the sizes in DICOM tags, but none in a JSON sidecar.
        series, echo: of DICOM, see `bida.io.dicom.read_dicom`.
        position, subject: of DICOM and ParaVision, see `bida.io.anatomy`.

    Raises:
        ScanError: missing, unreadable, 4D without `volume`, complex, not finite, constant, fewer than 3 slices,
            voxel sizes that no rodent scan has, qform and sform apart.
    """
    own = {"series": series, "echo": echo, "position": position, "subject": subject}
    if isinstance(source, nib.Nifti1Pair):
        path = Path(source.get_filename() or IN_MEMORY)
        _only_for_studies(path, own)
        values, affine, header, sidecar, warnings = _read_nifti(path, source, volume)
        beside = read_sidecar(path) if source.get_filename() else {}
    else:
        path = Path(source)
        values, affine, header, sidecar, warnings = _read(path, volume, own)
        beside = read_sidecar(path)
    data = _check_values(path, values)
    affine = _check_affine(path, affine, data.shape, scale_header, warnings)
    if scale_header is not None:  # DICOM tags come from the header that is scaled; a JSON sidecar is in mm as it is
        sidecar = {key: size / scale_header for key, size in sidecar.items()}
    sidecar |= beside
    if beside.get("Quadruped") is True:
        warnings.append(
            "the sidecar says Quadruped, as dcm2niix does where it leaves DICOM's axes: the file's S is the animal's "
            "head and its P the back; bida reads the DICOM files themselves in the animal's axes"
        )
    dtype = values.dtype if header is None else header.get_data_dtype()
    return Scan(path, data, affine, dtype, header, sidecar, tuple(warnings))


def read_affine(path: str | Path) -> tuple[tuple[int, int, int], NDArray[np.float64]]:
    """Read the grid of a file alone: shape of its first three axes and its affine in mm, checked as `read_scan` does.

    Raises:
        ScanError: as `read_scan`, as far as the header shows it.
    """
    path, warnings = Path(path), list[str]()
    if _suffix(path) in _NIFTI:
        image = _open_nifti(path)
        shape = image.shape[:3]
        if len(shape) != 3:
            raise ScanError(f"{path}: a grid must have 3 dimensions, got shape {shape}; give a volume")
        affine = _nifti_affine(path, image, warnings)
    else:
        values, affine, *_ = _read(path, None)
        shape = values.shape
    affine = _check_affine(path, affine, shape, None, warnings)
    return (int(shape[0]), int(shape[1]), int(shape[2])), affine


def read_sidecar(path: str | Path) -> dict[str, Any]:
    """Read the JSON object beside an image; empty when there is no such file.

    Raises:
        ScanError: the sidecar is not a JSON object.
    """
    if Path(path).name in ("", ".."):  # a folder by its place alone; abspath, since links are not to be followed
        path = os.path.abspath(path)
        if not Path(path).name:  # the root, which has nothing beside it
            return {}
    sidecar = sidecar_path(path)
    if not sidecar.is_file():
        return {}
    try:
        content = json.loads(sidecar.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ScanError(f"{sidecar}: a sidecar must be JSON, got '{error}'; correct or remove it") from error
    if not isinstance(content, dict):
        raise ScanError(f"{sidecar}: a sidecar must be a JSON object, got {type(content).__name__}; correct it")
    return content


def _suffix(path: Path) -> str:
    name = path.name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else path.suffix.lower()


def _only_for_studies(path: Path, own: Mapping[str, Any]) -> None:
    """Check that nothing is asked of a file that only folders of a scanner have."""
    given = [name for name, value in own.items() if value is not None]
    if given:
        raise ScanError(f"{path}: --{given[0]} is for DICOM or ParaVision, got {own[given[0]]}; leave it out")


_Raw = tuple[NDArray, NDArray[np.float64], nib.Nifti1Header | None, dict[str, Any], list[str]]


def _read(path: Path, volume: int | None, own: Mapping[str, Any] = MappingProxyType({})) -> _Raw:
    """Return values, affine in mm, header, sidecar and warnings of one volume, unchecked."""
    check_exists(path)
    study = read_study(path, volume, own)
    if study is not None:
        values, affine, sidecar, warnings = study
        return values, affine, None, sidecar, warnings
    _only_for_studies(path, own)
    if _suffix(path) in _ITK:
        from bida.io.itk import read_itk

        values, affine, sidecar = read_itk(path)
        picked = _pick_volume(path, values.shape, volume)
        return values[picked], affine, None, sidecar, []
    if _suffix(path) not in _NIFTI:
        known = ", ".join((*_NIFTI, *_ITK))
        raise ScanError(
            f"{path}: the scan must be an image ({known}), DICOM or a ParaVision scan, got '{path.name}'; convert it"
        )
    return _read_nifti(path, _open_nifti(path), volume)


def _read_nifti(path: Path, image: nib.Nifti1Pair, volume: int | None) -> _Raw:
    """Return what `_read` does, of a NIfTI image that is open or in memory."""
    warnings = list[str]()
    kind = image.get_data_dtype().kind
    if kind not in "iuf":
        what = "complex numbers" if kind == "c" else f"type {image.get_data_dtype()}"
        raise ScanError(f"{path}: voxels must be real numbers, got {what}; convert it (to its magnitude) first")
    picked = _pick_volume(path, image.shape, volume)
    try:
        values = np.asarray(image.dataobj[picked])
    except _UNREADABLE as error:
        raise ScanError(
            f"{path}: the file must be whole, reading failed with '{_line(error)}'; copy it again"
        ) from error
    return values, _nifti_affine(path, image, warnings), scaled_header(image), {}, warnings


def _open_nifti(path: Path) -> nib.Nifti1Pair:
    check_exists(path)
    try:
        image = nib.load(path)
    except _UNREADABLE as error:
        raise ScanError(f"{path}: the file must be a NIfTI image, got '{_line(error)}'; copy it again") from error
    if not isinstance(image, nib.Nifti1Pair):
        raise ScanError(f"{path}: the file must be NIfTI, got {type(image).__name__}; convert it")
    return image


def _pick_volume(path: Path, shape: tuple[int, ...], volume: int | None) -> tuple[Any, ...]:
    """Return the index that leaves one three-dimensional volume; trailing axes of length 1 don't count."""
    size = list(shape)
    while len(size) > 3 and size[-1] == 1:
        size.pop()
    if len(size) < 3:
        raise ScanError(f"{path}: a scan must have 3 dimensions, got shape {tuple(shape)}; give a volume")
    if len(size) > 4:
        raise ScanError(f"{path}: a scan must have 3 or 4 dimensions, got shape {tuple(shape)}; split it first")
    count = size[3] if len(size) == 4 else 1
    if volume is None and count > 1:
        raise ScanError(f"{path}: a scan must have 3 dimensions, got 4 ({count} volumes); give --volume 0..{count - 1}")
    if volume is not None and not 0 <= volume < count:
        raise ScanError(f"{path}: --volume must be 0..{count - 1}, got {volume}; give one of those")
    rest = len(shape) - 3
    return (slice(None),) * 3 + ((volume or 0,) + (0,) * (rest - 1) if rest else ())


def _nifti_affine(path: Path, image: nib.Nifti1Pair, warnings: list[str]) -> NDArray[np.float64]:
    """Return the affine in mm; refuse qform and sform that disagree, note what is assumed."""
    try:
        qform, sform = image.get_qform(coded=True)[0], image.get_sform(coded=True)[0]
    except HeaderDataError as error:
        raise ScanError(f"{path}: the header must hold a valid qform, got '{_line(error)}'; correct it") from error
    affine = np.array(image.affine, dtype=np.float64)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine)) < 1e-15:
        raise ScanError(f"{path}: the affine must be invertible, got determinant 0 or NaN; correct the header")
    if qform is not None and sform is not None:
        apart = corner_distance_voxels(affine, qform, image.shape)
        if apart > _FORMS_TOLERANCE_VOXELS:
            raise ScanError(
                f"{path}: qform and sform must agree, got corners {apart:.3g} voxels apart; "
                "set the code of the wrong one to 0"
            )
    if qform is None and sform is None:
        warnings.append("the header has no orientation (qform and sform codes are 0): left and right are unknown")
    code = int(image.header["xyzt_units"]) & 7
    pixdim, sizes = image.header.get_zooms()[:3], spacing_of(affine)
    if not np.allclose(pixdim, sizes, rtol=0.01):
        found = " x ".join(f"{size:.4g}" for size in pixdim)
        warnings.append(f"pixdim ({found}) disagrees with the affine, whose voxel sizes are used")
    if code in _UNIT_NAME:
        warnings.append(f"the header is in {_UNIT_NAME[code]}, converted to mm")
    elif code != 2:
        warnings.append("the header has no unit of length, taken as mm")
    affine[:3] *= _MM_PER_UNIT.get(code, 1.0)
    return affine


def _check_values(path: Path, values: NDArray) -> NDArray[np.float32]:
    """Return the voxels as float32, or refuse complex, non-finite, constant and too few."""
    if values.dtype.kind not in "iuf":
        raise ScanError(f"{path}: voxels must be real numbers, got type {values.dtype}; convert it first")
    if min(values.shape) < _MIN_SLICES:
        raise ScanError(
            f"{path}: every dimension must have at least {_MIN_SLICES} slices, got shape {values.shape}; "
            "give a scan with more"
        )
    with np.errstate(over="ignore"):  # beyond float32's range becomes Inf and is refused below
        data = values.astype(np.float32)
    bad = ~np.isfinite(data)
    if bad.any():
        first = tuple(int(i) for i in np.argwhere(bad)[0])
        raise ScanError(
            f"{path}: voxels must be finite, got {int(bad.sum())} NaN or Inf, the first at voxel {first}; "
            "replace them first, for example by 0"
        )
    if data.min() == data.max():
        raise ScanError(f"{path}: a scan must have contrast, got {data.flat[0]:g} everywhere; check the export")
    return data


def _check_affine(
    path: Path, affine: NDArray[np.float64], shape: tuple[int, ...], scale: float | None, warnings: list[str]
) -> NDArray[np.float64]:
    """Return the affine divided by `scale`, or refuse voxel sizes that no rodent scan has."""
    if scale is not None:
        if not (math.isfinite(scale) and scale > 0):
            raise ScanError(f"{path}: --scale-header must be a positive number, got {scale}; give for example 10")
        affine = affine.copy()
        affine[:3] /= scale
        warnings.append(f"voxel sizes and origin divided by {scale:g}, as asked")
    if not is_plausible(spacing_of(affine), shape):
        raise ScanError(f"{path}: {implausible(spacing_of(affine), shape)}")
    return affine


def _line(error: BaseException) -> str:
    """Return an error's message on one line."""
    return " ".join(str(error).split()) or type(error).__name__
