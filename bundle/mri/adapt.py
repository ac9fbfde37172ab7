"""Adaptation: fine-tune the prior on the sharp slices of the scans that it shall restore.

What is sharp in its own plane looks much alike in every plane (Jiang et al. 2024), so the slices of one orientation
teach all three. They are made thick by the scan's own operator, and by closer and thinner slices of its profile, as in
training. The weights are pulled back to the released ones at every step (Li et al. 2018, L2-SP), so that a few slices
do not unteach what the prior knows, and the average over the last steps is kept. Slices that the self-check uses are
never shown.
"""

from __future__ import annotations

import copy
import hashlib
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from monai.transforms import Compose, RandFlipd, RandRotate90d, RandSpatialCropd
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader

from bida.device import usable_cores
from bida.diffusion.prior import X0_RANGE, PlanePrior, kind_of
from bida.errors import SettingsError
from bida.io.weights import read_checkpoint, save_checkpoint
from bida.mri.measurement import Measurement
from bida.mri.selfcheck import SLICES, chosen_indices, with_content
from bida.physics.geometry import SliceGeometry
from bida.physics.grid import PLANES
from bida.progress import Report
from bida.training.dataset import CountingSampler, SliceStacks
from bida.training.denoise import denoised
from bida.training.handlers import SpreadLoss, average_decay, warmup_cosine
from bida.transforms.augment.diffuse import DiffuseSliced
from bida.transforms.augment.slices import RandContrastd, RandSimilarityd
from bida.transforms.augment.thicken import ThickenSliced

WORKERS = 8  # processes that prepare crops for a GPU, at most; one keeps up with a CPU


@dataclass(frozen=True)
class Adaptation:
    """How to fine-tune; rate, crop and emphasis were chosen between two sets on one scan (`docs/prior.md`).

    Attributes:
        minutes: time to spend.
        rate: largest learning rate.
        pull: share of the way back to the released weights at each step at the largest rate.
        batch_size: crops a step.
        crop: height and width of a crop, voxels; less where slices are smaller.
        scale: range of the random scale.
        factors: range of the slice spacing that crops are made thick by, over the scan's own.
        emphasis: of high noise levels, see `bida.transforms.augment.diffuse`.
        highest: share of crops for the mean in one step, see there.
        decay: of the average of the weights.
        save_seconds: time between checkpoints.
        seed: of all chance.
    """

    minutes: float
    rate: float = 1e-3
    pull: float = 2e-4
    batch_size: int = 16
    crop: int = 64
    scale: tuple[float, float] = (0.8, 1.3)
    factors: tuple[float, float] = (0.5, 1.0)
    emphasis: float = 1.0
    highest: float = 0.5
    decay: float = 0.99
    save_seconds: float = 30.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the time."""
        if not 0 < self.minutes < float("inf"):
            raise SettingsError(f"adapt: minutes must be a number above 0, got {self.minutes:g}")


@dataclass(frozen=True)
class ScanSlices:
    """The sharp slices of a scan, in the prior's space.

    Attributes:
        slices: [R, A, S], thin slices along ``geometry.axis``.
        geometry: how thick slices lie, the scan's own.
        noise: standard deviation of a slice's noise, in the prior's space.
    """

    slices: NDArray[np.float32]
    geometry: SliceGeometry
    noise: float = 0.0


def adapt(
    prior: PlanePrior,
    scans: Sequence[ScanSlices],
    how: Adaptation,
    checkpoint: Path | None = None,
    report: Report | None = None,
) -> int:
    """Fine-tune a prior, in place.

    Args:
        prior: with the released weights.
        scans: what to adapt to.
        how: time and rates.
        checkpoint: file of the state of the run, taken up where it exists and written from time to time.
        report: called after each step.

    Returns:
        Number of steps that it has now been trained for.

    Raises:
        SettingsError: the prior takes no guide, a scan has no slices left, or the checkpoint is another run's.
    """
    if not prior.guided:
        raise SettingsError("adapt: the prior must be a guided one, it is not; name other weights with --model")
    dataset = training_slices(scans, how, prior)
    run = _Run(prior, how, fingerprint(prior, scans, how))
    if checkpoint is not None and checkpoint.exists():
        run.load(checkpoint)
    sampler = CountingSampler()
    sampler.start = run.step * how.batch_size
    workers = 1 if run.device.type == "cpu" else min(WORKERS, usable_cores())
    loader = DataLoader(
        dataset, how.batch_size, sampler=sampler, num_workers=workers, worker_init_fn=leave_unfetched_batches
    )
    prior.train()
    total, saved, last = 60 * how.minutes, run.seconds, time.perf_counter()
    for batch in loader:
        if run.seconds >= total:
            break
        loss = run.train(batch, run.seconds / total)
        now = time.perf_counter()
        run.seconds, last = run.seconds + now - last, now
        if checkpoint is not None and run.seconds - saved >= how.save_seconds:
            run.save(checkpoint)
            saved = run.seconds
        if report is not None:
            report(min(run.seconds, total), total, loss)
    if checkpoint is not None:
        run.save(checkpoint)
    prior.load_state_dict(run.average.state_dict())
    prior.eval()
    return run.step


def leave_unfetched_batches(worker: int) -> None:
    """Let a process that prepares slices say nothing of a batch that a run which is stopped fetches no more."""
    shown = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not issubclass(kind, ConnectionError):
            shown(kind, error, trace)

    sys.excepthook = hook


def fingerprint(prior: PlanePrior, scans: Sequence[ScanSlices], how: Adaptation) -> str:
    """Return a hash of what a run depends on: weights, slices, geometries and choices, but not on times."""
    found = hashlib.sha256(f"{prior.weights_sha256} {replace(how, minutes=1.0, save_seconds=0.0)}".encode())
    for scan in scans:
        found.update(f"{scan.geometry.to_json()} {scan.noise}".encode())
        found.update(np.ascontiguousarray(scan.slices).tobytes())
    return found.hexdigest()


def adapt_prior(
    prior: PlanePrior,
    scans: Sequence[Measurement],
    minutes: float,
    checkpoint: Path | None = None,
    report: Report | None = None,
) -> dict[str, float]:
    """Fine-tune a prior, in place, on the sharp slices of scans; see ``bida.mri.adapt``.

    Args:
        prior: The prior, loaded.
        scans: The scans' slices, normalised as the prior's training data.
        minutes: Time to spend.
        checkpoint: File from which a run that was cut off goes on; whoever keeps the result removes it.
        report: Called after each step with (seconds done, seconds in all, loss).

    Returns:
        What was done, for the record.
    """
    slices = [ScanSlices(scan.inside().cpu().numpy(), scan.geometry.unpadded(), scan.noise or 0.0) for scan in scans]
    steps = adapt(prior, slices, Adaptation(minutes), checkpoint, report)
    return {"minutes": minutes, "steps": steps, "scans": len(slices)}


class _Run:
    """The state of a run: network, average, optimizer, steps and seconds so far."""

    def __init__(self, prior: PlanePrior, how: Adaptation, made_from: str) -> None:
        self.prior, self.how, self.made_from, self.step, self.seconds = prior, how, made_from, 0, 0.0
        self.parameters, self.device = prior.guided_parameters(), next(prior.parameters()).device
        self.released = [parameter.detach().clone() for parameter in self.parameters]
        self.loss = SpreadLoss()
        self.average = copy.deepcopy(prior).eval()
        self.optimizer = torch.optim.AdamW(self.parameters, lr=how.rate, betas=(0.9, 0.99), weight_decay=0.0)

    def train(self, batch: dict[str, Tensor], progress: float) -> float:
        """Take a step at a share of the time; return its loss."""
        x, target, t, classes = (batch[key].to(self.device) for key in ("image", "label", "timesteps", "planes"))
        rate = self.how.rate * warmup_cosine(round(1000 * progress), 20, 1000)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad()
        loss = self.loss(self.prior(x, t, classes), target)
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.step += 1
        decay = average_decay(self.step, self.how.decay)
        with torch.no_grad():
            for mine, released, mean in zip(self.parameters, self.released, self.average.guided_parameters()):
                mine.lerp_(released, self.how.pull * rate / self.how.rate)
                mean.lerp_(mine, 1 - decay)
        return float(loss.detach())

    def state(self) -> dict[str, Any]:
        return {
            "network": self.prior.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def save(self, path: Path) -> None:
        """Write the state, atomically."""
        counters = {"step": self.step, "seconds": self.seconds, "made_from": self.made_from}
        save_checkpoint({**self.state(), **counters}, path)

    def load(self, path: Path) -> None:
        """Take up a state."""
        kept = read_checkpoint(path)
        if kept.get("made_from") != self.made_from:
            raise SettingsError(
                f"{path}: a run that is taken up must have the same scans, weights and choices, this one has others; "
                "remove the file to begin anew"
            )
        self.prior.load_state_dict(kept["network"])
        self.average.load_state_dict(kept["average"])
        self.optimizer.load_state_dict(kept["optimizer"])
        self.step, self.seconds = int(kept["step"]), float(kept["seconds"])


def training_slices(scans: Sequence[ScanSlices], how: Adaptation, prior: PlanePrior) -> SliceStacks:
    """Return random crops of the scans' slices, made thick by the scans' own operator, with what the prior predicts.

    Raises:
        SettingsError: slices are too small, or a scan has no slices left beside those of the self-check.
    """
    sizes = [size for scan in scans for axis, size in enumerate(scan.slices.shape) if axis != scan.geometry.axis]
    stride = prior.stride
    crop = min(how.crop, min(sizes)) // stride * stride
    if crop < stride:
        raise SettingsError(
            f"adapt: slices must have at least {stride} x {stride} voxels, the smallest has {min(sizes)}; leave it out"
        )
    stacks, transforms = [], []
    for number, scan in enumerate(scans, 1):
        axis, slices = scan.geometry.axis, torch.from_numpy(scan.slices)
        held = chosen_indices(slices, axis, scan.geometry.missing)
        free = [index for index in with_content(slices, axis) if index not in (*held, *scan.geometry.missing)]
        if not free:
            raise SettingsError(
                f"adapt: a scan must have slices beside the {SLICES} that the self-check keeps, scan {number} of "
                f"{len(scans)} has {len(held)} with content; leave it out"
            )
        volume = np.clip(scan.slices, *X0_RANGE)
        pair = np.moveaxis(np.stack([volume, denoised(volume)], axis=-1), axis, 0)  # [N, H, W, 2]
        stacks.append((pair, np.array(free)))
        transforms.append(_transform(scan, how, crop, prior))
    return SliceStacks(dict.fromkeys(PLANES, stacks), transforms, how.seed)


def _transform(scan: ScanSlices, how: Adaptation, crop: int, prior: PlanePrior) -> Compose:
    geometry = scan.geometry
    prediction, timesteps, schedule = kind_of(prior.kind)
    thickness = geometry.thickness_mm / geometry.slice_spacing_mm
    return Compose(
        [
            RandSimilarityd("image", rotate=10, translate=5, scale=how.scale, prob=0.7),
            RandFlipd("image", prob=0.5, spatial_axis=0),
            RandFlipd("image", prob=0.5, spatial_axis=1),
            RandRotate90d("image", prob=0.5, max_k=1),
            RandContrastd("image"),
            RandSpatialCropd("image", roi_size=(crop, crop), random_size=False),
            ThickenSliced(
                "image",
                unguided=0.0,  # the network of slices without a guide is not trained here
                factors=[max(1.0, share * geometry.factor) for share in how.factors],
                thickness=(thickness, thickness),
                nominal=0.0,
                profiles=(geometry.profile,),
                weights=(1.0,),
                voxel_mm=geometry.voxel_mm,
                level=scan.noise,
            ),
            DiffuseSliced(
                "image", prediction, timesteps, emphasis=how.emphasis, schedule=schedule, highest=how.highest
            ),
        ]
    )
