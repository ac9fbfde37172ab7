"""A stack's own minutes: train a guided network further on the stack's XY planes, but for some that are held back.

What is sharp in its own plane looks much alike in XZ and YZ (Jiang et al. 2024), so planes as they were acquired teach
what lies between them. Nothing is averaged or blurred; each channel is a stack of its own.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from monai.transforms import Compose, RandFlipd, RandRotate90d, RandSpatialCropd, SpatialPadd
from torch import Tensor

from bida.errors import SettingsError
from bida.microscopy.grid import STACK_PLANES
from bida.microscopy.load import Seen, middle
from bida.microscopy.prior import MaskedPrior, RowLoss
from bida.microscopy.stacks.stack import Stack, part_of
from bida.microscopy.tasks import MARGIN, cut_size, row_task
from bida.progress import Report
from bida.training.dataset import DrawableSlices, SliceStacks
from bida.training.timed import train_for

HELD = 4  # planes held back, at most; and at most a quarter
SMALLEST = 16  # pixels: a side of planes that rows can be left out of
TAUGHT = 1 << 25  # voxels of a stack that it is trained on, at most: 128 MB on the network's scale
WIDTH, BLOCKS = 64, 8  # of a network that begins from nothing


@dataclass(frozen=True)
class OwnTraining:
    """How to train; see `bida.training.timed.Pace`.

    Attributes:
        minutes: Time to spend.
        rate: Largest learning rate.
        pull: None: a stack has many crops.
        batch_size: Crops a step.
        crop: Side of a crop, pixels; less where planes are small.
        decay: Of the average of the weights.
        save_seconds: Time between checkpoints.
        seed: Of all chance.
    """

    minutes: float
    rate: float = 1e-3
    pull: float = 0.0
    batch_size: int = 16
    crop: int = 48
    decay: float = 0.99
    save_seconds: float = 30.0
    seed: int = 0


def new_prior(dtype: str, seed: int) -> MaskedPrior:
    """Return a guided network that has learned nothing: it interpolates linearly."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return MaskedPrior("guided", 1, (WIDTH,), BLOCKS, dtype=dtype).eval()


def held_planes(planes: int) -> list[int]:
    """Return the planes that are not trained on, spread evenly; none of a stack of fewer than 3."""
    count = min(HELD, planes // 4) or int(planes >= 3)
    return sorted({int((i + 0.5) * planes / count) for i in range(count)})


def train_on_stack(
    prior: MaskedPrior,
    stack: Stack,
    how: OwnTraining,
    clip_percentile: float | None = None,
    checkpoint: Path | None = None,
    report: Report | None = None,
    seen: Seen | None = None,
) -> int:
    """Train a guided network, in place, on the planes of a stack but for `held_planes`.

    Args:
        prior: The network, of method ``guided``.
        stack: What it shall restore, as acquired.
        how: Time and rates.
        clip_percentile: See `bida.microscopy.load.clipped`.
        checkpoint: File from which a run that was cut off goes on; whoever keeps the result removes it.
        report: Called after each step with (seconds done, seconds in all, loss).
        seen: How the network sees the stack; None: as `clip_percentile` and its own planes say.

    Returns:
        Number of steps.

    Raises:
        SettingsError: The network is of another method, the planes are too few or too small, or the checkpoint is
            another run's.
    """
    seen = Seen.of(stack, clip_percentile) if seen is None else seen
    stack = taught(stack)
    dataset = training_planes(stack, how, prior, clip_percentile, seen)
    loss, found = RowLoss(squared=True), hashlib.sha256(f"{prior.weights_sha256} {clip_percentile}".encode())
    found.update(f"{replace(how, minutes=1.0, save_seconds=0.0)} {stack.data.shape} {stack.data.dtype}".encode())
    found.update(np.ascontiguousarray(stack.data).data)

    def loss_of(batch: dict[str, Tensor]) -> Tensor:
        return loss(prior(batch["image"], batch["timesteps"]), batch["label"])

    return train_for(prior, dataset, how, loss_of, found.hexdigest(), checkpoint, report, source="stack")


def taught_shape(stack: Stack) -> tuple[int, int]:
    """Return how many pixels along y and x a network is trained on: all, and of large planes the middle."""
    y, x = stack.data.shape[2:]
    if stack.data.size <= TAUGHT:
        return y, x
    side = max(SMALLEST, math.isqrt(TAUGHT // (len(stack.data) * stack.data.shape[1])))
    return min(y, side), min(x, side)


def taught(stack: Stack) -> Stack:
    """Return the part of a stack that is trained on, see `taught_shape`, in memory.

    Raises:
        ScanError: It cannot be read.
    """
    return replace(stack, data=part_of(stack.path, middle(stack.data, max(taught_shape(stack)))))


def training_planes(
    stack: Stack,
    how: OwnTraining,
    prior: MaskedPrior,
    clip_percentile: float | None = None,
    seen: Seen | None = None,
) -> SliceStacks:
    """Return random crops of the planes that are not held back, rows left out, with what the network predicts.

    Raises:
        SettingsError: See `train_on_stack`.
    """
    if prior.method != "guided":
        raise SettingsError(
            f"--minutes: weights that are trained further must be of method guided, got {prior.method}; "
            "leave --minutes out, or name other weights with --model"
        )
    planes, *sides = stack.data.shape[1:]
    if min(sides) < SMALLEST:
        raise SettingsError(
            f"{stack.path}: planes must have {SMALLEST} x {SMALLEST} pixels or more to be trained on, got {sides[0]} x "
            f"{sides[1]}; give --minutes 0"
        )
    seen = Seen.of(stack, clip_percentile) if seen is None else seen
    volumes = seen.line.forward(seen.capped(stack.data))[..., None]  # [C, Z, Y, X, 1]
    free = np.setdiff1d(np.arange(planes), held_planes(planes))
    drawn: list[DrawableSlices] = []
    for volume in volumes:
        useful = free[np.ptp(volume[free].reshape(len(free), -1), axis=1) > 0]
        drawn += [(volume, useful)] if len(useful) else []
    if not drawn:
        raise SettingsError(
            f"{stack.path}: a stack must have a plane of more than one value beside those held back, it has none; "
            "look at it, or give --minutes 0"
        )
    most = (3 * min(sides) - 2 - 2 * MARGIN) // 2 * 2  # a mirror image holds no more
    size = cut_size("guided", [min(how.crop, most)] * 2, (WIDTH,))
    transform = Compose(
        [
            RandFlipd("image", prob=0.5, spatial_axis=0),
            RandRotate90d("image", prob=0.75),
            SpatialPadd("image", spatial_size=size, mode="reflect"),
            RandSpatialCropd("image", roi_size=size, random_size=False),
            row_task("guided", prediction=prior.prediction, timesteps=len(prior.alpha_bar)),
        ]
    )
    return SliceStacks({STACK_PLANES["xy"]: drawn}, transform, how.seed)
