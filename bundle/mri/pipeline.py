"""From a scan to an isotropic volume: the one place that knows every part of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from monai.data import MetaTensor
from monai.transforms import Compose, Invertd, Orientationd
from numpy.typing import NDArray

from bida.device import choose_device
from bida.diffusion.load import load_prior, prior_of
from bida.diffusion.prior import PlanePrior
from bida.errors import ScanError, SettingsError, plain_errors
from bida.io.files import NIFTI_SUFFIXES, result_path
from bida.io.nifti import source_header
from bida.mri.inferer import BiplanarInferer, Draw
from bida.mri.measurement import RESIDUALS, Measurement, ScanMeta
from bida.mri.moments import Moments
from bida.mri.record import describe
from bida.mri.result import Result
from bida.mri.settings import Settings
from bida.options import options_of
from bida.progress import Progress, Report
from bida.provenance import Clock
from bida.transforms import (
    BackProjectd,
    CorrectBiasd,
    LoadScand,
    MatchScand,
    NormalizePercentilesd,
    OrientLiked,
    PadToNetworkd,
    PlanScand,
    ResampleInPlaned,
    SaveVolumed,
)

Source = str | Path | nib.Nifti1Pair
OPTIONS = frozenset(options_of(Settings))


def scan_transform(settings: Settings, multiple: int = 8, keys: str = "image") -> Compose:
    """Return the transform from a path to the network's input, A+ y on the padded grid, in [-1, 1].

    Its inverse takes a volume on that grid back to the scan's orientation and intensities.

    Args:
        settings: Of the run.
        multiple: The network's stride.
        keys: Of the items that are transformed.
    """
    steps: list[Any] = [
        LoadScand(keys, volume=settings.volume, scale_header=settings.scale_header),
        Orientationd(keys, axcodes="RAS", labels=None),
        PlanScand(keys, settings),
    ]
    if settings.noise == 0:  # DDNM+ keeps away from a noisy scan on purpose: no last projection onto it
        steps.append(MatchScand(keys))
    if settings.n4:
        steps.append(CorrectBiasd(keys, restore=not settings.bias_corrected))
    steps += [
        ResampleInPlaned(keys),
        NormalizePercentilesd(keys),
        BackProjectd(keys),
        PadToNetworkd(keys, multiple=multiple),
    ]
    return Compose(steps)


def undoing(keys: str, transform: Compose, like: str | None) -> Compose:
    """Return the transform of volumes on the network's grid back to the scan, or to the ``like`` file's orientation."""
    steps: list[Any] = [Invertd(keys, transform, orig_keys="image", nearest_interp=False)]
    if like is not None:
        steps.append(OrientLiked(keys, like))
    return Compose(steps)


def restore(
    source: Source,
    settings: Settings | None = None,
    progress: Progress | None = None,
    on_draw: Callable[[NDArray[np.float32]], None] | None = None,
    on_adapt: Report | None = None,
    checkpoint: Path | None = None,
) -> Result:
    """Turn a thick-slice scan into an isotropic volume.

    Args:
        source: The scan: NIfTI, NRRD, MetaImage, a folder with one DICOM series, or a nibabel NIfTI image.
        settings: Choices of the run; the defaults when None.
        progress: Called with (steps done, steps in all).
        on_draw: Called with each draw, like the result's ``data``.
        on_adapt: Called after each step of an adaptation with (seconds done, seconds in all, loss).
        checkpoint: File from which an adaptation that was cut off goes on; whoever keeps the result removes it.

    Returns:
        The volume, the record of the run, and where ``samples`` is above 1 the uncertainty
        (`bida.diffusion.prior.PlanePrior.uncertainty`).

    Raises:
        ScanError: The scan cannot be used.
        SettingsError: A setting is out of range or contradicts another.
        WeightsError: The weights are missing or not what they should be.
    """
    settings = settings or Settings()
    clock = Clock()
    device = choose_device(settings.device)
    inferer = BiplanarInferer(settings, progress=progress)
    prior = load_prior(prior_of(settings.model), settings.model, device, settings.dtype)
    clock.lap("load_weights")
    transform = scan_transform(settings, prior.stride)
    with plain_errors():
        image = transform({"image": source})["image"]
    clock.lap("preprocess")
    scan = Measurement.of(image[None].to(device), prior.stride)
    adapted = None
    if settings.adapt is not None:
        from bida.mri.adapt import adapt_prior  # training code loads when it is used

        adapted = adapt_prior(prior, [scan], settings.adapt, checkpoint, on_adapt)
        clock.lap("adapt")
    check = inferer.check(scan, prior)
    clock.lap("self_check")
    draws = UndoneDraws(transform, image, settings.like, clock, on_draw)
    found = inferer.restore(scan, prior, check, draws.add)
    meta = replace(draws.meta, residuals=draws.residuals, self_check=found.check and found.check.record())
    std = None
    if settings.samples > 1 and meta.intensity_range is not None:
        low, high = meta.intensity_range
        std = prior.uncertainty(draws.moments.std, (high - low) / 2).astype(np.float32)
    record = describe(meta, settings, prior, clock, adapted)
    mean = draws.moments.mean.astype(np.float32)
    return Result(mean, draws.affine, std, record, tuple(record["warnings"]), source_header(source))


class UndoneDraws:
    """Take each draw back to the scan's grid and intensities, and keep what is wanted of all of them.

    Args:
        transform: What made the network's input.
        image: That input, [1, R, A, S].
        like: File on whose grid the result is put.
        clock: Told of the time that sampling and undoing take.
        on_draw: Called with each draw [X, Y, Z].

    Attributes:
        moments: Of the draws, [X, Y, Z].
        affine: 4 x 4 of the draws.
        meta: Of the last draw.
        residuals: The largest of the draws', None where a draw has none.
    """

    def __init__(
        self,
        transform: Compose,
        image: MetaTensor,
        like: str | Path | None,
        clock: Clock,
        on_draw: Callable[[NDArray[np.float32]], None] | None = None,
    ) -> None:
        """Start with none."""
        self.undo, self.image, self.clock, self.on_draw = undoing("draw", transform, like), image, clock, on_draw
        self.moments, self.residuals = Moments(), dict[str, float | None]()
        self.affine: NDArray[np.float64]
        self.meta: ScanMeta

    def add(self, draw: Draw) -> None:
        """Take one in."""
        self.clock.lap("sample")
        undone = self.undo({"image": self.image, "draw": MetaTensor(draw.volume[None].cpu())})["draw"]
        volume = undone[0].cpu().numpy()
        self.moments.add(volume.astype(np.float64))
        self.affine, self.meta = undone.affine.cpu().numpy().astype(np.float64), ScanMeta.of(undone.meta)
        for name in RESIDUALS:
            new, worst = self.meta.residuals[name], self.residuals.get(name, 0.0)
            self.residuals[name] = None if new is None or worst is None else max(worst, float(new))
        if self.on_draw is not None:
            self.on_draw(volume)
        self.clock.lap("postprocess")


def postprocessing(
    transform: Compose, settings: Settings, prior: PlanePrior, output_dir: str, overwrite: bool = False
) -> Compose:
    """Return the transform from the network's output ``pred`` to ``<name>_superres.nii.gz`` and its sidecar."""
    clock = Clock()

    def record(meta: Mapping[str, Any]) -> dict[str, Any]:
        clock.seconds.clear()
        clock.lap("total")
        return describe(ScanMeta.of(meta), settings, prior, clock)

    save = SaveVolumed("pred", output_dir, record, overwrite=overwrite)
    return Compose([undoing("pred", transform, settings.like), save])


def find_scans(
    source: str | Path | Sequence[str | Path] | None, output_dir: str | Path, overwrite: bool = False
) -> list[dict[str, str]]:
    """List the scans that a bundle run shall restore: a file, a folder of NIfTI files, a DICOM folder, or a list.

    Raises:
        ScanError: Nothing is named, a path does not exist, two results would have one name, or a result exists.
    """
    if not source:
        raise ScanError("input: a scan must be named, got none; give --input SCAN")
    scans: list[Path] = []
    for path in [Path(source)] if isinstance(source, str | Path) else map(Path, source):
        if not path.exists():
            raise ScanError(f"{path}: the scan must exist, nothing is there; check the path")
        inside = sorted(p for p in path.iterdir() if p.name.endswith(NIFTI_SUFFIXES)) if path.is_dir() else []
        scans += inside or [path]
    results = [result_path(output_dir, scan) for scan in scans]
    for scan, result in zip(scans, results):
        if results.count(result) > 1:
            raise ScanError(f"{scan}: results must have names of their own, two would be {result}; run them apart")
        if result.exists() and not overwrite:
            raise ScanError(f"{result}: output must not exist, it does; choose another folder or give --overwrite True")
    return [{"image": str(scan)} for scan in scans]


def superres(
    source: Source,
    settings: Settings | None = None,
    *,
    preset: str | None = None,
    progress: Progress | None = None,
    spacing: str | float | None = None,
    factor: float | None = None,
    axis: str | None = None,
    thickness_mm: float | None = None,
    gap_mm: float | None = None,
    profile: str | None = None,
    like: str | Path | None = None,
    volume: int | None = None,
    scale_header: float | None = None,
    n4: bool | None = None,
    bias_corrected: bool | None = None,
    steps: int | None = None,
    samples: int | None = None,
    fusion: str | None = None,
    eta: float | None = None,
    guided: bool | None = None,
    grain: bool | None = None,
    self_check: bool | None = None,
    noise: float | None = None,
    adapt: float | None = None,
    seed: int | None = None,
    device: str | None = None,
    dtype: str | None = None,
    batch_size: int | None = None,
    model: str | Path | None = None,
) -> Result:
    """Turn a thick-slice scan into an isotropic volume.

    Args:
        source: The scan: NIfTI, NRRD, MetaImage, a folder with one DICOM series, or a nibabel NIfTI image.
        settings: All choices at once, instead of the options below.
        preset: ``paper`` for the settings as published, changed by the options that are given.
        progress: Called with (steps done, steps in all).

    All other arguments are the options of ``bida.Settings``, which says what they mean; one that is None has the
    default that stands there, or the preset's.

    Returns:
        The volume, its affine, the uncertainty where ``samples`` is above 1, and the record of the run.

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
