"""Noise a training slice at a time of the diffusion, and give the network's target."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform

from bida.diffusion.prediction import diffuse, prediction_target
from bida.diffusion.prior import SPREAD, is_guided, relative_alpha_bar
from bida.diffusion.schedule import alpha_bar_of

# Times of successive samples follow the additive recurrence of the golden ratio: every batch covers [0, T) evenly.
_GOLDEN = (5**0.5 - 1) / 2


def spread_time(index: int, timesteps: int, emphasis: float = 1.0) -> int:
    """Return the time of a sample: T u^(1 / emphasis), u spread evenly over successive indices."""
    return int(timesteps * (index * _GOLDEN % 1.0) ** (1 / emphasis))


class DiffuseSliced(MapTransform, RandomizableTransform):
    """Replace ``image`` by ``x_t``, and add its time and the prediction target.

    Args:
        keys: The clean slice [1, H, W], on the scale of [-1, 1]; with a guide it comes back as [7, H, W].
        prediction: What the network predicts: ``v``, ``eps`` or ``x0``.
        timesteps: Length T of the schedule.
        index_key: Where the sample's index is, which sets its time.
        label_key: Where the target goes.
        timesteps_key: Where the time goes.
        emphasis: Times are T u^(1 / emphasis), u spread evenly: 1 for even times, above it for more of the high ones,
            where a guided prior decides what a slice looks like.
        guide_key: Where the guide [8, H, W] of a guided prior is; it is put behind the slice. Where the class says that
            there is one, what it lacks is diffused in place of the slice (`bida.diffusion.prior.relative_alpha_bar`).
        planes_key: Where the class of a guided prior is.
        schedule: ``cosine`` or ``linear`` (`bida.diffusion.schedule`).
        highest: Share of slices that are diffused to the mean of the noise, zero, at the highest time, as for the mean
            in one step.

    Raises:
        SettingsError: The schedule is unknown.
    """

    def __init__(
        self,
        keys: KeysCollection,
        prediction: str = "v",
        timesteps: int = 1000,
        index_key: str = "index",
        label_key: str = "label",
        timesteps_key: str = "timesteps",
        guide_key: str = "guide",
        planes_key: str = "planes",
        emphasis: float = 1.0,
        schedule: str = "cosine",
        highest: float = 0.0,
    ) -> None:
        """Make the schedule."""
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, 1.0)
        self.prediction, self.alpha_bar = prediction, alpha_bar_of(schedule, timesteps)
        self.index_key, self.label_key, self.timesteps_key = index_key, label_key, timesteps_key
        self.guide_key, self.planes_key, self.emphasis = guide_key, planes_key, emphasis
        self.highest = highest

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with the noised slice, its target and its time."""
        result = dict(data)
        t = spread_time(result[self.index_key], len(self.alpha_bar), self.emphasis)
        mean = self.highest > 0 and self.R.random() < self.highest
        t = len(self.alpha_bar) - 1 if mean else t
        guide, ab = result.get(self.guide_key), self.alpha_bar[t : t + 1]
        # what is diffused in place of the slice is what its guide lacks
        less = guide if guide is not None and bool(is_guided(torch.tensor(result[self.planes_key]))) else None
        ab = ab if less is None else relative_alpha_bar(ab)
        for key in self.key_iterator(result):
            x0 = torch.as_tensor(np.asarray(result[key]))[None]
            x0 = x0 if less is None else (x0 - less[:1]) / SPREAD
            noise = torch.from_numpy(self.R.standard_normal(x0.shape).astype(np.float32)) * (not mean)
            result[self.label_key] = prediction_target(x0, noise, ab, self.prediction)[0]
            result[key] = diffuse(x0, noise, ab)[0]
            if guide is not None:
                result[key] = torch.cat([result[key], guide])
        result[self.timesteps_key] = t
        return result
