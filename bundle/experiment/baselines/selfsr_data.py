"""Training pairs of the self-supervised super-resolution, made of nothing but the scan's own slices.

A slice of the scan is sharp along both of its axes. Degraded along one of them as the scan is along its through-plane
axis, it shows what that axis does to anatomy, with the truth at hand. Where the slice centres lie relative to the
voxels matters: it repeats only every few slices when the factor is not a whole number (2.5: every two), and at the
ends slices are cut off by the field of view. So a training line is not a convolution of its own but the very line of
the through-plane axis, n voxels under the scan's matrix A, with the image laid on it at a random place.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bida.errors import SettingsError
from bida.physics.geometry import SliceGeometry
from bida.physics.grid import AxisGrid
from bida.physics.interpolation import interpolation_matrix
from bida.physics.operators import SliceOperator

Float = NDArray[np.float32]

OUTLIERS = 99.9  # percentile above which intensities do not count: a hot voxel would shift the threshold of Otsu
FOREGROUND = 0.5  # of the threshold of Otsu: what is dark in a bright brain is foreground too


@dataclass(frozen=True)
class Lines:
    """What becomes of a line of voxels along the through-plane axis.

    Attributes:
        interpolate: [2, n, m], from m slices to n voxels: by cubic B-splines, and by the pseudo-inverse A+.
        degrade: [2, n, n], from n sharp voxels to the same, ``interpolate @ A``.
        shift: voxels that a line may reach over the edge of an image, a slice's width.
    """

    interpolate: Tensor
    degrade: Tensor
    shift: int

    @classmethod
    def of(cls, geometry: SliceGeometry) -> Lines:
        """Make the matrices of a geometry, its padding left out."""
        operator = SliceOperator.build(geometry.unpadded())
        grid = AxisGrid(geometry.voxels, geometry.voxel_mm, geometry.offset_mm)
        spline = interpolation_matrix(geometry.slices, geometry.slice_spacing_mm, grid)
        interpolate = np.stack([spline, operator.pinv_matrix])
        degrade = interpolate @ operator.matrix
        return cls(torch.from_numpy(interpolate).float(), torch.from_numpy(degrade).float(), math.ceil(geometry.factor))


@dataclass(frozen=True)
class Intensities:
    """The line that takes the scan's intensities to about 0 (air) to 1 (bright tissue), without clipping."""

    low: float
    high: float

    def normalise(self, values: NDArray) -> Float:
        """Return normalised intensities, float32."""
        return ((values - self.low) / (self.high - self.low)).astype(np.float32)

    def restore(self, values: NDArray) -> Float:
        """Return the scan's intensities, float32."""
        return (values * (self.high - self.low) + self.low).astype(np.float32)


def foreground(slices: NDArray) -> NDArray[np.bool_]:
    """Return where a scan is brighter than half of the threshold of Otsu (1979), counted from its darkest voxel.

    Raises:
        SettingsError: the scan is constant.
    """
    from skimage.filters import threshold_otsu

    low, high = float(slices.min()), float(np.percentile(slices, OUTLIERS))
    if not high > low:
        raise SettingsError(f"selfsr: the slices must have contrast, got {low:g} nearly everywhere; look at the scan")
    threshold = threshold_otsu(np.clip(slices, low, high))
    return np.asarray(slices > low + FOREGROUND * (threshold - low))


def intensities(slices: NDArray, inside: NDArray[np.bool_]) -> Intensities:
    """Return the intensity line from the 1st percentile of the scan to the 99th of its foreground."""
    return Intensities(float(np.percentile(slices, 1)), float(np.percentile(slices[inside], 99)))


class PatchSampler:
    """Draw pairs of degraded and sharp patches around foreground voxels.

    A patch comes from any slice, along either of its axes, mirrored or not, with the degraded axis first.

    Args:
        images: the scan's slices, normalised, [m, P, Q].
        inside: their foreground.
        lines: the degradation.
        patch_size: height and width of a patch; less where the line or the images are shorter.
        batch_size: patches a draw.
        seed: of the draws.
    """

    def __init__(
        self, images: Float, inside: NDArray[np.bool_], lines: Lines, patch_size: int, batch_size: int, seed: int
    ) -> None:
        """List the foreground."""
        self.images, self.lines, self.batch_size = images, lines, batch_size
        self.centres = np.argwhere(inside)
        self.voxels = lines.degrade.shape[-1]
        self.height = min(patch_size, self.voxels)
        self.width = min(patch_size, *images.shape[1:])
        self.rng = np.random.default_rng(seed)

    def draw(self) -> tuple[Tensor, Tensor]:
        """Return degraded [B, 2, height, width] and sharp [B, 1, height, width] patches."""
        drawn = [self._block() for _ in range(self.batch_size)]
        blocks = torch.from_numpy(np.stack([block for block, _ in drawn]))  # [B, n, width]
        rows = torch.tensor([row for _, row in drawn])[:, None] + torch.arange(self.height)  # [B, height]
        degraded = torch.einsum("kbhn,bnw->bkhw", self.lines.degrade[:, rows], blocks)
        sharp = blocks.gather(1, rows[:, :, None].expand(-1, -1, self.width))
        return degraded, sharp[:, None]

    def _block(self) -> tuple[Float, int]:
        """Return lines [n, width] across an image, sharp, and the first row of the patch in them."""
        index, row, column = self.centres[self.rng.integers(len(self.centres))]
        image = self.images[index]
        if self.rng.random() < 0.5:
            image, row, column = image.T, column, row
        if self.rng.random() < 0.5:
            image, row = image[::-1], image.shape[0] - 1 - row
        if self.rng.random() < 0.5:
            image, column = image[:, ::-1], image.shape[1] - 1 - column
        start = self._start(int(row), image.shape[0])
        positions = np.clip(np.arange(start, start + self.voxels), 0, image.shape[0] - 1)  # edges repeat beyond it
        left = self._first(int(column), self.width, image.shape[1])
        return image[positions, left : left + self.width], self._first(row - start, self.height, self.voxels)

    def _start(self, row: int, length: int) -> int:
        """Return where in an image a line begins that holds the row, at a random place of the line."""
        spare = length - self.voxels
        least, most = min(0, spare) - self.lines.shift, max(0, spare) + self.lines.shift
        return int(np.clip(row - self.rng.integers(self.voxels), least, most))

    def _first(self, at: int, size: int, length: int) -> int:
        """Return the first of `size` places, out of `length`, that hold the place `at`, at random."""
        return int(np.clip(at - self.rng.integers(size), 0, length - size))
