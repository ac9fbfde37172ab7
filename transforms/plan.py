"""Plan what is done with a scan."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial

from bida.io.scan import read_affine
from bida.physics.grid import grids_to_json
from bida.physics.grid_like import ImageGrid
from bida.physics.plan import PlanOptions, plan_scan
from bida.physics.slice_gains import slice_gains
from bida.physics.thickness import ThicknessEstimate, estimate_thickness
from bida.transforms.base import ScanImage, add_warnings, replaced


class PlanScan:
    """Put the plan for a scan [1, R, A, S] into its meta: `slice_geometry`, `target_grids`, more `warnings`.

    Beside them `thickness_from`, and in `thickness_estimate`, JSON, what the scan says of its slice thickness; null
    where it was not asked, for the thickness is known. The voxels stay as they are. The affine changes where an option
    or the sidecar corrects the slice spacing.
    """

    def __init__(self, options: PlanOptions | None = None) -> None:
        """Keep the options."""
        self.options = options or PlanOptions()

    def __call__(self, image: ScanImage) -> ScanImage:
        """Plan an image.

        Raises:
            ScanError, SettingsError: see `bida.physics.plan.plan_scan`.
        """
        file = self.options.like
        plan = plan_scan(
            image.shape,
            image.affine,
            self.options,
            like=None if file is None else ImageGrid(str(file), *read_affine(file)),
            sidecar=json.loads(image.meta.get("sidecar", "{}")),
            name=str(image.meta.get("filename_or_obj", "scan")),
            estimate=partial(self._estimate, image),
        )
        return replaced(
            image,
            image.data,
            plan.affine,
            slice_geometry=plan.geometry.to_json(),
            target_grids=grids_to_json(plan.grids),
            thickness_from=plan.thickness_from,
            thickness_estimate=json.dumps(None if plan.estimate is None else plan.estimate.record()),
            warnings=add_warnings(image, plan.warnings),
        )

    def _estimate(self, image: ScanImage, spacings_mm: Sequence[float], axis: int) -> ThicknessEstimate:
        """Return what a scan says of its slice thickness, its slices as bright as each other: edges go across them."""
        slices = image.numpy()
        even = slice_gains(slices, axis).evened(slices, axis)
        return estimate_thickness(even, spacings_mm, axis, profile=str(self.options.profile))
