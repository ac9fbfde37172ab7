"""Volume grids and the batches of slices of a plane.

Volumes are [R, A, S]; a plane is named by its slices and stacks along its `NORMAL` axis. Two conventions tie a grid
of m slices, spaced s, to an isotropic grid of n voxels, spaced D, with F = s / D:

    MRI         slices have a thickness, and the grids share the centre of the field of view:
                c_i = (i - (m-1)/2) s,   z_j = (j - (n-1)/2) D,   n = floor(m s / D + 1/2)
                F is any number; an acquired slice lies between voxels of the grid in general.
    microscopy  planes are optical sections on the grid itself, the first on voxel 0 and the last on voxel n-1:
                c_i = i s,               z_j = j D,               n = floor((m-1) F) + 1
                F is any number >= 1. Where i F is an integer, acquired plane i is voxel i F, and its intensities stay
                as they are; for an integer F that is every plane, and n = (m-1) F + 1. Else the plane lies between
                two voxels, of which it is the linear interpolation.

Everything in this file follows the MRI convention, `bida.microscopy.grid` the other.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from torch import Tensor

AXES = "RAS"
PLANES = ("axial", "coronal", "sagittal")  # a plane's class index is its position here
NORMAL = {"sagittal": 0, "coronal": 1, "axial": 2}  # the axis along which the slices of a plane stack

# Headers store spacings as float32, so that m s / D + 1/2 may fall short of the integer that it is by 1e-7 of its size.
ROUNDING = 1e-6

SAME_GRID = 1e-4  # relative; below it a resampled axis of 200 voxels would move by less than 0.01 voxel at its ends


@dataclass(frozen=True)
class AxisGrid:
    """Hold the regular grid of one axis.

    Attributes:
        voxels: number of voxels.
        spacing_mm: distance between voxel centres, mm.
        offset_mm: centre of this grid minus the centre of the scan's field of view, along the axis, mm.
    """

    voxels: int
    spacing_mm: float
    offset_mm: float = 0.0


def planes_containing(axis: int) -> tuple[str, str]:
    """Return the two planes that contain `axis` (0 = R, 1 = A, 2 = S), in the order of `PLANES`."""
    if axis not in (0, 1, 2):
        raise ValueError(f"axis: must be 0 (R), 1 (A) or 2 (S), got {axis}")
    first, second = (plane for plane in PLANES if NORMAL[plane] != axis)
    return first, second


def axis_within(plane: str, axis: int) -> int:
    """Return which axis of the slices of a plane, 0 (H) or 1 (W), a volume's axis is."""
    return [k for k in range(3) if k != NORMAL[plane]].index(axis)


def to_slices(volume: Tensor, plane: str) -> Tensor:
    """View a volume as the slices of a plane.

    Args:
        volume: [R, A, S].
        plane: one of `PLANES`.

    Returns:
        [N, 1, H, W], a view; H and W are the two remaining axes in RAS order (axial: R, A; coronal: R, S;
        sagittal: A, S).
    """
    if volume.ndim != 3:
        raise ValueError(f"volume: must be [R, A, S], got shape {tuple(volume.shape)}")
    return volume.movedim(NORMAL[plane], 0).unsqueeze(1)


def from_slices(slices: Tensor, plane: str) -> Tensor:
    """View slices [N, 1, H, W] of a plane as the volume [R, A, S]: the inverse of `to_slices`."""
    if slices.ndim != 4 or slices.shape[1] != 1:
        raise ValueError(f"slices: must be [N, 1, H, W], got shape {tuple(slices.shape)}")
    return slices.squeeze(1).movedim(0, NORMAL[plane])


def isotropic_axis(slices: int, slice_spacing_mm: float, spacing_mm: float) -> AxisGrid:
    """Return the grid at `spacing_mm` that covers `slices` slices: n = floor(m s / D + 1/2), centres shared."""
    if slices < 1 or not (slice_spacing_mm > 0 and spacing_mm > 0):
        raise ValueError(
            "isotropic_axis: slices and spacings must be positive, "
            f"got {slices} slices of {slice_spacing_mm} mm and a grid of {spacing_mm} mm"
        )
    exact = slices * slice_spacing_mm / spacing_mm + 0.5
    return AxisGrid(voxels=max(1, math.floor(exact * (1 + ROUNDING))), spacing_mm=spacing_mm)


def resampled_affine(
    affine: ArrayLike, shape: Sequence[int], spacing_mm: Sequence[float], grids: Sequence[AxisGrid]
) -> NDArray[np.float64]:
    """Return the affine of a volume resampled to `grids`, exact for oblique and sheared affines.

    With M the columns of the affine, m the old and n the new number of voxels, on every axis k:

        M'_k = M_k D_k / s_k
        origin' = origin + sum_k [ M_k (m_k - 1)/2 + M_k offset_k / s_k - M'_k (n_k - 1)/2 ]

    Args:
        affine: 4 x 4, voxel index to mm.
        shape: the old number of voxels on each axis.
        spacing_mm: the old spacing on each axis, mm.
        grids: the new grid of each axis.

    Returns:
        4 x 4 float64 affine.
    """
    old = np.asarray(affine, dtype=np.float64)
    m = np.asarray(shape, dtype=np.float64)
    s = np.asarray(spacing_mm, dtype=np.float64)
    if old.shape != (4, 4) or m.shape != (3,) or s.shape != (3,) or len(grids) != 3:
        raise ValueError(
            "resampled_affine: needs a 4 x 4 affine and three sizes, spacings and grids, "
            f"got {old.shape}, {m.shape}, {s.shape} and {len(grids)}"
        )
    n = np.array([grid.voxels for grid in grids], dtype=np.float64)
    scale = np.array([grid.spacing_mm for grid in grids]) / s
    offset = np.array([grid.offset_mm for grid in grids]) / s
    new = old.copy()
    new[:3, :3] = old[:3, :3] * scale  # scales the columns
    new[:3, 3] += old[:3, :3] @ ((m - 1) / 2 + offset) - new[:3, :3] @ ((n - 1) / 2)
    return new


def corner_distance_voxels(first: NDArray, second: NDArray, shape: tuple[int, ...]) -> float:
    """Return how far apart two affines put the corner voxels of a volume, at most, in voxels of the first."""
    corners = np.array(np.meshgrid(*[(0, size - 1) for size in shape[:3]], [1])).reshape(4, -1)
    apart = np.linalg.solve(first, second @ corners) - corners
    return float(np.sqrt((apart[:3] ** 2).sum(axis=0)).max())


def grids_to_json(grids: Sequence[AxisGrid]) -> str:
    """Return the grids as one line of JSON."""
    return json.dumps([asdict(grid) for grid in grids])


def grids_from_json(text: str) -> tuple[AxisGrid, AxisGrid, AxisGrid]:
    """Read what `grids_to_json` wrote."""
    first, second, third = (AxisGrid(**grid) for grid in json.loads(text))
    return first, second, third


def spacing_of(affine: NDArray) -> tuple[float, float, float]:
    """Return the voxel sizes, mm, of a 4 x 4 affine: the lengths of its columns."""
    x, y, z = (float(size) for size in np.linalg.norm(np.asarray(affine, dtype=np.float64)[:3, :3], axis=0))
    return x, y, z
