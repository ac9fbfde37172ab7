"""Load a scan as a MetaTensor."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data.meta_tensor import MetaTensor
from monai.transforms import MapTransform

from bida.io.scan import read_scan


class LoadScand(MapTransform):
    """Read and check a scan: path or NIfTI image -> [1, X, Y, Z] float32 in the file's orientation.

    Args:
        keys: keys of the paths.
        volume: which volume of a 4D file, from 0.
        scale_header: divide voxel sizes and origin by this factor.
        allow_missing_keys: pass over missing keys.

    Raises:
        ScanError: see `bida.io.scan.read_scan`.
    """

    def __init__(
        self,
        keys: KeysCollection,
        volume: int | None = None,
        scale_header: float | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        """Check and keep the settings."""
        super().__init__(keys, allow_missing_keys)
        self.volume, self.scale_header = volume, scale_header

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replace every path by its image."""
        d = dict(data)
        for key in self.key_iterator(d):
            scan = read_scan(d[key], self.volume, self.scale_header)
            affine = torch.from_numpy(scan.affine)
            meta = {
                "filename_or_obj": str(scan.path),
                "original_affine": affine.clone(),
                "original_channel_dim": "no_channel",
                "spatial_shape": np.asarray(scan.data.shape),
                "space": "RAS",
                "on_disk_dtype": str(scan.dtype),
                "sidecar": json.dumps(scan.sidecar),
                "warnings": json.dumps(scan.warnings),
            }
            d[key] = MetaTensor(torch.from_numpy(scan.data)[None], affine=affine, meta=meta)
        return d
