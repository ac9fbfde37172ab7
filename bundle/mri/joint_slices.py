"""The slices of several scans of one animal, what a volume leaves of them, and of one that was stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import nibabel as nib
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bida.mri.content import CONSTANT
from bida.mri.evidence import Leftover
from bida.physics.joint import JointOperator, LocatedScan
from bida.transforms.base import ScanImage, emptied
from bida.transforms.bias import level_in_tissue
from bida.transforms.way import Record, back


@dataclass(frozen=True)
class Shading:
    """The bias field of scans: the prior sees even volumes, while slices are those of uneven ones.

    A thick slice over the field in it is not the slice of the volume over the field, so that scans across each other
    contradict each other once it is divided out of them.

    Attributes:
        volume: the field on the volume's grid, without padding, [R, A, S].
        slices: at each scan's slices, of the shape of its y.
        zero: what intensity 0 is on the prior's scale.
    """

    volume: Tensor
    slices: Sequence[Tensor]
    zero: float

    def even(self, scan: LocatedScan, field: Tensor) -> LocatedScan:
        """Return a scan without the field at its slices."""
        level = level_in_tissue(scan.y.cpu().numpy(), field.cpu().numpy())
        return replace(scan, y=(scan.y - self.zero) / field + self.zero, noise=scan.noise / level)

    def to(self, device: torch.device) -> Shading:
        """Return it where a device computes."""
        return Shading(self.volume.to(device), [field.to(device) for field in self.slices], self.zero)


class JointSlices:
    """Slices of several scans, and the operator that makes them of one volume.

    Args:
        scans: in the world, as they were measured, the first one's grid being the volume's.
        shading: what the prior does not see of them; None for nothing.

    Attributes:
        scans: without their shading.
        operator: of the volume with its shading.

    Raises:
        SettingsError: a scan does not lie in the view of the first one, or is turned too far.
    """

    def __init__(self, scans: Sequence[LocatedScan], shading: Shading | None = None) -> None:
        """Make the operator."""
        self.scans, self.shading, first = list(scans), shading, scans[0]
        if shading is not None:
            self.scans = [shading.even(scan, field) for scan, field in zip(scans, shading.slices)]
        self.operator = JointOperator([scan.posed(first.affine, first.shape) for scan in scans])

    def differences(self, x: Tensor) -> list[Tensor]:
        """Return y_i - A_i x of every scan as it was measured, of a volume [R, A, S]."""
        if self.shading is not None:
            x = (x - self.shading.zero) * self.shading.volume + self.shading.zero
        return self.operator.residuals(x)

    def residuals(self, x: Tensor) -> list[float]:
        """Return max |A x - y| / (max y - min y) of every scan, of a volume [R, A, S]."""
        spans = [float((scan.y.max() - scan.y.min()).clamp(min=CONSTANT)) for scan in self.operator.scans]
        return [float(rest.abs().max()) / span for rest, span in zip(self.differences(x), spans)]

    def leftovers(self, x: Tensor) -> list[Leftover]:
        """Return what a volume [R, A, S] leaves of the slices of every scan that has noise."""
        return [
            Leftover.of(r, torch.where(seen > 0, scan.y, -1.0), scan.geometry.axis, posed.noise)
            for r, seen, scan, posed in zip(self.differences(x), self.operator.seen, self.scans, self.operator.scans)
            if scan.noise > 0
        ]


@dataclass(frozen=True)
class StoredScans:
    """Measure a volume against the scans that it was made of, once more: as it is stored.

    Attributes:
        scans, shading: see `JointSlices`, where any process can use them.
        image: of the way back, its voxels left out.
        records: of the steps of that.
        turn: from the result's axes to R, A and S, nibabel's orientation.
    """

    scans: Sequence[LocatedScan]
    shading: Shading | None
    image: ScanImage
    records: Sequence[Record]
    turn: NDArray

    @classmethod
    def of(
        cls,
        scans: Sequence[LocatedScan],
        shading: Shading | None,
        image: ScanImage,
        records: Sequence[Record],
        affine: NDArray[np.float64],
    ) -> StoredScans:
        """Return it for a result of an affine."""
        return cls(scans, shading, emptied(image), records, nib.orientations.io_orientation(affine))

    def __call__(self, volume: NDArray) -> float:
        """Return max |A x - y| over the range of y, the largest of the scans', for a volume [X, Y, Z]."""
        return max(JointSlices(self.scans, self.shading).residuals(self.inner(volume)))

    def told(self, volume: NDArray, record: Mapping[str, Any]) -> dict[str, Any]:
        """Return the entries of a run's record that say how far a volume [X, Y, Z] is from the scans."""
        slices, x = JointSlices(self.scans, self.shading), self.inner(volume)
        residuals, leftovers, scans = iter(slices.residuals(x)), iter(slices.leftovers(x)), []
        for scan in record["scans"]:
            if scan["joined"]:
                noisy = scan["residual_over_noise"] is not None
                left = next(leftovers).over_noise if noisy else None
                scan = {**scan, "residual": float(f"{next(residuals):.3g}"), "residual_over_noise": left}
            scans.append(scan)
        return {"scans": scans}

    def inner(self, volume: NDArray) -> Tensor:
        """Return a volume [X, Y, Z] as the sampler has it, [R, A, S] on the prior's scale.

        The way back changes each voxel by a factor and an offset of its own, which two volumes tell.
        """
        shape = self.scans[0].shape
        zero, one = (back(torch.full(shape, value), self.image, self.records) for value in (0.0, 1.0))
        turn = nib.orientations.io_orientation(zero.affine)
        low, high = (nib.orientations.apply_orientation(one.numpy().astype(np.float64), turn) for one in (zero, one))
        ras = nib.orientations.apply_orientation(volume, self.turn).astype(np.float64)
        return torch.from_numpy(np.ascontiguousarray((ras - low) / (high - low))).to(self.scans[0].y.dtype)
