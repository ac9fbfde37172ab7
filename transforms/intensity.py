"""Map intensities to the range that the prior knows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bida.errors import ScanError, SettingsError
from bida.transforms.base import ScanImage, VolumeStep, replaced


class NormalizePercentiles(VolumeStep):
    """Map the p-th percentiles of a volume to -1 and 1 by a line, without clipping.

        x = 2 (y - low) / (high - low) - 1

    `intensity_low` and `intensity_high` go into the meta; a standard deviation sigma of the scan's intensities is
    2 sigma / (high - low) after it. MONAI's `ScaleIntensityRangePercentiles` has no inverse, this one is exact.

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
        low, high = (float(p) for p in np.percentile(values.cpu().numpy(), (self.lower, self.upper)))
        if not high > low:
            name = image.meta.get("filename_or_obj", "scan")
            raise ScanError(
                f"{name}: intensities must differ between percentiles {self.lower:g} and {self.upper:g}, "
                f"got {low:g} at both; crop the background"
            )
        out = replaced(image, 2 * (values - low) / (high - low) - 1, intensity_low=low, intensity_high=high)
        return out, {"low": low, "high": high}

    def backward(self, image: ScanImage, record: Mapping[str, Any]) -> ScanImage:
        """Return to the scan's intensities."""
        low, high = record["low"], record["high"]
        return replaced(image, (image.data.double() + 1) / 2 * (high - low) + low)
