"""The self-check: what a network is worth on a stack, measured on planes of it that it was not trained on.

A plane is sharp in itself, so it is the truth of an experiment: rows of it are left out, along each of its two axes, as
planes are along z; they are restored, and compared with linear interpolation g. Where the network does not help, the
result is drawn towards the interpolation, r' = g + w (r - g), by the weight w that served these planes best
(`bida.diffusion.leaning.best_weight`), channel by channel. Acquired planes stay as they are for any w.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from bida.diffusion.leaning import WORTHWHILE_DB, best_weight, ratio_db
from bida.microscopy.load import Seen, middle
from bida.microscopy.own import held_planes
from bida.microscopy.prior import MaskedPrior
from bida.microscopy.restore import inferer_of, interpolate_stack, restore_stack
from bida.microscopy.settings import MaskedSettings
from bida.microscopy.stacks.stack import Stack, part_of

WINDOW = 256  # pixels: planes are cut down to their middle
BETTER_DB = 0.1  # what is worth a word, as the self-check of MRI has it


@dataclass(frozen=True)
class ChannelCheck:
    """What the self-check found of a channel.

    Attributes:
        gain_db: PSNR of the rows left out, restored, less that of linear interpolation, dB.
        better_db: The same after they are drawn towards the interpolation by the weight.
        weight: From 0, interpolation alone, to 1, the network alone.
    """

    gain_db: float
    better_db: float
    weight: float


@dataclass(frozen=True)
class StackCheck:
    """What the self-check found.

    Attributes:
        planes: That were checked, along both of their axes.
        factor: Every so many rows one was kept.
        channels: By their names.
    """

    planes: tuple[int, ...]
    factor: int
    channels: dict[str, ChannelCheck]

    @property
    def weights(self) -> list[float]:
        """The weight of each channel."""
        return [one.weight for one in self.channels.values()]

    def record(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        found = {
            name: {key: round(value, 4) for key, value in vars(one).items()} for name, one in self.channels.items()
        }
        return {"planes": list(self.planes), "factor": self.factor, "channels": found}


def check_stack_prior(stack: Stack, factor: float, restore: Callable[[Stack, float], Stack]) -> StackCheck | None:
    """Leave rows of a stack's `held_planes` out, restore them and compare them with linear interpolation.

    Args:
        stack: The acquired planes.
        factor: Plane spacing over voxel size; the check takes the nearest whole number from 2 on.
        restore: From a stack of kept rows, whose slices XZ are the planes, and the factor to the restored stack.

    Returns:
        What was found; None where a stack has fewer than 3 planes, or planes are too small to leave rows out.
    """
    whole = max(2, round(factor))
    planes = held_planes(stack.data.shape[1])
    held = part_of(stack.path, middle(stack.data[:, planes], WINDOW))
    if not planes or min(held.shape[2:]) <= whole:
        return None
    sums: list[np.ndarray] = []
    for truth in (held.transpose(0, 2, 1, 3), held.transpose(0, 3, 1, 2)):  # [C, rows, planes, columns]
        rows = (truth.shape[1] - 1) // whole * whole + 1
        kept = replace(stack, data=truth[:, :rows:whole])
        g = interpolate_stack(as_float(kept), whole, "linear").data
        missing = np.arange(rows) % whole != 0
        lacks = (truth[:, :rows] - g)[:, missing].astype(np.float64)
        adds = (restore(as_float(kept), float(whole)).data - g)[:, missing].astype(np.float64)
        sums.append(np.stack([(a * b).sum(axis=(1, 3)) for a, b in ((lacks, lacks), (adds, adds), (lacks, adds))]))
    xx, rr, xr = np.concatenate(sums, axis=2)  # each [C, planes along both axes]
    return StackCheck(
        tuple(planes), whole, {name: of_channel(*parts) for name, *parts in zip(stack.channels, xx, rr, xr)}
    )


def of_channel(xx: np.ndarray, rr: np.ndarray, xr: np.ndarray) -> ChannelCheck:
    """Return the check of sums over each plane, of the truth x and the restored rows r less the interpolation."""

    def gain(weight: float) -> float:
        left = xx.sum() - 2 * weight * xr.sum() + weight**2 * rr.sum()
        return ratio_db(float(xx.sum()), max(float(left), 0.0))

    weight = best_weight(torch.from_numpy(rr), torch.from_numpy(xr))
    if gain(weight) < WORTHWHILE_DB:
        weight = 0.0
    return ChannelCheck(gain(1.0), gain(weight), weight)


def as_float(stack: Stack) -> Stack:
    """Return a stack in float32, so that nothing is rounded to its own type."""
    return replace(stack, data=stack.data.astype(np.float32))


def verdict(check: StackCheck | None, drawn: bool = False) -> str:
    """Return what the self-check found in one sentence.

    Args:
        check: Of the mean; None where it could not be made.
        drawn: A draw was made, which has another error.
    """
    if check is None:
        return "on this stack: not compared with interpolation, for its planes are too few or too small"
    how = f"by {len(check.planes)} plane(s) held back, rows left out at {check.factor}x"
    better = {name: one.better_db for name, one in check.channels.items() if round(one.better_db, 1) >= BETTER_DB}
    if not better:
        return f"on this stack: no better than linear interpolation ({how}); the result leans on interpolation"
    several = f", the least of {len(better)} channels" if len(better) > 1 else ""
    said = f"on this stack: {min(better.values()):.1f} dB better than linear interpolation{several}, {how}"
    rest = [name for name in check.channels if name not in better]
    said += f"; no better in {', '.join(rest)}, which leans on interpolation" if rest else ""
    return f"{said}. That is the mean; a draw is as rough as the planes, and further from the truth" if drawn else said


def checked(
    stack: Stack,
    prior: MaskedPrior,
    settings: MaskedSettings,
    factor: float,
    clip_percentile: float | None = None,
    seen: Seen | None = None,
) -> StackCheck | None:
    """Check what a network's least error is worth on a stack.

    A guided network is checked by its mean, also where a draw is asked for.

    Args:
        stack: As acquired.
        prior: The network.
        settings: Of the restoration.
        factor: Plane spacing over voxel size.
        clip_percentile: See `bida.microscopy.load.clipped`.
        seen: How the network sees the stack; None: as `clip_percentile` and its own planes say.
    """
    seen = Seen.of(stack, clip_percentile) if seen is None else seen
    line = seen.line
    alone = replace(settings, fusion="single-xz", blur=False, steps=None)  # other planes are no neighbours

    def restore(kept: Stack, whole: float) -> Stack:
        return restore_stack(kept, prior, inferer_of(alone, prior, whole), line=line)

    return check_stack_prior(replace(stack, data=seen.capped(stack.data)), factor, restore)
