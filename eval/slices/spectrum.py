"""Power along the through-plane axis, and how far a restored volume's is from the truth's.

A noisy truth has power that no restoration can know: its noise floor, taken from the highest frequencies and from all
of them alike, as noise that is white along the axis has it. What is left is the power of the anatomy, which an
interpolated volume lacks and a sharp one should have.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bida.errors import SettingsError

Float = NDArray[np.float64]

FLOOR = 0.9  # of the Nyquist frequency: from here on a truth's power counts as noise
SHARE = 0.05  # of a truth's power, below which nothing is left to compare once the floor is taken off


def axis_spectrum(volume: ArrayLike, axis: int, mask: ArrayLike | None = None) -> tuple[Float, Float]:
    """Return the mean power spectrum of a volume's lines along an axis.

    Args:
        volume: array [R, A, S].
        axis: 0 (R), 1 (A) or 2 (S).
        mask: boolean array of the same shape; the lines are cut to the box around it.

    Returns:
        Frequency as a share of the Nyquist frequency [K], and power in squared intensities [K]; the mean is taken out
        of each line and a Hann window keeps its ends from leaking.

    Raises:
        SettingsError: the volume is not [R, A, S], a value is not finite, or a line has fewer than 8 voxels.
    """
    x = np.asarray(volume, dtype=np.float64)
    if x.ndim != 3 or axis not in (0, 1, 2):
        raise SettingsError(f"spectrum: must be of a volume [R, A, S] along axis 0, 1 or 2, got {x.shape}, {axis}")
    if not np.isfinite(x).all():
        raise SettingsError("spectrum: intensities must be finite, got NaN or Inf; look at the volume")
    lines = np.moveaxis(x[_box(mask, x.shape)], axis, -1)
    if lines.shape[-1] < 8:
        raise SettingsError(f"spectrum: lines must have at least 8 voxels, got {lines.shape[-1]}; enlarge the mask")
    window = np.hanning(lines.shape[-1] + 2)[1:-1]
    centred = (lines - lines.mean(axis=-1, keepdims=True)) * window
    power = np.square(np.abs(np.fft.rfft(centred))).mean(axis=(0, 1)) / np.square(window).sum()
    return 2 * np.fft.rfftfreq(lines.shape[-1]).astype(np.float64), power


def spectrum_distance_db(
    volume: ArrayLike, truth: ArrayLike, axis: int, mask: ArrayLike | None = None, limit: float = 0.8
) -> float:
    """Return the mean absolute difference of log power, dB, between a volume and a truth less its noise floor.

    Args:
        volume: array [R, A, S].
        truth: array of the same shape.
        axis: 0 (R), 1 (A) or 2 (S).
        mask: see `axis_spectrum`.
        limit: highest frequency that counts, a share of the Nyquist frequency. Where the truth has less than 5% of
            its power above the floor, that share of its power stands for it.

    Raises:
        SettingsError: as `axis_spectrum`, or the shapes differ.
    """
    if np.shape(volume) != np.shape(truth):
        raise SettingsError(f"spectrum: volumes must have one shape, got {np.shape(volume)} and {np.shape(truth)}")
    frequency, power = axis_spectrum(volume, axis, mask)
    _, known = axis_spectrum(truth, axis, mask)
    anatomy = np.maximum(known - known[frequency >= FLOOR].mean(), SHARE * known)
    counts = (frequency > 0) & (frequency <= limit)
    tiny = np.finfo(np.float64).tiny
    return float(np.abs(10 * np.log10((power[counts] + tiny) / (anatomy[counts] + tiny))).mean())


def log_spectrum_db(volume: ArrayLike, reference: ArrayLike, axis: int) -> float:
    """Return the mean absolute difference of log power, dB, of two volumes' lines along an axis, noise and all.

    Every frequency but 0 counts alike. The reference may be of another shape: its log power is interpolated at the
    volume's frequencies, both as a share of their Nyquist frequency.

    Args:
        volume: array [R, A, S].
        reference: array [R, A, S].
        axis: 0 (R), 1 (A) or 2 (S).

    Raises:
        SettingsError: as `axis_spectrum`.
    """
    (frequency, power), (known_at, known) = axis_spectrum(volume, axis), axis_spectrum(reference, axis)
    tiny = np.finfo(np.float64).tiny
    expected = np.interp(frequency[1:], known_at[1:], np.log10(known[1:] + tiny))
    return float(10 * np.abs(np.log10(power[1:] + tiny) - expected).mean())


def _box(mask: ArrayLike | None, shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Return the box around a mask, the whole volume without one."""
    if mask is None:
        return (slice(None),) * 3
    inside = np.asarray(mask, dtype=bool)
    if inside.shape != shape or not inside.any():
        raise SettingsError(f"spectrum: mask must have the volume's shape {shape} and hold a voxel, got {inside.shape}")
    return tuple(slice(places.min(), places.max() + 1) for places in np.nonzero(inside))
