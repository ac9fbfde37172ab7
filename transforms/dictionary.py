"""The steps as MONAI dictionary transforms, each with its inverse."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data.meta_tensor import MetaTensor
from monai.transforms import InvertibleTransform, MapTransform
from monai.utils import TraceKeys
from torch import Tensor

from bida.physics.plan import PlanOptions
from bida.transforms.backproject import BackProject
from bida.transforms.base import ScanImage, VolumeStep
from bida.transforms.bias import CorrectBias
from bida.transforms.inplane import ResampleInPlane
from bida.transforms.intensity import NormalizePercentiles
from bida.transforms.like import OrientLike
from bida.transforms.load import LoadScan
from bida.transforms.match import MatchScan
from bida.transforms.pad import PadToNetwork
from bida.transforms.plan import PlanScan


def image_of(tensor: MetaTensor) -> ScanImage:
    """Return a MetaTensor [1, X, Y, Z] as an image."""
    affine = np.asarray(tensor.affine.cpu().numpy(), dtype=np.float64)
    return ScanImage(tensor.as_subclass(Tensor), affine, dict(tensor.meta))


def tensor_of(image: ScanImage, trace: Sequence[Any] = ()) -> MetaTensor:
    """Return an image as a MetaTensor with the trace of the transforms before."""
    affine = torch.as_tensor(image.affine, dtype=torch.float64)
    return MetaTensor(image.data, affine=affine, meta=dict(image.meta), applied_operations=list(trace))


class NotedTransform(MapTransform):
    """Apply what has no inverse to every key."""

    apply: Callable[[Any], ScanImage]

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Apply it."""
        d = dict(data)
        for key in self.key_iterator(d):
            image = d[key]
            found = isinstance(image, MetaTensor)
            d[key] = tensor_of(
                self.apply(image_of(image) if found else image), image.applied_operations if found else ()
            )
        return d


class StepTransform(MapTransform, InvertibleTransform):
    """Apply a step to every key, and undo it."""

    step: VolumeStep

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


class LoadScand(NotedTransform):
    """Read and check the scan of every key, see `bida.transforms.load.LoadScan`."""

    def __init__(
        self,
        keys: KeysCollection,
        volume: int | None = None,
        scale_header: float | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        """Keep the settings."""
        super().__init__(keys, allow_missing_keys)
        self.apply = LoadScan(volume, scale_header)


class PlanScand(NotedTransform):
    """Plan what is done with the scan of every key, see `bida.transforms.plan.PlanScan`."""

    def __init__(
        self, keys: KeysCollection, options: PlanOptions | None = None, allow_missing_keys: bool = False
    ) -> None:
        """Keep the options."""
        super().__init__(keys, allow_missing_keys)
        self.apply = PlanScan(options)


class OrientLiked(NotedTransform):
    """Turn the result of every key into the orientation of a file, see `bida.transforms.like.OrientLike`."""

    def __init__(self, keys: KeysCollection, like: str | Path) -> None:
        """Read the file's affine."""
        super().__init__(keys)
        self.apply = OrientLike(like)


class MatchScand(StepTransform):
    """Make the results agree with the scans at the end, see `bida.transforms.match.MatchScan`."""

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        """Make the step."""
        super().__init__(keys, allow_missing_keys)
        self.step = MatchScan()


class CorrectBiasd(StepTransform):
    """Divide the scans' bias fields out, see `bida.transforms.bias.CorrectBias`."""

    def __init__(
        self, keys: KeysCollection, shrink: int = 4, restore: bool = True, allow_missing_keys: bool = False
    ) -> None:
        """Make the step."""
        super().__init__(keys, allow_missing_keys)
        self.step = CorrectBias(shrink, restore)


class ResampleInPlaned(StepTransform):
    """Bring the scans' in-plane axes to the result's voxels, see `bida.transforms.inplane.ResampleInPlane`."""

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        """Make the step."""
        super().__init__(keys, allow_missing_keys)
        self.step = ResampleInPlane()


class NormalizePercentilesd(StepTransform):
    """Map intensities to what the prior knows, see `bida.transforms.intensity.NormalizePercentiles`."""

    def __init__(
        self, keys: KeysCollection, lower: float = 1.0, upper: float = 99.0, allow_missing_keys: bool = False
    ) -> None:
        """Make the step."""
        super().__init__(keys, allow_missing_keys)
        self.step = NormalizePercentiles(lower, upper)


class BackProjectd(StepTransform):
    """Map slices to the smallest volume that has them, see `bida.transforms.backproject.BackProject`."""

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        """Make the step."""
        super().__init__(keys, allow_missing_keys)
        self.step = BackProject()


class PadToNetworkd(StepTransform):
    """Pad volumes to sizes that a network takes, see `bida.transforms.pad.PadToNetwork`."""

    def __init__(
        self,
        keys: KeysCollection,
        multiple: int = 8,
        minimum: int | Sequence[int] = 64,
        allow_missing_keys: bool = False,
    ) -> None:
        """Make the step."""
        super().__init__(keys, allow_missing_keys)
        self.step = PadToNetwork(multiple, minimum)
