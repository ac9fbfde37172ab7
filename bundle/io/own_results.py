"""Results name themselves: in their header, and in the record beside them; a result is no scan."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bida.errors import ScanError
from bida.io.files import sidecar_path
from bida.provenance import own_version

if TYPE_CHECKING:
    import nibabel as nib

LONGEST = 79  # bytes of `descrip`, which ends by a zero
OWN = re.compile(r"bida \S+ (super-resolution|uncertainty)\b")
RECORDED = {"weights_sha256", "slice_geometry", "estimate"}  # what every record has


def description(what: str = "super-resolution") -> str:
    """Return what the header of a result says of it in `descrip`: ``super-resolution`` or ``uncertainty``."""
    return f"bida {own_version()} {what}"[:LONGEST]


def said_by(header: nib.Nifti1Header) -> str | None:
    """Return what the header of a result of bida says of it, None for any other header."""
    text = bytes(header["descrip"]).split(b"\0")[0].decode("utf-8", "replace")
    return text if OWN.match(text) else None


def record_beside(path: Path) -> dict[str, Any] | None:
    """Return the record of a result beside it, None where there is none."""
    try:
        record = json.loads(sidecar_path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) and record.keys() >= RECORDED else None


def check_scan(source: str | Path | nib.Nifti1Pair) -> None:
    """Check that an image is no result of bida, by its header or the record beside it.

    Raises:
        ScanError: It is one.
    """
    import nibabel as nib  # commands that read no scan start without it

    from bida.io.nifti_file import is_nifti, open_nifti

    image, path, record = None, None, None
    if isinstance(source, nib.Nifti1Pair):
        image, path = source, source.get_filename()
    else:
        path = str(source)
        with suppress(ScanError):  # told where it is read
            image = open_nifti(Path(source)) if is_nifti(source) else None
    if path is not None and Path(path).is_file():
        record = record_beside(Path(path))
    said = None if image is None else said_by(image.header)
    if said is None and record is None:
        return
    why = "the record beside it says so" if said is None else f"its header says '{said}'"
    named = (record or {}).get("source")
    cure = "give the scan that it is from" + ("" if named is None else f", {named}")
    raise ScanError(f"{path or 'image'}: must be a scan, got a result of super-resolution ({why}); {cure}")
