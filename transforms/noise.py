"""Note how much noise the slices of a scan have."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from bida.transforms.base import ScanImage, VolumeStep, add_warnings, geometry_of, noted

EXACT_SNR = 100.0  # above it slices count as exact: what is left of their error is not worth telling from structure


class MeasureNoise(VolumeStep):
    """Put the standard deviation of a slice's noise into the meta of a scan [1, R, A, S], `noise`.

    It is in the intensities that the image has: steps that change them change it, too. How it was found goes into
    `noise_level`, JSON: its `sigma` on the scan's own intensities, `snr`, and where it is from (`source`): ``given``,
    ``background`` or ``slices`` (`bida.physics.noise_level`). The voxels stay as they are.

    Args:
        noise: the standard deviation in the scan's intensities, or ``auto`` to estimate it.
    """

    def __init__(self, noise: float | str = "auto") -> None:
        """Keep the choice."""
        self.noise = noise

    def forward(self, image: ScanImage) -> tuple[ScanImage, dict[str, Any]]:
        """Estimate."""
        if not isinstance(self.noise, str):
            level = {"sigma": float(self.noise), "snr": None, "source": "given"}
            return noted(image, noise=float(self.noise), noise_level=json.dumps(level)), {}
        from bida.physics.noise_level import estimate_noise

        found = estimate_noise(image.numpy(), geometry_of(image).axis)
        if found is None:
            note = (
                "the noise of this scan can't be told, and its slices are taken as exact: where they are noisy, give "
                "--noise SIGMA"
            )
            out = noted(image, noise=0.0, noise_level=json.dumps(None), warnings=add_warnings(image, [note]))
            return out, {}
        sigma = found.sigma if found.snr < EXACT_SNR else 0.0
        return noted(image, noise=sigma, noise_level=json.dumps(found.record())), {}

    def backward(self, image: ScanImage, record: Mapping[str, Any]) -> ScanImage:
        """Change nothing."""
        return image
