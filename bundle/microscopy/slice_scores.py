"""What restored stacks look like beside their truth, slice by slice: a panel without a network, and SliceFID."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bida.errors import SettingsError
from bida.eval.slices.frechet import feature_frechet, kid
from bida.eval.slices.inception import InceptionFeatures
from bida.eval.slices.panel import Panel, PanelRow
from bida.eval.slices.planes import PLANES, plane_slices
from bida.eval.slices.seam import seam_index
from bida.eval.slices.slice_fid import over_planes
from bida.microscopy.load import IntensityLine

Float = NDArray[np.float64]

VOLUME = "3D"  # the plane of a figure of the whole volume
SHORTEST = 16  # voxels a side, see `Panel`


class Judge(Protocol):
    """Compare stacks with the truth that it was made of."""

    def floor(self) -> list[PanelRow]:
        """Return what the truth itself gets."""

    def __call__(self, data: NDArray) -> list[PanelRow]:
        """Return what a stack [C, Z, Y, X] gets."""


class SlicePanel:
    """Compare XZ and YZ slices with the truth's of the same plane, see `Panel`, and look for seams along z.

    Args:
        truth: [C, Z, Y, X], from an acquired plane to another.
        factor: Every so many planes one was acquired.
        seed: Of the random patches.

    Raises:
        SettingsError: The truth has fewer than 16 voxels a side.
    """

    def __init__(self, truth: NDArray, factor: int, seed: int) -> None:
        """Compute what is needed of the truth."""
        if min(truth.shape[1:]) < SHORTEST:
            raise SettingsError(
                f"panel: the truth must have {SHORTEST} voxels or more along z, y and x, got {truth.shape[1:]}; "
                "take more planes, or give --no-panel"
            )
        line = IntensityLine.of(truth)
        widths = (line.high - line.low).astype(np.float64).tolist()
        self.truth, self.factor = truth, factor
        self._xy = Panel({"XY": plane_slices(truth, "XY")}, widths, seed)
        self._across = Panel({plane: plane_slices(truth, plane) for plane in ("XZ", "YZ")}, widths, seed)

    def floor(self) -> list[PanelRow]:
        """Return the distance of the truth's even slices from its odd ones, XY too, and its seam index."""
        return [*self._xy.floor(), *self._across.floor(), *self._seam(self.truth)]

    def __call__(self, data: NDArray) -> list[PanelRow]:
        """Return the distance of a stack's even XZ and YZ slices from the truth's odd ones, and its seam index."""
        return [*self._across(data), *self._seam(data)]

    def _seam(self, data: NDArray) -> list[PanelRow]:
        """Return the seam index, where the stack has the two periods that it takes."""
        if data.shape[1] <= 2 * self.factor:
            return []
        return [PanelRow(VOLUME, "seam_index", seam_index(data, self.factor))]


class SliceFidJudge:
    """Compare the slices of each plane with the truth's XY slices by Inception features (Jiang et al. 2024, Eq. 10).

    The kernel distance stands beside it: with fewer slices than the 2048 features the Frechet distance is biased.
    Channels are averaged.

    Args:
        truth: [C, Z, Y, X].
        inception: The network.
    """

    def __init__(self, truth: NDArray, inception: InceptionFeatures) -> None:
        """Compute the features of the truth's XY slices."""
        line = IntensityLine.of(truth)
        self._limits = list(zip(line.low.astype(np.float64), line.high.astype(np.float64)))
        self.truth, self.inception = truth, inception
        self._known = self._features(truth, "XY")

    def floor(self) -> list[PanelRow]:
        """Return the distances of the truth's even XY slices and of its XZ and YZ slices from its odd XY slices."""
        return self._rows(self.truth, [known[::2] for known in self._known], [known[1::2] for known in self._known])

    def __call__(self, data: NDArray) -> list[PanelRow]:
        """Return the distances of a stack's slices from all of the truth's XY slices."""
        return self._rows(data, self._features(data, "XY"), self._known)

    def _rows(self, data: NDArray, xy: list[Float], reference: list[Float]) -> list[PanelRow]:
        """Return both distances of each plane and their mean, by the features of XY slices and a reference."""
        channels = zip(xy, self._features(data, "XZ"), self._features(data, "YZ"))
        found = [dict(zip(PLANES, planes)) for planes in channels]
        rows = []
        for metric, distance in (("slice_fid", feature_frechet), ("slice_kid", kid_mean)):
            each = [over_planes(features, known, distance) for features, known in zip(found, reference)]
            means = np.mean([(d.xy, d.xz, d.yz, d.mean) for d in each], axis=0)
            rows += [PanelRow(plane, metric, float(v)) for plane, v in zip((*PLANES, "mean"), means)]
        return rows

    def _features(self, data: NDArray, plane: str) -> list[Float]:
        """Return the features [N, 2048] of a plane's slices, a channel each."""
        slices = plane_slices(data, plane)
        return [self.inception(slices[:, [c]], limits) for c, limits in enumerate(self._limits)]


def kid_mean(a: ArrayLike, b: ArrayLike) -> float:
    """Return the kernel distance of two samples of features, see `kid`."""
    return kid(a, b).mean
