"""What the transforms of this package share: the loop over keys, the trace, and the meta that a scan carries.

The meta of an image holds plain values alone, so that MONAI can collate it: numbers, arrays and strings, with
`slice_geometry`, `target_grids`, `sidecar`, `warnings` and `padding` as JSON.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from monai.transforms import InvertibleTransform, MapTransform
from monai.utils import TraceKeys
from numpy.typing import NDArray
from torch import Tensor

from bida.errors import SettingsError
from bida.physics.geometry import SliceGeometry
from bida.physics.grid import AxisGrid, grids_from_json, spacing_of
from bida.physics.interpolation import changed_axes


class VolumeTransform(MapTransform, InvertibleTransform):
    """A dictionary transform of [1, R, A, S] volumes: subclasses write `forward` and `backward`."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Apply `forward` to every key, and record what `backward` needs."""
        d = dict(data)
        for key in self.key_iterator(d):
            image, extra = self.forward(d[key])
            self.push_transform(image, orig_size=d[key].shape[1:], extra_info=extra)
            d[key] = image
        return d

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Apply `backward` to every key, from what `forward` recorded alone."""
        d = dict(data)
        for key in self.key_iterator(d):
            record = self.pop_transform(d[key])
            d[key] = self.backward(d[key], record.get(TraceKeys.EXTRA_INFO, {}))
        return d

    @abstractmethod
    def forward(self, image: MetaTensor) -> tuple[MetaTensor, dict[str, Any]]:
        """Return the new image and the record for `backward`: strings, numbers and arrays."""

    @abstractmethod
    def backward(self, image: MetaTensor, record: dict[str, Any]) -> MetaTensor:
        """Undo `forward` on the scan or on a volume made from it."""


def replaced(image: MetaTensor, data: Tensor, affine: NDArray | None = None, **meta: Any) -> MetaTensor:
    """Return new float32 data with the meta and the trace of `image`, a new affine and more meta where given."""
    plain = data.as_subclass(Tensor).to(torch.float32)
    out = MetaTensor(plain, meta={**image.meta, **meta}, applied_operations=list(image.applied_operations))
    if affine is not None:
        out.affine = torch.as_tensor(np.asarray(affine), dtype=torch.float64)
    return out


def affine_of(image: MetaTensor) -> NDArray[np.float64]:
    """Return the 4 x 4 affine of an image."""
    return np.asarray(image.affine.cpu().numpy(), dtype=np.float64)


def geometry_of(image: MetaTensor) -> SliceGeometry:
    """Return the geometry that `PlanScand` (or `SimulateSlicesd`) left on an image.

    Raises:
        SettingsError: there is none.
    """
    if "slice_geometry" not in image.meta:
        raise SettingsError("image: meta must hold slice_geometry, it does not; put PlanScand before this transform")
    return SliceGeometry.from_json(image.meta["slice_geometry"])


def target_grids(image: MetaTensor) -> tuple[AxisGrid, AxisGrid, AxisGrid]:
    """Return the grids of the result on R, A and S that `PlanScand` left on an image.

    Raises:
        SettingsError: there are none.
    """
    if "target_grids" not in image.meta:
        raise SettingsError("image: meta must hold target_grids, it does not; put PlanScand before this transform")
    return grids_from_json(image.meta["target_grids"])


def changed_in_plane(image: MetaTensor) -> list[int]:
    """Return the in-plane axes that have yet to be resampled to the target grids."""
    through = geometry_of(image).axis
    changed = changed_axes(image.shape[1:], spacing_of(affine_of(image)), target_grids(image))
    return [axis for axis in changed if axis != through]


def add_warnings(image: MetaTensor, warnings: Sequence[str]) -> str:
    """Return the `warnings` meta of an image with more of them, as JSON."""
    return json.dumps([*json.loads(image.meta.get("warnings", "[]")), *warnings])
