"""What a DICOM file says of each of its frames.

A classic file holds one frame, its tags at the top; an enhanced one holds many, what they share and what is each one's
own in functional groups (PS3.3 C.7.6.16).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bida.errors import ScanError

_PREAMBLE = 128
_PARTS = {
    **dict.fromkeys(("P", "PHASE", "PHASE MAP"), "phase"),
    **dict.fromkeys(("R", "REAL"), "real"),
    **dict.fromkeys(("I", "IMAGINARY"), "imaginary"),
}
# attribute -> functional group that holds it in an enhanced file
_GROUPS = {
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "PixelSpacing": "PixelMeasuresSequence",
    "SliceThickness": "PixelMeasuresSequence",
    "SpacingBetweenSlices": "PixelMeasuresSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
    "EffectiveEchoTime": "MREchoSequence",
    "DiffusionBValue": "MRDiffusionSequence",
    "TemporalPositionIndex": "FrameContentSequence",
    "FrameAcquisitionDateTime": "FrameContentSequence",
}


@dataclass(frozen=True)
class Frame:
    """One slice of a file.

    Attributes:
        file: where it is.
        index: which frame of the file, from 0.
        name: what errors call it.
        position: [3], mm, centre of its first voxel.
        directions: [6], unit vectors along which column and row index grow.
        pixel_mm: voxel size along the column and the row index.
        shape: columns and rows.
        thickness_mm: slice thickness; None where it is absent or 0.
        between_mm: what ``SpacingBetweenSlices`` says; None where it is absent.
        echo_ms: echo time; None where it is absent.
        b_value: of diffusion, s/mm2; None where it is absent.
        moment: number of its temporal position; None where it is absent.
        acquired: date and time, or time of day, of its acquisition, as DICOM writes them; empty where it is absent.
        apart_ms: what ``TemporalResolution`` says; None where it is absent.
        scale: slope and intercept of its voxels.
        number: instance number; 0 where it is absent.
        uid: SOP instance UID of its file.
    """

    file: Path
    index: int
    name: str
    position: NDArray[np.float64]
    directions: NDArray[np.float64]
    pixel_mm: tuple[float, float]
    shape: tuple[int, int]
    thickness_mm: float | None
    between_mm: float | None
    echo_ms: float | None
    b_value: float | None
    moment: float | None
    acquired: str
    apart_ms: float | None
    scale: tuple[float, float]
    number: int
    uid: str


def is_dicom(path: Path) -> bool:
    """Tell whether a file is DICOM, by its content."""
    try:
        with path.open("rb") as file:
            return file.read(_PREAMBLE + 4)[_PREAMBLE:] == b"DICM"
    except OSError:
        return False


def read_header(file: Path) -> Any:
    """Return the data set of a DICOM file without its pixels.

    Raises:
        ScanError: It is damaged.
    """
    return open_dicom(file, stop_before_pixels=True)


def open_dicom(file: Path, **options: Any) -> Any:
    """Return the data set of a DICOM file, as pydicom reads it with its options.

    Raises:
        ScanError: It is damaged.
    """
    import pydicom

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of values that it puts right
            return pydicom.dcmread(file, **options)
    except Exception as error:  # a damaged element raises nearly anything
        raise ScanError(f"{file}: a DICOM file must be whole, got '{one_line(error)}'; copy it again") from error


def is_image(file: Path, header: Any) -> bool:
    """Tell whether a DICOM file is an image, as its class says, and no report, directory or the like.

    Raises:
        ScanError: Its class is one of images or none that is known, but its size is missing: it was cut short.
    """
    if "Rows" in header and "Columns" in header:
        return True
    meta = getattr(header, "file_meta", {})
    kind = value_of(meta, "MediaStorageSOPClassUID") or value_of(header, "SOPClassUID")
    name = getattr(kind, "name", "")
    if name and name != kind and "Image" not in name:
        return False
    raise ScanError(f"{file}: a DICOM image must say its size (Rows, Columns), it does not; copy it again")


def part_of(header: Any) -> str:
    """Return which part of a complex image a file has: ``phase``, ``real`` or ``imaginary``; empty for a magnitude.

    Enhanced files say it in ComplexImageComponent, classic ones in the values of ImageType that vendors add: P of
    Siemens and Philips, R and I (PS3.3 C.8.13.3.1.1; dcm2niix takes the same words).
    """
    said = str(value_of(header, "ComplexImageComponent") or "").strip().upper()
    words = [said] if said else [word.strip().upper() for word in _words(header, "ImageType")[2:]]
    return next((_PARTS[word] for word in words if word in _PARTS), "")


def frames_of(file: Path, header: Any) -> list[Frame]:
    """Return the frames of a file.

    Raises:
        ScanError: It has no position, orientation or voxel size, or holds what is no number or no grey slice.
    """
    shape = (whole_number(file, header, "Columns"), whole_number(file, header, "Rows"))
    if whole_number(file, header, "SamplesPerPixel", 1) != 1:
        raise ScanError(f"{file}: a voxel must hold one number, got several (colours or vectors); convert it first")
    if "MOSAIC" in _words(header, "ImageType"):
        raise ScanError(f"{file}: a slice must be an image of its own, got a mosaic of many; convert it by dcm2niix")
    count = whole_number(file, header, "NumberOfFrames", 1)
    number, uid = (
        whole_number(file, header, "InstanceNumber", 0, least=-(1 << 31)),
        str(value_of(header, "SOPInstanceUID") or ""),
    )
    own = value_of(header, "PerFrameFunctionalGroupsSequence")
    shared = value_of(header, "SharedFunctionalGroupsSequence")
    if own is not None and len(own) != count:
        raise ScanError(f"{file}: {count} frames must be described, got {len(own)} descriptions; export it again")
    frames = []
    for index in range(count):
        places = [*([own[index]] if own is not None else []), *(shared or [])[:1]]
        name = file.name if count == 1 else f"{file.name} frame {index + 1}"
        frames.append(_frame(file, header, places, index, name, shape, number, uid))
    return frames


def _frame(
    file: Path, header: Any, places: list[Any], index: int, name: str, shape: tuple[int, int], number: int, uid: str
) -> Frame:
    def read(tag: str, count: int) -> NDArray[np.float64] | None:
        return _numbers(file, name, tag, _find(header, places, tag), count)

    def needed(tag: str, count: int, what: str) -> NDArray[np.float64]:
        found = read(tag, count)
        if found is None:
            raise ScanError(
                f"{file}: a slice must say its {what} ({tag}), {name} says none; export it again with its geometry"
            )
        return found

    def one(tag: str) -> float | None:
        found = read(tag, 1)
        return None if found is None else float(found[0])

    rows, columns = needed("PixelSpacing", 2, "voxel size")  # distance of rows first, then of columns
    if not min(rows, columns) > 0:
        raise ScanError(f"{file}: PixelSpacing must be above 0, got {rows:g} and {columns:g} of {name}; correct it")
    thickness, echo, moment = one("SliceThickness"), one("EffectiveEchoTime"), one("TemporalPositionIndex")
    return Frame(
        file=file,
        index=index,
        name=name,
        position=needed("ImagePositionPatient", 3, "position"),
        directions=needed("ImageOrientationPatient", 6, "orientation"),
        pixel_mm=(float(columns), float(rows)),
        shape=shape,
        thickness_mm=thickness if thickness is not None and thickness > 0 else None,
        between_mm=one("SpacingBetweenSlices"),
        echo_ms=one("EchoTime") if echo is None else echo,
        b_value=one("DiffusionBValue"),
        moment=one("TemporalPositionIdentifier") if moment is None else moment,
        acquired=_acquired(header, places),
        apart_ms=one("TemporalResolution"),
        scale=(1.0 if (slope := one("RescaleSlope")) is None else slope, one("RescaleIntercept") or 0.0),
        number=number,
        uid=uid,
    )


def _acquired(header: Any, places: Sequence[Any]) -> str:
    """Return when a frame was acquired, as DICOM's DT or TM has it."""
    for tag in ("FrameAcquisitionDateTime", "AcquisitionDateTime", "AcquisitionTime"):
        found = _find(header, places, tag)
        if isinstance(found, str) and found.strip():
            return found.strip()
    return ""


def value_of(data: Any, tag: str) -> Any:
    """Return an element's value, None where it is absent, empty or cannot be read at all."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = data.get(tag)
    except Exception:  # pydicom converts when asked, and raises what it meets
        return None
    return None if value is None or (isinstance(value, str) and not value.strip()) else value


def _find(header: Any, places: Sequence[Any], tag: str) -> Any:
    """Return a value from the functional groups of a frame, else from the top."""
    for place in places:
        group = value_of(place, _GROUPS.get(tag, ""))
        if group is not None and len(group) > 0 and tag in group[0]:
            return _raw(group[0], tag)
    return _raw(header, tag)


def _raw(data: Any, tag: str) -> Any:
    """Return an element's value; what cannot be converted as its text, so that an error can show it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return data.get(tag)
    except Exception as error:  # as above
        return one_line(error)


def _numbers(file: Path, name: str, tag: str, value: Any, count: int) -> NDArray[np.float64] | None:
    """Return finite numbers; None where there is no value."""
    if value is None or value == "" or (not isinstance(value, str) and hasattr(value, "__len__") and len(value) == 0):
        return None
    try:
        found = np.atleast_1d(np.array(value, dtype=np.float64))
    except (ValueError, TypeError, OverflowError):
        found = np.array([])
    if found.shape != (count,) or not np.isfinite(found).all():
        text = str(value)[:60]
        raise ScanError(
            f"{file}: DICOM tag {tag} must be {'a number' if count == 1 else f'{count} numbers'}, got {text!r} of "
            f"{name}; correct it, or convert to NIfTI"
        )
    return found


def whole_number(file: Path, data: Any, tag: str, default: int | None = None, least: int = 1) -> int:
    """Return a whole number from `least` on."""
    found = _numbers(file, file.name, tag, _raw(data, tag), 1)
    if found is None and default is not None:
        return default
    if found is None or found[0] < least or found[0] != int(found[0]):
        got = "none" if found is None else f"{found[0]:g}"
        raise ScanError(f"{file}: DICOM tag {tag} must be a whole number from {least} on, got {got}; export it again")
    return int(found[0])


def _words(data: Any, tag: str) -> list[str]:
    value = value_of(data, tag)
    if value is None:
        return []
    return [value] if isinstance(value, str) else [str(one) for one in value]


def one_line(error: BaseException) -> str:
    """Return an error's message on one line."""
    return (" ".join(str(error).split()) or type(error).__name__)[:200]
