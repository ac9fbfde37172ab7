"""Thick slices simulated from an isotropic volume, as the paper's experiments make them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data.meta_tensor import MetaTensor
from monai.transforms.transform import MapTransform

from bida.errors import SettingsError
from bida.physics.grid import AxisGrid, resampled_affine, spacing_of
from bida.physics.simulate import check_simulation, simulate_slices


class SimulateSlicesd(MapTransform):
    """Replace isotropic volumes by the thick slices that a scanner would have made of them.

    Takes MetaTensors [1, R, A, S] and returns them with m slices along `axis`, an affine that leaves every point of the
    head where it was, and `meta["slice_geometry"]`, the slices' `SliceGeometry` as JSON. There is no inverse: the
    detail is gone. Every volume gets the noise of the same seed.

    Args:
        keys: keys of the volumes.
        factor, axis, thickness_mm, profile, noise, seed, snr: as in `simulate_slices`.
        allow_missing_keys: skip keys that an item does not have.

    Raises:
        SettingsError: a value is out of its range, or an item is not a MetaTensor [1, R, A, S].
    """

    def __init__(
        self,
        keys: KeysCollection,
        factor: float,
        axis: int = 1,
        thickness_mm: float | None = None,
        profile: str = "slr",
        noise: float = 0.0,
        seed: int = 0,
        snr: float | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        """Check and keep the settings."""
        super().__init__(keys, allow_missing_keys)
        if axis not in (0, 1, 2):
            raise SettingsError(f"axis must be 0 (R), 1 (A) or 2 (S), got {axis}")
        check_simulation(factor, noise, seed, snr)
        self.axis, self.factor, self.thickness_mm = axis, factor, thickness_mm
        self.profile, self.noise, self.seed, self.snr = profile, noise, seed, snr

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Simulate the slices of every key."""
        out = dict(data)
        for key in self.key_iterator(out):
            out[key] = self._simulate(out[key], str(key))
        return out

    def _simulate(self, image: MetaTensor, key: str) -> MetaTensor:
        if not isinstance(image, MetaTensor) or image.ndim != 4 or image.shape[0] != 1:
            shape = tuple(getattr(image, "shape", ()))
            raise SettingsError(f"{key} must be a MetaTensor [1, R, A, S], got {type(image).__name__} of shape {shape}")
        affine = np.asarray(image.affine, dtype=np.float64)
        sizes_mm = spacing_of(affine)
        slices, geometry = simulate_slices(
            image.as_tensor()[0],
            sizes_mm[self.axis],
            self.axis,
            self.factor,
            self.thickness_mm,
            self.profile,
            self.noise,
            self.seed,
            self.snr,
        )
        shape = tuple(image.shape[1:])
        grids = [AxisGrid(voxels, size) for voxels, size in zip(shape, sizes_mm)]
        grids[self.axis] = AxisGrid(geometry.slices, geometry.slice_spacing_mm)
        result = MetaTensor(slices[None], meta=dict(image.meta), applied_operations=image.applied_operations)
        result.affine = torch.from_numpy(resampled_affine(affine, shape, sizes_mm, grids))
        result.meta["spatial_shape"] = np.asarray(result.shape[1:])
        result.meta["slice_geometry"] = geometry.to_json()
        return result
