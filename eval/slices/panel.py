"""A panel of figures that tell how unlike a volume's slices are to reference slices, none of which needs a network.

The even slices of a volume are compared with the odd ones of the reference. So is the reference with itself, which
gives the floor: what the same anatomy, noise and number of samples leave of a distance where there is no difference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bida.errors import SettingsError
from bida.eval.slices.frechet import feature_frechet
from bida.eval.slices.oriented import oriented_features
from bida.eval.slices.planes import finite, plane_slices
from bida.eval.slices.spectrum import log_spectrum_db
from bida.eval.slices.wasserstein import patch_distance, pyramid_patches

Float = NDArray[np.float64]

METRICS = ("oriented_frechet", "swd", "swd_finest", "spectrum_down_db", "spectrum_across_db")
SLICES = 64  # of each half, at most, evenly spread: neighbours are much alike, and time grows with their number


@dataclass(frozen=True)
class PanelRow:
    """One figure of a plane, of a volume or of the floor."""

    plane: str
    metric: str
    value: float


class Panel:
    """Compare the slices of volumes with reference slices.

    Args:
        reference: slices [N, C, H, W] of each plane to look at, XY, XZ or YZ: a truth's own slices of that plane, or
            XY slices for every plane where there is no truth. N is 2 or more, H and W are 16 or more.
        widths: [C], range of each channel's intensities.
        seed: of the random patches and directions.

    Raises:
        SettingsError: an argument is not as said, or a value is NaN or Inf.
    """

    def __init__(self, reference: Mapping[str, ArrayLike], widths: Sequence[float], seed: int = 0) -> None:
        """Compute what is needed of the reference."""
        self.widths, self.seed = widths, seed
        self._even, self._odd = {}, {}
        for plane, slices in reference.items():
            x = finite(f"reference {plane}", slices, "[N, C, H, W]")
            self._even[plane], self._odd[plane] = self._samples(half(x, 0)), self._samples(half(x, 1))

    def floor(self) -> list[PanelRow]:
        """Return the distances of the reference's even slices from its odd ones."""
        return [row for plane, sample in self._even.items() for row in self._rows(plane, sample)]

    def __call__(self, stack: ArrayLike) -> list[PanelRow]:
        """Return the distances of the even slices of a stack [C, Z, Y, X] from the reference's odd ones."""
        halves = {plane: half(plane_slices(stack, plane), 0) for plane in self._odd}
        return [row for plane, slices in halves.items() for row in self._rows(plane, self._samples(slices))]

    def _samples(self, slices: Float) -> list[_Sample]:
        if slices.shape[1] != len(self.widths):
            raise SettingsError(f"panel: slices must have {len(self.widths)} channel(s), got {slices.shape[1]}")
        return [_Sample.of(slices[:, [c]], width, self.seed) for c, width in enumerate(self.widths)]

    def _rows(self, plane: str, samples: list[_Sample]) -> list[PanelRow]:
        pairs = zip(samples, self._odd[plane])
        means = np.mean([sample.distances(known, self.seed) for sample, known in pairs], axis=0)
        return [PanelRow(plane, metric, float(value)) for metric, value in zip(METRICS, means)]


@dataclass(frozen=True)
class _Sample:
    """Slices [N, H, W] of one channel and what is computed of them alone."""

    slices: Float
    features: Float
    patches: list[Float]

    @staticmethod
    def of(slices: Float, width: float, seed: int) -> _Sample:
        return _Sample(slices[:, 0], oriented_features(slices, width), pyramid_patches(slices, seed))

    def distances(self, known: _Sample, seed: int) -> tuple[float, ...]:
        """Return the `METRICS` from a known sample."""
        levels = [patch_distance(a, b, seed) for a, b in zip(self.patches, known.patches)]
        return (
            feature_frechet(self.features, known.features),
            float(np.mean(levels)),
            levels[0],
            log_spectrum_db(self.slices, known.slices, axis=1),
            log_spectrum_db(self.slices, known.slices, axis=2),
        )


def half(slices: Float, first: int) -> Float:
    """Return every other slice of slices [N, ...] from the first (0) or second (1) on, at most 64, evenly spread.

    Raises:
        SettingsError: there is none.
    """
    chosen = slices[first::2]
    if not len(chosen):
        raise SettingsError(f"panel: planes must have 2 slices or more to be halved, got {len(slices)}")
    return chosen[np.unique(np.linspace(0, len(chosen) - 1, SLICES).round().astype(int))]
