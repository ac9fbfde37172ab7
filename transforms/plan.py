"""Plan what is done with a scan."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform

from bida.io.scan import read_affine
from bida.physics.grid import grids_to_json
from bida.physics.grid_like import ImageGrid
from bida.physics.plan import plan_scan
from bida.transforms.base import add_warnings, affine_of, replaced


class PlanScand(MapTransform):
    """Put the plan for a scan [1, R, A, S] into its meta: `slice_geometry`, `target_grids`, more `warnings`.

    The voxels stay as they are. The affine changes where an option or the sidecar corrects the slice spacing.
    The arguments are those of `bida.physics.plan.plan_scan`, but that `like` is a file.

    Raises:
        ScanError, SettingsError: see `bida.physics.plan.plan_scan`.
    """

    def __init__(
        self,
        keys: KeysCollection,
        axis: str | None = None,
        factor: float | None = None,
        spacing: str | float = "auto",
        thickness_mm: float | None = None,
        gap_mm: float | None = None,
        profile: str = "slr",
        like: str | Path | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        """Check and keep the settings."""
        super().__init__(keys, allow_missing_keys)
        self.like = like
        self.options: dict[str, Any] = {
            "axis": axis,
            "factor": factor,
            "spacing": spacing,
            "thickness_mm": thickness_mm,
            "gap_mm": gap_mm,
            "profile": profile,
        }

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Plan every key."""
        d = dict(data)
        like = None if self.like is None else ImageGrid(str(self.like), *read_affine(self.like))
        for key in self.key_iterator(d):
            image = d[key]
            plan = plan_scan(
                image.shape[1:],
                affine_of(image),
                sidecar=json.loads(image.meta.get("sidecar", "{}")),
                name=str(image.meta.get("filename_or_obj", "scan")),
                like=like,
                **self.options,
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
