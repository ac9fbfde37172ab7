"""Remember the scan, and make the result agree with it at the end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bida.physics.operators import SliceOperator
from bida.transforms.base import ScanImage, VolumeStep, changed_in_plane, geometry_of, replaced


class MatchScan(VolumeStep):
    """Project the result once more onto the scan's own intensities.

    Forward remembers the scan y [1, R, A, S] and changes nothing. Backward takes the result x on the scan's
    intensities:

        x - A+ (A x - y)

    and puts `scan_residual`, max |A x - y| / range(y) over the slices that hold a measurement, into the meta. Where
    `CorrectSlices` comes before, y is the scan as that left it. Where the in-plane grid was resampled, or the
    result stays on bias-corrected intensities (`CorrectBias(restore=False)`), y is no longer what A x should be: the
    result stays as it is, without that entry. The slices of a scan whose noise is known (`MeasureNoise`) are not
    met exactly: the entry alone is made.
    """

    def forward(self, image: ScanImage) -> tuple[ScanImage, dict[str, Any]]:
        """Remember the scan."""
        record = {"scan": image.data.clone(), "same_grid": int(not changed_in_plane(image))}
        record["geometry"] = image.meta["slice_geometry"]
        return image, record

    def backward(self, image: ScanImage, record: Mapping[str, Any]) -> ScanImage:
        """Project onto the remembered scan."""
        if not record["same_grid"] or image.meta.get("bias_corrected", 0):
            return image
        operator = SliceOperator.build(geometry_of(image))
        dim = operator.axis + 1
        y = record["scan"].to(image.data.device)
        noisy = float(image.meta.get("noise", 0.0)) > 0
        x = image.data if noisy else operator.project(image.data, y, dim=dim)
        return replaced(image, x, scan_residual=operator.residual(x, y, dim))
