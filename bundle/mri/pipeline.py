"""From a scan to an isotropic volume: the one place that knows every part of a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bida.device import choose_device
from bida.diffusion.load import load_prior, prior_of
from bida.diffusion.prior import PlanePrior
from bida.errors import SettingsError
from bida.io.nifti import source_header
from bida.mri.measurement import RESIDUALS, Measurement, ScanMeta
from bida.mri.moments import Moments
from bida.mri.record import describe
from bida.mri.result import Result
from bida.mri.sampler import BiplanarSampler, Draw
from bida.mri.settings import Settings
from bida.options import options_of
from bida.progress import Progress, Report
from bida.provenance import Clock
from bida.transforms.backproject import BackProject
from bida.transforms.base import ScanImage, VolumeStep
from bida.transforms.bias import CorrectBias
from bida.transforms.inplane import ResampleInPlane
from bida.transforms.intensity import NormalizePercentiles
from bida.transforms.like import OrientLike
from bida.transforms.load import LoadScan
from bida.transforms.match import MatchScan
from bida.transforms.noise import MeasureNoise
from bida.transforms.pad import PadToNetwork
from bida.transforms.plan import PlanScan
from bida.transforms.slices import CorrectSlices
from bida.transforms.way import Record, Way, back

Source = str | Path | nib.Nifti1Pair
OPTIONS = frozenset(options_of(Settings))


def way_of(settings: Settings, multiple: int = 8) -> Way:
    """Return the way from a path to the network's input, A+ y on the padded grid, in [-1, 1].

    Args:
        settings: Of the run.
        multiple: The network's stride.
    """
    # first, so that all that comes after knows the scan as it leaves it
    steps: list[VolumeStep] = [CorrectSlices(settings.correct_slices), MeasureNoise(settings.noise), MatchScan()]
    if settings.n4:
        steps.append(CorrectBias(restore=not settings.bias_corrected))
    steps += [ResampleInPlane(), NormalizePercentiles(), BackProject(), PadToNetwork(multiple)]
    return Way(LoadScan(settings.volume, settings.scale_header), PlanScan(settings), steps)


def measured(image: ScanImage, prior: PlanePrior) -> Measurement:
    """Return the scan in a network's input, where the prior is."""
    inputs = image.data[None].to(next(prior.parameters()).device)
    return Measurement.of(inputs, prior.stride, meta=ScanMeta.of(image.meta))


def restore(
    source: Source,
    settings: Settings | None = None,
    progress: Progress | None = None,
    on_draw: Callable[[NDArray[np.float32]], None] | None = None,
    on_adapt: Report | None = None,
    checkpoint: Path | None = None,
) -> Result:
    """Turn a thick-slice scan into an isotropic volume: the mean of what the scan can come from, in one step, or draws.

    Args:
        source: The scan: NIfTI, NRRD, MetaImage, a folder with one DICOM series, or a nibabel NIfTI image.
        settings: Choices of the run; the defaults when None.
        progress: Called with (steps done, steps in all).
        on_draw: Called with each draw, or with the mean, like the result's ``data``.
        on_adapt: Called after each step of an adaptation with (seconds done, seconds in all, loss).
        checkpoint: File from which an adaptation that was cut off goes on; whoever keeps the result removes it.

    Returns:
        The volume, the record of the run, and the uncertainty (`bida.diffusion.prior.PlanePrior.uncertainty`): of
        the mean where the weights tell it, else where ``samples`` is above 1.

    Raises:
        ScanError: The scan cannot be used.
        SettingsError: A setting is out of range or contradicts another.
        WeightsError: The weights are missing or not what they should be.
    """
    settings = settings or Settings()
    clock = Clock()
    device = choose_device(settings.device)
    sampler = BiplanarSampler(settings, progress=progress)
    prior = load_prior(prior_of(settings.model), settings.model, device, settings.dtype)
    clock.lap("load_weights")
    image, records = way_of(settings, prior.stride).there(source)
    clock.lap("preprocess")
    scan = measured(image, prior)
    adapted = None
    if settings.adapt is not None:
        from bida.mri.adapt import adapt_prior  # training code loads when it is used

        adapted = adapt_prior(prior, [scan], settings.adapt, checkpoint, on_adapt)
        clock.lap("adapt")
    check = sampler.check(scan, prior)
    clock.lap("self_check")
    draws = UndoneDraws(image, records, settings.like, clock, on_draw)
    found = sampler.restore(scan, prior, check, draws.add)
    noticed = None if found.check is None else found.check.record()
    meta = replace(ScanMeta.of(draws.last.meta), residuals=draws.residuals, self_check=noticed)
    if found.leftover is not None:
        meta = replace(meta, noise_level={**(meta.noise_level or {}), "residual": found.leftover.record()})
    std: NDArray[np.float32] | None = None
    if found.std is not None:
        low, high = meta.intensity_range
        told = draws.moments.std if settings.samples > 1 else spread_of(found.std.cpu(), image, records, settings.like)
        wide = prior.uncertainty(told, (high - low) / 2, drawn=not settings.is_mean, noise=meta.noise or 0.0)
        std = np.minimum(wide, np.ptp(draws.moments.mean)).astype(np.float32)  # no error is larger than the range
    record = describe(meta, settings, prior, clock, adapted)
    mean = draws.moments.mean.astype(np.float32)
    return Result(mean, draws.last.affine, std, record, tuple(record["warnings"]), source_header(source))


def spread_of(
    spread: Tensor, image: ScanImage, records: Sequence[Record], like: str | Path | None
) -> NDArray[np.float64]:
    """Return a standard deviation [R, A, S] on the network's grid as the scan lies, in its intensities, [X, Y, Z].

    It takes the steps back that change intensities by a factor: the difference of what two volumes become.
    """
    linear = [(step, record) for step, record in records if not isinstance(step, MatchScan)]
    turn = (lambda volume: volume) if like is None else OrientLike(like)
    one, zero = (turn(back(v, image, linear)).numpy().astype(np.float64) for v in (spread, torch.zeros_like(spread)))
    return np.abs(one - zero)


class UndoneDraws:
    """Take each draw, or the mean, back to the scan's grid and intensities, and keep what is wanted of all of them.

    Args:
        image: The network's input, [1, R, A, S].
        records: Of the steps that made it.
        like: File on whose grid the result is put.
        clock: Told of the time that sampling and undoing take.
        on_draw: Called with each draw [X, Y, Z].

    Attributes:
        moments: Of the draws, [X, Y, Z].
        last: The last draw.
        residuals: The largest of the draws', None where a draw has none.
    """

    def __init__(
        self,
        image: ScanImage,
        records: Sequence[Record],
        like: str | Path | None,
        clock: Clock,
        on_draw: Callable[[NDArray[np.float32]], None] | None = None,
    ) -> None:
        """Start with none."""
        self.image, self.records, self.clock, self.on_draw = image, records, clock, on_draw
        self.turn = None if like is None else OrientLike(like)
        self.moments, self.residuals = Moments(), dict[str, float | None]()
        self.last: ScanImage

    def add(self, draw: Draw) -> None:
        """Take one in."""
        self.clock.lap("sample")
        undone = back(draw.volume.cpu(), self.image, self.records)
        self.last = undone if self.turn is None else self.turn(undone)
        volume = self.last.numpy()
        self.moments.add(volume.astype(np.float64))
        for name in RESIDUALS:
            new, worst = self.last.meta.get(name), self.residuals.get(name, 0.0)
            self.residuals[name] = None if new is None or worst is None else max(worst, float(new))
        if self.on_draw is not None:
            self.on_draw(volume)
        self.clock.lap("postprocess")


def superres(
    source: Source,
    settings: Settings | None = None,
    *,
    preset: str | None = None,
    progress: Progress | None = None,
    spacing: str | float | None = None,
    factor: float | None = None,
    axis: str | None = None,
    thickness_mm: str | float | None = None,
    gap_mm: float | None = None,
    profile: str | None = None,
    like: str | Path | None = None,
    volume: int | None = None,
    scale_header: float | None = None,
    correct_slices: bool | None = None,
    n4: bool | None = None,
    bias_corrected: bool | None = None,
    steps: int | None = None,
    samples: int | None = None,
    fusion: str | None = None,
    eta: float | None = None,
    guided: bool | None = None,
    grain: bool | None = None,
    self_check: bool | None = None,
    noise: str | float | None = None,
    adapt: float | None = None,
    seed: int | None = None,
    device: str | None = None,
    dtype: str | None = None,
    batch_size: int | None = None,
    model: str | Path | None = None,
) -> Result:
    """Turn a thick-slice scan into an isotropic volume.

    It is the mean of what the scan can come from, in one step; with ``samples=K`` the mean of K draws.

    Args:
        source: The scan: NIfTI, NRRD, MetaImage, a folder with one DICOM series, or a nibabel NIfTI image.
        settings: All choices at once, instead of the options below.
        preset: ``paper`` for the settings as published, changed by the options that are given.
        progress: Called with (steps done, steps in all).

    All other arguments are the options of ``bida.Settings``, which says what they mean; one that is None has the
    default that stands there, or the preset's.

    Returns:
        The volume, its affine, the record of the run, and the uncertainty, but for a single draw.

    Raises:
        ScanError: The scan cannot be used.
        SettingsError: An option is out of range or contradicts another, or is given beside ``settings``.
        WeightsError: The weights are missing or not what they should be.
    """
    options = {name: value for name, value in locals().items() if name in OPTIONS and value is not None}
    if settings is None:
        settings = Settings.of(preset, **options)
    elif options or preset is not None:
        extra = ", ".join([*options, *(["preset"] if preset else [])])
        raise SettingsError(f"settings: must stand alone, got {extra} too; change them by dataclasses.replace")
    return restore(source, settings, progress)
