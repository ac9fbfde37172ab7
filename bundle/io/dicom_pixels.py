"""The pixels of DICOM frames as they are stored, unscaled: by pydicom, and of JPEG kinds by GDCM in SimpleITK."""

from __future__ import annotations

import struct
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bida.errors import ScanError
from bida.io.dicom_frames import Frame, one_line, open_dicom, value_of, whole_number

NEVER_AT_ONCE = 1 << 27  # voxels of a compressed file; a damaged header asks for more


def stored_pixels(file: Path, frames: Sequence[Frame]) -> NDArray[Any]:
    """Return the pixels of frames of one file as they are stored, unscaled, [frames, rows, columns].

    Raises:
        ScanError: There are too few, or they cannot be decoded.
    """
    data = open_dicom(file)
    columns, rows = frames[0].shape
    count = whole_number(file, data, "NumberOfFrames", 1)
    compressed = _is_compressed(file, data)
    name = next((one for one in ("PixelData", "FloatPixelData", "DoubleFloatPixelData") if one in data), None)
    if name is None:
        raise ScanError(f"{file}: a DICOM image must hold pixels, got none; copy it again")
    if compressed:
        if count * rows * columns > NEVER_AT_ONCE:
            raise ScanError(
                f"{file}: pixels must fit into memory, got {count} x {rows} x {columns}; decompress it first"
            )
    else:
        bits = {"FloatPixelData": 32, "DoubleFloatPixelData": 64}.get(name) or whole_number(file, data, "BitsAllocated")
        wanted, found = count * rows * columns * bits // 8, len(value_of(data, name) or b"")
        if not wanted <= found <= wanted + 1:  # one byte makes an even number
            raise ScanError(
                f"{file}: {count} x {rows} x {columns} pixels of {bits} bits must be {wanted} bytes, got {found}; "
                "copy it again"
            )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pixels = _decoded(data) if compressed else data.pixel_array
        return np.asarray(pixels).reshape(count, rows, columns)[[frame.index for frame in frames]]
    except Exception as error:  # a decoder of damaged pixels raises nearly anything
        raise ScanError(
            f"{file}: pixels must be whole, decoding failed with '{one_line(error)}'; copy it again"
        ) from error


def _encoded(data: Any) -> Iterator[bytes]:
    """Yield the code stream of each frame."""
    from pydicom import encaps

    count = int(data.get("NumberOfFrames") or 1)
    if hasattr(encaps, "generate_frames"):  # since pydicom 3
        yield from encaps.generate_frames(data.PixelData, number_of_frames=count)
    else:
        yield from encaps.generate_pixel_data_frame(data.PixelData, count)


def _encoded_size(stream: bytes) -> tuple[int, int] | None:
    """Return columns and rows that a JPEG, JPEG-LS (ITU-T T.81 B.2.2) or JPEG 2000 (T.800 A.5.1) stream begins with."""
    if stream[:4] == b"\xff\x4f\xff\x51" and len(stream) >= 24:
        right, bottom, left, top = struct.unpack(">4I", stream[8:24])
        return right - left, bottom - top
    at = 2
    while stream[:2] == b"\xff\xd8" and at + 9 <= len(stream) and stream[at] == 0xFF:
        marker, length = stream[at + 1], int.from_bytes(stream[at + 2 : at + 4], "big")
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            rows, columns = struct.unpack(">2H", stream[at + 5 : at + 9])
            return columns, rows
        at += 2 + length
    return None


def _is_compressed(file: Path, data: Any) -> bool:
    syntax = getattr(getattr(data, "file_meta", None), "TransferSyntaxUID", None)
    try:
        return bool(syntax is not None and syntax.is_compressed and not syntax.is_deflated)
    except ValueError as error:
        raise ScanError(
            f"{file}: its transfer syntax must be a known one, got {str(syntax)[:80]!r}; copy it again"
        ) from error


def _decoded(data: Any) -> NDArray[Any]:
    """Return the pixels of a compressed file: run lengths by pydicom, JPEG kinds by GDCM in SimpleITK.

    pydicom needs packages beside it for those. GDCM applies a slope itself, of all frames the first one's, so that it
    is shown none.
    """
    import SimpleITK
    from pydicom.uid import RLELossless

    if data.file_meta.TransferSyntaxUID == RLELossless:
        return data.pixel_array
    for frame in _encoded(data):
        size = _encoded_size(frame)
        if size != (data.Columns, data.Rows):  # GDCM takes memory for any size, gigabytes of a damaged one
            found = "no JPEG" if size is None else f"{size[0]} x {size[1]}"
            raise ValueError(f"a frame must be a JPEG of {data.Columns} x {data.Rows}, got {found}")
    for tag in ("RescaleSlope", "RescaleIntercept", "RescaleType", "RealWorldValueMappingSequence"):
        if tag in data:
            delattr(data, tag)
    for tag in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for group in value_of(data, tag) or []:
            if "PixelValueTransformationSequence" in group:
                del group.PixelValueTransformationSequence
    with tempfile.TemporaryDirectory() as folder:
        copy = str(Path(folder) / "image.dcm")
        data.save_as(copy)
        return SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(copy))
