"""Read one volume of a Bruker ParaVision study (5, 6, 7, 360): which reconstruction, which volume, whose axes.

`bida.io.visu_pars` says why brukerapi parses and what computes the geometry.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bida.errors import ScanError
from bida.io.anatomy import to_ras
from bida.io.jcamp import parser
from bida.io.slice_stack import pick_volume
from bida.io.visu_pars import PIXELS, Parameters, Volume
from bida.io.volumes import OneVolume, Volumes, check_one_grid


def is_bruker(path: Path) -> bool:
    """Tell whether a path is a study, a scan of one, a reconstruction of that, or its ``2dseq``."""
    if not path.is_dir():
        return path.name == PIXELS
    return (path / PIXELS).is_file() or (path / "pdata").is_dir() or any(_scans(path))


def list_study(path: Path) -> list[str] | None:
    """Return a line for each reconstruction of a study, None where the path is none or is one scan.

    Raises:
        ScanError: brukerapi is not installed.
    """
    if not path.is_dir() or (path / PIXELS).is_file() or (path / "pdata").is_dir():
        return None
    parser(path)
    lines = []
    for scan in _scans(path):
        for folder in _reconstructions(scan):
            try:
                lines.append(f"{folder.relative_to(path)}  {_describe(Parameters.read(folder))}")
            except ScanError as error:
                lines.append(f"{folder.relative_to(path)}  cannot be read: {str(error).split(': ', 1)[-1]}")
    return lines or None


def find_reconstruction(path: Path) -> Path:
    """Return the folder of the reconstruction that a path means.

    Raises:
        ScanError: it means several, or none that is whole.
    """
    if path.name == PIXELS and not path.is_dir():
        path = path.parent
    if (path / PIXELS).is_file():
        return path
    if (path / "pdata").is_dir():
        found, what = _reconstructions(path), "reconstruction"
    else:
        found, what = list(_scans(path)), "scan"
        if len(found) == 1:
            return find_reconstruction(found[0])
    if len(found) == 1:
        return found[0]
    if not found:
        raise ScanError(f"{path}: a scan must be reconstructed ({PIXELS}), none is; reconstruct it in ParaVision")
    names = [str(one.relative_to(path)) for one in found]
    shown = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
    raise ScanError(f"{path}: one {what} must be named, got {shown} in it; give {path / names[0]}, or another")


def read_bruker(
    path: Path, volume: int | None = None, position: str | None = None, subject: str | None = None
) -> tuple[NDArray[Any], NDArray[np.float64], dict[str, Any], list[str]]:
    """Read one volume of a reconstruction.

    Args:
        path: a scan's folder (``STUDY/5``), a reconstruction's (``STUDY/5/pdata/1``) or its ``2dseq``.
        volume: which of several, from 0: the first frame group runs fastest, slice packages slowest.
        position: how the animal lay, one of `bida.io.anatomy.POSITIONS`; None: as ParaVision was told.
        subject: ``quadruped`` or ``biped``; None: as the study says, a quadruped where it does not.

    Returns:
        values [X, Y, Z], integers where slopes are 1, else float32; affine 4 x 4 in mm (RAS+) of the animal; the slice
        thickness as a JSON sidecar would give it; notes, a sentence each.

    Raises:
        ScanError: brukerapi is missing; several scans or volumes, none chosen; a file is damaged, cut short or holds
            no image; slices are not evenly spaced; lengths are not in mm.
    """
    folder = find_reconstruction(path)
    parameters = Parameters.read(folder)
    stored = parameters.stored()  # before all else: as many frames as this has there are
    volumes = parameters.volumes()
    what = " x ".join([f"{n} {name}" for name, n in parameters.counts() if n > 1])
    chosen = volumes[pick_volume(path, len(volumes), volume, what)]
    notes = list[str]()
    frames, affine = parameters.geometry(chosen, notes)
    values = parameters.pixels(stored, frames)
    told = parameters.text("VisuSubjectPosition") or None
    kind = subject or _subject(parameters, notes)
    if position is None and kind == "quadruped" and told != "Head_Prone":
        notes.append(
            f"the animal is taken to have lain as ParaVision was told, {told or 'which is nothing'}; where it lay "
            "otherwise, --position says how (as Head_Prone)"
        )
    return values, to_ras(path, affine, kind, told, position), parameters.sidecar(frames, notes), notes


def bruker_volumes(path: Path) -> Volumes:
    """Return the volumes of a reconstruction, in the order of `read_bruker`, where they lie on one grid.

    Raises:
        ScanError: they do not, as those of several slice packages; and see `read_bruker`.
    """
    parameters = Parameters.read(find_reconstruction(path))
    volumes = parameters.volumes()
    if len(volumes) == 1:
        return Volumes()
    parts = tuple(OneVolume(number, name=_name(parameters, one)) for number, one in enumerate(volumes))
    check_one_grid(path, [parameters.geometry(one, [])[1] for one in volumes], parts)
    return Volumes(parts, parameters.step_s())


def _name(parameters: Parameters, volume: Volume) -> str:
    """Return which element of each frame group a volume is, as ``FG_ECHO 2``, and of which package."""
    at = parameters.group_index()[:, volume.frames[0]]
    of_groups = dict(zip((name for name, _ in parameters.groups), at))
    said = [f"{name} {of_groups[name] + 1}" for name, n in parameters.counts() if n > 1 and name in of_groups]
    return ", ".join([*said, *([f"slice package {volume.package + 1}"] if volume.package is not None else [])])


def _scans(path: Path) -> Iterator[Path]:
    """Yield the folders of a study's scans that are reconstructed, by number."""
    inside = [one for one in path.iterdir() if one.name.isdigit() and (one / "pdata").is_dir()]
    yield from (one for one in sorted(inside, key=lambda one: int(one.name)) if _reconstructions(one))


def _reconstructions(scan: Path) -> list[Path]:
    inside = [one for one in (scan / "pdata").iterdir() if one.name.isdigit() and (one / PIXELS).is_file()]
    return sorted(inside, key=lambda one: int(one.name))


def _subject(parameters: Parameters, notes: list[str]) -> str:
    """Return the kind of animal whose axes are meant."""
    said = parameters.text("VisuSubjectType")
    if said == "Biped":
        notes.append("the study says biped: A is the belly's side, S the head's; --subject quadruped for a rodent")
        return "biped"
    if said != "Quadruped":
        notes.append(
            f"the study says {said or 'no'} kind of subject, taken as a quadruped: A is rostral, S dorsal; --subject "
            "biped for a human's axes"
        )
    return "quadruped"


def _describe(parameters: Parameters) -> str:
    """Return what a list says of a reconstruction."""
    name = parameters.text("VisuAcquisitionProtocol") or parameters.text("VisuAcqSequenceName")
    parameters.stored()
    volumes = parameters.volumes()
    frames, affine = parameters.geometry(volumes[0], [])
    depth = parameters.size[2] if parameters.dimensions == 3 else len(frames)
    voxels = " x ".join(map(str, (*parameters.size[:2], depth)))
    sizes = " x ".join(f"{size:.4g}" for size in np.linalg.norm(affine[:3, :3], axis=0))
    thickness = parameters.sidecar(frames, []).get("SliceThickness")
    return f"{name or '(no name)'}  {voxels} voxels of {sizes} mm" + (
        (f", {thickness:.4g} mm thick" if thickness else "") + (f", {len(volumes)} volumes" if len(volumes) > 1 else "")
    )
