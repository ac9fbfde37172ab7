"""The guide: what physics alone makes of a scan, shown to a prior that was taught to build on it.

It is the cubic interpolation of the slices, projected so that its slices are the scan's: C y + A+ (y - A C y), with C
the B-spline's matrix. It is linear in y and looks alike for every profile, thickness and factor, and where anatomy is
strange to the prior it is what there is to hold on to.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from bida.degradation import SliceGeometry, SliceOperator, apply_along
from bida.spline import interpolation_matrix
from bida.volume import AxisGrid


@lru_cache(maxsize=64)
def guide_matrix(geometry: SliceGeometry) -> NDArray[np.float64]:
    """Return G = C + A+ (I - A C), [N, m]; voxels of the padding hold the value of the outermost ones."""
    operator = SliceOperator.build(geometry.unpadded())
    grid = AxisGrid(geometry.voxels, geometry.voxel_mm, geometry.offset_mm)
    C = interpolation_matrix(geometry.slices, geometry.slice_spacing_mm, grid)
    G = C + operator.pinv_matrix @ (np.eye(geometry.slices) - operator.matrix @ C)
    return np.pad(G, ((geometry.pad_before, geometry.pad_after), (0, 0)), mode="edge")


def guide(y: Tensor, geometry: SliceGeometry, dim: int | None = None) -> Tensor:
    """Return the guide of slices.

    Args:
        y: slices [..., m, ...], float32 or float64.
        geometry: of the slices.
        dim: axis of the slices; that of a [R, A, S] volume by default.

    Returns:
        Tensor [..., N, ...], N being ``geometry.padded_voxels``.

    Raises:
        SettingsError: the axis does not hold m slices.
    """
    return apply_along(guide_matrix(geometry), y, geometry.axis if dim is None else dim, "slices")
