"""Interpolation by B-splines between the grids of one axis, as a matrix."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

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
    # column k is what becomes of unit vector k; across them every position is a voxel, where a spline changes nothing
    where = np.meshgrid(index, np.arange(float(voxels)), indexing="ij")
    return ndimage.map_coordinates(unit, where, order=order, mode="nearest")
