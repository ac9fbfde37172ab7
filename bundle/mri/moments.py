"""Mean and standard deviation of draws, one draw in memory at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

Volume = TypeVar("Volume", bound=Any)


def mean_of(volumes: Sequence[Volume], shares: Sequence[Volume] | None = None) -> Volume:
    """Return the mean of arrays or tensors of one shape, each voxel by the shares of each where they are given."""
    if shares is None:
        return sum(volumes[1:], start=volumes[0]) / len(volumes)
    weighted = [share * volume for share, volume in zip(shares, volumes, strict=True)]
    return sum(weighted[1:], start=weighted[0]) / sum(shares[1:], start=shares[0])


class Moments:
    """Running mean and variance of arrays or tensors of one shape (Welford 1962).

    Attributes:
        count: How many were added.
        mean: Their mean.
    """

    def __init__(self) -> None:
        """Start with none."""
        self.count = 0
        self.mean: Any = 0.0
        self._spread: Any = 0.0

    def add(self, x: Any) -> None:
        """Take one in."""
        self.count += 1
        if self.count == 1:
            self.mean = x
            return
        delta = x - self.mean
        self.mean = self.mean + delta / self.count
        self._spread = self._spread + delta * (x - self.mean)

    @property
    def std(self) -> Any:
        """Standard deviation with ddof 1; of two or more."""
        return (self._spread / (self.count - 1)) ** 0.5
