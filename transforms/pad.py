"""Pad a volume to sizes that a network takes, and crop it back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from bida.errors import SettingsError
from bida.transforms.base import ScanImage, VolumeStep, geometry_of, replaced


class PadToNetwork(VolumeStep):
    """Pad all three axes of A+ y [1, R, A, S] to a multiple and a minimum size.

    In-plane axes are reflected. The through-plane axis is padded by zeros, and the geometry in the meta says so: no
    slice sees those voxels, so that y = A (A+ y) still holds. The voxels added before and after each axis go into the
    meta as `padding`. Backward crops and takes the padding out of geometry and affine.

    Args:
        multiple: every size becomes a multiple of it, the network's stride.
        minimum: least size, voxels; one number or one an axis (R, A, S).

    Raises:
        SettingsError: `multiple` or `minimum` is below 1.
    """

    def __init__(self, multiple: int = 8, minimum: int | Sequence[int] = 64) -> None:
        """Check and keep the settings."""
        self.multiple = multiple
        self.minimum = [minimum] * 3 if isinstance(minimum, int) else list(minimum)
        if multiple < 1 or len(self.minimum) != 3 or min(self.minimum) < 1:
            raise SettingsError(f"multiple and minimum must be >= 1 (minimum one or three), got {multiple}, {minimum}")

    def _margins(self, size: int, minimum: int) -> tuple[int, int]:
        """Return the voxels added before and after an axis."""
        extra = -(-max(size, minimum) // self.multiple) * self.multiple - size
        return extra // 2, extra - extra // 2

    def forward(self, image: ScanImage) -> tuple[ScanImage, dict[str, Any]]:
        """Pad."""
        geometry = geometry_of(image)
        margins = [self._margins(size, least) for size, least in zip(image.shape, self.minimum, strict=True)]
        volume = image.numpy()
        for axis, margin in enumerate(margins):
            width = [margin if k == axis else (0, 0) for k in range(3)]
            volume = np.pad(volume, width, mode="constant" if axis == geometry.axis else "reflect")
        out = replaced(
            image,
            torch.from_numpy(volume)[None],
            _shifted(image.affine, [-before for before, _ in margins]),
            slice_geometry=geometry.padded(*margins[geometry.axis]).to_json(),
            padding=json.dumps(margins),
        )
        return out, {"margins": np.array(margins)}

    def backward(self, image: ScanImage, record: Mapping[str, Any]) -> ScanImage:
        """Crop."""
        margins = [(int(before), int(after)) for before, after in record["margins"]]
        inside = tuple(slice(b, size - a) for (b, a), size in zip(margins, image.shape, strict=True))
        return replaced(
            image,
            image.data[(slice(None), *inside)],
            _shifted(image.affine, [before for before, _ in margins]),
            slice_geometry=geometry_of(image).unpadded().to_json(),
            padding=json.dumps([(0, 0)] * 3),
        )


def _shifted(affine: np.ndarray, voxels: Sequence[int]) -> np.ndarray:
    """Return the affine of a volume whose first voxel is moved by `voxels`."""
    moved = affine.copy()
    moved[:3, 3] += affine[:3, :3] @ np.asarray(voxels, dtype=np.float64)
    return moved
