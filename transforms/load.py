"""Load a scan."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch

from bida.io.own_results import check_scan
from bida.io.scan import read_scan
from bida.transforms.base import ScanImage

OWN = ("series", "echo", "position", "subject")  # what single formats are asked


class LoadScan:
    """Read and check a scan: path or NIfTI image -> [1, X, Y, Z] float32 in the file's orientation.

    Args:
        volume: which volume of a 4D file, from 0.
        scale_header: divide voxel sizes and origin by this factor.
        labels: see `read_scan`; label maps and masks are refused by default.
        results: take results of bida, too.
        own: ``series``, ``echo``, ``position`` and ``subject``, of DICOM and ParaVision.
    """

    def __init__(
        self,
        volume: int | str | None = None,
        scale_header: float | None = None,
        labels: bool | None = False,
        results: bool = True,
        **own: Any,
    ) -> None:
        """Keep the settings."""
        self.volume, self.scale_header, self.labels, self.own = volume, scale_header, labels, own
        self.results = results

    @classmethod
    def of(cls, settings: Any) -> LoadScan:
        """Return it with what `bida.mri.settings.Settings` say."""
        own = {name: getattr(settings, name) for name in OWN}
        return cls(settings.volume, settings.scale_header, results=False, **own)

    def __call__(self, source: str | Path | nib.Nifti1Pair) -> ScanImage:
        """Return the image of a path.

        Raises:
            ScanError: see `bida.io.scan.read_scan`; a result, where none is taken.
        """
        if not self.results:
            check_scan(source)
        scan = read_scan(source, self.volume, self.scale_header, labels=self.labels, **self.own)
        meta = {
            "filename_or_obj": str(scan.path),
            "original_affine": torch.from_numpy(scan.affine.copy()),
            "original_channel_dim": "no_channel",
            "spatial_shape": np.asarray(scan.data.shape),
            "space": "RAS",
            "on_disk_dtype": str(scan.dtype),
            "sidecar": json.dumps(scan.sidecar),
            "warnings": json.dumps(scan.warnings),
        }
        return ScanImage(torch.from_numpy(scan.data)[None], scan.affine, meta)
