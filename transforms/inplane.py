"""Bring the in-plane axes to the voxel size of the result."""

from __future__ import annotations

from typing import Any

import torch
from monai.data.meta_tensor import MetaTensor

from bida.physics.grid import AxisGrid, resampled_affine, spacing_of
from bida.physics.interpolation import resample
from bida.transforms.base import VolumeTransform, affine_of, changed_in_plane, replaced, target_grids


class ResampleInPlaned(VolumeTransform):
    """Resample the two in-plane axes of a scan [1, R, A, S] to its target grids, by cubic B-splines.

    Backward leaves the volume where it is: the result belongs on the target grids.
    """

    def forward(self, image: MetaTensor) -> tuple[MetaTensor, dict[str, Any]]:
        """Resample."""
        affine, shape = affine_of(image), image.shape[1:]
        spacing, wanted, changed = spacing_of(affine), target_grids(image), changed_in_plane(image)
        if not changed:
            return replaced(image, image), {}
        grids = [wanted[k] if k in changed else AxisGrid(shape[k], spacing[k]) for k in range(3)]
        volume = torch.from_numpy(resample(image[0].cpu().numpy(), spacing, grids))
        return replaced(image, volume[None], resampled_affine(affine, shape, spacing, grids)), {}

    def backward(self, image: MetaTensor, record: dict[str, Any]) -> MetaTensor:
        """Keep the target grids."""
        return image
