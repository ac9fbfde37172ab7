"""Is a volume a label map or a mask, and no scan?"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Share of neighbouring voxels inside that hold the same whole number. Maps of labels reach 0.8 and more, however small
# their structures; a scan of few grey levels stays far below, for its noise is half a level or more.
ALIKE = 0.7


def looks_like_labels(values: NDArray) -> bool:
    """Tell whether a volume [X, Y, Z] holds labels: two values alone, or whole numbers in even patches."""
    low, high = values.min(), values.max()
    if not (np.isfinite(low) and np.isfinite(high)) or low == high:
        return False
    if bool(((values == low) | (values == high)).all()):
        return True
    if values.dtype.kind not in "iu" and not bool((values == np.rint(values)).all()):
        return False
    numbers, counts = np.unique(values[tuple(slice(None, None, 1 + size // 64) for size in values.shape)],
                                return_counts=True)  # fmt: skip
    inside = values != numbers[counts.argmax()]
    return any(_alike(values, inside, axis) >= ALIKE for axis in range(values.ndim))


def _alike(values: NDArray, inside: NDArray, axis: int) -> float:
    """Return the share of pairs of neighbours along an axis, both inside, that hold the same value."""
    first, second = (tuple(part if k == axis else slice(None) for k in range(values.ndim)) for part in _ENDS)
    pairs = inside[first] & inside[second]
    count = int(pairs.sum())
    return float((pairs & (values[first] == values[second])).sum() / count) if count else 0.0


_ENDS = (slice(None, -1), slice(1, None))
