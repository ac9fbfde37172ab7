"""The grid of a stack of optical sections: acquired planes lie on planes of the finer grid (see `bida.physics.grid`).

Stacks are [C, Z, Y, X]. X, Y, Z stand where R, A, S do, so that the planes xy, xz, yz of a stack are the axial, coronal
and sagittal ones (`STACK_PLANES`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from bida.errors import SettingsError
from bida.physics.grid import ROUNDING

STACK_PLANES = {"xy": "axial", "xz": "coronal", "yz": "sagittal"}


@dataclass(frozen=True)
class StackGrid:
    """Tie the m planes of a microscopy stack to the voxels of an isotropic grid.

    Args:
        planes: m, at least 1.
        factor: F >= 1, plane spacing over voxel size.

    Raises:
        SettingsError: A value is out of its range.
    """

    planes: int
    factor: float

    def __post_init__(self) -> None:
        """Check the values."""
        if self.planes < 1 or not 1 <= self.factor < math.inf:
            raise SettingsError(
                f"factor: must be a number >= 1 for at least one plane, got {self.factor} for {self.planes} planes"
            )

    @property
    def positions(self) -> NDArray[np.float64]:
        """Position i F of each plane, in voxels, [m]; an integer to `ROUNDING` is that integer."""
        exact = np.arange(self.planes, dtype=np.float64) * self.factor
        near = np.round(exact)
        return np.where(np.abs(exact - near) <= ROUNDING * np.maximum(1, near), near, exact)

    @property
    def voxels(self) -> int:
        """Number of voxels, n = floor((m-1) F) + 1."""
        return math.floor(self.positions[-1]) + 1

    @property
    def reach(self) -> int:
        """Number of voxels that hold every plane between two of them: ceil((m-1) F) + 1, so n or n + 1."""
        return math.ceil(self.positions[-1]) + 1

    @property
    def on_grid(self) -> NDArray[np.int64]:
        """Indices of the planes that are voxels."""
        return np.flatnonzero(self.positions == np.round(self.positions))

    @property
    def rows(self) -> NDArray[np.int64]:
        """The voxels of the planes `on_grid`."""
        return np.round(self.positions[self.on_grid]).astype(np.int64)

    def matrix(self) -> NDArray[np.float64]:
        """Return the linear interpolation of the planes from the voxels, [m, reach]; its rows sum to 1."""
        return planes_from_voxels(self.positions, self.reach)


def planes_from_voxels(positions: NDArray[np.float64], voxels: int) -> NDArray[np.float64]:
    """Return the linear interpolation of planes at positions [m], in voxels, from n voxels, [m, n]."""
    return np.stack([np.interp(positions, np.arange(voxels), column) for column in np.eye(voxels)], axis=1)


def voxels_from_planes(positions: NDArray[np.float64], voxels: int) -> NDArray[np.float64]:
    """Return the linear interpolation of n voxels from planes at positions [m], [n, m]; beyond them their value holds.

    A voxel that is a plane, to `ROUNDING`, is that plane alone.
    """
    return np.stack([np.interp(np.arange(voxels), positions, column) for column in np.eye(len(positions))], axis=1)


def plane_distances(positions: NDArray[np.float64], voxels: int) -> NDArray[np.float64]:
    """Return how far each of n voxels is from the plane at or below it and from the one at or above it, [2, n].

    Positions [m] rise, in voxels; beyond the outermost planes both distances are those from the last of them.
    """
    z = np.arange(voxels, dtype=np.float64)
    below = positions[np.clip(np.searchsorted(positions, z, side="right") - 1, 0, None)]
    above = positions[np.clip(np.searchsorted(positions, z, side="left"), None, len(positions) - 1)]
    return np.abs(np.stack([z - below, above - z]))


def to_rows(volume: Tensor, plane: str) -> Tensor:
    """View a stack [C, Z, Y, X] as slices with z along the rows: [Y, C, Z, X] for xz, [X, C, Z, Y] for yz."""
    if plane not in ("xz", "yz"):
        raise ValueError(f"plane: must be xz or yz, got {plane!r}")
    return volume.movedim(2 if plane == "xz" else 3, 0)


def from_rows(slices: Tensor, plane: str) -> Tensor:
    """View slices as the stack [C, Z, Y, X]: the inverse of `to_rows`."""
    if plane not in ("xz", "yz"):
        raise ValueError(f"plane: must be xz or yz, got {plane!r}")
    return slices.movedim(0, 2 if plane == "xz" else 3)
