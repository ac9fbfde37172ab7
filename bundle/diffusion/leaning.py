"""How far a result leans on interpolation: r' = g + w (r - g), w measured where the truth is known."""

from __future__ import annotations

import math

from torch import Tensor

WORTHWHILE_DB = 0.05  # a prior that promises less gets no weight: other planes may lose more than that is worth
CAUTION = 1.0  # standard errors over the slices by which the weight is kept below its best estimate


def ratio_db(one: float, other: float) -> float:
    """Return how many dB one sum of squares is above another; 0 where neither is above zero."""
    tiny = 1e-12
    return 10 * math.log10((one + tiny) / (other + tiny))


def best_weight(rr: Tensor, xr: Tensor) -> float:
    """Return the weight in [0, 1] that minimises sum |x - w r|^2, made smaller by its uncertainty over the slices.

    Args:
        rr: |r|^2 of each slice [N].
        xr: <x, r> of each slice [N].
    """
    square = float(rr.sum())
    if square <= 0:
        return 1.0  # the prior changes nothing
    weight = float(xr.sum()) / square
    residual = xr - weight * rr  # of the estimating equation; the ratio's standard error by linearisation
    error = math.sqrt(float(residual.square().sum())) / square
    return min(1.0, max(0.0, weight - CAUTION * error))
