"""What a result depends on, as its record holds it, so that a later run can tell whether it is the same."""

from __future__ import annotations

import glob
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from bida.errors import ScanError
from bida.io.files import sidecar_path
from bida.io.sidecar import read_sidecar
from bida.io.weights import sha256, weights_file
from bida.mri.settings import Settings

HEADERS = (".mhd", ".nhdr", ".hdr", ".img", ".head", ".brik")  # formats of two files: the others of the name count too


def fingerprint(scans: Sequence[str | Path], settings: Settings) -> dict[str, Any]:
    """Return what a result depends on: scans, settings, weights.

    Raises:
        ScanError: A scan is not there.
    """
    read = {name: getattr(settings, name) for name in ("like", "profile")}
    return {
        "input_sha256": [digest_of_scan(Path(scan)) for scan in scans],
        "read_sha256": {name: digest(Path(file)) for name, file in read.items() if file and Path(file).is_file()},
        "settings": json.loads(json.dumps(asdict(absolute(settings)), default=str)),
        "weights_sha256": sha256(weights_file(settings.model)),
    }


def absolute(settings: Settings) -> Settings:
    """Return settings whose files hold in whatever folder a process runs."""
    named = {name: getattr(settings, name) for name in ("like", "profile", "model")}
    files: dict[str, Any] = {
        name: str(Path(one).absolute()) for name, one in named.items() if one is not None and Path(one).is_file()
    }
    return replace(settings, **files)


def digest_of_scan(path: Path) -> str:
    """Return the SHA-256 of all that is read of a scan: its file or folder, data files, and what sidecars say of it.

    Raises:
        ScanError: It cannot be read.
    """
    apart = path.suffix.lower() in HEADERS and path.is_file()
    files = sorted(path.parent.glob(f"{glob.escape(path.stem)}.*")) if apart else [path]
    told = json.dumps(read_sidecar(path), sort_keys=True, default=str)
    return hashlib.sha256("\n".join([*map(digest, files), told]).encode()).hexdigest()


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, or of the names and contents of a folder's files.

    Raises:
        ScanError: It cannot be read.
    """
    found = hashlib.sha256()
    try:
        files = sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]
        for file in files:
            found.update(str(file.relative_to(path)).encode())
            with file.open("rb") as content:
                while block := content.read(1 << 20):
                    found.update(block)
    except OSError as error:
        raise ScanError(
            f"{path}: the scan must be readable, got '{error.strerror or error}'; check the path"
        ) from error
    return found.hexdigest()


def record_of(output: str | Path) -> dict[str, Any] | None:
    """Return the record beside a result, None where one of both is not there or cannot be read."""
    if not Path(output).is_file():
        return None
    try:
        record = json.loads(sidecar_path(output).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None
