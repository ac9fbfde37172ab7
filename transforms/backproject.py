"""From slices to the smallest volume that has them."""

from __future__ import annotations

from typing import Any

from monai.data.meta_tensor import MetaTensor

from bida.physics.grid import AxisGrid, resampled_affine, spacing_of
from bida.physics.operators import SliceOperator
from bida.transforms.base import VolumeTransform, affine_of, geometry_of, replaced


class BackProjectd(VolumeTransform):
    """Map slices y [1, R, A, S] to A+ y on the result's grid; the affine follows.

    Backward leaves the volume on that grid: it is the product. It puts `sampler_residual`, max |A x - y| / range(y) in
    the space in which the volume was sampled, into the meta.
    """

    def forward(self, image: MetaTensor) -> tuple[MetaTensor, dict[str, Any]]:
        """Apply the pseudo-inverse."""
        geometry = geometry_of(image)
        operator = SliceOperator.build(geometry)
        affine, shape = affine_of(image), image.shape[1:]
        spacing = spacing_of(affine)
        grids = [AxisGrid(shape[k], spacing[k]) for k in range(3)]
        grids[geometry.axis] = AxisGrid(geometry.voxels, geometry.voxel_mm, geometry.offset_mm)
        volume = operator.pinv(image, dim=geometry.axis + 1)
        return replaced(image, volume, resampled_affine(affine, shape, spacing, grids)), {"slices": image.as_tensor()}

    def backward(self, image: MetaTensor, record: dict[str, Any]) -> MetaTensor:
        """Keep the result's grid, and measure how far A x is from the slices."""
        operator = SliceOperator.build(geometry_of(image))
        y = record["slices"].to(image.device)
        residual = (operator.forward(image, dim=operator.axis + 1) - y).abs().max() / (y.max() - y.min())
        return replaced(image, image, sampler_residual=float(residual))
