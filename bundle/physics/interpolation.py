"""Interpolation by B-splines between the grids of one axis, as a matrix."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bida.physics.geometry import SliceGeometry
from bida.physics.grid import SAME_GRID, AxisGrid
from bida.physics.operators import SliceOperator, apply_along


@lru_cache(maxsize=64)
def interpolation_matrix(voxels: int, spacing_mm: float, grid: AxisGrid, order: int = 3) -> NDArray[np.float64]:
    """Return the [n, m] matrix of interpolation by a B-spline of an order along one axis; its rows sum to 1.

    With z_j = offset + (j - (n-1)/2) D, the value at j is that of the spline at index z_j / s + (m-1)/2. Beyond the
    outer voxels their value holds. To a coarser grid, a Gaussian of sigma (D/s - 1)/2 voxels comes first, against
    aliasing (the rule of scikit-image's `resize`).
    """
    from scipy import ndimage

    position = grid.offset_mm + (np.arange(grid.voxels) - (grid.voxels - 1) / 2) * grid.spacing_mm
    index = position / spacing_mm + (voxels - 1) / 2
    unit = np.eye(voxels)
    sigma = max(0.0, (grid.spacing_mm / spacing_mm - 1) / 2)
    if sigma > 0:
        unit = ndimage.gaussian_filter1d(unit, sigma, axis=0, mode="nearest")
    # column k is what becomes of unit vector k; across them every position is a voxel, where a spline changes nothing
    where = np.meshgrid(index, np.arange(float(voxels)), indexing="ij")
    return ndimage.map_coordinates(unit, where, order=order, mode="nearest")


@lru_cache(maxsize=64)
def filling_matrix(slices: int, missing: tuple[int, ...], order: int = 1) -> NDArray[np.float64]:
    """Return F [m, m]: F y is y with the missing slices interpolated from the others; its rows sum to 1.

    The column of a missing slice is zero. Beyond the outermost slice that is held, its value holds.

    Args:
        slices: number of slices, m.
        missing: indices of those to interpolate.
        order: 0 takes the nearest slice, 1 is linear, 3 a cubic spline through all that are held. Over the two spacings
            of a gap linear is nearer to the truth (1 to 3% less error on mice, at 2.5 and 5 times the voxel size).
    """
    held = np.setdiff1d(np.arange(slices), missing)
    where = np.clip(np.array(missing, dtype=np.float64), held[0], held[-1])
    unit = np.eye(len(held))
    if order == 0:
        values = unit[np.abs(where[:, None] - held).argmin(axis=1)]
    elif order == 1 or len(held) < 3:
        values = np.stack([np.interp(where, held, column) for column in unit], axis=1)
    else:
        from scipy.interpolate import CubicSpline

        values = CubicSpline(held, unit)(where)
    F = np.eye(slices)
    rows = np.array(missing, dtype=np.intp)
    F[rows[:, None], held] = values
    F[rows, rows] = 0.0
    return F


def filled(y: Tensor, geometry: SliceGeometry, dim: int | None = None, order: int = 1) -> Tensor:
    """Return slices whose missing ones are interpolated from the others.

    Args:
        y: slices [..., m, ...], float32 or float64; what the missing ones hold is of no account.
        geometry: of the slices.
        dim: axis of the slices; that of a [R, A, S] volume by default.
        order: of the interpolation, see `filling_matrix`.

    Returns:
        Tensor [..., m, ...]; y itself where none is missing.
    """
    if not geometry.missing:
        return y
    axis = geometry.axis if dim is None else dim
    lost = torch.tensor(geometry.missing, device=y.device)
    fill = filling_matrix(geometry.slices, geometry.missing, order)[list(geometry.missing)]
    values = apply_along(fill, y.index_fill(axis, lost, 0.0), axis, "slices")
    return y.index_copy(axis, lost, values.to(y.dtype)).as_subclass(Tensor)


def changed_axes(shape: Sequence[int], spacing_mm: Sequence[float], grids: Sequence[AxisGrid]) -> list[int]:
    """Return the axes whose grid differs from the one a volume has."""
    return [
        axis
        for axis, (size, spacing, grid) in enumerate(zip(shape, spacing_mm, grids, strict=True))
        if size != grid.voxels
        or abs(grid.spacing_mm - spacing) > SAME_GRID * spacing
        or abs(grid.offset_mm) > SAME_GRID * spacing
    ]


def spline(slices: NDArray[np.float32], geometry: SliceGeometry, order: int) -> NDArray[np.float32]:
    """Interpolate thick slices on the isotropic grid by a B-spline, as if they were thin.

    Args:
        slices: The scan [R, A, S], thick along ``geometry.axis``; missing ones are interpolated first.
        geometry: Slices and grid.
        order: 0 takes the nearest slice, 1 is linear, 3 cubic.

    Returns:
        Volume [R, A, S], float32, its in-plane grid the scan's.
    """
    # a nearest slice must be one that was measured
    held = filled(torch.from_numpy(slices), geometry, order=min(order, 1)).numpy()
    spacing = [1.0, 1.0, 1.0]  # in-plane units do not matter, the grid stays
    grids = [AxisGrid(size, 1.0) for size in slices.shape]
    spacing[geometry.axis] = geometry.slice_spacing_mm
    grids[geometry.axis] = AxisGrid(geometry.voxels, geometry.voxel_mm, geometry.offset_mm)
    return resample(held, spacing, grids, order).astype(np.float32)


def cubic(slices: NDArray[np.float32], geometry: SliceGeometry) -> NDArray[np.float32]:
    """Interpolate by a cubic B-spline, see ``spline``."""
    return spline(slices, geometry, order=3)


def project(volume: NDArray[np.float32], slices: NDArray[np.float32], geometry: SliceGeometry) -> NDArray[np.float32]:
    """Return the volume nearest to ``volume`` whose thick slices are ``slices``."""
    operator = SliceOperator.build(geometry.unpadded())
    return operator.project(torch.from_numpy(volume), torch.from_numpy(slices)).numpy()


def resample(
    volume: NDArray, spacing_mm: Sequence[float], grids: Sequence[AxisGrid], order: int = 3
) -> NDArray[np.float64]:
    """Resample the axes of a volume to their grids.

    Args:
        volume: [R, A, S].
        spacing_mm: its voxel sizes, mm.
        grids: new grid of each axis; an axis that has its grid already is left as it is, exactly.
        order: of the B-spline: 0 takes the nearest voxel, 1 is linear, 3 cubic.
    """
    out: NDArray = np.asarray(volume, dtype=np.float64)
    for axis in changed_axes(volume.shape, spacing_mm, grids):
        matrix = interpolation_matrix(volume.shape[axis], float(spacing_mm[axis]), grids[axis], order)
        out = np.moveaxis(np.tensordot(matrix, out, axes=(1, axis)), 0, axis)
    return out
