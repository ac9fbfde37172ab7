"""Similarity of a restored volume to its truth, on one grid, and its consistency with the scan."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bida.errors import SettingsError

Float = NDArray[np.float64]

SSIM_WINDOW = 11  # scikit-image cuts the Gaussian of sigma 1.5 at 3.5 sigma: 2 x 5 + 1 voxels


def psnr(x: ArrayLike, truth: ArrayLike, data_range: float, mask: ArrayLike | None = None) -> float:
    """Return the peak signal-to-noise ratio in dB, 10 log10(data_range^2 / mean squared error); inf for equal arrays.

    Args:
        x: array of any shape.
        truth: array of the same shape.
        data_range: the intensity range that counts as the peak, in the units of x; it is never guessed.
        mask: boolean array of the same shape; only its voxels count.

    Raises:
        SettingsError: shapes differ, data_range is not a positive number, a value is NaN or Inf, or the mask is empty.
    """
    # imported here: `import bida.eval` must not wait for scikit-image
    from skimage.metrics import peak_signal_noise_ratio

    a, b, inside = _checked(x, truth, data_range, mask)
    if np.array_equal(a[inside], b[inside]):
        return math.inf
    return float(peak_signal_noise_ratio(b[inside], a[inside], data_range=data_range))


def ssim(x: ArrayLike, truth: ArrayLike, data_range: float, mask: ArrayLike | None = None) -> float:
    """Return the mean structural similarity, over the whole array or the mask's voxels.

    Local statistics come from the surroundings of a voxel, with a Gaussian window of sigma 1.5 voxels in every
    dimension of the array (a volume is compared in 3D); near a mask's edge they look across it. The 5 voxels next to
    the array's border, whose window would leave it, do not count.

    Args:
        x: array of two or more dimensions, each at least 11 long.
        truth: array of the same shape.
        data_range: the intensity range, in the units of x; it is never guessed.
        mask: boolean array of the same shape; only its voxels are averaged.

    Raises:
        SettingsError: as `psnr`, or a dimension is shorter than the window, or the mask lies within the border.

    Source: Wang et al., IEEE Trans. Image Process. 13(4):600-612, 2004; their K1, K2, window, population covariance.
    """
    from skimage.metrics import structural_similarity

    a, b, inside = _checked(x, truth, data_range, mask)
    if a.ndim < 2 or min(a.shape) < SSIM_WINDOW:
        raise SettingsError(f"ssim: every dimension must be >= {SSIM_WINDOW} long, got shape {a.shape}")
    _, local = structural_similarity(
        b, a, data_range=data_range, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
    )
    core = (slice(SSIM_WINDOW // 2, -(SSIM_WINDOW // 2)),) * a.ndim
    if not inside[core].any():
        raise SettingsError(f"ssim: mask must hold a voxel at least {SSIM_WINDOW // 2} away from the border, got none")
    return float(local[core][inside[core]].mean())


def consistency_residual(degraded: ArrayLike, slices: ArrayLike) -> float:
    """Return how far a restored volume, degraded again, is from the scan: max |A x - y| / (max y - min y).

    Args:
        degraded: A x, the restored volume under the degradation operator, of any shape.
        slices: y, the scan, of the same shape and in the same intensities.

    Raises:
        SettingsError: shapes differ, a value is NaN or Inf, or the slices hold one value only.
    """
    a, y = np.asarray(degraded, dtype=np.float64), np.asarray(slices, dtype=np.float64)
    if a.shape != y.shape or not y.size:
        raise SettingsError(f"degraded and slices must be on one grid, got shapes {a.shape} and {y.shape}")
    for name, values in (("degraded", a), ("slices", y)):
        if not np.isfinite(values).all():
            raise SettingsError(f"metrics need finite intensities, got NaN or Inf in {name}")
    span = float(np.ptp(y))
    if span == 0:
        raise SettingsError(f"slices must hold more than one value, got {y.flat[0]:g} everywhere")
    return float(np.abs(a - y).max()) / span


def _checked(
    x: ArrayLike, truth: ArrayLike, data_range: float, mask: ArrayLike | None
) -> tuple[Float, Float, NDArray[np.bool_]]:
    a, b = np.asarray(x, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    if a.shape != b.shape:
        raise SettingsError(f"metrics need x and truth on one grid, got shapes {a.shape} and {b.shape}; use --like")
    if not (math.isfinite(data_range) and data_range > 0):
        raise SettingsError(f"data_range must be > 0, got {data_range:g}")
    inside = np.ones(a.shape, dtype=bool) if mask is None else np.asarray(mask, dtype=bool)
    if inside.shape != a.shape:
        raise SettingsError(f"mask must have the shape of x, {a.shape}, got {inside.shape}")
    if not inside.any():
        raise SettingsError("mask must hold at least one voxel, got none")
    for name, values in (("x", a), ("truth", b)):
        if not np.isfinite(values).all():
            raise SettingsError(f"metrics need finite intensities, got NaN or Inf in {name}")
    return a, b, inside
