"""Structures of a label map: volumes, overlap, and how well two ways to measure agree."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bida.errors import SettingsError

Names = Mapping[int, str]
LIMITS_SD = 1.96  # the normal distribution's central 95% reaches so many standard deviations to either side


@dataclass(frozen=True)
class Agreement:
    """How a way to measure agrees with a reference, over animals.

    Attributes:
        bias: Mean of test - reference, in the unit of the values.
        sd: Standard deviation of test - reference, with n - 1 as divisor; nan for n = 1.
        lower: Lower 95% limit of agreement, bias - 1.96 sd; nan for n = 1.
        upper: Upper 95% limit of agreement, bias + 1.96 sd; nan for n = 1.
        bias_percent: Mean of 100 (test - reference) / reference, %; nan where a reference is 0.
        n: Number of pairs.
    """

    bias: float
    sd: float
    lower: float
    upper: float
    bias_percent: float
    n: int


def structure_volumes(labels: ArrayLike, affine: ArrayLike, names: Names | None = None) -> dict[str, float]:
    """Return the volume of every structure of a label map in mm^3.

    A voxel measures |det affine|, which holds for oblique and sheared grids too.

    Args:
        labels: label map [R, A, S] of integers; 0 is background.
        affine: voxel to RAS+ mm, [4, 4].
        names: label to name; only these structures are measured, absent ones as 0, and labels that share a name (a
            left and a right side, say) count as one structure. By default every label present, named by its number.

    Raises:
        SettingsError: the label map or the names are not valid, or the affine is not an invertible 4 x 4 matrix.
    """
    matrix = np.asarray(affine, dtype=np.float64)
    valid = matrix.shape == (4, 4) and bool(np.isfinite(matrix).all())
    voxel_mm3 = abs(float(np.linalg.det(matrix[:3, :3]))) if valid else 0.0
    if not voxel_mm3 > 0:
        raise SettingsError(f"affine must be an invertible 4 x 4 matrix of finite numbers, got shape {matrix.shape}")
    (values,) = _label_maps(labels=labels)
    groups = _groups(names, values)
    present, counts = np.unique(values, return_counts=True)
    voxels = dict(zip(present.tolist(), counts.tolist()))
    return {name: sum(voxels.get(label, 0) for label in group) * voxel_mm3 for name, group in groups.items()}


def structure_dice(a: ArrayLike, b: ArrayLike, names: Names | None = None) -> dict[str, float]:
    """Return the Dice coefficient of every structure of two label maps; nan where both lack it.

    Args:
        a: label map [R, A, S] of integers; 0 is background.
        b: label map of the same shape.
        names: as for `structure_volumes`; by default every label that is present in either map.

    Raises:
        SettingsError: shapes differ, or a label map or the names are not valid.
    """
    first, second = _label_maps(a=a, b=b)
    if first.shape != second.shape:
        raise SettingsError(f"label maps must be on one grid, got shapes {first.shape} and {second.shape}")
    groups = _groups(names, first, second)
    number = {label: index for index, group in enumerate(groups.values(), 1) for label in group}
    one, other = (_renumbered(values, number) for values in (first, second))
    size = len(groups) + 1
    total = np.bincount(one, minlength=size) + np.bincount(other, minlength=size)
    both = np.bincount(one[one == other], minlength=size)
    return {
        name: float(2 * both[index] / total[index]) if total[index] else math.nan
        for index, name in enumerate(groups, 1)
    }


def volume_errors(test: Mapping[str, float], reference: Mapping[str, float]) -> dict[str, float]:
    """Return 100 (test - reference) / reference in % for every structure; nan where the reference is 0.

    Args:
        test: structure to volume, mm^3, as `structure_volumes` returns it.
        reference: the same of the truth; its structures are the ones returned, and one that test lacks measures 0.
    """
    return {name: _percent(test.get(name, 0.0), value) for name, value in reference.items()}


def agreement(test: Sequence[float] | NDArray, reference: Sequence[float] | NDArray) -> Agreement:
    """Return bias and 95% limits of agreement of paired measurements, one pair an animal.

    Args:
        test: measurements [N].
        reference: measurements of the same animals by the reference, [N].

    Raises:
        SettingsError: lengths differ, there is no pair, or a value is NaN or Inf.

    Source: Bland and Altman, Lancet 327(8476):307-310, 1986.
    """
    x, y = np.asarray(test, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape or not x.size:
        raise SettingsError(f"agreement needs two lists of one length >= 1, got shapes {x.shape} and {y.shape}")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise SettingsError("agreement needs finite values, got NaN or Inf; leave the pair out")
    difference = x - y
    bias = float(difference.mean())
    sd = float(difference.std(ddof=1)) if x.size > 1 else math.nan
    percent = float(np.mean([_percent(*pair) for pair in zip(x.tolist(), y.tolist())]))
    return Agreement(bias, sd, bias - LIMITS_SD * sd, bias + LIMITS_SD * sd, percent, int(x.size))


def _percent(test: float, reference: float) -> float:
    return 100 * (test - reference) / reference if reference else math.nan


def _label_maps(**maps: ArrayLike) -> list[NDArray[np.int64]]:
    found = []
    for name, given in maps.items():
        values = np.asarray(given)
        whole = values.astype(np.int64) if np.isfinite(values).all() else None
        if whole is None or not np.array_equal(whole, values):
            raise SettingsError(f"{name} must be a label map of integers, got other values")
        found.append(whole)
    return found


def _groups(names: Names | None, *maps: NDArray[np.int64]) -> dict[str, list[int]]:
    """Return structure to labels, in the order of the names or of the labels."""
    if names is None:
        present = np.unique(np.concatenate([np.unique(values) for values in maps]))
        names = {label: str(label) for label in present.tolist() if label}
    groups: dict[str, list[int]] = {}
    for label, name in names.items():
        if not label:
            raise SettingsError(f"names: label 0 is background and has no name, got {name!r}")
        groups.setdefault(name, []).append(int(label))
    return groups


def _renumbered(labels: NDArray[np.int64], number: Mapping[int, int]) -> NDArray[np.int64]:
    """Return the number of each voxel's structure, flat; 0 for background and structures that are left out."""
    present, inverse = np.unique(labels, return_inverse=True)
    return np.array([number.get(label, 0) for label in present.tolist()], dtype=np.int64)[inverse.ravel()]
