"""Adaptation: fine-tune the prior on the sharp slices of the scans that it shall restore.

What is sharp in its own plane looks much alike in every plane (Jiang et al. 2024), so the slices of one orientation
teach all three. They are made thick by the scan's own operator, and by closer and thinner slices of its profile, as in
training. The weights are pulled back to the released ones at every step (Li et al. 2018, L2-SP), so that a few slices
do not unteach what the prior knows, and the average over the last steps is kept. Slices that the self-check uses are
never shown.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from monai.transforms import Compose, RandFlipd, RandRotate90d, RandSpatialCropd
from numpy.typing import NDArray
from torch import Tensor

from bida.diffusion.prior import X0_RANGE, PlanePrior, kind_of
from bida.errors import SettingsError
from bida.mri.measurement import Measurement
from bida.mri.selfcheck import SLICES, chosen_indices, with_content
from bida.physics.geometry import SliceGeometry
from bida.physics.grid import PLANES
from bida.progress import Report
from bida.training.dataset import SliceStacks
from bida.training.denoise import denoised
from bida.training.handlers import SpreadLoss
from bida.training.timed import train_for
from bida.transforms.augment.diffuse import DiffuseSliced
from bida.transforms.augment.slices import RandContrastd, RandSimilarityd
from bida.transforms.augment.thicken import ThickenSliced


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
    loss = SpreadLoss()

    def loss_of(batch: dict[str, Tensor]) -> Tensor:
        return loss(prior(batch["image"], batch["timesteps"], batch["planes"]), batch["label"])

    made_from = fingerprint(prior, scans, how)
    return train_for(prior, dataset, how, loss_of, made_from, checkpoint, report, PlanePrior.guided_parameters)


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
