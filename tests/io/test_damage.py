"""Damaged files of every format: read, or refused in one line, without a traceback, a hang or much memory."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from types import FrameType

import nibabel as nib
import numpy as np
import pytest
import tifffile
from bruker_study import Scan, write_study
from conftest import ROOT, grid_affine
from dicom_files import write_enhanced, write_series
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
MOST_OF_ALL_MB = 2048
MOST_SECONDS = 10  # that one may take


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


def classic(path: Path, data: NDArray, affine: NDArray) -> Path:
    return write_series(path.with_name("series"), data, affine)[0].parent


def enhanced(path: Path, data: NDArray, affine: NDArray) -> Path:
    return write_enhanced(path.with_suffix(".dcm"), data, affine, slopes=[0.5] * data.shape[2])


def paravision(path: Path, data: NDArray, affine: NDArray) -> Path:
    pytest.importorskip("brukerapi")
    return write_study(path.with_name("study"), {1: Scan(data.astype(np.int16), affine)}) / "1"


def beside(path: Path, data: NDArray, affine: NDArray) -> Path:
    """Write a scan with a sidecar, in a data set that has one, too."""
    (path.parent / "sub-01").mkdir()
    (path.parent / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.8.0"}')
    (path.parent / "T2w.json").write_text('{"SliceThickness": 0.5, "Manufacturer": "Bruker"}')
    (path.parent / "sub-01" / "sub-01_T2w.json").write_text('{"SpacingBetweenSlices": 0.75, "EchoTime": [1, 2]}')
    nib.save(nib.Nifti1Image(data, affine), path.parent / "sub-01" / "sub-01_T2w.nii")
    return path.parent / "sub-01" / "sub-01_T2w.nii"


STACKS = {"ome": ome, "imagej": imagej, "zarr": zarr}
KINDS = {
    "nii": nifti("a.nii"), "nii.gz": nifti("a.nii.gz"), "nifti2": nifti("a.nii", nib.Nifti2Image),
    "pair": nifti("a.img", nib.Nifti1Pair), "analyze": analyze, "gipl": itk(".gipl"), **WRITERS, **STACKS,
    "dicom": classic, "enhanced dicom": enhanced, "paravision": paravision, "sidecars": beside,
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


def too_slow(number: int, frame: FrameType | None) -> None:
    raise TimeoutError(f"a damaged file took more than {MOST_SECONDS} s")


def memory_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def damage(kind: str, folder: Path, times: int) -> int:
    """Read damaged copies; return how many were refused."""
    path, draw, refused = KINDS[kind](folder / "other", VOXELS, AFFINE), random.Random(kind), 0
    read = (lambda: read_stack(path, (1, 1, 1))) if kind in STACKS else (lambda: read_scan(path))
    read()  # whole, and with all that is imported
    files = [file for file in folder.rglob("*") if file.is_file() and file.stat().st_size]
    before = memory_mb()
    signal.signal(signal.SIGALRM, too_slow)
    for number in range(times):
        file = draw.choice(files)
        whole = file.read_bytes()
        file.write_bytes(damaged(whole, number, draw))
        signal.alarm(MOST_SECONDS)
        try:
            read()
        except BidaError as error:
            refused += 1
            assert "\n" not in str(error), error
        finally:
            signal.alarm(0)
            file.write_bytes(whole)
    assert memory_mb() - before < MOST_MB
    return refused


@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_told_in_one_line(kind: str, tmp_path: Path) -> None:
    assert damage(kind, tmp_path, 12) > 0


@pytest.mark.slow
def test_thousands_in_one_process_are_told_in_one_line() -> None:
    paths = os.pathsep.join([str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, __file__, "100"]
    run = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": paths})
    assert run.returncode == 0, run.stderr
    read, refused, megabytes = map(int, run.stdout.split())
    assert read >= 2000 and refused > read // 5
    assert megabytes < MOST_OF_ALL_MB


def many(times: int) -> tuple[int, int]:
    """Read damaged files of every kind; return how many, and how many were refused."""
    warnings.simplefilter("ignore")
    refused = 0
    for kind in KINDS:
        with tempfile.TemporaryDirectory() as folder:
            refused += damage(kind, Path(folder), times)
    return times * len(KINDS), refused


if __name__ == "__main__":
    print(*many(int(sys.argv[1])), round(memory_mb()))
