"""Percentiles of more numbers than memory holds: exact, by counting the numbers' upper bits and then the lower ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

_BITS = 16  # counted in one pass over the numbers

Blocks = Callable[[], Iterable[NDArray]]


def ranked(blocks: Blocks, dtype: np.dtype, ranks: Sequence[int]) -> NDArray:
    """Return the numbers at ranks, counted from 0 at the smallest, of all blocks together.

    Numbers are taken as unsigned integers of the same order, of which each pass counts 16 bits (radix selection).

    Args:
        blocks: Gives the numbers, as often as it is called.
        dtype: Of integers or floats, all finite.
        ranks: Below the count of the numbers.
    """
    width = dtype.itemsize * 8
    found = [0] * len(ranks)  # the upper bits of each, as far as they are known
    left = list(map(int, ranks))
    for shift in range(max(width - _BITS, 0), -1, -_BITS):
        bits = min(_BITS, width)
        counts = {upper: np.zeros(1 << bits, np.int64) for upper in found}
        for block in blocks():
            keys = _ordered(block)
            for upper, count in counts.items():
                own = keys if shift + bits == width else keys[keys >> np.uint64(shift + bits) == upper]
                low = (own >> np.uint64(shift)) & np.uint64((1 << bits) - 1)
                count += np.bincount(low.astype(np.int64), minlength=len(count))
        for place, upper in enumerate(found):
            total = np.cumsum(counts[upper])
            digit = int(np.searchsorted(total, left[place], side="right"))
            left[place] -= int(total[digit - 1]) if digit else 0
            found[place] = (upper << bits) | digit
    return _numbers(np.array(found, dtype=np.uint64), dtype)


def percentiles(blocks: Blocks, dtype: np.dtype, count: int, which: Sequence[float]) -> list[tuple[NDArray, float]]:
    """Return for each percentile the two numbers that it lies between, and its place from the first to the second."""
    places = [(count - 1) * (percent / 100) for percent in which]
    lower = [int(np.floor(place)) for place in places]
    found = ranked(blocks, dtype, [rank for low in lower for rank in (low, min(low + 1, count - 1))])
    return [(found[2 * i : 2 * i + 2], place - low) for i, (place, low) in enumerate(zip(places, lower))]


def between(pair: NDArray, place: float) -> float:
    """Return what lies between two numbers, by the formula of ``numpy.percentile`` in double precision."""
    first, second = map(float, pair)
    difference = second - first
    return second - difference * (1 - place) if place >= 0.5 else first + difference * place


def _ordered(numbers: NDArray) -> NDArray[np.uint64]:
    """Return unsigned integers in the order of the numbers, [N]."""
    flat = np.ascontiguousarray(numbers).ravel()
    size = flat.dtype.itemsize
    sign = np.uint64(1 << (8 * size - 1))
    keys = flat.view(f"u{size}").astype(np.uint64)
    if flat.dtype.kind == "u":
        return keys
    if flat.dtype.kind == "i":
        return keys ^ sign
    every = np.uint64((1 << (8 * size)) - 1)
    return np.where(keys & sign, ~keys & every, keys | sign)


def _numbers(keys: NDArray[np.uint64], dtype: np.dtype) -> NDArray:
    """Return the numbers of `_ordered`."""
    size = dtype.itemsize
    sign = np.uint64(1 << (8 * size - 1))
    if dtype.kind == "i":
        keys = keys ^ sign
    elif dtype.kind == "f":
        keys = np.where(keys & sign, keys ^ sign, ~keys)
    return keys.astype(f"u{size}").view(dtype)
