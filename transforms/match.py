"""Remember the scan, and make the result agree with it at the end."""

from __future__ import annotations

from typing import Any

from monai.data.meta_tensor import MetaTensor

from bida.physics.operators import SliceOperator
from bida.transforms.base import VolumeTransform, changed_in_plane, geometry_of, replaced


class MatchScand(VolumeTransform):
    """Project the result once more onto the scan's own intensities.

    Forward remembers the scan y [1, R, A, S] and changes nothing. Backward takes the result x on the scan's
    intensities:

        x - A+ (A x - y)

    and puts `scan_residual`, max |A x - y| / range(y), into the meta. Where the in-plane grid was resampled, or the
    result stays on bias-corrected intensities (`CorrectBiasd(restore=False)`), y is no longer what A x should be: the
    result stays as it is, without that entry.
    """

    def forward(self, image: MetaTensor) -> tuple[MetaTensor, dict[str, Any]]:
        """Remember the scan."""
        record = {"scan": image.as_tensor().clone(), "same_grid": int(not changed_in_plane(image))}
        return replaced(image, image), record

    def backward(self, image: MetaTensor, record: dict[str, Any]) -> MetaTensor:
        """Project onto the remembered scan."""
        if not record["same_grid"] or image.meta.get("bias_corrected", 0):
            return image
        operator = SliceOperator.build(geometry_of(image))
        dim = operator.axis + 1
        y = record["scan"].to(image.device)
        x = operator.project(image, y, dim=dim)
        residual = (operator.forward(x, dim=dim) - y).abs().max() / (y.max() - y.min())
        return replaced(image, x, scan_residual=float(residual))
