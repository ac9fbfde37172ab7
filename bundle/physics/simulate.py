"""Thick slices of an isotropic volume, as a scanner with this slice profile would measure them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bida.errors import SettingsError
from bida.physics.geometry import Float, SliceGeometry
from bida.physics.operators import SliceOperator
from bida.physics.rician import add_noise, add_noise_of_snr
from bida.physics.slice_profile import measured_thickness

Volume = TypeVar("Volume", NDArray[Any], Tensor)
ROUNDING = 1e-6  # n / F may come out a little above the integer that it is when F is a quotient of float32 voxel sizes


def simulate_slices(
    volume: Volume,
    voxel_mm: float,
    axis: int,
    factor: float,
    thickness_mm: float | None = None,
    profile: str = "slr",
    noise: float = 0.0,
    seed: int = 0,
    snr: float | None = None,
    margin: int = 0,
) -> tuple[Volume, SliceGeometry]:
    """Degrade a volume to m = ceil(n / factor) thick slices that share its centre, optionally with noise.

    The slices at either end reach over the edge of the volume in general: what lies outside is dropped and their
    weights renormalised.

    Args:
        volume: real array or tensor [R, A, S].
        voxel_mm: its voxel size along `axis`, mm.
        axis: through-plane axis, 0 (R), 1 (A) or 2 (S).
        factor: slice spacing over voxel size, >= 1, not necessarily an integer.
        thickness_mm: FWHM of the slice profile in mm, by default the slice spacing; not with a file.
        profile: `slr`, `gaussian`, `box` or the path of a file of mm and amplitude.
        noise: standard deviation of the Gaussian noise added to the slices, in units of the volume's intensities.
        seed: seed of that noise, >= 0.
        snr: instead of it, Rician noise: mean in tissue (`bida.physics.rician.tissue`) over sigma of one slice.
        margin: voxels at either end of `axis` that are seen, though the grid for which n and the geometry stand ends
            before them; see `margin_of`.

    Returns:
        The slices, same kind and axes as the volume, float32 (float64 if the volume is), and their geometry.

    Raises:
        SettingsError: a value is out of its range, or the volume is not three-dimensional.
    """
    if volume.ndim != 3:
        raise SettingsError(f"volume must be [R, A, S], got shape {tuple(volume.shape)}")
    if axis not in (0, 1, 2):
        raise SettingsError(f"axis must be 0 (R), 1 (A) or 2 (S), got {axis}")
    check_simulation(factor, noise, seed, snr)
    measured = measured_thickness(profile)
    if measured is not None and thickness_mm is not None:
        raise SettingsError(
            f"thickness_mm must be left out with a profile file, whose thickness is {measured:.4g} mm, "
            f"got {thickness_mm:g} mm and {profile}; leave one out"
        )
    spacing, voxels = factor * voxel_mm, volume.shape[axis] - 2 * margin
    thickness = measured or (spacing if thickness_mm is None else thickness_mm)
    geometry = SliceGeometry(
        axis=axis,
        slices=_slices(voxels, factor),
        slice_spacing_mm=spacing,
        thickness_mm=thickness,
        voxels=voxels,
        voxel_mm=voxel_mm,
        profile=profile,
    )
    if isinstance(volume, np.ndarray):
        volume = np.ascontiguousarray(volume)  # torch takes no negative strides, which reorienting leaves
    operator = SliceOperator.build(replace(geometry, voxels=volume.shape[axis]))  # about the same centre
    slices = operator.forward(torch.as_tensor(volume))
    if noise > 0:
        slices = add_noise(slices, noise, seed, "gaussian")
    if snr is not None:
        slices, _ = add_noise_of_snr(slices, axis, snr, seed)
    return (slices.numpy() if isinstance(volume, np.ndarray) else slices), geometry


def margin_of(voxels: int, factor: float) -> int:
    """Return by how many voxels a volume must extend beyond a grid for the slices at either end to be whole.

    Slices of `simulate_slices` reach over the ends of a grid of so many voxels, and their profile beyond themselves.
    """
    return math.ceil((_slices(voxels, factor) * factor - voxels) / 2 + factor)


def _slices(voxels: int, factor: float) -> int:
    """Return how many slices cover a grid."""
    return math.ceil(voxels / factor * (1.0 - ROUNDING))


def check_simulation(factor: float, noise: float, seed: int, snr: float | None = None) -> None:
    """Check what is asked of a simulation.

    Raises:
        SettingsError: A value is out of its range.
    """
    if not (math.isfinite(factor) and factor >= 1):
        raise SettingsError(f"factor must be >= 1 (slice spacing over voxel size), got {factor:g}")
    if not (math.isfinite(noise) and noise >= 0):
        raise SettingsError(f"noise must be a standard deviation >= 0 in intensity units, got {noise:g}")
    if seed < 0:
        raise SettingsError(f"seed must be >= 0, got {seed}")
    if snr is not None and not (math.isfinite(snr) and snr > 0):
        raise SettingsError(f"snr must be > 0 (mean in tissue over sigma of one slice), got {snr:g}")
    if snr is not None and noise > 0:
        raise SettingsError(f"snr excludes noise, got {snr:g} and {noise:g}; leave one out")


def random_motion(move_mm: float, degrees: float, centre_mm: Float, seed: int) -> Float:
    """Return a rigid motion, 4 x 4 in mm: a random shift and a random turn about a random axis through a point.

    Both have a direction that is uniform over the sphere and a size that is uniform from 0 to the largest.

    Args:
        move_mm: largest shift of the point, mm, >= 0.
        degrees: largest turn, from 0 to 180.
        centre_mm: the point, [3].
        seed: of both, >= 0.

    Raises:
        SettingsError: a value is out of its range.
    """
    from scipy.spatial.transform import Rotation  # when motion is asked for

    check_motion(move_mm, degrees)
    generator = np.random.default_rng(seed)
    axis, way = (direction / np.linalg.norm(direction) for direction in generator.standard_normal((2, 3)))
    turn, shift = generator.uniform(size=2) * (math.radians(degrees), move_mm)
    motion = np.eye(4)
    motion[:3, :3] = Rotation.from_rotvec(turn * axis).as_matrix()
    motion[:3, 3] = centre_mm + shift * way - motion[:3, :3] @ centre_mm
    return motion


def check_motion(move_mm: float, degrees: float) -> None:
    """Check what is asked of a motion.

    Raises:
        SettingsError: A value is out of its range.
    """
    if not (math.isfinite(move_mm) and move_mm >= 0):
        raise SettingsError(f"move must be a shift >= 0 mm, got {move_mm:g}")
    if not 0 <= degrees <= 180:
        raise SettingsError(f"move must turn by 0 to 180 degrees, got {degrees:g}")


def moved(volume: NDArray[Any], affine: Float, motion: Float, axis: int = 0, margin: int = 0) -> NDArray[Any]:
    """Return a volume as one sees it that has moved: what the grid shows at p is what the volume has at M p.

    By B-splines of order 5; beyond its faces the volume is mirrored.

    Args:
        volume: real array [X, Y, Z].
        affine: 4 x 4, voxel index to p, mm.
        motion: M, 4 x 4, mm.
        axis: along which more is shown than the volume's own grid.
        margin: by so many voxels at either end.

    Returns:
        Array of the volume's type, and of its shape but for the margin.
    """
    from scipy.ndimage import affine_transform  # when motion is asked for

    index, start, shape = np.linalg.solve(affine, motion @ affine), np.zeros(3), list(volume.shape)
    start[axis], shape[axis] = -margin, shape[axis] + 2 * margin
    offset = index[:3, :3] @ start + index[:3, 3]
    given = {"order": 5, "mode": "reflect", "output": volume.dtype}
    return affine_transform(volume, index[:3, :3], offset, tuple(shape), **given)
