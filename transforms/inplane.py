"""Bring the in-plane axes to the voxel size of the result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from bida.physics.grid import AxisGrid, resampled_affine, spacing_of
from bida.physics.interpolation import resample
from bida.transforms.base import ScanImage, VolumeStep, changed_in_plane, replaced, target_grids


class ResampleInPlane(VolumeStep):
    """Resample the two in-plane axes of a scan [1, R, A, S] to its target grids, by cubic B-splines.

    Backward leaves the volume where it is: the result belongs on the target grids.
    """

    def forward(self, image: ScanImage) -> tuple[ScanImage, dict[str, Any]]:
        """Resample."""
        affine, shape = image.affine, image.shape
        spacing, wanted, changed = spacing_of(affine), target_grids(image), changed_in_plane(image)
        if not changed:
            return image, {}
        grids = [wanted[k] if k in changed else AxisGrid(shape[k], spacing[k]) for k in range(3)]
        volume = torch.from_numpy(resample(image.numpy(), spacing, grids))
        return replaced(image, volume[None], resampled_affine(affine, shape, spacing, grids)), {}

    def backward(self, image: ScanImage, record: Mapping[str, Any]) -> ScanImage:
        """Keep the target grids."""
        return image
