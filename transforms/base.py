"""What the steps from a scan to a network's input share: the image, the base of a step, and the notes on an image.

The meta of an image holds plain values alone, so that MONAI can collate it: numbers, arrays and strings, with
`slice_geometry`, `target_grids`, `sidecar`, `warnings` and `padding` as JSON. No MONAI is imported here: it takes
seconds to import, and `bida superres` does without (`dictionary` makes MONAI transforms of the steps).
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bida.errors import SettingsError
from bida.physics.geometry import SliceGeometry
from bida.physics.grid import AxisGrid, grids_from_json, spacing_of
from bida.physics.interpolation import changed_axes


@dataclass(frozen=True)
class ScanImage:
    """A volume, where it lies, and what the steps noted of it.

    Attributes:
        data: [1, X, Y, Z], float32.
        affine: 4 x 4, voxel index to mm.
        meta: plain values.
    """

    data: Tensor
    affine: NDArray[np.float64]
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return the voxels on each axis."""
        x, y, z = self.data.shape[1:]
        return x, y, z

    def numpy(self) -> NDArray[np.float32]:
        """Return the volume as an array [X, Y, Z]."""
        array: NDArray[np.float32] = self.data[0].cpu().numpy()
        return array


class VolumeStep(ABC):
    """A step on volumes [1, R, A, S] and its inverse, which knows only what the step recorded."""

    @abstractmethod
    def forward(self, image: ScanImage) -> tuple[ScanImage, dict[str, Any]]:
        """Return the new image and the record for `backward`: strings, numbers and arrays."""

    @abstractmethod
    def backward(self, image: ScanImage, record: Mapping[str, Any]) -> ScanImage:
        """Undo `forward` on the scan or on a volume made from it."""


def replaced(image: ScanImage, data: Tensor, affine: NDArray | None = None, **meta: Any) -> ScanImage:
    """Return new data, as float32, with the meta of an image, a new affine and more meta where given."""
    where = image.affine if affine is None else np.asarray(affine, dtype=np.float64)
    return ScanImage(data.to(torch.float32), where, {**image.meta, **meta})


def noted(image: ScanImage, **meta: Any) -> ScanImage:
    """Return an image with more meta."""
    return replace(image, meta={**image.meta, **meta})


def emptied(image: ScanImage) -> ScanImage:
    """Return an image without its voxels: the way back needs its place and notes alone."""
    return replace(image, data=image.data[..., :0].clone())


def geometry_of(image: ScanImage) -> SliceGeometry:
    """Return the geometry that `PlanScan` (or a simulation) left on an image.

    Raises:
        SettingsError: there is none.
    """
    if "slice_geometry" not in image.meta:
        raise SettingsError("image: meta must hold slice_geometry, it does not; put PlanScan before this step")
    return SliceGeometry.from_json(image.meta["slice_geometry"])


def target_grids(image: ScanImage) -> tuple[AxisGrid, AxisGrid, AxisGrid]:
    """Return the grids of the result on R, A and S that `PlanScan` left on an image.

    Raises:
        SettingsError: there are none.
    """
    if "target_grids" not in image.meta:
        raise SettingsError("image: meta must hold target_grids, it does not; put PlanScan before this step")
    return grids_from_json(image.meta["target_grids"])


def changed_in_plane(image: ScanImage) -> list[int]:
    """Return the in-plane axes that have yet to be resampled to the target grids."""
    through = geometry_of(image).axis
    changed = changed_axes(image.shape, spacing_of(image.affine), target_grids(image))
    return [axis for axis in changed if axis != through]


def add_warnings(image: ScanImage, warnings: Sequence[str]) -> str:
    """Return the `warnings` meta of an image with more of them, as JSON."""
    return json.dumps([*json.loads(image.meta.get("warnings", "[]")), *warnings])
