"""Read MRtrix images (.mif, .mih): a text header, and voxels in any order of the axes."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bida.errors import ScanError
from bida.io.files import check_exists
from bida.io.nifti_file import UNREADABLE, line_of, opened, read_to_end

MAGIC = b"mrtrix image"
_LONGEST_HEADER = 1 << 24  # bytes; headers of diffusion scans hold their gradients and commands
_TYPES = {
    "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4", "int64": "i8",
    "uint64": "u8", "float16": "f2", "float32": "f4", "float64": "f8",
}  # fmt: skip
_ORDER = {"le": "<", "be": ">", "": "="}


def read_mrtrix(path: Path) -> tuple[NDArray, NDArray[np.float64]]:
    """Read an image, as MRtrix 3 documents its format.

    The header's ``transform`` maps mm along the axes to mm in the world (RAS+); ``layout`` says in which order and
    direction the axes lie in the file; ``scaling`` is an offset and a factor of the stored values.

    Returns:
        values [X, Y, Z, ...]; affine 4 x 4 in mm (RAS+).

    Raises:
        ScanError: It is no such image, or is cut or damaged.
    """
    try:
        header, after = _header(path)
        shape = tuple(int(size) for size in header["dim"][0].split(","))
        sizes = [float(size) for size in header["vox"][0].split(",")][:3]
        layout = header["layout"][0].replace(" ", "").split(",")
        dtype = _dtype(path, header["datatype"][0])
        rows = [[float(number) for number in line.split(",")] for line in header["transform"][:3]]
        file, start = _data_file(path, header["file"], after)
        offset, scale = (float(number) for number in header.get("scaling", ["0,1"])[0].split(","))
        ranks = [int(word.lstrip("+-")) for word in layout]
        if min(shape) < 1 or len(shape) < 3 or len(sizes) < 3 or sorted(ranks) != list(range(len(shape))):
            raise ValueError(f"dim {shape}, vox {sizes}, layout {layout}")
        count = math.prod(shape)
        needed, found = start + count * dtype.itemsize, read_to_end(file)
        if found < needed:
            raise ScanError(
                f"{file}: the file must be whole, its header says {needed} bytes, got {found}; copy it again"
            )
        with opened(file) as data:
            data.read(start)
            values = np.frombuffer(data.read(count * dtype.itemsize), dtype)
        affine = np.vstack([np.array(rows, dtype=np.float64).reshape(3, 4), (0, 0, 0, 1)])
        affine[:3, :3] *= sizes
    except UNREADABLE as error:
        if isinstance(error, ScanError):
            raise
        raise ScanError(f"{path}: must be a whole MRtrix image, got '{line_of(error)}'; copy it again") from error
    order = np.argsort(ranks)  # the axes from the one that runs fastest in the file
    values = values.reshape([shape[axis] for axis in order], order="F").transpose(np.argsort(order))
    values = np.flip(values, [axis for axis, word in enumerate(layout) if word.startswith("-")])
    return (values if (offset, scale) == (0, 1) else offset + scale * values.astype(np.float64)), affine


def _header(path: Path) -> tuple[dict[str, list[str]], int]:
    """Return the values of each key, lower case, and where the header ends."""
    check_exists(path)
    with opened(path) as file:
        if not file.readline(100).startswith(MAGIC):
            raise ValueError("no MRtrix header")
        found: dict[str, list[str]] = {}
        while file.tell() < _LONGEST_HEADER:
            line = file.readline(_LONGEST_HEADER)
            if not line:
                break
            text = line.decode("utf-8", errors="replace").strip()
            if text == "END":
                return found, file.tell()
            key, colon, value = text.partition(":")
            if colon:
                found.setdefault(key.strip().lower(), []).append(value.strip())
    raise ValueError("a header without END")


def _dtype(path: Path, word: str) -> np.dtype:
    name = word.strip().lower()
    order = name[-2:] if name.endswith(("le", "be")) else ""
    kind = _TYPES.get(name.removesuffix(order) if order else name)
    if kind is None:
        raise ScanError(
            f"{path}: voxels must be numbers of a byte or more, got datatype {word}; convert it by mrconvert"
        )
    return np.dtype(_ORDER[order] + kind)


def _data_file(path: Path, entries: list[str], after: int) -> tuple[Path, int]:
    """Return the file that holds the voxels, and where they start."""
    if len(entries) != 1:
        raise ScanError(f"{path}: voxels must lie in one file, got {len(entries)}; join them by mrconvert")
    name, _, start = entries[0].rpartition(" ") if entries[0].split()[-1].isdigit() else (entries[0], "", "0")
    if name.strip() == ".":
        return path, int(start) or after
    return check_exists(path.parent / name.strip()), int(start)
