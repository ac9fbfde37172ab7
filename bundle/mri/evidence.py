"""What the sampler asks of a measurement, be it one scan (`measurement`) or several (`joint`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from bida.diffusion.prior import SlicePrior
from bida.diffusion.sampling import Condition
from bida.mri.selfcheck import SelfCheck
from bida.mri.settings import SamplerOptions
from bida.mri.slice_errors import Restored
from bida.physics.consistency import TISSUE
from bida.physics.grid import NORMAL

Padding = Sequence[tuple[int, int]]
Restore = Callable[["Evidence", str], Restored]

AROUND = 8  # voxels of the padding that the network still sees: slices go on in their mirror image


@dataclass(frozen=True)
class Leftover:
    """Hold how much what a result leaves of noisy slices, y - A x in tissue, is like noise.

    Attributes:
        over_noise: its standard deviation over the noise's; 1 where just the noise was left out.
        correlation: of neighbouring voxels of a slice, the mean of both directions; 0 where it is white.
    """

    over_noise: float
    correlation: float

    @classmethod
    def of(cls, residual: Tensor, y: Tensor, axis: int, noise: float) -> Leftover:
        """Measure a residual [R, A, S] of slices y along an axis, where y is tissue."""
        slices, inside = residual.movedim(axis, 0), (y > TISSUE).movedim(axis, 0)
        if not bool(inside.any()):
            inside = torch.ones_like(inside)
        centred = torch.where(inside, slices - slices[inside].mean(), 0.0)
        deviation = float(centred[inside].square().mean().sqrt())
        shared = 0.0
        for axis in (1, 2):
            (one, other), (here, there) = (
                [values.narrow(axis, start, values.shape[axis] - 1) for start in (0, 1)] for values in (centred, inside)
            )
            both = here & there
            shared += float((one * other)[both].mean()) / 2 if bool(both.any()) else 0.0
        return cls(deviation / noise, shared / max(deviation, 1e-12) ** 2)

    def record(self) -> dict[str, float]:
        """Return it as JSON can hold it."""
        return {"over_noise": round(self.over_noise, 3), "correlation": round(self.correlation, 3)}


class View(NamedTuple):
    """A pass of the prior over a volume: which slices it sees, and how.

    Attributes:
        plane: of the slices, one of `PLANES`.
        axis: of the volume, along which the scan's slices are thick that the prior is told of.
        shown: what a guided prior is shown beside them, 8 volumes [R, A, S]; None to sample without.
    """

    plane: str
    axis: int
    shown: Sequence[Tensor] | None


class Evidence(ABC):
    """What was measured of a volume.

    Attributes:
        padding: voxels (before, after) on each axis of the volume that are no part of the result.
    """

    padding: Padding

    @property
    @abstractmethod
    def shape(self) -> torch.Size:
        """Voxels of the volume, padding included."""

    @property
    @abstractmethod
    def outline(self) -> Tensor:
        """Slices or volume [R, A, S], where what is constant has nothing to restore."""

    @abstractmethod
    def held(self) -> Tensor:
        """Return which voxels of the volume may hold something, [R, A, S] of bool."""

    @abstractmethod
    def noise_of(self, options: SamplerOptions) -> float:
        """Return the standard deviation of a slice's noise in the prior's space; 0 for exact slices."""

    @abstractmethod
    def views(self, noise: float, guided: bool, planes: Sequence[str] | None = None) -> list[View]:
        """Return the passes of the prior; those of some planes alone where they are given."""

    @abstractmethod
    def condition(self, noise: float) -> Condition:
        """Return what the measurement does to a step."""

    @abstractmethod
    def reference(self, noise: float) -> Tensor:
        """Return the interpolation that agrees with the slices, [R, A, S]."""

    @abstractmethod
    def residual(self, x: Tensor) -> float:
        """Return max |A x - y| over the range of y."""

    @abstractmethod
    def leftover(self, x: Tensor, noise: float) -> Leftover:
        """Return what a volume leaves of noisy slices."""

    @abstractmethod
    def self_check(self, network: SlicePrior, restore: Restore, noise: float) -> SelfCheck | None:
        """Return what the prior gains on the scan's own sharp slices; None where that can't be told.

        Args:
            network: the prior.
            restore: the way of restoring that is checked: the volume of a measurement by the prior of one plane.
            noise: see `noise_of`.
        """

    def shares(self) -> list[Tensor] | None:
        """Return how much the volume of each of `views` counts in the mean, [R, A, S] each; None for all alike."""
        return None

    def agreeing(self, x: Tensor) -> Tensor:
        """Return a volume [R, A, S], put together by `shares` of ones that agree with slices, that agrees as well."""
        return x

    def finished(self, x: Tensor) -> Tensor:
        """Return a result [R, A, S] as it is handed on, nearer to the slices where that is still to be had."""
        return x

    def unpadded(self, plane: str) -> tuple[range, range, range]:
        """Return which slices of a plane are no padding, and which rows and columns lie at most `AROUND` within it."""
        slices, *sides = (NORMAL[plane], *(axis for axis in range(3) if axis != NORMAL[plane]))
        first = range(self.padding[slices][0], self.shape[slices] - self.padding[slices][1])
        rows, columns = (
            range(max(0, before - AROUND), min(size, size - after + AROUND))
            for (before, after), size in ((self.padding[axis], self.shape[axis]) for axis in sides)
        )
        return first, rows, columns

    def cropped(self, volume: Tensor) -> Tensor:
        """Return a volume [R, A, S] on the padded grid without its padding, a view of it."""
        return without(volume, self.padding)


def without(volume: Tensor, padding: Padding) -> Tensor:
    """Return a volume without its padding, a view of it."""
    for axis, (before, after) in enumerate(padding):
        volume = volume.narrow(axis, before, volume.shape[axis] - before - after)
    return volume
