"""What the headers of NRRD, MetaImage and GIPL say that ITK does not pass on, and whether their voxels are whole."""

from __future__ import annotations

import gzip
import math
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from bida.errors import ScanError
from bida.io.files import check_exists
from bida.io.nifti_file import UNREADABLE, line_of, read_to_end

_CHUNK = 1 << 20
_LONGEST = 1 << 20  # bytes of a header
_MM = {
    **dict.fromkeys(("mm", "millimeter", "millimeters", "millimetre", "millimetres"), 1.0),
    **dict.fromkeys(("um", "µm", "μm", "micron", "microns", "micrometer", "micrometers", "micrometre"), 1e-3),
    **dict.fromkeys(("cm", "centimeter", "centimetre"), 10.0),
    **dict.fromkeys(("m", "meter", "meters", "metre", "metres"), 1000.0),
    **dict.fromkeys(("nm", "nanometer", "nanometre"), 1e-6),
}
NO_SPACE = (
    "the NRRD header names no space: its axes are taken as left, posterior, superior, as ITK does; left and right "
    "are unknown"
)
NO_DIRECTIONS = (
    "GIPL holds no directions that ITK reads: its axes are taken as left, posterior, superior; left and right are "
    "unknown"
)


@dataclass(frozen=True)
class Said:
    """What a header says.

    Attributes:
        mm: of a unit of its lengths.
        sidecar: what a JSON sidecar would hold of it.
        warnings: what is assumed, a sentence each.
    """

    mm: float = 1.0
    sidecar: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def header_of(path: Path) -> Said:
    """Read a header, and check that packed voxels are whole: ITK compares no checksum.

    Raises:
        ScanError: The file is cut or damaged, or its unit of length is unknown.
    """
    name = path.name.lower()
    if name.endswith((".gipl", ".gipl.gz")):
        read_to_end(path)
        return Said(warnings=[NO_DIRECTIONS])
    try:
        with open(path, "rb") as file:
            if name.endswith((".nrrd", ".nhdr")):
                fields = _fields(file, ":", "")
                _check_packed(
                    path, file, fields.get("encoding", "raw"), fields.get("data file", fields.get("datafile"))
                )
                return _nrrd(path, fields)
            fields = _fields(file, "=", "elementdatafile")
            packed = "gzip" if fields.get("compresseddata", "").lower() in ("true", "1") else "raw"
            element = fields.get("elementdatafile", "LOCAL")
            _check_packed(path, file, packed, None if element.upper() == "LOCAL" else element)
    except UNREADABLE as error:
        if isinstance(error, ScanError):
            raise
        raise ScanError(
            f"{path}: the file must be whole, reading failed with '{line_of(error)}'; copy it again"
        ) from error
    return Said()


def _fields(file: IO[bytes], mark: str, last: str) -> dict[str, str]:
    """Return a header's fields, names in lower case, to an empty line or to the field that is the last."""
    found: dict[str, str] = {}
    while file.tell() < _LONGEST:
        line = file.readline(_LONGEST)
        text = line.decode("utf-8", errors="replace").strip()
        if not line or (not text and not last):
            break
        name, sign, value = text.partition(mark)
        if sign and not text.startswith("#"):
            found[name.strip().lower()] = value.strip()
        if last and name.strip().lower() == last:
            break
    return found


def _check_packed(path: Path, file: IO[bytes], encoding: str, detached: str | None) -> None:
    """Read packed voxels to their end, behind a header or in a file of their own."""
    if encoding.lower() not in ("gzip", "gz"):
        return
    if detached is not None and ("%" in detached or detached.upper().startswith("LIST")):
        return  # several files, which ITK joins
    if detached is None:
        _read_packed(file)
    else:
        with open(check_exists(path.parent / detached), "rb") as data:
            _read_packed(data)


def _read_packed(file: IO[bytes]) -> None:
    """Unpack gzip or zlib to the end, where the checksum stands.

    Raises:
        OSError, EOFError, zlib.error: It is cut or damaged.
    """
    start = file.tell()
    if file.read(2) == b"\x1f\x8b":
        file.seek(start)
        with gzip.open(file, "rb") as unpacked:
            while unpacked.read(_CHUNK):
                pass
        return
    file.seek(start)
    unpack = zlib.decompressobj()
    while not unpack.eof:
        part = unpack.unconsumed_tail or file.read(_CHUNK)
        if not part:
            raise EOFError("packed voxels end too early")
        unpack.decompress(part, _CHUNK)


def _nrrd(path: Path, fields: dict[str, str]) -> Said:
    """Return what the fields of NRRD say of unit, space and thickness."""
    warnings, sidecar = list[str](), dict[str, Any]()
    if not fields.get("space"):
        warnings.append(NO_SPACE)
    words = fields.get("space units", fields.get("units", ""))
    units = {unit.strip().lower() for unit in words.split('"')[1::2]} - {"", "none", "???"}
    if len(units) > 1 or not units <= set(_MM):
        raise ScanError(
            f"{path}: lengths must be in one unit that is known (mm, um, cm, m), got {words}; correct the header"
        )
    mm = _MM[units.pop()] if units else 1.0
    if mm != 1.0:
        warnings.append(f"the header is in {words.split(chr(34))[1]}, converted to mm")
    numbers = [_number(word) for word in fields.get("thicknesses", "").split()]
    known = [number for number in numbers if math.isfinite(number) and number > 0]
    if known:  # in plane a thickness is the voxel size, or left out
        sidecar["SliceThickness"] = max(known) * mm
    return Said(mm, sidecar, warnings)


def _number(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        return math.nan
