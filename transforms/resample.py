"""Separable spline interpolation, cubic unless said otherwise, between grids that are described from one centre."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bida.spline import interpolation_matrix
from bida.transforms.base import changed_axes
from bida.volume import AxisGrid


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
