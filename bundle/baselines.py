"""What super-resolution is compared with: interpolation, and interpolation made consistent with the scan."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from bida.degradation import SliceGeometry, SliceOperator
from bida.transforms.resample import resample
from bida.volume import AxisGrid


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
