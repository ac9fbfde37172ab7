"""Brick index: how much a volume steps at the borders of the acquired slices, beside how it steps within them.

Noise that every thick slice has by itself comes out of a restoration as bars one slice high, "bricks", as do copies of
slices and a restoration that treats each slice for itself. No truth is needed.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bida.errors import SettingsError

Float = NDArray[np.float64]

ON_CENTRE = (
    1e-4  # voxels; headers hold voxel sizes in float32, so a border on a voxel's centre is found this far off it
)


def slice_borders(slice_centres_mm: ArrayLike, voxel_centres_mm: ArrayLike) -> Float:
    """Return where two acquired slices' territories meet, half-way between their centres, as voxel indices.

    Args:
        slice_centres_mm: centres of the acquired slices along the thick axis, [m], evenly spaced and rising, mm.
        voxel_centres_mm: centres of the volume's voxels along it, [n], likewise, from the same origin.

    Returns:
        [m - 1] positions; 2.5 is half-way between the voxels 2 and 3. One may lie beyond the volume.

    Raises:
        SettingsError: there are fewer than two slices or voxels.
    """
    slices, voxels = (np.asarray(one, dtype=np.float64) for one in (slice_centres_mm, voxel_centres_mm))
    if min(slices.size, voxels.size) < 2:
        raise SettingsError(f"bricks: at least 2 slices and 2 voxels are needed, got {slices.size} and {voxels.size}")
    return ((slices[1:] + slices[:-1]) / 2 - voxels[0]) / (voxels[1] - voxels[0])


def brick_index(volume: ArrayLike, axis: int, borders: ArrayLike, mask: ArrayLike | None = None) -> float:
    """Return the mean |difference| of neighbours across slice borders over the median of those within slices.

    A pair of neighbours along the axis belongs to a border that lies between their two centres, or on one of them: at
    factors that are no whole numbers some borders go through the middle of a voxel, and both its pairs are the
    border's. The pairs of all borders give one mean. The other pairs, from the first border to the last, are put
    together by how many whole voxels they are from the nearest border, on either side, a mean each, and the median of
    these means is what the borders' is divided by. Means over the same slices, of structure that knows nothing of
    where borders lie, are alike: 1 is a volume without bars, as a truth is. Scale, offset and sign do not matter.

    Args:
        volume: array [R, A, S].
        axis: the axis along which the acquired slices are stacked: 0 (R), 1 (A) or 2 (S).
        borders: see `slice_borders`, [k], voxel indices.
        mask: boolean array of the same shape, such as the tissue; pairs of which both voxels lie in it count.

    Returns:
        The index; inf where the volume changes at borders alone (copies of slices), 1 where it changes nowhere.

    Raises:
        SettingsError: an argument is not as said, a value is NaN or Inf, or the mask holds no pair across a border, or
            none within slices, between two borders.
    """
    x = np.asarray(volume, dtype=np.float64)
    inside = np.ones(x.shape, dtype=bool) if mask is None else np.asarray(mask, dtype=bool)
    if x.ndim != 3 or axis not in (0, 1, 2):
        raise SettingsError(f"bricks: volume must be [R, A, S] and axis 0, 1 or 2, got shape {x.shape} and {axis}")
    if inside.shape != x.shape:
        raise SettingsError(f"bricks: mask must have the shape of volume, {x.shape}, got {inside.shape}")
    if not np.isfinite(x).all():
        raise SettingsError("bricks: intensities must be finite, got NaN or Inf in volume")
    x, inside = np.moveaxis(x, axis, 0), np.moveaxis(inside, axis, 0)
    both = inside[1:] & inside[:-1]  # [n - 1, ., .]
    steps = np.where(both, np.abs(np.diff(x, axis=0)), 0.0).sum(axis=(1, 2))
    pairs = both.sum(axis=(1, 2))
    away = _away(x.shape[0], np.asarray(borders, dtype=np.float64))
    counted = np.unique(away[(away >= 0) & (pairs > 0)])
    means = {int(k): float(steps[away == k].sum() / pairs[away == k].sum()) for k in counted}
    across = means.pop(0, None)
    if across is None or not means:
        raise SettingsError(
            "bricks: the mask must hold neighbours across slice borders and within slices, got none; enlarge it"
        )
    within = float(np.median(list(means.values())))
    return across / within if within else (math.inf if across else 1.0)


def _away(voxels: int, borders: Float) -> NDArray[np.int64]:
    """Return how many whole voxels each pair of neighbours [n - 1] is from the nearest border.

    0 where it holds one, -1 before the first border and after the last.
    """
    if borders.ndim != 1 or not borders.size or not np.isfinite(borders).all():
        raise SettingsError(f"bricks: borders must be a list of voxel indices, got {borders.tolist()}")
    middle = np.arange(voxels - 1) + 0.5
    distance = np.abs(middle[:, None] - borders).min(axis=1)
    whole = np.maximum(np.floor(distance + 0.5 + ON_CENTRE), 1)  # a half is rounded up, on either side
    between = (middle > borders.min()) & (middle < borders.max())
    return np.where(distance <= 0.5 + ON_CENTRE, 0, np.where(between, whole, -1)).astype(np.int64)
