"""A NIfTI file as it lies on disk: opened by its content whatever its name, read to its end, its header as written."""

from __future__ import annotations

import gzip
import logging
import math
import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.imageglobals import logger as nibabel_log
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError
from numpy.typing import NDArray

from bida.errors import ScanError
from bida.io.files import check_exists
from bida.physics.grid import corner_distance_voxels, spacing_of

# what reading a file raises that is cut, damaged or none of its kind
UNREADABLE = (
    OSError, EOFError, zlib.error, gzip.BadGzipFile, ImageFileError, HeaderDataError, ValueError, KeyError, IndexError,
    TypeError, OverflowError, struct.error, MemoryError, WrapStructError,
)  # fmt: skip
HEADER_BYTES = 540  # of NIfTI-2; NIfTI-1 takes 348
GZIP = b"\x1f\x8b"
_CHUNK = 1 << 20
_MOST_CODE = 5  # of qform and sform: NIFTI_XFORM_TEMPLATE_OTHER
_MAGIC = {348: (b"n+1\0", b"ni1\0"), 540: (b"n+2\0", b"ni2\0")}
_CLASSES: dict[bytes, type[nib.Nifti1Pair]] = {
    b"n+1\0": nib.Nifti1Image,
    b"ni1\0": nib.Nifti1Pair,
    b"n+2\0": nib.Nifti2Image,
    b"ni2\0": nib.Nifti2Pair,
}
# NIfTI unit code -> mm. Code 0 is unknown and taken as mm where the sizes are plausible.
_MM_PER_UNIT = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
_UNIT_NAME = {1: "metres", 3: "micrometres"}
# qform and sform are written as float32 and a quaternion: rounding stays far below, a real disagreement far above.
_FORMS_TOLERANCE_VOXELS = 0.1


def line_of(error: BaseException) -> str:
    """Return an error's message on one line."""
    return " ".join(str(error).split()) or type(error).__name__


@contextmanager
def quiet_nibabel() -> Iterator[None]:
    """Keep nibabel from printing what it puts right in a header; without its handlers logging would print it, too."""
    level = nibabel_log.level
    nibabel_log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        nibabel_log.setLevel(level)


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for reading, unpacked where its content, not its name, is gzip."""
    with open(path, "rb") as file:
        packed = file.read(2) == GZIP
        file.seek(0)
        if not packed:
            yield file
            return
        with gzip.open(file, "rb") as unpacked:
            yield unpacked  # type: ignore[misc]  # a GzipFile reads bytes as a file does


def head_of(path: Path, count: int = HEADER_BYTES) -> bytes:
    """Return the first bytes of a file, unpacked; empty where nothing can be read."""
    try:
        with opened(path) as file:
            return file.read(count)
    except UNREADABLE:
        return b""


def magic_of(head: bytes) -> bytes:
    """Return the magic word of a NIfTI header, empty where the bytes are none."""
    for order in ("<", ">"):
        size = struct.unpack(f"{order}i", head[:4])[0] if len(head) >= 348 else 0
        word = head[344:348] if size == 348 else head[4:8]
        if word in _MAGIC.get(size, ()):
            return word
    return b""


def is_nifti(path: str | Path) -> bool:
    """Tell by its content whether a file is NIfTI: one file, or the header or the image of a pair."""
    path = Path(path)
    if not path.is_file():
        return False
    if magic_of(head_of(path)):
        return True
    return path.suffix.lower() == ".img" and bool(magic_of(head_of(_header_file(path))))


def open_nifti(path: Path) -> nib.Nifti1Pair:
    """Open a NIfTI file by its content and check that it is whole; voxels are read when they are asked for.

    Raises:
        ScanError: Nothing is there, it is no NIfTI, or it ends too early or with a wrong checksum.
    """
    check_exists(path)
    header_file = _header_file(path)
    head = head_of(header_file)
    magic = magic_of(head)
    try:
        if not magic:
            raise ImageFileError(_what(path, head))
        single, header = magic.startswith(b"n+"), _raw_header(magic, head)
        _check_codes(path, header)
        _check_quaternion(path, header)
        _check_whole(path if single else check_exists(_image_file(path)), header, single)
        with quiet_nibabel():  # what nibabel puts right in a header is told by `affine_of`
            if single and _is_misnamed(path):
                with opened(path) as file:
                    kind: Any = _CLASSES[magic]  # of a single file, which is made from bytes, too
                    return cast(nib.Nifti1Pair, kind.from_bytes(file.read()))
            return _CLASSES[magic].from_filename(header_file)
    except UNREADABLE as error:
        if isinstance(error, ScanError):
            raise
        raise ScanError(f"{path}: the file must be a NIfTI image, got '{line_of(error)}'; copy it again") from error


def written_header(path: Path) -> nib.Nifti1Header | None:
    """Return the header as it is written, which nibabel puts right in silence; None where there is no such file."""
    head = head_of(_header_file(path)) if path.is_file() else b""
    magic = magic_of(head)
    return _raw_header(magic, head) if magic else None


def affine_of(
    path: Path,
    image: nib.Nifti1Pair,
    written: nib.Nifti1Header | None,
    sidecar: Mapping[str, Any],
    warnings: list[str],
) -> NDArray[np.float64]:
    """Return the affine in mm; note what is assumed.

    Args:
        path: What errors name.
        image: The image.
        written: Its header as it lies on disk.
        sidecar: Whose ``SpacingBetweenSlices`` stands in for a voxel size of 0, mm.
        warnings: Notes are added.

    Raises:
        ScanError: qform and sform disagree, the quaternion cannot be, or a voxel size is 0 that nothing else gives.
    """
    code = int(image.header["xyzt_units"]) & 7
    mm = _MM_PER_UNIT.get(code, 1.0)
    sizes = _written_sizes(image.header, written)
    zero = [k for k in range(3) if not (np.isfinite(sizes[k]) and sizes[k] != 0)]
    affine = np.array(image.affine, dtype=np.float64)
    sform = _finite(image.get_sform(coded=True)[0])
    if zero and sform is None:
        affine = _spaced(path, image, zero, sidecar, mm, warnings)
        qform = None if int(image.header["qform_code"]) == 0 else affine
    else:
        qform = None if zero else _finite(image.get_qform(coded=True)[0])
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine)) < 1e-15:
        raise ScanError(f"{path}: the affine must be invertible, got determinant 0 or NaN; correct the header")
    if qform is not None and sform is not None:
        apart = corner_distance_voxels(affine, qform, image.shape)
        if not apart <= _FORMS_TOLERANCE_VOXELS:
            raise ScanError(
                f"{path}: qform and sform must agree, got corners {apart:.3g} voxels apart; "
                "set the code of the wrong one to 0"
            )
    if qform is None and sform is None:
        warnings.append("the header has no orientation (qform and sform codes are 0): left and right are unknown")
    _note_sizes(sizes, affine, sform is not None, warnings)
    if code in _UNIT_NAME:
        warnings.append(f"the header is in {_UNIT_NAME[code]}, converted to mm")
    elif code != 2:
        warnings.append("the header has no unit of length, taken as mm")
    affine[:3] *= mm
    return affine


def _note_sizes(pixdim: NDArray, affine: NDArray, by_sform: bool, warnings: list[str]) -> None:
    """Note voxel sizes, as written, that are not those used."""
    sizes = spacing_of(affine)
    found = " x ".join(f"{size:.4g}" for size in pixdim)
    if by_sform and not np.allclose(np.abs(pixdim), sizes, rtol=0.01):
        warnings.append(f"pixdim ({found}) disagrees with the affine, whose voxel sizes are used")
    elif (pixdim < 0).any():
        warnings.append(f"pixdim ({found}) is negative, which NIfTI does not allow; its sign is left out")


def _written_sizes(header: nib.Nifti1Header, written: nib.Nifti1Header | None) -> NDArray[np.float64]:
    """Return pixdim[1..3] as on disk, where the header in memory holds no more than nibabel's correction of it."""
    now = np.asarray(header["pixdim"][1:4], dtype=np.float64)
    if written is None:
        return now
    disk = np.asarray(written["pixdim"][1:4], dtype=np.float64)
    corrected = np.where(disk == 0, 1.0, np.abs(disk))
    return disk if np.array_equal(now, corrected, equal_nan=True) else now


def _spaced(
    path: Path,
    image: nib.Nifti1Pair,
    zero: list[int],
    sidecar: Mapping[str, Any],
    mm: float,
    warnings: list[str],
) -> NDArray[np.float64]:
    """Return the affine with the sidecar's slice spacing where the header has none."""
    spacing = sidecar.get("SpacingBetweenSlices")
    usable = isinstance(spacing, int | float) and not isinstance(spacing, bool) and math.isfinite(spacing)
    if len(zero) > 1 or not usable or not float(spacing) > 0:  # type: ignore[arg-type]
        names = " and ".join(f"pixdim[{k + 1}]" for k in zero)
        cure = "write SpacingBetweenSlices (mm) into its JSON sidecar, or " if len(zero) == 1 else ""
        raise ScanError(
            f"{path}: voxel sizes must be above 0, got 0 in {names}, and no sform gives them; {cure}correct the header"
        )
    header = image.header.copy()
    header["pixdim"][zero[0] + 1] = float(spacing) / mm  # type: ignore[arg-type]
    warnings.append(f"the header's slice spacing is 0; {float(spacing):.4g} mm are taken from the sidecar")  # type: ignore[arg-type]
    return np.array(header.get_best_affine(), dtype=np.float64)


def _check_codes(path: Path, header: nib.Nifti1Header) -> None:
    """Check the codes of qform and sform, of which nibabel takes one that there is not as 0, in silence."""
    for name in ("qform_code", "sform_code"):
        if not 0 <= int(header[name]) <= _MOST_CODE:
            raise ScanError(
                f"{path}: {name} must be from 0 to {_MOST_CODE}, got {int(header[name])}; correct the header"
            )


def _check_quaternion(path: Path, header: nib.Nifti1Header) -> None:
    """Check a quaternion that is to be used.

    Raises:
        ScanError: It is longer than 1, or no number.
    """
    if int(header["qform_code"]) == 0:
        return
    parts = [float(header[f"quatern_{name}"]) for name in "bcd"]
    try:
        known = all(map(math.isfinite, parts)) and bool(np.isfinite(header.get_qform_quaternion()).all())
    except (HeaderDataError, ValueError):
        known = False
    if not known:
        found = ", ".join(f"{part:.4g}" for part in parts)
        raise ScanError(
            f"{path}: the qform's quaternion must be no longer than 1, got ({found}), "
            f"{math.hypot(*parts):.4g} long; correct it, or set qform_code to 0 where the sform is right"
        )


def _finite(affine: NDArray | None) -> NDArray | None:
    return affine if affine is not None and np.isfinite(affine).all() else None


def _raw_header(magic: bytes, head: bytes) -> nib.Nifti1Header:
    kind = _CLASSES[magic].header_class
    return kind(head[: kind.sizeof_hdr], check=False)


def _header_file(path: Path) -> Path:
    """Return the file of a pair that holds the header."""
    return path.with_suffix({".img": ".hdr", ".IMG": ".HDR"}.get(path.suffix, path.suffix))


def _image_file(path: Path) -> Path:
    return path.with_suffix({".hdr": ".img", ".HDR": ".IMG"}.get(path.suffix, path.suffix))


def _is_misnamed(path: Path) -> bool:
    """Tell whether a name says other than the content whether the file is packed, or has no NIfTI suffix."""
    with open(path, "rb") as file:
        packed = file.read(2) == GZIP
    name = path.name.lower()
    return not name.endswith(".nii.gz" if packed else ".nii")


def _what(path: Path, head: bytes) -> str:
    """Return what is wrong with a file whose first bytes are no NIfTI header."""
    if not path.is_file():
        return "a folder"
    if path.stat().st_size == 0:
        return "an empty file"
    if not head:
        try:
            with opened(path) as file:
                file.read(HEADER_BYTES)
        except UNREADABLE as error:
            return line_of(error)
    return "no NIfTI header"


def _check_whole(path: Path, header: nib.Nifti1Header, single: bool) -> None:
    """Read a file to its end, so that gzip compares its checksum, and count its bytes.

    Raises:
        ScanError: It is cut or damaged.
    """
    shape = header.get_data_shape()
    if not shape or min(shape) < 1:
        raise ScanError(f"{path}: dimensions must be at least 1, got {tuple(shape)}; correct the header")
    start = int(header.get_data_offset() if single else 0)
    needed = start + math.prod(int(size) for size in shape) * header.get_data_dtype().itemsize
    found = read_to_end(path)
    if found < needed:
        raise ScanError(f"{path}: the file must be whole, its header says {needed} bytes, got {found}; copy it again")


def read_to_end(path: Path) -> int:
    """Return the bytes that a file holds, unpacked; gzip is read to its end, where its checksum stands.

    Raises:
        ScanError: It is cut or damaged.
    """
    try:
        with open(path, "rb") as file:
            packed = file.read(2) == GZIP
        if not packed:
            return path.stat().st_size
        found = 0
        with opened(path) as file:
            while part := file.read(_CHUNK):
                found += len(part)
        return found
    except UNREADABLE as error:
        raise ScanError(
            f"{path}: the file must be whole, reading failed with '{line_of(error)}'; copy it again"
        ) from error
