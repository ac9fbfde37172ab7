"""Training tasks for masked slices: known, noised rows (Jiang et al. 2024, Eqs. 3-6), evenly spaced ones, triplets."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform
from numpy.typing import NDArray
from torch import Tensor

from bida.diffusion.prediction import diffuse, prediction_target
from bida.diffusion.schedule import cosine_alpha_bar
from bida.errors import SettingsError
from bida.microscopy.grid import plane_distances, planes_from_voxels, voxels_from_planes
from bida.microscopy.prior import UNIT, check_mask_channel, guided_input, method_settings, with_mask
from bida.options import yes_or_no
from bida.transforms.augment.diffuse import spread_time

LEAST = 0.05  # what a slice lacks at least when it is weighed: a peak signal-to-noise ratio of 33 dB
MARGIN = 8  # rows beyond a crop, at each end: the largest distance of known rows


class MaskRowsd(MapTransform, RandomizableTransform):
    """Keep l rows of a slice, l ~ U[low, high], at random positions, noise the others, and give the network's target.

    With m the mask that is 1 in the rows kept, the network sees m x0 + (1 - m) x_t (Jiang et al. 2024, Eqs. 3-5). The
    label is the target with one more channel, 1 - m, where the loss counts (Eq. 6).

    Args:
        keys: The clean slice [C, H, W], on the scale of [-1, 1].
        rows: (low, high), the range of l, both ends included.
        prediction: What the network predicts: ``v``, ``eps`` or ``x0``.
        timesteps: Length T of the cosine schedule.
        mask_channel: Put m behind the slice as one more channel.
        pure_noise: Put noise alone into the rows that are not kept, x0 the target, at no time: MS-UNet's task.
        index_key: Where the sample's index is, which sets its time.
        label_key: Where the label [C + 1, H, W] goes.
        timesteps_key: Where the time goes.
    """

    def __init__(
        self,
        keys: KeysCollection,
        rows: Sequence[int] = (5, 20),
        prediction: str = "v",
        timesteps: int = 1000,
        mask_channel: bool = False,
        pure_noise: bool = False,
        index_key: str = "index",
        label_key: str = "label",
        timesteps_key: str = "timesteps",
    ) -> None:
        """Make the schedule."""
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, 1.0)
        if len(rows) != 2 or not 1 <= rows[0] <= rows[1]:
            raise SettingsError(f"rows: must be the lowest and the highest number of known rows, got {list(rows)}")
        self.rows, self.prediction, self.alpha_bar = (rows[0], rows[1]), prediction, cosine_alpha_bar(timesteps)
        self.mask_channel, self.pure_noise = mask_channel, pure_noise
        self.index_key, self.label_key, self.timesteps_key = index_key, label_key, timesteps_key

    def known_rows(self, height: int) -> Tensor:
        """Draw the rows that are kept, [H] bool."""
        low, high = self.rows
        if high >= height:
            raise SettingsError(f"rows: must leave a row of {height} unknown, got up to {high}; lower it or crop less")
        known = torch.zeros(height, dtype=torch.bool)
        known[self.R.permutation(height)[: self.R.randint(low, high + 1)]] = True
        return known

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with what the network sees, its label and its time."""
        result = dict(data)
        t = 0 if self.pure_noise else spread_time(result[self.index_key], len(self.alpha_bar))
        ab = self.alpha_bar[t : t + 1]
        for key in self.key_iterator(result):
            x0 = torch.as_tensor(np.asarray(result[key]))
            known = self.known_rows(x0.shape[1])
            noise = torch.from_numpy(self.R.standard_normal(x0.shape).astype(np.float32))
            if self.pure_noise:
                target, noised = x0, noise
            else:
                target = prediction_target(x0[None], noise[None], ab, self.prediction)[0]
                noised = diffuse(x0[None], noise[None], ab)[0]
            mixed = torch.where(known[:, None], x0, noised)
            result[key] = with_mask(mixed, known) if self.mask_channel else mixed
            result[self.label_key] = with_mask(target, ~known)
        result[self.timesteps_key] = t
        return result


class GuideRowsd(MapTransform, RandomizableTransform):
    """Keep evenly spaced rows of a slice, interpolate between them, and noise what the interpolation lacks.

    Three factors of four are whole numbers, the others multiples of a quarter, whose rows the slice is interpolated at.
    A slice counts by what its interpolation lacks, w = (mean r^2 + `LEAST`)^(-1/2), r in units of `UNIT`: between an
    error of all, which rough slices make up, and a share of each one's, by which they are learned late.

    Args:
        keys: The clean slice [1, H + 2 `MARGIN`, W], on the scale of [-1, 1]; it becomes [1 + GUIDE, H, W], so that
            every row lies between two known ones.
        factors: Range of the distance of known rows, at most `MARGIN`; drawn evenly in its logarithm.
        prediction: What the network predicts: ``v``, ``eps`` or ``x0``.
        timesteps: Length T of the cosine schedule.
        highest: Share of slices that are diffused to the mean of the noise, zero, at the highest time, as for the mean
            in one step.
        index_key: Where the sample's index is, which sets its time.
        label_key: Where the label [2, H, W] goes: the target, and w where the loss counts.
        timesteps_key: Where the time goes.
    """

    def __init__(
        self,
        keys: KeysCollection,
        factors: Sequence[float] = (1.5, 8.0),
        prediction: str = "v",
        timesteps: int = 1000,
        highest: float = 0.5,
        index_key: str = "index",
        label_key: str = "label",
        timesteps_key: str = "timesteps",
    ) -> None:
        """Make the schedule."""
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, 1.0)
        if len(factors) != 2 or not 1.5 <= factors[0] <= factors[1] <= MARGIN:
            raise SettingsError(f"factors: must be two numbers that rise from 1.5 to {MARGIN}, got {list(factors)}")
        self.factors, self.prediction, self.alpha_bar = (
            (factors[0], factors[1]),
            prediction,
            cosine_alpha_bar(timesteps),
        )
        self.highest = highest
        self.index_key, self.label_key, self.timesteps_key = index_key, label_key, timesteps_key

    def positions(self, height: int) -> NDArray[np.float64]:
        """Draw the known rows' positions of a slice with its margins, in rows."""
        low, high = self.factors
        factor, part = low * (high / low) ** self.R.random(), 1 if self.R.random() < 0.75 else 4
        factor = min(max(round(factor * part) / part, math.ceil(low * part) / part), math.floor(high * part) / part)
        first = self.R.randint(math.floor(factor)) if part == 1 else 0
        return np.arange(first, height - 1 + 1e-9, factor)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with what the network sees, its label and its time."""
        result = dict(data)
        T = len(self.alpha_bar)
        mean = self.R.random() < self.highest
        t = T - 1 if mean else spread_time(result[self.index_key], T)
        ab = self.alpha_bar[t : t + 1]
        for key in self.key_iterator(result):
            x = torch.as_tensor(np.asarray(result[key]))
            height = x.shape[1]
            at = self.positions(height)
            back = voxels_from_planes(at, height) @ planes_from_voxels(at, height)
            guide = torch.einsum("ij,cjw->ciw", torch.from_numpy(back).to(x.dtype), x)
            distances = torch.from_numpy(plane_distances(at, height)).to(x.dtype)
            unknown = distances.amax(dim=0) > 0
            lacking = torch.where(unknown[:, None], (x - guide) / UNIT, 0)
            noise = torch.from_numpy(self.R.standard_normal(x.shape).astype(np.float32)) * (not mean)
            noised = diffuse(lacking[None], noise[None], ab)[0] * unknown[:, None]
            target = prediction_target(lacking[None], noise[None], ab, self.prediction)[0]
            inside = slice(MARGIN, height - MARGIN)
            weight = (float(lacking[:, unknown].square().mean()) + LEAST) ** -0.5
            result[key] = guided_input(noised, guide, distances)[:, inside]
            result[self.label_key] = with_mask(target, weight * unknown)[:, inside]
        result[self.timesteps_key] = t
        return result


class RowTripletsd(MapTransform):
    """Turn a slice into triplets of rows: X_i and X_{i+2} are shown as channels, X_{i+1} is the target.

    Args:
        keys: The clean slice [C, H, W], H odd; it becomes [2 C, (H - 1) / 2, W], i even.
        label_key: Where the label [C + 1, (H - 1) / 2, W] goes; its last channel is 1, for every row counts.
        timesteps_key: Where a time goes, always 0.
    """

    def __init__(self, keys: KeysCollection, label_key: str = "label", timesteps_key: str = "timesteps") -> None:
        """Store the keys."""
        super().__init__(keys)
        self.label_key, self.timesteps_key = label_key, timesteps_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with what the network sees, its label and its time."""
        result = dict(data)
        for key in self.key_iterator(result):
            x = torch.as_tensor(np.asarray(result[key]))
            if x.shape[1] % 2 == 0:
                raise SettingsError(f"{key}: triplets need an odd number of rows, got {x.shape[1]}; crop one more")
            target = x[:, 1::2]
            result[key] = torch.cat([x[:, :-1:2], x[:, 2::2]])
            result[self.label_key] = with_mask(target, torch.ones(target.shape[1]))
        result[self.timesteps_key] = 0
        return result


def row_task(
    method: str,
    keys: KeysCollection = "image",
    rows: Sequence[int] | None = None,
    prediction: str | None = None,
    timesteps: int | None = None,
    mask_channel: bool = False,
    factors: Sequence[float] | None = None,
) -> MapTransform:
    """Return the training task of a method of `bida.microscopy.prior.METHODS`.

    The settings are those of `MaskRowsd` and `GuideRowsd`, the method's own defaults
    (`bida.microscopy.prior.SETTINGS`) where they are None.

    Raises:
        SettingsError: The method is unknown, has no use for what is given, or see `MaskRowsd` and `GuideRowsd`.
    """
    shown = yes_or_no(mask_channel, "mask_channel")
    check_mask_channel(method, shown)
    own = method_settings(method, rows=rows, prediction=prediction, timesteps=timesteps, factors=factors)
    if method == "guided":
        return GuideRowsd(keys, **own)
    return (
        RowTripletsd(keys)
        if method == "e2e"
        else MaskRowsd(keys, **own, mask_channel=shown, pure_noise=method == "msunet")
    )


def cut_size(method: str, crop: Sequence[int], widths: Sequence[int]) -> list[int]:
    """Return how many rows and columns are cut from a slice for a crop.

    Triplets take one row more, of which the network of ``e2e`` sees half: (rows + 1 - 1) / 2; ``guided`` takes
    `MARGIN` rows more at both ends, which it does not see.

    Args:
        method: Of `bida.microscopy.prior.METHODS`.
        crop: Rows and columns, pixels.
        widths: Of the network's levels, each of which halves the resolution: its stride is 2 ** len(widths).

    Raises:
        SettingsError: The network cannot take such a crop.
    """
    stride = 2 ** len(widths)
    for name, side, multiple in zip(("rows", "columns"), crop, (2 * stride if method == "e2e" else stride, stride)):
        if side < 1 or side % multiple:
            why = f"twice the stride, 2 x {stride}, with method e2e" if multiple > stride else "the network's stride"
            near = max(1, round(side / multiple)) * multiple
            raise SettingsError(
                f"crop: {name} must be a multiple of {multiple} ({why}; 2 ** {len(widths)} widths), got {side}; "
                f"take {near}"
            )
    return [crop[0] + {"e2e": 1, "guided": 2 * MARGIN}.get(method, 0), crop[1]]
