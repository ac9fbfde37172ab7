"""Adaptation: fine-tune the prior on the sharp slices of the scans that it shall restore.

What is sharp in its own plane looks much alike in every plane (Jiang et al. 2024), so the slices of one orientation
teach all three. They are made thick by the scan's own operator, and by closer and thinner slices of its profile, as in
training. The weights are pulled back to the released ones at every step (Li et al. 2018, L2-SP), so that a few slices
do not unteach what the prior knows, and the average over the last steps is kept. Slices that the self-check uses are
never shown.

What is taught is what the run asks for: the mean in one step is one noise level of clean tissue, so that all the time
goes to it; draws need every level, and grain where they have it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import Compose, RandFlipd, RandRotate90d, RandSpatialCropd
from numpy.typing import NDArray
from torch import Tensor

from bida.diffusion.prior import X0_RANGE, PlanePrior, kind_of
from bida.errors import SettingsError
from bida.mri.measurement import Measurement
from bida.mri.selfcheck import SLICES, chosen_indices, with_content
from bida.mri.settings import SamplerOptions
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

PIXELS = 1 << 16  # of the crops of a step: more bring more to each step, less make more steps


@dataclass(frozen=True)
class Adaptation:
    """How to fine-tune; how each was chosen, and on which scans, is in `docs/development.md`.

    Attributes:
        minutes: time to spend.
        rate: largest learning rate.
        pull: share of the way back to the released weights at each step at the largest rate.
        batch_size: crops a step; 0 for as many as hold `PIXELS`.
        crop: height and width of a crop, voxels; less where slices are smaller.
        varied: share of crops that are turned, shifted and scaled, and likewise of those whose contrast is changed.
        scale: range of the random scale.
        factors: range of the slice spacing that crops are made thick by, over the scan's own.
        own: share of crops at the upper end of it, the scan's own.
        emphasis: of high noise levels, see `bida.transforms.augment.diffuse`.
        highest: share of crops for the mean in one step, see there.
        grain: share of crops whose target is the slice with its noise, see `bida.transforms.augment.thicken`.
        decay: of the average of the weights.
        save_seconds: time between checkpoints.
        seed: of all chance.
    """

    minutes: float
    rate: float = 1e-3
    pull: float = 2e-4
    batch_size: int = 0
    crop: int = 128
    varied: float = 0.2
    scale: tuple[float, float] = (0.8, 1.3)
    factors: tuple[float, float] = (0.5, 1.0)
    own: float = 0.5
    emphasis: float = 1.0
    highest: float = 1.0
    grain: float = 0.0
    decay: float = 0.99
    save_seconds: float = 30.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the time."""
        if not 0 < self.minutes < float("inf"):
            raise SettingsError(f"adapt: minutes must be a number above 0, got {self.minutes:g}")

    @classmethod
    def of(cls, minutes: float, options: SamplerOptions) -> Adaptation:
        """Return how to fine-tune for what a run asks of the prior: the mean in one step, or draws.

        Raises:
            SettingsError: The minutes are not above 0, or the run does not show the scan to the prior.
        """
        options.check_adaptable()
        return cls(minutes, highest=float(options.is_mean), grain=float(options.grain))

    def fitted(self, scans: Sequence[ScanSlices], stride: int) -> Adaptation:
        """Return it with a crop that fits into all slices, and so many of them a step.

        Raises:
            SettingsError: Slices are smaller than the network's stride.
        """
        sizes = [size for scan in scans for axis, size in enumerate(scan.slices.shape) if axis != scan.geometry.axis]
        crop = min(self.crop, min(sizes)) // stride * stride
        if crop < stride:
            raise SettingsError(
                f"adapt: slices must have at least {stride} x {stride} voxels, the smallest has {min(sizes)}; leave it "
                "out"
            )
        return replace(self, crop=crop, batch_size=self.batch_size or max(1, round(PIXELS / crop**2)))


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

    @classmethod
    def of(cls, scan: Measurement, options: SamplerOptions) -> ScanSlices:
        """Return those of a scan, with the noise that a run takes it to have."""
        return cls(scan.inside().cpu().numpy(), scan.geometry.unpadded(), scan.noise_of(options))

    def free(self) -> list[int]:
        """Return the indices of the slices with content that were measured and that the self-check does not keep."""
        slices, axis, missing = torch.from_numpy(self.slices), self.geometry.axis, self.geometry.missing
        held = chosen_indices(slices, axis, missing)
        return [index for index in with_content(slices, axis) if index not in (*held, *missing)]


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
    loss = SpreadLoss()

    def loss_of(batch: dict[str, Tensor]) -> Tensor:
        return loss(prior(batch["image"], batch["timesteps"], batch["planes"]), batch["label"])

    how = how.fitted(scans, prior.stride)
    dataset = training_slices(scans, how, prior)
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
    options: SamplerOptions | None = None,
    checkpoint: Path | None = None,
    report: Report | None = None,
) -> dict[str, Any]:
    """Fine-tune a prior, in place, on the sharp slices of scans; see ``bida.mri.adapt``.

    Args:
        prior: The prior, loaded.
        scans: The scans' slices, normalised as the prior's training data.
        minutes: Time to spend.
        options: How the priors are going to be sampled; the defaults, those of the mean in one step, when None.
        checkpoint: File from which a run that was cut off goes on; whoever keeps the result removes it.
        report: Called after each step with (seconds done, seconds in all, loss).

    Returns:
        What was done, for the record.
    """
    options = options or SamplerOptions()
    slices = [ScanSlices.of(scan, options) for scan in scans]
    steps = adapt(prior, slices, Adaptation.of(minutes, options), checkpoint, report)
    return {"minutes": minutes, "steps": steps, "scans": len(slices), "for": "mean" if options.is_mean else "draws"}


def training_slices(scans: Sequence[ScanSlices], how: Adaptation, prior: PlanePrior) -> SliceStacks:
    """Return random crops of the scans' slices, made thick by the scans' own operator, with what the prior predicts.

    Args:
        scans: see `adapt`.
        how: `Adaptation.fitted` to them.
        prior: that is to be taught.

    Raises:
        SettingsError: a scan has no slices left beside those of the self-check.
    """
    stacks, transforms = [], []
    for number, scan in enumerate(scans, 1):
        axis, free = scan.geometry.axis, scan.free()
        if not free:
            raise SettingsError(
                f"adapt: a scan must have slices beside the {SLICES} that the self-check keeps, scan {number} of "
                f"{len(scans)} has none with content; leave it out"
            )
        volume = np.clip(scan.slices, *X0_RANGE)
        pair = np.moveaxis(np.stack([volume, denoised(volume)], axis=-1), axis, 0)  # [N, H, W, 2]
        stacks.append((pair, np.array(free)))
        transforms.append(_transform(scan, how, prior))
    return SliceStacks(dict.fromkeys(PLANES, stacks), transforms, how.seed)


def _transform(scan: ScanSlices, how: Adaptation, prior: PlanePrior) -> Compose:
    geometry = scan.geometry
    prediction, timesteps, schedule = kind_of(prior.kind)
    thickness = geometry.thickness_mm / geometry.slice_spacing_mm
    return Compose(
        [
            RandSimilarityd("image", rotate=10, translate=5, scale=how.scale, prob=how.varied),
            RandFlipd("image", prob=0.5, spatial_axis=0),
            RandFlipd("image", prob=0.5, spatial_axis=1),
            RandRotate90d("image", prob=0.5, max_k=1),
            RandContrastd("image", prob=how.varied),
            RandSpatialCropd("image", roi_size=(how.crop, how.crop), random_size=False),
            ThickenSliced(
                "image",
                unguided=0.0,  # the network of slices without a guide is not trained here
                grain=how.grain,
                factors=[max(1.0, share * geometry.factor) for share in how.factors],
                thickness=(thickness, thickness),
                nominal=0.0,
                profiles=(geometry.profile,),
                weights=(1.0,),
                voxel_mm=geometry.voxel_mm,
                level=scan.noise,
                highest=how.own,
            ),
            DiffuseSliced(
                "image", prediction, timesteps, emphasis=how.emphasis, schedule=schedule, highest=how.highest
            ),
        ]
    )
