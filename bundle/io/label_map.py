"""Is a volume a label map or a mask, and no scan?"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Share of neighbouring voxels inside that hold the same whole number. Maps of labels reach 0.8 and more, however small
# their structures; a scan of few grey levels stays far below, for its noise is half a level or more.
ALIKE = 0.7
FEW, LEVELS = 4, 0.9  # numbers that no scan has so few of; share of steps by one level above which levels are grey ones


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
    pairs = [_neighbours(values, inside, axis) for axis in range(values.ndim)]
    if not any(len(one) and (one == 0).mean() >= ALIKE for one in pairs):
        return False
    jumps = np.concatenate([one[one > 0] for one in pairs])
    # the levels of a smooth image without noise follow each other, those of structures do not
    return len(numbers) <= FEW or not len(jumps) or float((jumps == 1).mean()) < LEVELS


def _neighbours(values: NDArray, inside: NDArray, axis: int) -> NDArray[np.float64]:
    """Return by how much neighbours along an axis differ, where both are inside."""
    first, second = (tuple(part if k == axis else slice(None) for k in range(values.ndim)) for part in _ENDS)
    pairs = inside[first] & inside[second]
    return np.abs(values[second][pairs].astype(np.float64) - values[first][pairs])


_ENDS = (slice(None, -1), slice(1, None))
