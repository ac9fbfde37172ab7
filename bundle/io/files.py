"""Files that are written: their names, checks before any work, nothing half written, JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bida.errors import ScanError
from bida.io.claim import claimed, clear, temporary_name, undisturbed, will_write
from bida.options import yes_or_no

NIFTI_SUFFIXES = (".nii.gz", ".nii")
_PACKED = (".nii.gz", ".nii.bz2", ".img.gz", ".mnc.gz", ".mif.gz", ".gipl.gz", ".brik.gz")  # suffixes of two parts


def stem(path: str | Path) -> str:
    """Return the file name without its image suffix (`scan.nii.gz` and `SCAN.NII.GZ` give `scan` and `SCAN`)."""
    name = Path(path).name
    packed = next((suffix for suffix in _PACKED if name.lower().endswith(suffix)), None)
    return Path(name).stem if packed is None else name[: -len(packed)]


def sidecar_path(path: str | Path) -> Path:
    """Return the path of the JSON sidecar beside an image."""
    return Path(path).with_name(stem(path) + ".json")


def result_path(folder: str | Path, scan: str | Path) -> Path:
    """Return the path of a scan's result in an output folder: ``<name>_superres.nii.gz``."""
    return Path(folder) / f"{stem(scan)}_superres.nii.gz"


def make_folder(path: str | Path) -> Path:
    """Make a folder for output, with its parents, and return it.

    Raises:
        ScanError: It cannot be made or written.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ScanError(f"{path}: the output folder must be writable, got '{reason}'; choose another") from error
    if not os.access(path, os.W_OK):
        raise ScanError(f"{path}: the output folder must be writable, it is not; choose another")
    return path


@contextmanager
def unless_empty(path: str | Path) -> Iterator[None]:
    """Remove a folder for output, and its parents, where a block has made them and an error leaves nothing in them."""
    path = Path(path)
    new = [one for one in (path, *path.parents) if not one.exists()]
    try:
        yield
    except BaseException:
        inside = [one for one in path.rglob("*") if one.is_dir()] if new else []
        for folder in [*sorted(inside, reverse=True), *new]:
            with suppress(OSError):  # it holds something, or was not made
                folder.rmdir()
        raise


def check_exists(path: str | Path) -> Path:
    """Check that a file or folder is there, and return its path.

    Raises:
        ScanError: Nothing is there, or it is out of reach.
    """
    path = Path(path)
    try:
        found = path.exists()
    except OSError as error:  # a folder on the way may not be searched
        raise ScanError(
            f"{path}: must be within reach, got '{error.strerror}'; check the path and its rights"
        ) from error
    if not found:
        raise ScanError(f"{path}: must exist, nothing is there; check the path")
    return path


def check_output(
    path: str | Path, *, overwrite: bool = False, suffixes: tuple[str, ...] = NIFTI_SUFFIXES, with_record: bool = False
) -> Path:
    """Check, before any work is done, that `path` can be written; one that goes with a record is told without it.

    Raises:
        ScanError: wrong suffix, existing file without `overwrite`, missing or unwritable folder.
        SettingsError: `overwrite` is neither yes nor no.
    """
    path = Path(path)
    overwrite = yes_or_no(overwrite, "overwrite")
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass  # see below
    except OSError as error:  # a name that is too long, a folder that may not be searched
        reason = error.strerror or str(error)
        raise ScanError(f"{path}: output must be within reach, got '{reason}'; choose another name") from error
    if not path.name.endswith(suffixes):
        raise ScanError(f"{path}: output must end in {' or '.join(suffixes)}, got '{path.name}'; rename it")
    if path.is_dir():
        raise ScanError(f"{path}: output must be a file, got a folder; add a file name")
    if not path.parent.is_dir():
        raise ScanError(f"{path}: its folder must exist, '{path.parent}' is not a folder; make it first")
    if not os.access(path.parent, os.W_OK):
        raise ScanError(f"{path}: its folder must be writable, '{path.parent}' is not; choose another folder")
    if path.exists() and not overwrite:
        alone = with_record and not sidecar_path(path).exists()
        told = "it does, without a record of how it was made" if alone else "it does"
        cure = "choose another name or give --overwrite"
        if alone:  # perhaps a scan: two names swapped, or two scans named
            cure = "it may be no result: name SCAN before OUT, many scans by -o DIR, or choose another name"
        raise ScanError(f"{path}: output must not exist, {told}; {cure}")
    return path


def discard(path: str | Path) -> None:
    """Remove a file, where it is there; there is none of a name that is too long."""
    if os.path.isfile(path):
        Path(path).unlink(missing_ok=True)


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`, moved to `path` when the block ends well, else removed.

    What a run that was killed has left of an earlier try goes, too.

    Raises:
        ScanError: the operating system refuses the write (unwritable folder, disk full).
    """
    with _temporary(Path(path)) as temporary:
        yield temporary
        os.replace(temporary, path)


@contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    """Yield a temporary path for `path`, removed at the end where something is left there."""
    suffix = next((s for s in NIFTI_SUFFIXES if path.name.endswith(s)), path.suffix)
    temporary = path.with_name(temporary_name(path, suffix))
    try:
        clear(path)
        yield temporary
    except OSError as error:
        reason = error.strerror or str(error)
        raise ScanError(f"{path}: output must be writable, got '{reason}'; choose another folder") from error
    finally:
        with suppress(OSError):  # its folder may be what is missing
            temporary.unlink(missing_ok=True)


@contextmanager
def recorded(path: str | Path, record: Mapping[str, Any], *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary path for a volume, moved to `path` with its record beside it when the block ends well.

    At no moment is a volume beside the record of another run: an old record goes first, the new one comes last.

    Raises:
        ScanError: see `check_output`; another run writes the volume.
    """
    path, sidecar = check_output(path, overwrite=True), sidecar_path(path)
    with claimed(path), _temporary(sidecar) as text, _temporary(path) as volume:
        check_output(path, overwrite=overwrite, with_record=True)
        check_output(sidecar, overwrite=overwrite, suffixes=(".json",))
        text.write_text(_as_text(record), encoding="utf-8")
        try:
            yield volume
        except ScanError as error:
            raise ScanError(str(error).replace(str(volume), str(path))) from error
        with undisturbed():
            if not (path.exists() or sidecar.exists()):
                will_write(path, [path, sidecar])
            sidecar.unlink(missing_ok=True)
            os.replace(volume, path)
            os.replace(text, sidecar)


def write_json(path: str | Path, content: Mapping[str, Any], *, overwrite: bool = False) -> None:
    """Write a JSON object atomically, its keys in the order given.

    Raises:
        ScanError: see `check_output`.
    """
    path = check_output(path, overwrite=overwrite, suffixes=(".json",))
    with atomic(path) as temporary:
        temporary.write_text(_as_text(content), encoding="utf-8")


def _as_text(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def own_files(source: str | Path) -> list[Path]:
    """Return a file that is read and its sidecars: beside it, and where it is a link beside what it leads to."""
    path = Path(source)
    found = [path]
    for one in (Path(os.path.abspath(path)), path.resolve()):
        if one.name:  # the root folder has none
            found.append(sidecar_path(one))
    return found
