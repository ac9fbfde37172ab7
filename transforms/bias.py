"""Divide the bias field out, and multiply it back into the result."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bida.errors import ScanError, SettingsError
from bida.physics.grid import spacing_of
from bida.physics.interpolation import changed_axes, interpolation_matrix
from bida.physics.operators import apply_along
from bida.transforms.base import ScanImage, VolumeStep, noted, replaced, target_grids

# N4's time goes with the voxels that it sees, and its field is smooth, 7 x 7 x 7 numbers: a coarser grid than asked for
# does where it leaves so many voxels of foreground. The field is then another by some 4%; it is divided out and
# multiplied in again.
ENOUGH, COARSER, FEWEST = 1500, 2, 8
# Levels of splines, and the change of the field by a step below which one ends. N4's own four and 0.001 make a field
# that follows the anatomy, too: without it the slices of six real heads are restored better by 0.16 dB in the mean
# (-0.03 to +0.42), and those of made heads with a coil's field by 0.1-0.2.
LEVELS, CONVERGED = 3, 0.002
STEPS = 50  # of a level, at most


class CorrectBias(VolumeStep):
    """Estimate a scan's bias field by N4 and divide it out.

    Backward multiplies the field, interpolated on the grid that the volume has then, back in; with `restore=False` it
    leaves the volume corrected and says so in the meta (`bias_corrected`).

    Args:
        shrink: N4 sees a grid this much coarser, or up to `COARSER` times as much where that leaves `ENOUGH` voxels of
            foreground and `FEWEST` of each axis; an axis with thick slices is shrunk less.
        restore: multiply the field back into the result.

    Raises:
        SettingsError: `shrink` is below 1.
        ScanError: N4 finds nothing to work on.
        MemoryError: N4 does not fit.

    Source: Tustison et al., IEEE Trans. Med. Imaging 29(6):1310-1320, 2010.
    """

    def __init__(
        self, shrink: int = 4, restore: bool = True, levels: int = LEVELS, converged: float = CONVERGED
    ) -> None:
        """Check and keep the settings."""
        for name, value in (("shrink", shrink), ("levels", levels)):
            if value < 1:
                raise SettingsError(f"{name} must be >= 1, got {value}")
        self.shrink, self.restore, self.levels, self.converged = shrink, restore, levels, converged

    def forward(self, image: ScanImage) -> tuple[ScanImage, dict[str, Any]]:
        """Estimate and divide."""
        spacing = spacing_of(image.affine)
        try:
            log_field = estimate_log_bias(image.numpy(), spacing, self.shrink, self.levels, self.converged)
        except RuntimeError as error:
            name, reason = image.meta.get("filename_or_obj", "scan"), str(error).strip().splitlines()[-1]
            # ITK's "Failed to allocate memory for image." and C++'s "std::bad_alloc" both come as a RuntimeError
            if "memory" in str(error).lower() or "bad_alloc" in str(error):
                raise MemoryError(f"N4: {reason}") from error
            raise ScanError(f"{name}: N4 must find a bias field, got '{reason}'; give --no-n4") from error
        field = torch.from_numpy(np.exp(log_field))
        record = {"log_field": log_field, "affine": image.affine, "restore": int(self.restore)}
        out = replaced(image, image.data / field[None])
        if "noise" in image.meta:
            out = noted(out, noise=float(image.meta["noise"]) / level_in_tissue(image.numpy(), field.numpy()))
        return out, record

    def backward(self, image: ScanImage, record: Mapping[str, Any]) -> ScanImage:
        """Multiply, or leave corrected."""
        if not record["restore"]:
            return noted(image, bias_corrected=1)
        log_field = torch.from_numpy(np.asarray(record["log_field"], dtype=np.float32))
        spacing, grids = spacing_of(np.asarray(record["affine"])), target_grids(image)
        if image.shape != tuple(log_field.shape) or not np.allclose(spacing_of(image.affine), spacing):
            for axis in changed_axes(log_field.shape, spacing, grids):  # as `resample` does, in less memory
                matrix = interpolation_matrix(log_field.shape[axis], float(spacing[axis]), grids[axis], 3)
                log_field = apply_along(matrix, log_field, axis)
        field = torch.from_numpy(np.exp(log_field.numpy())).to(image.data.device)
        return replaced(image, field.mul_(image.data[0])[None])


class DivideBias(VolumeStep):
    """Divide a scan by the bias field that was found in another one of the same session.

    Beyond that scan's field of view, the field at its edge holds. Backward multiplies it back in.

    Args:
        log_field: logarithm of the field on the other scan's voxels, [R, A, S].
        affine: 4 x 4, index of those voxels to mm.
    """

    def __init__(self, log_field: NDArray, affine: NDArray) -> None:
        """Keep the field."""
        self.log_field, self.affine = np.asarray(log_field, dtype=np.float64), np.asarray(affine, dtype=np.float64)

    def field(self, image: ScanImage) -> NDArray[np.float32]:
        """Return the field on an image's voxels, [R, A, S]."""
        from scipy.ndimage import map_coordinates

        between = np.linalg.inv(self.affine) @ image.affine
        index = np.stack(np.meshgrid(*[np.arange(n, dtype=np.float64) for n in image.shape], indexing="ij"))
        places = np.einsum("ij,jras->iras", between[:3, :3], index) + between[:3, 3, None, None, None]
        return np.exp(map_coordinates(self.log_field, places, order=1, mode="nearest")).astype(np.float32)

    def forward(self, image: ScanImage) -> tuple[ScanImage, dict[str, Any]]:
        """Divide."""
        field = self.field(image)
        out = replaced(image, image.data / torch.from_numpy(field)[None])
        if "noise" in image.meta:
            out = noted(out, noise=float(image.meta["noise"]) / level_in_tissue(image.numpy(), field))
        return out, {}

    def backward(self, image: ScanImage, record: Mapping[str, Any]) -> ScanImage:
        """Multiply."""
        return replaced(image, image.data * torch.from_numpy(self.field(image))[None].to(image.data.device))


def level_in_tissue(volume: NDArray, field: NDArray) -> float:
    """Return the median of a field where a scan [R, A, S] is brighter than its mean."""
    return float(np.median(field[volume > volume.mean()]))


def estimate_log_bias(
    volume: NDArray,
    spacing_mm: Sequence[float],
    shrink: int,
    levels: int = LEVELS,
    converged: float = CONVERGED,
) -> NDArray[np.float32]:
    """Return the logarithm of a scan's bias field [R, A, S], by N4 inside Otsu's foreground.

    Args:
        volume: The scan [R, A, S].
        spacing_mm: Of its voxels.
        shrink, levels, converged: See `CorrectBias`.

    Raises:
        RuntimeError: there is no foreground, or SimpleITK fails.
    """
    import SimpleITK

    # SimpleITK's arrays are z, y, x
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(volume.T, dtype=np.float32))
    image.SetSpacing([float(size) for size in spacing_mm])
    positive = SimpleITK.Cast(image > 0, SimpleITK.sitkUInt8)  # N4 takes logarithms
    mask = SimpleITK.And(SimpleITK.OtsuThreshold(image, 0, 1), positive)
    foreground = int(np.count_nonzero(SimpleITK.GetArrayViewFromImage(mask)))
    if not foreground:
        raise RuntimeError("no foreground above zero")
    factors = shrink_factors(foreground, volume.shape, spacing_mm, shrink)
    n4 = SimpleITK.N4BiasFieldCorrectionImageFilter()
    n4.SetMaximumNumberOfIterations([STEPS] * levels)
    n4.SetConvergenceThreshold(converged)
    # The filters inside N4 take the global number of threads, and add up in another order with each.
    threads = SimpleITK.ProcessObject.GetGlobalDefaultNumberOfThreads()
    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        n4.Execute(SimpleITK.Shrink(image, factors), SimpleITK.Shrink(mask, factors))
        return SimpleITK.GetArrayFromImage(n4.GetLogBiasFieldAsImage(image)).T.astype(np.float32)
    finally:
        SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)


def shrink_factors(foreground: int, shape: Sequence[int], spacing_mm: Sequence[float], shrink: int) -> list[int]:
    """Return how many voxels of each axis become one for N4.

    An axis is shrunk only as far as its voxels stay below so many times the finest one.

    Args:
        foreground: Voxels of it.
        shape: Voxels of each axis, of which more than `shrink` leaves no fewer than `FEWEST`.
        spacing_mm: Of the voxels.
        shrink: See `CorrectBias`.
    """
    for wanted in range(COARSER * shrink, shrink - 1, -1):
        limit = wanted * min(spacing_mm)
        factors = [max(1, min(wanted, int(limit / size + 0.5))) for size in spacing_mm]
        fewest = min(voxels // factor for voxels, factor in zip(shape, factors))
        if foreground / math.prod(factors) >= ENOUGH and fewest >= FEWEST:
            break
    return factors
