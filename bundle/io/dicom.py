"""Read one volume of a DICOM series by the positions of its slices.

``ImagePositionPatient`` and ``ImageOrientationPatient`` decide the order and the distance of slices;
``SpacingBetweenSlices`` is compared and never used, and ``SliceThickness`` says the thickness alone. Slices are scaled
each by its own slope, in floating point. pydicom reads; what is compressed SimpleITK (GDCM) decodes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bida.errors import ScanError
from bida.io.anatomy import to_ras
from bida.io.dicom_frames import Frame, frames_of, is_dicom, is_image, part_of, read_header, value_of
from bida.io.dicom_pixels import stored_pixels
from bida.io.dicom_volumes import every_volume, step_of, volume_of
from bida.io.slice_stack import UNEVEN, normal_of, stack_affine
from bida.io.volumes import Volumes, check_one_grid

_SUFFIXES = (".dcm", ".ima")
# PatientPosition -> ParaVision's name of it
_TOLD = {
    f"{short}{side}": f"{name}_{word}"
    for short, name in (("HF", "Head"), ("FF", "Foot"))
    for side, word in (("S", "Supine"), ("P", "Prone"), ("DL", "Left"), ("DR", "Right"))
}


@dataclass(frozen=True)
class Series:
    """Files of one series.

    Attributes:
        uid: series instance UID.
        number: series number; None where there is none.
        description: what it was called.
        headers: data set, without pixels, of each file that holds an image.
    """

    uid: str
    number: int | None
    description: str
    headers: Mapping[Path, Any]

    @property
    def line(self) -> str:
        """What a list says of it."""
        count = len(self.headers)
        return f"{'-' if self.number is None else self.number}  {self.description or '(no name)'}  {count} file(s)"


def find_series(path: Path) -> list[Series]:
    """Return the series of a folder, or of a single file, by number.

    Raises:
        ScanError: No file is a DICOM image, or one is damaged.
    """
    files = sorted(one for one in path.iterdir() if one.is_file()) if path.is_dir() else [path]
    states = [(file, file.stat()) for file in files]
    headers = _headers(tuple((file, state.st_mtime_ns, state.st_size) for file, state in states))
    images = {file: header for file, header in headers.items() if is_image(file, header)}
    if not images:
        found = f"{len(headers)} DICOM file(s) without an image" if headers else "no file of either"
        raise ScanError(
            f"{path}: must be a scanner's folder (DICOM or ParaVision), it holds {found}; name an image file or the "
            "folder that holds the scan"
        )

    def uid(file: Path) -> str:
        return str(value_of(images[file], "SeriesInstanceUID") or "")

    found_series = []
    for key, group in groupby(sorted(images, key=uid), uid):
        members = {file: images[file] for file in group}
        first = next(iter(members.values()))
        number = str(value_of(first, "SeriesNumber") or "").strip()
        what = str(value_of(first, "SeriesDescription") or value_of(first, "ProtocolName") or "").strip()
        found_series.append(Series(key, int(number) if number.lstrip("-").isdigit() else None, what, members))
    return sorted(found_series, key=lambda one: (one.number is None, one.number or 0, one.uid))


@lru_cache(maxsize=1)  # of a series of many volumes, every one of which is read by itself
def _headers(files: tuple[tuple[Path, int, int], ...]) -> Mapping[Path, Any]:
    """Return the data sets, without pixels, of those of some files, with their times and sizes, that are DICOM."""
    return {file: read_header(file) for file, _, _ in files if _is_meant(file)}


def _is_meant(file: Path) -> bool:
    """Tell whether a file is DICOM; one that is called so must be.

    Raises:
        ScanError: It is not.
    """
    found = is_dicom(file)
    if not found and file.suffix.lower() in _SUFFIXES:
        raise ScanError(
            f"{file}: must be a DICOM file, got {file.stat().st_size} bytes of something else; copy it again"
        )
    return found


def choose_series(path: Path, found: Sequence[Series], wanted: str | None) -> Series:
    """Return the series that is asked for by number or UID, or the only one.

    Raises:
        ScanError: There are several, or none is what is asked for.
    """
    if wanted is None:
        chosen = list(found)
        rule, cure = "the folder must hold one DICOM series", "give --series NUMBER"
    else:
        chosen = [one for one in found if wanted in (one.uid, str(one.number))]
        rule, cure = f"--series {wanted} must name one series", "give one of those numbers, or a UID"
    if len(chosen) == 1:
        return chosen[0]
    shown = [f"{one.uid if one.number is None else one.number} ({one.description or 'no name'})" for one in found]
    more = f" and {len(shown) - 8} more" if len(shown) > 8 else ""
    raise ScanError(f"{path}: {rule}, got {', '.join(shown[:8])}{more}; {cure}")


def read_dicom(
    path: Path,
    volume: int | None = None,
    series: str | None = None,
    echo: int | None = None,
    position: str | None = None,
    subject: str | None = None,
) -> tuple[NDArray[Any], NDArray[np.float64], dict[str, Any], list[str]]:
    """Read one volume of a series.

    Args:
        path: a folder of files, classic or enhanced, or one file.
        volume: which of several that lie at the same places, from 0, as they were numbered.
        series: its number or its UID; needed where there are several.
        echo: which of several echoes, from 1, by echo time.
        position: how the animal lay, one of `bida.io.anatomy.POSITIONS`; None: as the files say.
        subject: ``quadruped`` or ``biped``, whose axes the files have; None: as they say, else a biped's.

    Returns:
        values [columns, rows, slices], integers where no slope is given, else float32; affine 4 x 4 in mm (RAS+);
        what the tags say of the slices, as a JSON sidecar would; notes, a sentence each.

    Raises:
        ScanError: there are several of what was not chosen; slices are missing, stored twice, not parallel, of several
            sizes; a file is damaged, cut short or lacks its geometry.
    """
    notes = list[str]()
    chosen, frames, rotation = _frames_of_series(path, series, notes)
    frames = volume_of(path, frames, rotation[:, 2], echo, volume)
    affine = _stacked(path, frames, rotation)
    sidecar = _slices_of(frames, float(np.linalg.norm(affine[:3, 2])), notes)
    affine = _anatomical(path, affine, list(chosen.headers.values()), position, subject, notes)
    return _values(frames), affine, sidecar, notes


def dicom_volumes(path: Path, series: str | None = None, echo: int | None = None) -> Volumes:
    """Return the volumes of a series, those of the shortest echo first; arguments and errors are `read_dicom`'s.

    Raises:
        ScanError: they do not lie on one grid, too.
    """
    _, frames, rotation = _frames_of_series(path, series, [])
    members, parts = every_volume(path, frames, rotation[:, 2], echo)
    check_one_grid(path, [_stacked(path, one, rotation) for one in members], parts)
    return Volumes(tuple(parts), step_of(members))


def _frames_of_series(
    path: Path, series: str | None, notes: list[str]
) -> tuple[Series, list[Frame], NDArray[np.float64]]:
    """Return a series, its frames, and their rotation, as `normal_of` has it."""
    chosen = _magnitudes(path, choose_series(path, find_series(path), series), notes)
    frames = [frame for file, header in chosen.headers.items() for frame in frames_of(file, header)]
    _check_alike(path, frames)
    directions = np.stack([frame.directions for frame in frames])
    return chosen, frames, normal_of(path, [frame.name for frame in frames], directions)


def _magnitudes(path: Path, series: Series, notes: list[str]) -> Series:
    """Return a series without the files of phases and the like that some scanners put beside the magnitudes.

    Raises:
        ScanError: it has nothing else.
    """
    parts = {file: part_of(header) for file, header in series.headers.items()}
    kept = {file: header for file, header in series.headers.items() if not parts[file]}
    if not kept:
        file, part = next(iter(parts.items()))
        raise ScanError(f"{path}: slices must be magnitudes, got {part} in {file.name}; give the magnitudes' series")
    left = [part for part in parts.values() if part]
    if left:
        notes.append(f"{len(left)} file(s) of {', '.join(sorted(set(left)))} were left aside, which are no magnitudes")
    return replace(series, headers=kept)


def _stacked(path: Path, frames: Sequence[Frame], rotation: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the affine of the slices of a volume, in the frame of their positions."""
    positions = np.stack([frame.position for frame in frames])
    return stack_affine(path, [frame.name for frame in frames], positions, rotation, frames[0].pixel_mm)


def _check_alike(path: Path, frames: Sequence[Frame]) -> None:
    """Check that slices are of one size, and none is there twice."""
    first = frames[0]
    for frame in frames:
        if frame.shape != first.shape or not np.allclose(frame.pixel_mm, first.pixel_mm, rtol=1e-3):
            shown = [f"{one.shape[0]} x {one.shape[1]} of {one.pixel_mm[0]:g} mm" for one in (first, frame)]
            raise ScanError(
                f"{path}: slices must be of one size, got {shown[0]} in {first.name} and {shown[1]} in {frame.name}; "
                "keep one scan's files alone"
            )
    seen: dict[tuple[str, int], Frame] = {}
    for frame in frames:
        other = seen.setdefault((frame.uid, frame.index), frame)
        if frame.uid and other is not frame:
            raise ScanError(
                f"{path}: a slice must be stored once, got {other.name} and {frame.name} with one UID; remove one"
            )


def _slices_of(frames: Sequence[Frame], spacing_mm: float, notes: list[str]) -> dict[str, Any]:
    """Return what tags say of the thickness, and note a spacing that disagrees with the positions."""
    between = {frame.between_mm for frame in frames} - {None}
    odd = [one for one in between if one is not None and abs(abs(one) - spacing_mm) > UNEVEN * spacing_mm]
    if odd:
        notes.append(
            f"SpacingBetweenSlices is {odd[0]:g}, but slices lie {spacing_mm:.4g} mm apart by their positions, which "
            "are used"
        )
    thick = {frame.thickness_mm for frame in frames}
    told = [one for one in thick if one is not None]
    if len(told) != len(thick) or not told:
        return {}
    if max(told) - min(told) > 0.01 * max(told):
        notes.append(
            f"SliceThickness is {min(told):g} to {max(told):g} mm, not the same in all slices, and is not used; "
            "--thickness gives it"
        )
        return {}
    return {"SliceThickness": told[0]}


def _anatomical(
    path: Path,
    affine: NDArray[np.float64],
    headers: Sequence[Any],
    position: str | None,
    subject: str | None,
    notes: list[str],
) -> NDArray[np.float64]:
    """Return the affine in RAS of the animal."""
    lain = {str(value_of(header, "PatientPosition") or "").strip().upper() for header in headers}
    told = _TOLD.get(lain.pop()) if len(lain) == 1 else None
    kinds = {str(value_of(header, "AnatomicalOrientationType") or "").strip().upper() for header in headers}
    said = "quadruped" if kinds == {"QUADRUPED"} else None
    if subject is None and said is not None:
        notes.append(
            "the files have a quadruped's axes (0010,2210): A is rostral and S dorsal; the NIfTI that dcm2niix makes "
            "of them calls these S and P"
        )
    return to_ras(path, affine, subject or said or "biped", told, position)


def _values(frames: Sequence[Frame]) -> NDArray[Any]:
    """Return the voxels [columns, rows, slices], scaled where a slope or an intercept is given."""
    columns, rows = frames[0].shape
    plain = all(frame.scale == (1.0, 0.0) for frame in frames)
    slices: dict[int, NDArray[Any]] = {}
    at = {id(frame): k for k, frame in enumerate(frames)}
    for file, group in groupby(sorted(frames, key=lambda one: os.fspath(one.file)), lambda one: one.file):
        members = list(group)
        for frame, pixels in zip(members, stored_pixels(file, members), strict=True):
            slope, intercept = frame.scale
            slices[at[id(frame)]] = pixels if plain else (pixels * slope + intercept).astype(np.float32)
    values = np.stack([slices[k] for k in range(len(frames))])
    assert values.shape == (len(frames), rows, columns)
    return values.transpose(2, 1, 0)
