"""Bring the in-plane axes to the voxel size of the result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from bida.physics.grid import AxisGrid, resampled_affine, spacing_of
from bida.physics.interpolation import interpolation_matrix, resample
from bida.transforms.base import ScanImage, VolumeStep, changed_in_plane, noted, replaced, target_grids


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
        out = replaced(image, volume[None], resampled_affine(affine, shape, spacing, grids))
        if "noise" in image.meta:
            out = noted(out, noise=float(image.meta["noise"]) * self._left(image, grids, changed))
        return out, {}

    def _left(self, image: ScanImage, grids: Sequence[AxisGrid], changed: Sequence[int]) -> float:
        """Return how much of the noise of voxels interpolation leaves: the root of its rows' mean square sum."""
        spacing = spacing_of(image.affine)
        rows = (interpolation_matrix(image.shape[k], spacing[k], grids[k]) for k in changed)
        return float(np.prod([np.sqrt(np.square(matrix).sum(axis=1).mean()) for matrix in rows]))

    def backward(self, image: ScanImage, record: Mapping[str, Any]) -> ScanImage:
        """Keep the target grids."""
        return image
