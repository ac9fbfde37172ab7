"""The published ECLARE (Remedios et al. 2025), run as the program ``run-eclare`` where it is installed.

ECLARE (https://github.com/sremedios/ECLARE, GPL-3.0) is no part of this software and is not imported: its command is
run in a folder of its own on a NIfTI file of the thick slices, and its result brought to the grid that other methods
are compared on. Without further options it estimates the slice profile from the scan, as published;
``run-eclare --relative-slice-thickness {thickness}`` gives it the known one, as a Gaussian of that FWHM.

The affine that version 1.0.1 writes is not where its voxels are: they keep the centre of the scan's field of view,
while the affine keeps the face of its first voxel. Where slices x factor is not a whole number, the two are up to a
quarter voxel apart. Such an affine is corrected here; any other that the program writes is taken as it is.

What was tried of the real program: version 1.0.1, on a small blob of 11 slices at 2.5x and after 8 training steps,
which showed its options, the name of its result and the shift of its affine; and on a whole mouse at 5x, told the
thickness, after a thirtieth of its training on a CPU (docs/results.md), which is too little to show its quality. The
interpolation that its network adds to, brought to the truth's grid by this adapter, has the PSNR of cubic interpolation
there (23.78 and 23.75 dB). Its full training, its estimation of the slice profile and a GPU were not tried.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bida.errors import SettingsError
from bida.eval.external import run_external
from bida.experiment.baselines.outside import only_image, resampled
from bida.io.claim import scratch
from bida.io.nifti import write_volume
from bida.physics.geometry import SliceGeometry
from bida.physics.grid import AXES, AxisGrid, corner_distance_voxels, resampled_affine, spacing_of

Float = NDArray[np.float64]

WHAT = "eclare"  # the name in errors
SAME_GRID_VOXELS = 0.02  # float32 headers round affines far below that; the correction is up to 0.25


def eclare(
    slices: NDArray[np.float32],
    affine: NDArray,
    geometry: SliceGeometry,
    hr_shape: Sequence[int],
    hr_affine: NDArray,
    command: str = "run-eclare",
    timeout_s: float = 3600.0,
) -> NDArray[np.float32]:
    """Super-resolve thick slices by the program ``run-eclare`` and resample its result to a grid.

    Args:
        slices: the scan [R, A, S], thick along ``geometry.axis``.
        affine: its affine, 4 x 4, mm.
        geometry: slices and isotropic grid; the program learns of the thickness alone, and only where ``command`` asks.
        hr_shape: voxels of the grid that the result is wanted on.
        hr_affine: affine of that grid, 4 x 4, mm.
        command: program and its options, quoted as for a shell, ``{thickness}`` standing for slice thickness over
            voxel size; ``--in-fpath`` and ``--out-dir`` are added.
        timeout_s: longest time that it may take, s; then it is stopped with all that it started.

    Returns:
        Volume of ``hr_shape``, float32, in the scan's intensities; by cubic B-splines in world coordinates.

    Raises:
        SettingsError: slices, affine, geometry or command do not fit each other, or ECLARE would take another axis
            for the through-plane one.
        ExternalError: the program is missing, fails, takes too long, or leaves no image that can be used.
    """
    affine, hr_affine = np.asarray(affine, dtype=np.float64), np.asarray(hr_affine, dtype=np.float64)
    _check(slices, affine, geometry, hr_shape, hr_affine)
    words = _words(command, geometry)
    with scratch("eclare") as folder:
        source, target = folder / "scan.nii.gz", folder / "out"
        target.mkdir()
        write_volume(source, slices, affine)
        run_external([*words, "--in-fpath", str(source), "--out-dir", str(target)], timeout_s, WHAT)
        result = only_image(target, WHAT)
    found = true_affine(result.affine, result.data.shape, affine, slices.shape, geometry.axis)
    return resampled(result.data, found, hr_shape, hr_affine, WHAT)


def true_affine(
    written: NDArray, shape: Sequence[int], affine: NDArray, slices_shape: Sequence[int], axis: int
) -> Float:
    """Return the affine at which the voxels of ECLARE's result are.

    Args:
        written: the affine in the result's header, 4 x 4, mm.
        shape: the result's shape.
        affine: the scan's affine, 4 x 4, mm.
        slices_shape: the scan's shape.
        axis: the through-plane axis.

    Returns:
        The affine with which scan and result share their centre, where the written one is that with which they share
        the face of their first voxel; else the written one.
    """
    spacing = spacing_of(affine)
    others = [size for k, size in enumerate(spacing) if k != axis]
    factor = round(spacing[axis] / min(others), 3)  # as the program rounds it
    grids = [AxisGrid(voxels, size) for voxels, size in zip(slices_shape, spacing)]
    grids[axis] = AxisGrid(shape[axis], spacing[axis] / factor)
    if tuple(shape) != tuple(grid.voxels for grid in grids):
        return np.asarray(written, dtype=np.float64)
    centred = resampled_affine(affine, slices_shape, spacing, grids)
    faced = centred.copy()
    face = np.full(3, -0.5)
    faced[:3, 3] = np.asarray(affine)[:3] @ [*face, 1.0] - faced[:3, :3] @ face
    apart = corner_distance_voxels(faced, np.asarray(written, dtype=np.float64), tuple(shape))
    return centred if apart <= SAME_GRID_VOXELS else np.asarray(written, dtype=np.float64)


def _check(slices: NDArray, affine: Float, geometry: SliceGeometry, hr_shape: Sequence[int], hr_affine: Float) -> None:
    if slices.ndim != 3 or slices.shape[geometry.axis] != geometry.slices:
        raise SettingsError(
            f"{WHAT}: slices must be [R, A, S] with {geometry.slices} along {AXES[geometry.axis]}, got {slices.shape}"
        )
    if affine.shape != (4, 4) or hr_affine.shape != (4, 4) or len(hr_shape) != 3:
        raise SettingsError(
            f"{WHAT}: needs two 4 x 4 affines and a shape of three, got {affine.shape}, {hr_affine.shape}, {hr_shape}"
        )
    spacing = spacing_of(affine)
    if any(spacing[k] >= spacing[geometry.axis] * (1 - 1e-6) for k in range(3) if k != geometry.axis):
        sizes = " x ".join(f"{size:.4g}" for size in spacing)
        raise SettingsError(
            f"{WHAT}: the program takes the axis of the largest voxel size for the through-plane one, which must be "
            f"{AXES[geometry.axis]}, got {sizes} mm; leave this method out"
        )


def _words(command: str, geometry: SliceGeometry) -> list[str]:
    """Return the command's words, filled in."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise SettingsError(f"{WHAT}: the command must have its quotations closed, got {command!r}") from error
    return [word.replace("{thickness}", f"{geometry.thickness_mm / geometry.voxel_mm:.6g}") for word in words]
