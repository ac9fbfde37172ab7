"""Separable spline interpolation, cubic unless said otherwise, between grids that are described from one centre."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from bida.transforms.base import changed_axes
from bida.volume import AxisGrid


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
    columns = [ndimage.map_coordinates(column, index[None], order=order, mode="nearest") for column in unit.T]
    return np.stack(columns, axis=1)


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
