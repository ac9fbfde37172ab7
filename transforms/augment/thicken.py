"""Show a training slice as a thick-slice scan would: the guide of a random slice operator, and the target under it."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform
from torch import Tensor

from bida.diffusion.prior import GUIDE_RANGE, X0_RANGE, condition_class
from bida.physics.geometry import SliceGeometry
from bida.physics.guide import SHOWN, shown
from bida.physics.operators import SliceOperator

AIR = 0.02  # above the background, of the range of 2: what is darker is taken as exact background
PADDING = 7  # voxels: the most that a scan is padded at one end for a network of stride 8


class ThickenSliced(MapTransform, RandomizableTransform):
    """Replace a pair of slices, as scanned and denoised, by what a guided prior shall learn from it.

    The slice is made thick along one of its axes: y = A x, x as scanned. That averages the noise of x over the
    thickness, which no scanner does, so a part of the y gets noise back, as much as x has; another part is made of the
    denoised slice where that is the target, from which the network learns anatomy fastest. The target keeps what the
    slices measured, as sampling does, and has the rest from the slice t as scanned (grain) or denoised (clean):
    A+ y + (I - A+ A) t, turned so that the thick axis is the first. A part of the slices goes without a guide, so that
    the prior can also be sampled by the constraint alone; their target is t.

    Args:
        keys: Pairs [2, H, W], on the scale of [-1, 1].
        factors: Range of slice spacing over voxel size, drawn evenly in its logarithm.
        thickness: Range of slice thickness over slice spacing.
        nominal: Share of slices that are as thick as their spacing.
        profiles: Slice profiles, see `bida.physics.slice_profile.make_profile`.
        weights: Probability of each profile.
        voxel_mm: Voxel size, which a profile from a file is measured against.
        unguided: Share of slices without a guide.
        grain: Share of slices whose target is as scanned.
        noisy: Share of slices whose y, made of x as scanned, has the noise of acquired slices.
        noiseless: Share of clean targets whose y is made of the denoised slice.
        level: Standard deviation of the noise of a slice, where it is known: every y with a clean target has as much,
            the network is told, and the target is t alone, which keeps nothing of it.
        highest: Share of slices that are spaced by the upper end of the factors.
        planes_key: Where the plane's index is; it becomes the class (`bida.diffusion.prior.condition_class`).
        guide_key: Where the guide goes, [8, H, W]; zero where there is none.
    """

    def __init__(
        self,
        keys: KeysCollection,
        factors: Sequence[float] = (1.5, 10.0),
        thickness: Sequence[float] = (0.6, 1.2),
        nominal: float = 0.7,
        profiles: Sequence[str] = ("slr", "gaussian", "box"),
        weights: Sequence[float] = (0.7, 0.2, 0.1),
        voxel_mm: float = 1.0,
        unguided: float = 0.2,
        grain: float = 0.5,
        noisy: float = 0.3,
        noiseless: float = 0.5,
        level: float = 0.0,
        highest: float = 0.0,
        planes_key: str = "planes",
        guide_key: str = "guide",
    ) -> None:
        """Store the parameters."""
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, 1.0)
        if not 1 <= factors[0] <= factors[1]:
            raise ValueError(f"factors must be a rising range from 1, got {tuple(factors)}")
        self.factors, self.thickness, self.nominal = tuple(factors), tuple(thickness), nominal
        self.profiles, self.weights, self.voxel_mm = tuple(profiles), tuple(weights), voxel_mm
        self.unguided, self.grain, self.noisy, self.noiseless = unguided, grain, noisy, noiseless
        self.level, self.highest, self.planes_key, self.guide_key = level, highest, planes_key, guide_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with target, guide and class."""
        result = dict(data)
        for key in self.key_iterator(result):
            pair = torch.as_tensor(np.asarray(result[key]))
            guided, grain = self.R.random() >= self.unguided, self.R.random() < self.grain
            wanted = pair[:1] if grain else pair[1:]
            seen = torch.zeros(SHOWN, *pair.shape[1:])
            if guided:
                axis = 1 + int(self.R.randint(2))
                geometry = self.draw_geometry(pair.shape[axis])
                operator = SliceOperator.build(geometry)
                bare = not grain and self.R.random() < self.noiseless
                y = operator.forward(pair[1:], axis) if bare else self.acquired(pair, operator, axis)
                level = 0.0 if grain else self.level
                if level > 0:
                    y = self.noised(operator.forward(pair[1:] if bare else pair[:1], axis), operator, axis, level, bare)
                else:
                    wanted = operator.project(wanted, y, axis)
                seen = shown(y, geometry, axis, level)[:, 0]
                if axis == 2:  # the network sees the thick axis as the first
                    wanted, seen = wanted.mT.contiguous(), seen.mT.contiguous()
            result[key] = wanted
            result[self.guide_key] = seen.clamp(*GUIDE_RANGE)
            result[self.planes_key] = condition_class(int(result[self.planes_key]), guided, grain)
        return result

    def acquired(self, pair: Tensor, operator: SliceOperator, axis: int) -> Tensor:
        """Return thick slices of the slice as scanned, by chance with the noise that averaging has taken out.

        The noise of x is what denoising took from it, sigma; row i of A leaves sigma |A_i|. Exact background, of brains
        that were extracted, stays as it is.
        """
        y = operator.forward(pair[:1], axis)
        if self.R.random() < self.noisy:
            tissue = pair[1] > X0_RANGE[0] + AIR
            sigma = float((pair[0] - pair[1])[tissue].std()) if int(tissue.sum()) > 1 else 0.0
            y = self.noised(y, operator, axis, sigma, False)
        return y

    def noised(self, y: Tensor, operator: SliceOperator, axis: int, sigma: float, whole: bool) -> Tensor:
        """Return slices with noise where they are no exact background: the whole of sigma, or the rest."""
        left = np.sqrt(np.clip(1 - np.square(operator.matrix).sum(axis=1) * (not whole), 0, None))  # [m]
        shape = [-1 if k == axis else 1 for k in range(3)]
        drawn = torch.from_numpy(self.R.standard_normal(tuple(y.shape)) * left.reshape(shape)).to(y)
        return torch.where(y > X0_RANGE[0] + AIR, y + sigma * drawn, y)

    def draw_geometry(self, voxels: int) -> SliceGeometry:
        """Return random slices on a line of voxels, of which some at the ends may be padding."""
        low, high = self.factors
        factor = low * (high / low) ** self.R.random()
        if self.highest > 0 and self.R.random() < self.highest:
            factor = high
        factor = min(factor, voxels / 2)
        share = 1.0 if self.R.random() < self.nominal else self.R.uniform(self.thickness[0], self.thickness[1])
        before, after = self.R.randint(0, PADDING + 1, 2) if self.R.random() < 0.5 else (0, 0)
        before, after = (min(int(pad), (voxels - 2) // 4) for pad in (before, after))
        inside = voxels - before - after
        slices = math.ceil(inside / factor)
        # what the outer slices reach over the edges lies anywhere between them, as long as their centres stay inside
        excess = slices * factor - inside
        offset = self.R.uniform(-0.5, 0.5) * min(excess, factor - excess)
        return SliceGeometry(
            axis=0,
            slices=slices,
            slice_spacing_mm=factor * self.voxel_mm,
            thickness_mm=share * factor * self.voxel_mm,
            voxels=inside,
            voxel_mm=self.voxel_mm,
            profile=str(self.R.choice(self.profiles, p=self.weights)),
            offset_mm=offset * self.voxel_mm,
            pad_before=before,
            pad_after=after,
        )
