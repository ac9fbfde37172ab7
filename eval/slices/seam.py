"""Seam index: how much a stack's step from plane to plane depends on where the acquired planes or tile borders lie."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from bida.errors import SettingsError
from bida.eval.slices.planes import finite


def seam_index(stack: ArrayLike, period: int, axis: int = 1) -> float:
    """Return the part of the inter-plane steps that repeats with a period, relative to their mean.

    With d_k the mean |difference| across interface k, cut into whole periods and each divided by its own mean (some
    are steeper than others), and m_j the mean over periods at phase j: the root of mean_j (m_j - 1)^2, less
    what the scatter about m_j lets one expect by chance. It is 0, up to noise, for a truth and for linear interpolation
    (whose steps are equal; its blur is not a seam), sqrt(period - 1) for copies of acquired planes. Steps that grow
    evenly by a share s a period leave s / sqrt(12).

    Args:
        stack: volume [C, Z, Y, X].
        period: planes from one acquired plane, or tile border, to the next; at least 2.
        axis: 1 (z), 2 (y) or 3 (x).

    Raises:
        SettingsError: an argument is not as said, fewer than two whole periods fit, or a period has no step at all.
    """
    x = finite("stack", stack, "[C, Z, Y, X]")
    if axis not in (1, 2, 3) or period < 2:
        raise SettingsError(f"seam: axis must be 1, 2 or 3 and period >= 2, got {axis} and {period}")
    steps = np.abs(np.diff(np.moveaxis(x, axis, 0), axis=0)).mean(axis=(1, 2, 3))
    count = len(steps) // period
    if count < 2:
        raise SettingsError(
            f"seam: at least {2 * period + 1} planes are needed for period {period}, got {x.shape[axis]}"
        )
    profile = steps[: count * period].reshape(count, period)  # [periods, phases]
    mean = profile.mean(axis=1, keepdims=True)
    if not (mean > 0).all():
        raise SettingsError("seam: every period must hold a change between planes, got one without; cut it off")
    relative = profile / mean
    phase = relative.mean(axis=0)
    # scatter of one value about its phase; rows sum to a constant, which takes (count - 1)(period - 1) of freedom
    scatter = np.square(relative - phase).sum() / ((count - 1) * (period - 1))
    chance = scatter / count * (period - 1) / period
    return math.sqrt(max(float(np.square(phase - 1).mean() - chance), 0.0))
