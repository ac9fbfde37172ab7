"""What runs of one scan (`pipeline`) and of several (`combine`) share: the way there, the sampling, the way back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bida.device import choose_device
from bida.diffusion.load import load_prior, prior_of
from bida.diffusion.prior import PlanePrior
from bida.io.nifti import source_header
from bida.io.weights import weights_file
from bida.mri.adapted import adapted
from bida.mri.evidence import Evidence
from bida.mri.measurement import RESIDUALS, Measurement, ScanMeta
from bida.mri.memory import PlanWithinMemory
from bida.mri.moments import Moments
from bida.mri.record import describe
from bida.mri.result import Result
from bida.mri.sampler import BiplanarSampler, Chain, Draw
from bida.mri.settings import Settings
from bida.mri.source import Source
from bida.physics.geometry import SliceGeometry
from bida.physics.operators import SliceOperator
from bida.progress import LOG, Progress, Report, log_values
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
from bida.transforms.slices import CorrectSlices
from bida.transforms.way import Record, Way, back


def way_of(settings: Settings, multiple: int = 8) -> Way:
    """Return the way from a path to the network's input, A+ y on the padded grid, in [-1, 1].

    Args:
        settings: Of the run.
        multiple: The network's stride.
    """
    ends: list[VolumeStep] = [BackProject(), PadToNetwork(multiple)]
    return slices_way(settings, [MatchScan()], ends)


def slices_way(settings: Settings, before: Sequence[VolumeStep] = (), after: Sequence[VolumeStep] = ()) -> Way:
    """Return the way from a path to slices in [-1, 1], their in-plane voxels as large as the result's.

    Args:
        settings: Of the run.
        before: More steps, before the intensities change.
        after: More steps, at the end.
    """
    # first, so that all that comes after knows the scan as it leaves it
    steps: list[VolumeStep] = [CorrectSlices(settings.correct_slices), MeasureNoise(settings.noise), *before]
    if settings.n4:
        steps.append(CorrectBias(restore=not settings.bias_corrected))
    steps += [ResampleInPlane(), NormalizePercentiles(), *after]
    return Way(LoadScan.of(settings), PlanWithinMemory(settings), steps)


def measured(image: ScanImage, prior: PlanePrior) -> Measurement:
    """Return the scan in a network's input, where the prior is."""
    inputs = image.data[None].to(next(prior.parameters()).device)
    return Measurement.of(inputs, prior.stride, meta=ScanMeta.of(image.meta))


_READY: dict[tuple[Any, ...], PlanePrior] = {}  # the last one loaded, by file, its time, device and arithmetic


def ready_prior(settings: Settings, clock: Clock) -> PlanePrior:
    """Return the prior of a run, where it shall compute; one that nothing changes is kept for the next run."""
    log_values("settings", asdict(settings))
    device = choose_device(settings.device)
    file = weights_file(settings.model)
    LOG.info("weights: %s, on %s", file, device)
    state = (file, file.stat().st_mtime_ns if file.is_file() else None, str(device), settings.dtype)
    if settings.adapt is not None or state not in _READY:
        prior = load_prior(prior_of(settings.model), settings.model, device, settings.dtype)
        if settings.adapt is None:
            _READY.clear()
            _READY[state] = prior
    else:
        prior = _READY[state]
    Chain.of(settings, prior)  # says before any work that the weights have fewer times, or that the mean is not theirs
    clock.lap("load_weights")
    return prior


@dataclass(frozen=True)
class Prepared:
    """What a run samples, and the way back.

    Attributes:
        source: The scan on whose grid the result is.
        scan: What was measured.
        slices: Sharp slices for an adaptation, of each scan.
        image: The network's input, [1, R, A, S].
        records: Of the steps that made it.
        scans: What is told of every scan that was combined, given the volume [R, A, S] of the result; None for one.
        notes: What the user should know beside that of the image, a sentence each.
    """

    source: Source
    scan: Evidence
    slices: Sequence[Measurement]
    image: ScanImage
    records: Sequence[Record]
    scans: Callable[[Tensor], list[dict[str, Any]]] | None = None
    notes: tuple[str, ...] = ()


def finished(
    part: Prepared,
    settings: Settings,
    prior: PlanePrior,
    clock: Clock,
    progress: Progress | None = None,
    on_draw: Callable[[NDArray[np.float32]], None] | None = None,
    on_adapt: Report | None = None,
    checkpoint: Path | None = None,
) -> Result:
    """Restore what was prepared; see `restore` for the arguments."""
    sampler, image, records = BiplanarSampler(settings, progress=progress), part.image, part.records
    ready = adapted(prior, part.scan, part.slices, settings, clock, checkpoint, on_adapt)
    draws = UndoneDraws(image, records, settings.like, clock, on_draw, settings.runs > 1)
    found = sampler.restore(part.scan, prior, ready.check, draws.add)
    noticed = None if found.check is None else found.check.record()
    scans = None if part.scans is None else part.scans(found.mean)
    residuals = draws.residuals if part.scans is None else {**draws.residuals, "sampler_residual": found.residual}
    meta = replace(ScanMeta.of(draws.last.meta), residuals=residuals, self_check=noticed)
    if found.leftover is not None:
        meta = replace(meta, noise_level={**(meta.noise_level or {}), "residual": found.leftover.record()})
    std: NDArray[np.float32] | None = None
    if found.std is not None:
        unit = (meta.intensity_range[1] - meta.intensity_range[0]) / 2
        noise = part.scan.noise_of(settings) * unit
        scale = None if found.check is None else found.check.spread_scale  # measured on this very scan
        told = draws.moments.std if settings.samples > 1 else spread_of(found.std.cpu(), image, records, settings.like)
        std, most = np.empty(told.shape, np.float32), np.ptp(draws.moments.mean)  # no error is larger than the range
        for one, made in zip(told, std):
            if scale is None:
                wide = prior.uncertainty(one.astype(np.float64), unit, drawn=not settings.is_mean, noise=noise)
            else:
                wide = scale * one
            made[:] = np.minimum(wide, most)
        del told, found
    meta = replace(meta, warnings=(*meta.warnings, *part.notes, *ready.notes))
    record = describe(meta, settings, prior, clock, ready.record, scans)
    mean = draws.moments.mean.astype(np.float32)
    residual = StoredResidual.of(records, draws.last.affine) if residuals["scan_residual"] is not None else None
    header = source_header(part.source)
    return Result(mean, draws.last.affine, std, record, tuple(record["warnings"]), header, residual)


@dataclass(frozen=True)
class StoredResidual:
    """Measure a volume against its scan as `MatchScan` does, once more: as it is stored.

    Attributes:
        slices: Of the scan, [1, R, A, S].
        geometry: Of the scan, as JSON.
        turn: From the result's axes to R, A and S, nibabel's orientation.
    """

    slices: Tensor
    geometry: str
    turn: NDArray

    @classmethod
    def of(cls, records: Sequence[Record], affine: NDArray[np.float64]) -> StoredResidual | None:
        """Return it from the records of a way, for a result of an affine; None where the scan is not kept."""
        kept = [record for step, record in records if isinstance(step, MatchScan) and record["same_grid"]]
        if not kept:
            return None
        return cls(kept[0]["scan"], kept[0]["geometry"], nib.orientations.io_orientation(affine))

    def __call__(self, volume: NDArray) -> float:
        """Return max |A x - y| over the range of y, for a volume [X, Y, Z]."""
        ras = nib.orientations.apply_orientation(volume, self.turn).astype(np.float64)
        operator = SliceOperator.build(SliceGeometry.from_json(self.geometry))
        return operator.residual(torch.from_numpy(np.ascontiguousarray(ras)), self.slices[0].double(), operator.axis)

    def told(self, volume: NDArray, record: Mapping[str, Any]) -> dict[str, Any]:
        """Return the entries of a run's record that say how far a volume [X, Y, Z] is from the scan."""
        return {"data_consistency": {**record["data_consistency"], "scan_residual": self(volume)}}


def spread_of(
    spread: Tensor, image: ScanImage, records: Sequence[Record], like: str | Path | None
) -> NDArray[np.float32]:
    """Return a standard deviation [R, A, S] on the network's grid as the scan lies, in its intensities, [X, Y, Z].

    It takes the steps back that change intensities by a factor: the difference of what two volumes become.
    """
    linear = [(step, record) for step, record in records if not isinstance(step, MatchScan)]
    turn = (lambda volume: volume) if like is None else OrientLike(like)
    one, zero = (turn(back(v, image, linear)).numpy() for v in (spread, torch.zeros_like(spread)))
    return np.abs(one - zero)


class UndoneDraws:
    """Take each draw, or the mean, back to the scan's grid and intensities, and keep what is wanted of all of them.

    Args:
        image: The network's input, [1, R, A, S].
        records: Of the steps that made it.
        like: File on whose grid the result is put.
        clock: Told of the time that sampling and undoing take.
        on_draw: Called with each draw [X, Y, Z].
        many: Whether there are several.

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
        many: bool = True,
    ) -> None:
        """Start with none."""
        self.many, self.image, self.records, self.clock, self.on_draw = many, image, records, clock, on_draw
        self.turn = None if like is None else OrientLike(like)
        self.moments, self.residuals = Moments(), dict[str, float | None]()
        self.last: ScanImage

    def add(self, draw: Draw) -> None:
        """Take one in."""
        self.clock.lap("sample")
        undone = back(draw.volume.cpu(), self.image, self.records)
        self.last = undone if self.turn is None else self.turn(undone)
        volume = self.last.numpy()
        self.moments.add(volume.astype(np.float64) if self.many else volume)
        for name in RESIDUALS:
            new, worst = self.last.meta.get(name), self.residuals.get(name, 0.0)
            self.residuals[name] = None if new is None or worst is None else max(worst, float(new))
        if self.on_draw is not None:
            self.on_draw(volume)
        self.clock.lap("postprocess")
