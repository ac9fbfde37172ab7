"""Read and validate a scan: what cannot be used is refused in one line naming file, rule, value and cure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from bida.errors import ScanError
from bida.io.files import check_exists
from bida.io.formats import read_format, suffix_of
from bida.io.itk_headers import header_of
from bida.io.label_map import looks_like_labels
from bida.io.mrtrix import read_mrtrix
from bida.io.nifti import scaled_header
from bida.io.nifti_file import UNREADABLE, affine_of, is_nifti, line_of, open_nifti, written_header
from bida.io.sidecar import read_sidecar
from bida.io.studies import read_study, study_volumes
from bida.io.volumes import Volumes, numbered
from bida.io.voxel_sizes import implausible, is_plausible
from bida.physics.grid import spacing_of

IN_MEMORY = "image.nii"  # what errors and records call an image that came from no file
_NIFTI = (".nii", ".nii.gz", ".hdr", ".img")
_PAIR = (".hdr", ".img")  # NIfTI or Analyze
_ITK = (".nrrd", ".nhdr", ".mha", ".mhd", ".gipl", ".gipl.gz")
_MRTRIX = (".mif", ".mih")
_OTHERS = (".mnc", ".mgh", ".mgz", ".head", ".brik")
_MIN_SLICES = 3
_LABELS = (
    "a scan must hold intensities, got even patches of whole numbers, as label maps and masks do; give the scan "
    "itself, or --labels to put labels on the result's grid"
)
_NO_LABELS = "--labels is for label maps and masks, got intensities; leave it out"


@dataclass(frozen=True)
class Scan:
    """A validated scan.

    Attributes:
        path: where it came from.
        data: [X, Y, Z] float32 in the file's orientation, scaled to the scan's intensities; of labels as they are.
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
    volume: int | str | None = None,
    scale_header: float | None = None,
    *,
    series: str | None = None,
    echo: int | None = None,
    position: str | None = None,
    subject: str | None = None,
    labels: bool | None = None,
) -> Scan:
    """Read one volume of a scan and check that it can be used.

    Args:
        source: NIfTI, NRRD, MetaImage, MINC, MGH, AFNI, MRtrix, Analyze or GIPL file, a DICOM file or a folder of them,
            a scan of a Bruker ParaVision study (its folder or its ``2dseq``), or a NIfTI image in memory.
        volume: which volume of a file of several, from 0; needed there. A word (``all``) is refused.
        scale_header: divide the voxel sizes and the origin by this factor (headers scaled for human software), and
            the sizes in DICOM tags, but none in a JSON sidecar.
        series, echo: of DICOM, see `bida.io.dicom.read_dicom`.
        position, subject: of DICOM and ParaVision, see `bida.io.anatomy`.
        labels: False refuses a label map or a mask; True takes nothing else, and leaves its voxels as they are.

    Raises:
        ScanError: missing, unreadable, 4D without `volume`, complex, not finite, constant, fewer than 3 slices,
            voxel sizes that no rodent scan has, qform and sform apart; a label map, or none, against `labels`.
    """
    if isinstance(volume, str):
        raise ScanError(f"{_named(source)}: --volume must be one volume here, got {volume}; give a number from 0")
    own = {"series": series, "echo": echo, "position": position, "subject": subject}
    if isinstance(source, nib.Nifti1Pair):
        path = Path(source.get_filename() or IN_MEMORY)
        _only_for_studies(path, own)
        beside = read_sidecar(path) if source.get_filename() else {}
        values, affine, header, sidecar, warnings = _read_nifti(path, source, volume, beside)
    else:
        path = Path(source)
        check_exists(path)
        beside = read_sidecar(path)
        values, affine, header, sidecar, warnings = _read(path, volume, beside, own)
    data = _check_values(path, values)
    if labels is not None and looks_like_labels(values) != labels:
        raise ScanError(f"{path}: {_NO_LABELS if labels else _LABELS}")
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
    return Scan(path, values if labels else data, affine, dtype, header, sidecar, tuple(warnings))


def volumes_of(source: str | Path | nib.Nifti1Pair, *, series: str | None = None, echo: int | None = None) -> Volumes:
    """Return the volumes of a scan, and what chooses each.

    Args:
        source: As for `read_scan`.
        series, echo: Of DICOM; volumes of all echoes where none is given.

    Raises:
        ScanError: It is missing, unreadable, has volumes otherwise than along a fourth axis, or on several grids.
    """
    if isinstance(source, nib.Nifti1Pair):
        path, shape = Path(source.get_filename() or IN_MEMORY), source.shape
    else:
        path = Path(source)
        check_exists(path)
        found = study_volumes(path, {"series": series, "echo": echo})
        if found is not None:
            return found
        shape = open_nifti(path).shape if _by_nifti(path) else _stored(path)[0].shape
    _pick_volume(path, shape, 0)
    return Volumes(numbered(int(shape[3]) if len(shape) > 3 else 1))


def read_affine(path: str | Path) -> tuple[tuple[int, int, int], NDArray[np.float64]]:
    """Read the grid of a file alone: shape of its first three axes and its affine in mm, checked as `read_scan` does.

    Raises:
        ScanError: as `read_scan`, as far as the header shows it.
    """
    path, warnings = Path(path), list[str]()
    check_exists(path)
    if _by_nifti(path):
        image = open_nifti(path)
        shape = image.shape[:3]
        if len(shape) != 3:
            raise ScanError(f"{path}: a grid must have 3 dimensions, got shape {shape}; give a volume")
        affine = affine_of(path, image, written_header(path), read_sidecar(path), warnings)
    else:
        values, affine, *_ = _read(path, None, {})
        shape = values.shape
    affine = _check_affine(path, affine, shape, None, warnings)
    return (int(shape[0]), int(shape[1]), int(shape[2])), affine


def _named(source: str | Path | nib.Nifti1Pair) -> str:
    return (source.get_filename() or IN_MEMORY) if isinstance(source, nib.Nifti1Pair) else str(source)


def _suffix(path: Path) -> str:
    name = path.name.lower()
    return next((suffix for suffix in (".nii.gz", ".gipl.gz") if name.endswith(suffix)), path.suffix.lower())


def _only_for_studies(path: Path, own: Mapping[str, Any]) -> None:
    """Check that nothing is asked of a file that only folders of a scanner have."""
    given = [name for name, value in own.items() if value is not None]
    if given:
        raise ScanError(f"{path}: --{given[0]} is for DICOM or ParaVision, got {own[given[0]]}; leave it out")


_Raw = tuple[NDArray, NDArray[np.float64], nib.Nifti1Header | None, dict[str, Any], list[str]]


def _read(
    path: Path, volume: int | None, sidecar: Mapping[str, Any], own: Mapping[str, Any] = MappingProxyType({})
) -> _Raw:
    """Return values, affine in mm, header, sidecar and warnings of one volume, unchecked."""
    check_exists(path)
    study = read_study(path, volume, own)
    if study is not None:
        values, affine, tags, warnings = study
        return values, affine, None, tags, warnings
    _only_for_studies(path, own)
    if _by_nifti(path):
        return _read_nifti(path, open_nifti(path), volume, sidecar)
    values, affine, tags, warnings = _stored(path)
    return values[_pick_volume(path, values.shape, volume)], affine, None, tags, warnings


def _stored(path: Path) -> tuple[NDArray, NDArray[np.float64], dict[str, Any], list[str]]:
    """Return values [X, Y, Z, ...], affine in mm, sidecar and warnings of a file that is neither NIfTI nor a study."""
    if _suffix(path) in _ITK:
        said = header_of(path)
        from bida.io.itk import read_itk

        values, affine, _ = read_itk(path)
        affine[:3] *= said.mm
        return values, affine, said.sidecar, said.warnings
    if suffix_of(path) in _MRTRIX:
        return *read_mrtrix(path), {}, []
    if suffix_of(path) in (*_OTHERS, *_PAIR):
        values, affine, warnings = read_format(path)
        return values, affine, {}, warnings
    known = ", ".join((*_NIFTI, *_ITK, *_MRTRIX, *_OTHERS))
    raise ScanError(
        f"{path}: the scan must be an image ({known}), DICOM or a ParaVision scan, got '{path.name}'; convert it"
    )


def _by_nifti(path: Path) -> bool:
    """Tell whether a file is read as NIfTI: by its content, else by its name where no other format has it."""
    return not path.is_dir() and (_suffix(path) in (".nii", ".nii.gz") or is_nifti(path))


def _read_nifti(path: Path, image: nib.Nifti1Pair, volume: int | None, sidecar: Mapping[str, Any]) -> _Raw:
    """Return what `_read` does, of a NIfTI image that is open or in memory."""
    warnings = list[str]()
    kind = image.get_data_dtype().kind
    if kind not in "iuf":
        what = "complex numbers" if kind == "c" else f"type {image.get_data_dtype()}"
        raise ScanError(f"{path}: voxels must be real numbers, got {what}; convert it (to its magnitude) first")
    picked = _pick_volume(path, image.shape, volume)
    try:
        values = np.asarray(image.dataobj[picked])
    except UNREADABLE as error:
        raise ScanError(
            f"{path}: the file must be whole, reading failed with '{line_of(error)}'; copy it again"
        ) from error
    affine = affine_of(path, image, written_header(path), sidecar, warnings)
    return values, affine, scaled_header(image), {}, warnings


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
    if count > 1 and 1 in size[:3]:
        raise ScanError(
            f"{path}: slices must lie along the first three axes, got shape {tuple(shape)}, {count} volumes of one "
            "slice each; join them along the axis of length 1, with their spacing"
        )
    if volume is None and count > 1:
        raise ScanError(f"{path}: a scan must have 3 dimensions, got 4 ({count} volumes); give --volume 0..{count - 1}")
    if volume is not None and not 0 <= volume < count:
        raise ScanError(f"{path}: --volume must be 0..{count - 1}, got {volume}; give one of those")
    rest = len(shape) - 3
    return (slice(None),) * 3 + ((volume or 0,) + (0,) * (rest - 1) if rest else ())


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
