"""The volumes that one scan has: what chooses each, what each is, and how far they are apart in time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from bida.errors import ScanError

APART = 0.05  # of a voxel, by which the grids of volumes of one file may differ
STEADY = 0.05  # of a step, by which steps of time may differ


@dataclass(frozen=True)
class OneVolume:
    """One volume of a scan.

    Attributes:
        number: which of the scan's, or of its echo's, from 0; None where it is the only one.
        echo: of DICOM with several echoes: which, from 1.
        name: what it is, such as ``b 1000``; empty where nothing is known.
    """

    number: int | None = None
    echo: int | None = None
    name: str = ""

    @property
    def choice(self) -> dict[str, int | None]:
        """What `bida.io.scan.read_scan` is to be given for it."""
        return {"volume": self.number} if self.echo is None else {"volume": self.number, "echo": self.echo}


@dataclass(frozen=True)
class Volumes:
    """All volumes of a scan, in the order that a file of four axes has them.

    Attributes:
        parts: each one.
        step_s: from one to the next, in seconds; None where they are not of times, or nothing tells it.
    """

    parts: tuple[OneVolume, ...] = (OneVolume(),)
    step_s: float | None = None

    def header(self) -> nib.Nifti1Header | None:
        """Return a NIfTI header with the axis of time alone, None where nothing is known of it."""
        if self.step_s is None:
            return None
        header = nib.Nifti1Header()
        header["pixdim"][4] = self.step_s
        header.set_xyzt_units("mm", "sec")
        return header


def numbered(count: int) -> tuple[OneVolume, ...]:
    """Return volumes of which nothing but their number is known."""
    return (OneVolume(),) if count == 1 else tuple(OneVolume(number) for number in range(count))


def check_one_grid(path: Path, affines: Sequence[NDArray[np.float64]], parts: Sequence[OneVolume]) -> None:
    """Check that volumes can lie in one file of four axes.

    Raises:
        ScanError: they lie otherwise than the first.
    """
    first = np.linalg.inv(affines[0])
    for at, (affine, part) in enumerate(zip(affines, parts, strict=True)):
        off = np.abs(first @ affine - np.eye(4))
        if off.max() > APART:
            what = f" ({part.name})" if part.name else ""
            raise ScanError(
                f"{path}: volumes must lie on one grid to be one file, got volume {at}{what} elsewhere than "
                f"the first; give --volume 0..{len(parts) - 1}, one at a time"
            )


def steady(moments: Sequence[float]) -> float | None:
    """Return the step of moments that are evenly apart, None where they are not or stand still."""
    steps = np.diff(np.asarray(moments, dtype=np.float64))
    if not steps.size or not steps.min() > 0 or np.ptp(steps) > STEADY * steps.mean():
        return None
    return float(steps.mean())


def listed_values(values: Sequence[Any]) -> str:
    """Return a few values in words."""
    shown = [f"{value:g}" if isinstance(value, float) else str(value) for value in values[:4]]
    return ", ".join(shown) + (" ..." if len(values) > 4 else "")
