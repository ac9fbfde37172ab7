"""Interpolation by B-splines between the grids of one axis, as a matrix."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from bida.physics.geometry import SliceGeometry
from bida.physics.grid import SAME_GRID, AxisGrid
from bida.physics.operators import SliceOperator


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
        slices: The scan [R, A, S], thick along ``geometry.axis``.
        geometry: Slices and grid.
        order: 0 takes the nearest slice, 1 is linear, 3 cubic.

    Returns:
        Volume [R, A, S], float32, its in-plane grid the scan's.
    """
    spacing = [1.0, 1.0, 1.0]  # in-plane units do not matter, the grid stays
    grids = [AxisGrid(size, 1.0) for size in slices.shape]
    spacing[geometry.axis] = geometry.slice_spacing_mm
    grids[geometry.axis] = AxisGrid(geometry.voxels, geometry.voxel_mm, geometry.offset_mm)
    return resample(slices, spacing, grids, order).astype(np.float32)


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
