"""Slices by where they lie: their order, their distance, and what keeps them from making one volume.

Positions and orientations alone decide. What a header says beside them of a spacing is written by programs that mean
different things by it: distance of centres, gap, thickness, or 1 where they don't know.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bida.errors import ScanError

UNEVEN = 0.05  # of the slice distance, by which a slice may be off: no voxel is then out of place by more
TURNED = 1e-3  # by which direction cosines of one orientation may differ: a fifth of a 0.1 mm voxel at 20 mm
SAME_PLACE_MM = 1e-3  # nearer slices are at one place: rounding of coordinates


def normal_of(path: Path, names: Sequence[str], directions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return rotation [3, 3], its columns along a slice's columns, its rows, and through the slices.

    Args:
        path: what errors name.
        names: what errors call each slice.
        directions: [slices, 6], unit vectors along which column and row index grow, as DICOM has them.

    Raises:
        ScanError: they are no orthogonal unit vectors, or not those of parallel slices.
    """
    x, y = directions[:, :3], directions[:, 3:]
    lengths = np.abs(np.linalg.norm(np.stack([x, y]), axis=-1) - 1).max(axis=0)
    wrong = ~(np.maximum(lengths, np.abs((x * y).sum(axis=1))) <= TURNED)  # NaN is wrong, too
    if wrong.any():
        at = int(np.argmax(wrong))
        found = " ".join(f"{value:.4g}" for value in directions[at])
        raise ScanError(
            f"{path}: an orientation must be two orthogonal unit vectors, got {found} of {names[at]}; export it again"
        )
    other = np.abs(directions - directions[0]).max(axis=1) > TURNED
    if other.any():
        at, count = int(np.argmax(other)), len(np.unique(np.round(directions, 2), axis=0))
        raise ScanError(
            f"{path}: slices must be parallel, got {max(count, 2)} orientations, {names[at]} unlike {names[0]} "
            "(a pilot scan?); give a scan of one orientation"
        )
    first = x[0] / np.linalg.norm(x[0])
    second = y[0] - first * (first @ y[0])
    second /= np.linalg.norm(second)
    return np.column_stack([first, second, np.cross(first, second)])


def same_places(heights: NDArray[np.float64]) -> list[NDArray[np.intp]]:
    """Return the slices at each place, from the lowest on: indices into `heights`, mm along the normal."""
    order = np.argsort(heights, kind="stable")
    steps = np.diff(heights[order])
    real = steps[steps > SAME_PLACE_MM]
    nearest = max(SAME_PLACE_MM, UNEVEN * float(np.median(real))) if real.size else SAME_PLACE_MM
    return np.split(order, np.flatnonzero(steps > nearest) + 1)


def stack_affine(
    path: Path,
    names: Sequence[str],
    positions: NDArray[np.float64],
    rotation: NDArray[np.float64],
    pixel_mm: tuple[float, float],
) -> NDArray[np.float64]:
    """Return the affine, 4 x 4 in the frame of the positions, of slices in the order of their places.

    Args:
        path: what errors name.
        names: what errors call each slice.
        positions: [slices, 3], mm, centre of the first voxel of each; in order along the third column of `rotation`.
        rotation: of `normal_of`.
        pixel_mm: voxel size along columns' and along rows' index.

    Raises:
        ScanError: a single slice, uneven steps, or slices that are not one above the other.
    """
    if len(positions) < 2:
        raise ScanError(f"{path}: a scan must have several slices, got {names[0]} alone; give the folder of all slices")
    heights = positions @ rotation[:, 2]
    steps = np.diff(heights)
    step = (heights[-1] - heights[0]) / len(steps)
    off = np.abs(heights - heights[0] - step * np.arange(len(heights))).max()
    if not off <= UNEVEN * step:
        raise ScanError(f"{path}: {_uneven(names, steps)}")
    aside = positions[-1] - positions[0] - (heights[-1] - heights[0]) * rotation[:, 2]
    if np.abs(rotation.T @ aside).max() > 0.1 * max(pixel_mm):
        raise ScanError(
            f"{path}: slices must lie one above the other, got {np.linalg.norm(aside):.3g} mm between the sides of "
            f"{names[0]} and {names[-1]}; resample it"
        )
    affine = np.eye(4)
    affine[:3, :3] = rotation * (*pixel_mm, step)
    affine[:3, 3] = positions[0]
    return affine


def _uneven(names: Sequence[str], steps: NDArray[np.float64]) -> str:
    """Return what is wrong with steps, mm, between slices."""
    usual = float(np.median(steps))
    at = int(np.argmax(np.abs(steps - usual)))
    missing = steps[at] / usual - 1
    found = f"got {steps[at]:.4g} mm between {names[at]} and {names[at + 1]}, elsewhere {usual:.4g} mm"
    if missing > 0.5 and abs(missing - round(missing)) < 0.1:
        count = round(missing)
        what = f"{count} slice{'s are' if count > 1 else ' is'} missing there"
        return f"slices must be evenly spaced, {found}: {what}; copy the series again"
    return f"slices must be evenly spaced, {found}; give a scan that is, or resample it"


def pick_volume(path: Path, count: int, volume: int | None, what: str) -> int:
    """Return which of several volumes is meant.

    Args:
        path: what errors name.
        count: how many there are.
        volume: the one that is asked for.
        what: what they are, in words.

    Raises:
        ScanError: none is asked for where there are several, or one that is not there.
    """
    if volume is None and count > 1:
        raise ScanError(f"{path}: a scan must be one volume, got {count} ({what}); give --volume 0..{count - 1}")
    if volume is not None and not 0 <= volume < count:
        raise ScanError(f"{path}: --volume must be 0..{count - 1}, got {volume}; give one of those")
    return volume or 0
