"""Conjugate gradients for symmetric operators (Hestenes & Stiefel 1952), from what is near the answer."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from bida.physics.operators import exact_dtype

TOLERANCE = 1e-5  # of the right side's norm
ITERATIONS = 100  # at most; what is not found by then is left


def conjugate_gradients(
    normal: Callable[[Tensor], Tensor],
    right: Tensor,
    near: Callable[[Tensor], Tensor],
    tolerance: float = TOLERANCE,
    iterations: int = ITERATIONS,
) -> tuple[Tensor, bool]:
    """Return x with normal(x) = right, from near(right), for a symmetric operator that is not negative.

    Args:
        normal: the operator.
        right: of any shape.
        near: an inverse of an operator like it, symmetric and not negative.
        tolerance: of the norm of what is left of ``right``.
        iterations: at most.

    Returns:
        x, and whether the tolerance was reached.
    """

    def product(one: Tensor, other: Tensor) -> float:
        return float((one * other).sum(dtype=exact_dtype(one.device)))

    x = near(right)
    r = right - normal(x)
    z = near(r)
    p, inner = z, product(r, z)
    enough = tolerance**2 * product(right, right)
    for _ in range(iterations):
        if product(r, r) <= enough or inner <= 0:
            break
        q = normal(p)
        step = inner / product(p, q)
        x, r = x + step * p, r - step * q
        z = near(r)
        before, inner = inner, product(r, z)
        p = z + (inner / before) * p
    return x, product(r, r) <= enough or inner <= 0
