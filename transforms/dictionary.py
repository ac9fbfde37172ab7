"""Steps as MONAI dictionary transforms, which invert them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data.meta_tensor import MetaTensor
from monai.transforms import Compose, InvertibleTransform, MapTransform
from monai.utils import TraceKeys
from torch import Tensor

from bida.transforms.base import ScanImage, VolumeStep
from bida.transforms.orient import OrientRAS
from bida.transforms.way import Way


def image_of(tensor: MetaTensor) -> ScanImage:
    """Return a MetaTensor [1, X, Y, Z] as an image."""
    affine = np.asarray(tensor.affine.cpu().numpy(), dtype=np.float64)
    meta = {key: value for key, value in tensor.meta.items() if key != "affine"}  # MONAI warns of two
    return ScanImage(tensor.as_subclass(Tensor), affine, meta)


def tensor_of(image: ScanImage, trace: Sequence[Any] = ()) -> MetaTensor:
    """Return an image as a MetaTensor with the trace of the transforms before."""
    affine = torch.as_tensor(image.affine, dtype=torch.float64)
    return MetaTensor(image.data, affine=affine, meta=dict(image.meta), applied_operations=list(trace))


class Applyd(MapTransform):
    """Apply what has no inverse to every key.

    Args:
        keys: of images, or of what is made an image of, such as paths.
        function: makes the new image.
        allow_missing_keys: pass over missing keys.
    """

    def __init__(
        self, keys: KeysCollection, function: Callable[[Any], ScanImage], allow_missing_keys: bool = False
    ) -> None:
        """Keep the function."""
        super().__init__(keys, allow_missing_keys)
        self.function = function

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Apply it to every key."""
        d = dict(data)
        for key in self.key_iterator(d):
            source = d[key]
            if isinstance(source, MetaTensor):
                d[key] = tensor_of(self.function(image_of(source)), source.applied_operations)
            else:
                d[key] = tensor_of(self.function(source))
        return d


class Stepd(MapTransform, InvertibleTransform):
    """Apply a step to every key, and undo it.

    Args:
        keys: of images [1, X, Y, Z].
        step: what is applied.
        allow_missing_keys: pass over missing keys.
    """

    def __init__(self, keys: KeysCollection, step: VolumeStep, allow_missing_keys: bool = False) -> None:
        """Keep the step."""
        super().__init__(keys, allow_missing_keys)
        self.step = step

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Apply `forward` to every key, and record what `backward` needs."""
        d = dict(data)
        for key in self.key_iterator(d):
            image, extra = self.step.forward(image_of(d[key]))
            tensor = tensor_of(image, d[key].applied_operations)
            self.push_transform(tensor, orig_size=d[key].shape[1:], extra_info=extra)
            d[key] = tensor
        return d

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Apply `backward` to every key, from what `forward` recorded alone."""
        d = dict(data)
        for key in self.key_iterator(d):
            record = self.pop_transform(d[key])
            image = self.step.backward(image_of(d[key]), record.get(TraceKeys.EXTRA_INFO, {}))
            d[key] = tensor_of(image, d[key].applied_operations)
        return d


def composed(way: Way, keys: KeysCollection = "image") -> Compose:
    """Return a way as one MONAI transform."""
    steps = [Stepd(keys, step) for step in way.steps]
    return Compose([Applyd(keys, way.load), Stepd(keys, OrientRAS()), Applyd(keys, way.plan), *steps])
