"""Map intensities to the range that the prior knows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bida.errors import ScanError, SettingsError
from bida.transforms.base import ScanImage, VolumeStep, replaced

SMALL, USUAL = 0.1, 0.3  # shares of the field that differ from its background: below the first a head is small in it
# median deviations from the background beyond which a voxel differs: Rician air is there at 6 sigma, one voxel of 10^8
NOISE = 10.0


class NormalizePercentiles(VolumeStep):
    """Map the p-th percentiles of a volume to -1 and 1 by a line, without clipping.

        x = 2 (y - low) / (high - low) - 1

    `intensity_low` and `intensity_high` go into the meta; a standard deviation sigma of the scan's intensities is
    2 sigma / (high - low) after it. MONAI's `ScaleIntensityRangePercentiles` has no inverse, this one is exact.

    Where less than a tenth of the field differs from its background, and none of its faces, the upper percentile is
    that of what differs, as it would be were that `USUAL` of the field: the prior learnt from heads that fill theirs.

    Args:
        lower, upper: percentiles, 0 <= lower < upper <= 100.

    Raises:
        SettingsError: percentiles out of range.
        ScanError: the two percentiles of a volume are equal.
    """

    def __init__(self, lower: float = 1.0, upper: float = 99.0) -> None:
        """Check and keep the settings."""
        if not 0 <= lower < upper <= 100:
            raise SettingsError(f"percentiles must satisfy 0 <= lower < upper <= 100, got {lower} and {upper}")
        self.lower, self.upper = lower, upper

    def forward(self, image: ScanImage) -> tuple[ScanImage, dict[str, Any]]:
        """Normalise."""
        values = image.data.double()
        low, high = self._ends(values.cpu().numpy())
        if not high > low:
            name = image.meta.get("filename_or_obj", "scan")
            raise ScanError(
                f"{name}: intensities must differ between percentiles {self.lower:g} and {self.upper:g}, "
                f"got {low:g} at both; crop the background"
            )
        out = replaced(image, 2 * (values - low) / (high - low) - 1, intensity_low=low, intensity_high=high)
        return out, {"low": low, "high": high}

    def _ends(self, values: NDArray[np.float64]) -> tuple[float, float]:
        """Return what -1 and 1 are mapped from."""
        low, high = (float(p) for p in np.percentile(values, (self.lower, self.upper)))
        faces = [np.take(values, end, axis) for axis in (-3, -2, -1) for end in (0, -1)]
        border = np.concatenate([face.ravel() for face in faces])
        level = np.median(border)
        noise = np.median(np.abs(border - level))
        uneven = max(abs(np.median(face) - level) for face in faces) > noise  # the head reaches a face
        inside = np.abs(values - level) > NOISE * noise
        touches = 10 * (np.abs(border - level) > NOISE * noise).mean() > inside.mean()
        if uneven or touches or not 0 < inside.mean() < SMALL:
            return low, high
        return low, float(np.percentile(values[inside], max(100 - (100 - self.upper) / USUAL, 0.0)))

    def backward(self, image: ScanImage, record: Mapping[str, Any]) -> ScanImage:
        """Return to the scan's intensities."""
        low, high = record["low"], record["high"]
        values = image.data.to(torch.float64, copy=True)
        return replaced(image, values.add_(1).div_(2).mul_(high - low).add_(low))
