"""What a scanner does to a head, for training: thick slices, a surface coil, a limited field of view."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform
from torch import Tensor
from torch.nn.functional import avg_pool1d, interpolate, pad


class RandThickSlicesd(MapTransform, RandomizableTransform):
    """Average neighbouring voxels along one axis, and interpolate back linearly, as thick slices look when resampled.

    Args:
        keys: Volumes [1, X, Y, Z].
        largest: Most voxels in a slice, >= 2.
        axes: Probability of each axis.
        prob: Probability.
    """

    def __init__(
        self, keys: KeysCollection, largest: int = 6, axes: Sequence[float] = (0.2, 0.6, 0.2), prob: float = 0.6
    ) -> None:
        """Store the parameters."""
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        if largest < 2:
            raise ValueError(f"largest must be >= 2 voxels, got {largest}")
        self.largest, self.axes = largest, list(axes)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data, its volumes thick by chance."""
        self.randomize(None)
        result = dict(data)
        if self._do_transform:
            axis = 1 + int(self.R.choice(3, p=self.axes))
            size = int(self.R.randint(2, self.largest + 1))
            shift = int(self.R.randint(size))
            for key in self.key_iterator(result):
                result[key] = thicken(result[key], axis, size, shift)
        return result


def thicken(volume: Tensor, axis: int, size: int, shift: int = 0) -> Tensor:
    """Average every ``size`` voxels along an axis, the first slice ``shift`` voxels before it, and interpolate back."""
    lines = volume.movedim(axis, -1)
    voxels = lines.shape[-1]
    rows = pad(lines.reshape(-1, 1, voxels), (shift, 0), mode="replicate")
    slices = avg_pool1d(rows, size, ceil_mode=True)
    # slice centres are `size` apart: interpolate on exactly that grid, then cut what the slices have too much
    fine = interpolate(slices, scale_factor=float(size), mode="linear", align_corners=False)
    return fine[..., shift : shift + voxels].reshape(lines.shape).movedim(-1, axis)


class RandSurfaceCoild(MapTransform, RandomizableTransform):
    """Let the signal fall away from a coil above the head: exp(-distance / reach).

    Args:
        keys: Volumes [1, X, Y, Z], RAS.
        voxel_mm: Voxel size.
        reach_mm: Range of the length over which the signal falls to 1/e.
        prob: Probability.
    """

    def __init__(
        self, keys: KeysCollection, voxel_mm: float, reach_mm: Sequence[float] = (5.0, 30.0), prob: float = 0.5
    ) -> None:
        """Store the parameters."""
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        self.voxel_mm, self.reach_mm = voxel_mm, (float(reach_mm[0]), float(reach_mm[1]))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data, its volumes darker away from the coil by chance."""
        self.randomize(None)
        result = dict(data)
        if self._do_transform:
            shape = result[self.first_key(result)].shape[1:]
            place = self.R.uniform((0.2, 0.0, 0.8), (0.8, 1.0, 1.4)) * shape  # above the head's middle, voxels
            square = torch.zeros(tuple(shape))
            for axis, size in enumerate(shape):
                line = (torch.arange(size) - float(place[axis])).square()
                square += line.reshape([-1 if k == axis else 1 for k in range(3)])
            fall = torch.exp(-square.sqrt() * self.voxel_mm / float(self.R.uniform(self.reach_mm[0], self.reach_mm[1])))
            for key in self.key_iterator(result):
                result[key] = result[key] * fall
        return result


class RandFieldOfViewd(MapTransform, RandomizableTransform):
    """Set what lies beyond a random box to zero, as beyond the edge of a scan.

    Args:
        keys: Volumes [1, X, Y, Z], cut alike.
        margin: Largest share of an axis that is cut at either end.
        prob: Probability.
    """

    def __init__(self, keys: KeysCollection, margin: float = 0.3, prob: float = 0.4) -> None:
        """Store the parameters."""
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        if not 0 < margin < 0.5:
            raise ValueError(f"margin must be above 0 and below 0.5, got {margin}")
        self.margin = margin

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data, its volumes cut by chance."""
        self.randomize(None)
        result = dict(data)
        if self._do_transform:
            shape = result[self.first_key(result)].shape[1:]
            cuts = self.R.uniform(0, self.margin, (3, 2)) * (self.R.random_sample((3, 2)) < 0.5)
            box = torch.zeros(tuple(shape), dtype=torch.bool)
            box[tuple(slice(int(lo * n), n - int(hi * n)) for (lo, hi), n in zip(cuts, shape))] = True
            for key in self.key_iterator(result):
                result[key] = result[key] * box
        return result
