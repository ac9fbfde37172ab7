"""Turn a scan to right, anterior, superior, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import nibabel as nib
import numpy as np
import torch
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, ornt_transform

from bida.transforms.base import ScanImage, VolumeStep, replaced


class OrientRAS(VolumeStep):
    """Permute and mirror the axes of a scan so that they point right, anterior and superior, as closely as they can."""

    def forward(self, image: ScanImage) -> tuple[ScanImage, dict[str, Any]]:
        """Turn to RAS."""
        codes = "".join(nib.orientations.aff2axcodes(image.affine))
        return self._turned(image, codes, "RAS"), {"codes": codes}

    def backward(self, image: ScanImage, record: Mapping[str, Any]) -> ScanImage:
        """Turn back."""
        return self._turned(image, "RAS", record["codes"])

    def _turned(self, image: ScanImage, now: str, wanted: str) -> ScanImage:
        turn = ornt_transform(axcodes2ornt(now), axcodes2ornt(wanted))
        volume = np.ascontiguousarray(apply_orientation(image.numpy(), turn))
        return replaced(image, torch.from_numpy(volume)[None], image.affine @ inv_ornt_aff(turn, image.shape))
