"""The guide: what physics alone makes of a scan, shown to a prior that was taught to build on it.

It is the cubic interpolation of the slices, projected so that its slices are the scan's: C y + A+ (y - A C y), with C
the B-spline's matrix. It is linear in y and looks alike for every profile, thickness and factor, and where anatomy is
strange to the prior it is what there is to hold on to. Where slices are missing, C is that of the slices filled in from
their neighbours.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bida.physics.geometry import SliceGeometry
from bida.physics.grid import AxisGrid
from bida.physics.interpolation import filling_matrix, interpolation_matrix
from bida.physics.operators import SliceOperator, apply_along

SHOWN = 8  # channels of what a guided prior is shown
MADE = slice(3, 7)  # of them those that say how the slices were made: factor, noise, thickness, factor of a second scan
NOISE_UNIT = 0.1  # of the noise's channel, in the units of the slices


@lru_cache(maxsize=64)
def guide_matrix(geometry: SliceGeometry) -> NDArray[np.float64]:
    """Return G = C + A+ (I - A C), [N, m]; voxels of the padding hold the value of the outermost ones.

    Where slices are missing, C is the spline after `filling_matrix`: no missing slice has a part in the guide.
    """
    operator = SliceOperator.build(geometry)
    inside = slice(geometry.pad_before, geometry.pad_before + geometry.voxels)
    A, pinv = operator.matrix[:, inside], operator.pinv_matrix[inside]
    grid = AxisGrid(geometry.voxels, geometry.voxel_mm, geometry.offset_mm)
    C = interpolation_matrix(geometry.slices, geometry.slice_spacing_mm, grid)
    C = C @ filling_matrix(geometry.slices, geometry.missing)
    G = C + pinv @ (np.eye(geometry.slices) - A @ C)
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


def shown(y: Tensor, geometry: SliceGeometry, dim: int | None = None, noise: float = 0.0) -> Tensor:
    """Return all that a guided prior is shown of a scan: what was measured, where, and how.

    Args:
        y: slices [..., m, ...].
        geometry: of the slices.
        dim: axis of the slices; that of a [R, A, S] volume by default.
        noise: standard deviation of the noise of a slice, in the units of y.

    Returns:
        Tensor [8, ..., N, ...]: the guide, A+ y, cos(2 pi (z - c) / s) of voxels z among slice centres c spaced s, and
        what is the same everywhere: log2 of slice spacing over voxel size, halved; the noise over `NOISE_UNIT`; slice
        thickness over slice spacing, less one. The last two are of a second scan with slices across these (its factor
        as here, its cosine) and zero of a lone one.
    """
    return torch.stack(shown_parts(y, geometry, dim, noise))


def shown_parts(y: Tensor, geometry: SliceGeometry, dim: int | None = None, noise: float = 0.0) -> list[Tensor]:
    """Return the channels of `shown` one by one; those that hold little or no detail take no memory of a volume."""
    axis = geometry.axis if dim is None else dim
    g = guide(y, geometry, axis)
    place = torch.from_numpy(slice_phase(geometry)).to(g).reshape([-1 if k == axis else 1 for k in range(g.ndim)])
    made = [g.new_full((1,), value).expand_as(g) for value in (*how_made(geometry, noise), 0.0)]
    # 0 where a slice is missing: with a prior that takes it for measured, what is filled in stays interpolation
    measured = SliceOperator.build(geometry).pinv(y, axis)
    return [g, measured, place.expand_as(g), *made]


def how_made(geometry: SliceGeometry, noise: float = 0.0) -> tuple[float, float, float, float]:
    """Return what the channels `MADE` hold of one scan: factor, noise and thickness, see `shown`, and 0."""
    share = geometry.thickness_mm / geometry.slice_spacing_mm
    return math.log2(geometry.factor) / 2, noise / NOISE_UNIT, share - 1, 0.0


def slice_phase(geometry: SliceGeometry) -> NDArray[np.float64]:
    """Return cos(2 pi (z - c) / s) at each voxel of the padded grid, [N]: 1 at slice centres, -1 between them."""
    return slice_phase_at(geometry, np.arange(geometry.padded_voxels, dtype=np.float64) - geometry.pad_before)


def slice_phase_at(geometry: SliceGeometry, index: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return `slice_phase` at any places along the axis, in voxels from the first one that is no padding."""
    z = geometry.voxel_centres_mm()[0] + index * geometry.voxel_mm
    return np.cos(2 * np.pi * (z - geometry.slice_centres_mm()[0]) / geometry.slice_spacing_mm)
