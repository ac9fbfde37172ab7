"""Damaged files of every format: read, or refused in one line, without a traceback, a hang or much memory."""

from __future__ import annotations

import random
import resource
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import tifffile
from conftest import grid_affine
from made_formats import WRITERS, itk
from numpy.typing import NDArray

from bida.errors import BidaError
from bida.io.scan import read_scan
from bida.microscopy.stacks.ome_zarr import write_zarr
from bida.microscopy.stacks.stack import read_stack

SHAPE, AFFINE = grid_affine((14, 6, 11), (0.15, 0.75, 0.15), "LSA", 8)
VOXELS = np.random.default_rng(0).normal(100, 20, SHAPE).astype(np.float32)
NUMBERS = [bytes(4), b"\xff" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\x80\x7f", b"\0\0\xc0\x7f", b"9999"]
MOST_MB = 300  # that a file of a few kB may take


def nifti(name: str, kind: type = nib.Nifti1Image):
    def write(path: Path, data: NDArray, affine: NDArray) -> Path:
        nib.save(kind(data, affine), path.with_name(name))
        return path.with_name(name)

    return write


def analyze(path: Path, data: NDArray, affine: NDArray) -> Path:
    nib.save(nib.AnalyzeImage(data.astype(np.int16), affine), path.with_suffix(".img"))
    return path.with_suffix(".hdr")


def ome(path: Path, data: NDArray, affine: NDArray) -> Path:
    sizes = {f"PhysicalSize{axis}": 2.0 for axis in "XYZ"}
    tifffile.imwrite(path.with_name("a.ome.tif"), data, photometric="minisblack", metadata={"axes": "ZYX", **sizes})
    return path.with_name("a.ome.tif")


def imagej(path: Path, data: NDArray, affine: NDArray) -> Path:
    tifffile.imwrite(
        path.with_suffix(".tif"), data, imagej=True, metadata={"axes": "ZYX", "unit": "um", "spacing": 2.0}
    )
    return path.with_suffix(".tif")


def zarr(path: Path, data: NDArray, affine: NDArray) -> Path:
    write_zarr(path.with_suffix(".zarr"), data[None], (2, 1, 1), ("a",), "a")
    return path.with_suffix(".zarr")


STACKS = {"ome": ome, "imagej": imagej, "zarr": zarr}
KINDS = {
    "nii": nifti("a.nii"), "nii.gz": nifti("a.nii.gz"), "nifti2": nifti("a.nii", nib.Nifti2Image),
    "pair": nifti("a.img", nib.Nifti1Pair), "analyze": analyze, "gipl": itk(".gipl"), **WRITERS, **STACKS,
}  # fmt: skip


def damaged(content: bytes, number: int, draw: random.Random) -> bytes:
    """Return content that is cut, or has other bytes, or another number in its head."""
    found = bytearray(content)
    head = min(len(found), 600 if number % 2 else len(found))
    if number % 3 == 0:
        return bytes(found[: draw.randrange(len(found))])
    if number % 3 == 1:
        for _ in range(draw.randrange(1, 8)):
            found[draw.randrange(head)] = draw.randrange(256)
    else:
        place = draw.randrange(head)
        found[place : place + 4] = draw.choice(NUMBERS)
    return bytes(found)


def memory_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def damage(kind: str, folder: Path, times: int) -> int:
    """Read damaged copies; return how many were refused."""
    path, draw, refused = KINDS[kind](folder / "other", VOXELS, AFFINE), random.Random(kind), 0
    read = (lambda: read_stack(path, (1, 1, 1))) if kind in STACKS else (lambda: read_scan(path))
    read()  # whole, and with all that is imported
    files = [file for file in folder.rglob("*") if file.is_file() and file.stat().st_size]
    before = memory_mb()
    for number in range(times):
        file = draw.choice(files)
        whole = file.read_bytes()
        file.write_bytes(damaged(whole, number, draw))
        try:
            read()
        except BidaError as error:
            refused += 1
            assert "\n" not in str(error), error
        finally:
            file.write_bytes(whole)
    assert memory_mb() - before < MOST_MB
    return refused


@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_told_in_one_line(kind: str, tmp_path: Path) -> None:
    assert damage(kind, tmp_path, 12) > 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_much_damage_is_told_in_one_line(kind: str, tmp_path: Path) -> None:
    assert damage(kind, tmp_path, 100) > 10
