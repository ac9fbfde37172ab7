"""DICOM files with all that a reader needs and no more: classic ones, a slice each, and enhanced multi-frame ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT_UID = "1.2.826.0.1.3680043.10.543"
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def oblique(shape: Sequence[int] = (24, 20, 9), spacing_mm: Sequence[float] = (0.2, 0.25, 0.8)) -> NDArray[np.float64]:
    """Return an oblique affine in RAS, index [column, row, slice]."""
    a, b = np.deg2rad(20), np.deg2rad(11)
    tilt = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    turn = tilt @ np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.array([[-1.0, 0, 0], [0, 0, -1], [0, -1, 0]]) * spacing_mm
    affine[:3, 3] = [0.3, 1.1, -0.4] - affine[:3, :3] @ ((np.asarray(shape) - 1) / 2)
    return affine


def write_series(
    folder: Path,
    stored: NDArray[Any],
    affine: NDArray[np.float64],
    *,
    series: int = 1,
    first: int = 1,
    slopes: Sequence[float] | None = None,
    tags: Mapping[str, Any] | None = None,
    own: Sequence[Mapping[str, Any]] | None = None,
    order: Sequence[int] | None = None,
) -> list[Path]:
    """Write [columns, rows, slices] as a file a slice, and return the files by slice.

    Args:
        folder: made where it is missing.
        stored: what is stored.
        affine: in RAS.
        series: its number.
        first: number of the first file and instance.
        slopes: RescaleSlope of each slice.
        tags, own: more attributes, of all slices and of each; None leaves one out.
        order: number of each slice, from 0; None: as they lie.
    """
    folder.mkdir(exist_ok=True)
    lps = LPS @ affine
    sizes = np.linalg.norm(lps[:3, :3], axis=0)
    axes = lps[:3, :3] / sizes
    files = []
    for k in range(stored.shape[2]):
        number = first + (k if order is None else order[k])
        data = _empty("MRImageStorage", f"{ROOT_UID}.{series}.{number}", series)
        given = {
            "InstanceNumber": number,
            "PixelSpacing": [f"{sizes[1]:.10g}", f"{sizes[0]:.10g}"],
            "ImageOrientationPatient": [f"{v:.10f}"[:16] for v in (*axes[:, 0], *axes[:, 1])],
            "ImagePositionPatient": [f"{v:.6f}" for v in lps[:3] @ [0, 0, k, 1]],
            "SliceThickness": "0.6",
            **({} if slopes is None else {"RescaleSlope": f"{slopes[k]:.9g}", "RescaleIntercept": "0"}),
            **(tags or {}),
            **(own[k] if own is not None else {}),
        }
        _pixels(data, stored[:, :, k].T[None])
        for name, value in given.items():
            if value is not None:
                setattr(data, name, value)
        files.append(folder / f"I{number:04d}.dcm")
        _save(data, files[-1])
    return files


def write_enhanced(
    file: Path,
    stored: NDArray[Any],
    affine: NDArray[np.float64],
    *,
    frames: Sequence[int] | None = None,
    slopes: Sequence[float] | None = None,
    echoes: Sequence[float] | None = None,
    without: Sequence[str] = (),
    tags: Mapping[str, Any] | None = None,
) -> Path:
    """Write [columns, rows, slices] as one enhanced file.

    Args:
        file: where.
        stored: what is stored.
        affine: in RAS.
        frames: slice of each frame; None: as they lie.
        slopes, echoes: of each frame.
        without: functional groups that are left out.
        tags: more attributes of the file.
    """
    from pydicom.sequence import Sequence as Items

    file.parent.mkdir(exist_ok=True)
    lps = LPS @ affine
    sizes = np.linalg.norm(lps[:3, :3], axis=0)
    axes = lps[:3, :3] / sizes
    frames = list(range(stored.shape[2])) if frames is None else list(frames)
    data = _empty("EnhancedMRImageStorage", f"{ROOT_UID}.7.1", 1)
    data.InstanceNumber = 1
    _pixels(data, stored[:, :, frames].transpose(2, 1, 0))
    data.NumberOfFrames = len(frames)
    shared = {
        "PixelMeasuresSequence": {"PixelSpacing": [sizes[1], sizes[0]], "SliceThickness": 0.6},
        "PlaneOrientationSequence": {"ImageOrientationPatient": [round(v, 12) for v in (*axes[:, 0], *axes[:, 1])]},
    }
    data.SharedFunctionalGroupsSequence = Items([_groups(shared, without)])
    described = []
    for at, k in enumerate(frames):
        groups: dict[str, dict[str, Any]] = {
            "PlanePositionSequence": {"ImagePositionPatient": [round(float(v), 8) for v in lps[:3] @ [0, 0, k, 1]]},
            "FrameContentSequence": {
                "StackID": "1",
                "InStackPositionNumber": k + 1,
                "DimensionIndexValues": [1, k + 1],
            },
        }
        if slopes is not None:
            scale = {"RescaleSlope": f"{slopes[at]:.9g}", "RescaleIntercept": 0, "RescaleType": "US"}
            groups["PixelValueTransformationSequence"] = scale
        if echoes is not None:
            groups["MREchoSequence"] = {"EffectiveEchoTime": echoes[at]}
        described.append(_groups(groups, without))
    data.PerFrameFunctionalGroupsSequence = Items(described)
    for name, value in (tags or {}).items():
        setattr(data, name, value)
    _save(data, file)
    return file


def _empty(kind: str, uid: str, series: int) -> Any:
    import pydicom.uid
    from pydicom.dataset import FileDataset, FileMetaDataset

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = getattr(pydicom.uid, kind), uid
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, uid
    data.PatientName, data.PatientID, data.Modality = "rat", "1", "MR"
    data.StudyDate = data.SeriesDate = "20240101"
    data.StudyTime = data.SeriesTime = "100000"
    data.StudyInstanceUID, data.SeriesInstanceUID = ROOT_UID, f"{ROOT_UID}.{series}"
    data.SeriesNumber, data.SeriesDescription = series, f"T2w {series}"
    data.FrameOfReferenceUID, data.Manufacturer = f"{ROOT_UID}.9", "Bruker BioSpin MRI GmbH"
    data.PatientPosition = "HFP"
    return data


def _save(data: Any, file: Path) -> None:
    import pydicom

    if pydicom.__version__.startswith("2."):
        data.is_little_endian, data.is_implicit_VR = True, False
        data.save_as(file, write_like_original=False)
    else:
        data.save_as(file, enforce_file_format=True)


def _pixels(data: Any, frames: NDArray[Any]) -> None:
    """Put pixels [frames, rows, columns] into a data set."""
    data.Rows, data.Columns = frames.shape[1:]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit, data.PixelRepresentation = 15, 1
    data.PixelData = np.ascontiguousarray(frames.astype("<i2")).tobytes()


def _groups(groups: Mapping[str, Mapping[str, Any]], without: Sequence[str]) -> Any:
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence as Items

    held = Dataset()
    for name, values in groups.items():
        if name not in without:
            item = Dataset()
            for tag, value in values.items():
                setattr(item, tag, value)
            setattr(held, name, Items([item]))
    return held
