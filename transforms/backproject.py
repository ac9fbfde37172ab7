"""From slices to the smallest volume that has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bida.physics.grid import AxisGrid, resampled_affine, spacing_of
from bida.physics.operators import SliceOperator
from bida.transforms.base import ScanImage, VolumeStep, geometry_of, noted, replaced


class BackProject(VolumeStep):
    """Map slices y [1, R, A, S] to A+ y on the result's grid; the affine follows.

    Backward leaves the volume on that grid: it is the product. It puts `sampler_residual`, max |A x - y| / range(y) of
    the slices that hold a measurement in the space in which the volume was sampled, into the meta.
    """

    def forward(self, image: ScanImage) -> tuple[ScanImage, dict[str, Any]]:
        """Apply the pseudo-inverse."""
        geometry = geometry_of(image)
        operator = SliceOperator.build(geometry)
        affine, shape = image.affine, image.shape
        spacing = spacing_of(affine)
        grids = [AxisGrid(shape[k], spacing[k]) for k in range(3)]
        grids[geometry.axis] = AxisGrid(geometry.voxels, geometry.voxel_mm, geometry.offset_mm)
        volume = operator.pinv(image.data, dim=geometry.axis + 1)
        return replaced(image, volume, resampled_affine(affine, shape, spacing, grids)), {"slices": image.data}

    def backward(self, image: ScanImage, record: Mapping[str, Any]) -> ScanImage:
        """Keep the result's grid, and measure how far A x is from the slices."""
        operator = SliceOperator.build(geometry_of(image))
        y = record["slices"].to(image.data.device)
        return noted(image, sampler_residual=operator.residual(image.data, y, dim=operator.axis + 1))
