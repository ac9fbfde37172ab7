"""The way from a scan to a network's input, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
from torch import Tensor

from bida.transforms.base import ScanImage, VolumeStep
from bida.transforms.load import LoadScan
from bida.transforms.orient import OrientRAS
from bida.transforms.plan import PlanScan

Record = tuple[VolumeStep, Mapping[str, Any]]


class Way:
    """Load a scan, turn it to RAS, plan, and take the steps after that; volumes on their grid are taken back.

    Args:
        load: reads the scan.
        plan: says what is done with it.
        steps: what is done.
    """

    def __init__(self, load: LoadScan, plan: PlanScan, steps: Sequence[VolumeStep] = ()) -> None:
        """Keep the steps."""
        self.load, self.plan, self.steps = load, plan, steps

    def there(self, source: str | Path | nib.Nifti1Pair) -> tuple[ScanImage, list[Record]]:
        """Return the last step's image of a scan, and what the steps recorded."""
        records: list[Record] = []
        orient = OrientRAS()
        image, record = orient.forward(self.load(source))
        records.append((orient, record))
        image = self.plan(image)
        for step in self.steps:
            image, record = step.forward(image)
            records.append((step, record))
        return image, records


def back(volume: Tensor, image: ScanImage, records: Sequence[Record]) -> ScanImage:
    """Return a volume [R, A, S] on an image's grid as the scan lies, with the image's meta and the steps' notes."""
    undone = replace(image, data=volume[None])
    for step, record in reversed(records):
        undone = step.backward(undone, record)
    return undone
