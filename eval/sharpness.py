"""Sharpness of a volume along an axis, and discontinuity between its slices: indices without a truth.

Both are powers of a difference along the axis that neighbours in the slice have in common. The difference at a voxel is
multiplied by the difference at the next voxel, along either other axis, and the products are averaged. Structure runs
on from voxel to voxel and counts; noise that is independent from voxel to voxel has an expectation of zero and does
not, so that a restoration which merely removes noise is not taken for a blurred one. Noise that neighbours share, as
after interpolation or where a prior drew it, can't be told from structure and counts.

Both are divided by the contrast, the standard deviation of the volume after a low-pass that leaves out what thick
slices lose and most noise. This makes them blind to scale and offset of the intensities. Their value depends on the
anatomy: compare volumes of one animal on one grid and mask, as a ratio to the truth's.

What the mask chooses differs. Sharpness counts slopes at its voxels, which may look one voxel beyond it: the edge of a
brain-extracted scan counts, as blur would otherwise carry it into the mask and pass for structure there. Stitching
counts jumps that lie wholly in the mask, as that edge would outdo all others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bida.errors import SettingsError

Float = NDArray[np.float64]
Mask = NDArray[np.bool_]

CONTRAST_SIGMA = 3.0  # voxels; its FWHM of 7 voxels is wider than slices at 5x, so what those lose hardly counts
SLOPE = (-0.5, 0.0, 0.5)  # central difference: strongest at a period of 4 voxels, zero at the Nyquist frequency
JUMP = (-1.0, 3.0, -3.0, 1.0)  # zero for anything that is quadratic along the axis, strongest at the Nyquist frequency


def sharpness(volume: ArrayLike, axis: int, spacing_mm: Sequence[float], mask: ArrayLike | None = None) -> float:
    """Return how steep a volume's structure is along an axis, relative to its contrast, in 1/mm.

    The root of the coherent power of the central difference along the axis. An edge that is w mm wide contributes in
    proportion to 1 / sqrt(w); frequencies above a period of 4 voxels count less and less, the Nyquist frequency not.

    Args:
        volume: array [R, A, S].
        axis: 0 (R), 1 (A) or 2 (S).
        spacing_mm: voxel size along each axis, mm.
        mask: boolean array of the same shape; slopes at its voxels count.

    Returns:
        The index; 0 where the slopes of neighbours have nothing in common.

    Raises:
        SettingsError: an argument is not as said, a value is NaN or Inf, the mask has no two neighbours across the axis
            that lie off its ends, or the volume has no contrast.

    Source: squared difference of voxels two apart: Brenner et al., J. Histochem. Cytochem. 24(1):100-111, 1976; the
    product of neighbours in its place and the contrast are this package's.
    """
    sizes = [float(size) for size in spacing_mm]
    if len(sizes) != 3 or not all(math.isfinite(size) and size > 0 for size in sizes):
        raise SettingsError(f"spacing_mm must be 3 positive numbers, got {tuple(sizes)}")
    x, inside = _checked(volume, axis, mask)
    centres = np.moveaxis(inside, axis, 0)[1:-1]
    return math.sqrt(_coherent_power(_differences(x, axis, SLOPE), centres)) / _contrast(x, inside) / sizes[axis]


def stitching(volume: ArrayLike, axis: int, mask: ArrayLike | None = None) -> float:
    """Return how discontinuous a volume is from slice to slice along an axis, relative to its contrast.

    The root of the coherent power of the third difference along the axis, over that of slice offsets of one unit, 20.
    A volume that is quadratic along the axis has 0; one whose slices are shifted in intensity by independent offsets
    of standard deviation s has s / contrast. Structure finer than a few voxels has jumps of its own: a ratio to the
    truth of 1 says "no more than the truth", and blur along the axis takes it below 1.

    Args:
        volume: array [R, A, S].
        axis: the axis along which the slices are stacked: 0 (R), 1 (A) or 2 (S).
        mask: boolean array of the same shape; only its voxels count.

    Returns:
        The index; 0 where the jumps of neighbours have nothing in common.

    Raises:
        SettingsError: an argument is not as said, a value is NaN or Inf, the mask has no 4 voxels in a row along the
            axis with such a row next to it, or the volume has no contrast.
    """
    x, inside = _checked(volume, axis, mask)
    rows = _differences(inside.astype(np.float64), axis, (1.0,) * len(JUMP)) == len(JUMP)
    power = _coherent_power(_differences(x, axis, JUMP), rows) / sum(weight**2 for weight in JUMP)
    return math.sqrt(power) / _contrast(x, inside)


def _differences(x: Float, axis: int, weights: Sequence[float]) -> Float:
    """Return the weighted sum of every K voxels in a row along the axis, which comes first: [N - K + 1, ., .]."""
    values = np.moveaxis(x, axis, 0)
    length = max(values.shape[0] - len(weights) + 1, 0)
    difference = np.zeros((length, *values.shape[1:]))
    for start, weight in enumerate(weights):
        difference += weight * values[start : start + length]
    return difference


def _coherent_power(difference: Float, counts: Mask) -> float:
    """Return the mean product of a difference and that at the next voxel along either axis but the first."""
    total, pairs = 0.0, 0
    for across in (1, 2):
        d, k = np.moveaxis(difference, across, 0), np.moveaxis(counts, across, 0)
        both = k[:-1] & k[1:]
        total += float((d[:-1] * d[1:])[both].sum())
        pairs += int(np.count_nonzero(both))
    if not pairs:
        raise SettingsError(
            "mask must hold neighbours with enough voxels in a row along the axis, got none; enlarge it"
        )
    return max(total / pairs, 0.0)


def _contrast(x: Float, inside: Mask) -> float:
    """Return the standard deviation in the mask after a Gaussian low-pass that takes nothing from outside it."""
    # imported here: `import bida.eval` must not wait for scipy
    from scipy.ndimage import gaussian_filter

    weight = gaussian_filter(inside.astype(np.float64), CONTRAST_SIGMA, mode="constant")
    smooth = gaussian_filter(np.where(inside, x, 0.0), CONTRAST_SIGMA, mode="constant")
    contrast = float((smooth[inside] / weight[inside]).std())
    # rounding leaves about 1e-16 of the largest intensity where all are equal; 1e-9 of it is no contrast of a scan
    if contrast <= 1e-9 * float(np.abs(x[inside]).max()):
        raise SettingsError("volume must have contrast in the mask, got one intensity all over")
    return contrast


def _checked(volume: ArrayLike, axis: int, mask: ArrayLike | None) -> tuple[Float, Mask]:
    x = np.asarray(volume, dtype=np.float64)
    if x.ndim != 3:
        raise SettingsError(f"volume must be [R, A, S], got shape {x.shape}")
    if axis not in (0, 1, 2):
        raise SettingsError(f"axis must be 0 (R), 1 (A) or 2 (S), got {axis}")
    if not np.isfinite(x).all():
        raise SettingsError("metrics need finite intensities, got NaN or Inf in volume")
    inside = np.ones(x.shape, dtype=bool) if mask is None else np.asarray(mask, dtype=bool)
    if inside.shape != x.shape:
        raise SettingsError(f"mask must have the shape of volume, {x.shape}, got {inside.shape}")
    if not inside.any():
        raise SettingsError("mask must hold at least one voxel, got none")
    return x, inside
