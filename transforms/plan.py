"""Plan what is done with a scan."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform

from bida.io.scan import read_affine
from bida.physics.grid import grids_to_json
from bida.physics.grid_like import ImageGrid
from bida.physics.plan import PlanOptions, plan_scan
from bida.transforms.base import add_warnings, affine_of, replaced


class PlanScand(MapTransform):
    """Put the plan for a scan [1, R, A, S] into its meta: `slice_geometry`, `target_grids`, more `warnings`.

    The voxels stay as they are. The affine changes where an option or the sidecar corrects the slice spacing.

    Raises:
        ScanError, SettingsError: see `bida.physics.plan.plan_scan`.
    """

    def __init__(
        self, keys: KeysCollection, options: PlanOptions | None = None, allow_missing_keys: bool = False
    ) -> None:
        """Keep the options."""
        super().__init__(keys, allow_missing_keys)
        self.options = options or PlanOptions()

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Plan every key."""
        d = dict(data)
        file = self.options.like
        like = None if file is None else ImageGrid(str(file), *read_affine(file))
        for key in self.key_iterator(d):
            image = d[key]
            plan = plan_scan(
                image.shape[1:],
                affine_of(image),
                self.options,
                like=like,
                sidecar=json.loads(image.meta.get("sidecar", "{}")),
                name=str(image.meta.get("filename_or_obj", "scan")),
            )
            d[key] = replaced(
                image,
                image,
                plan.affine,
                slice_geometry=plan.geometry.to_json(),
                target_grids=grids_to_json(plan.grids),
                warnings=add_warnings(image, plan.warnings),
            )
        return d
