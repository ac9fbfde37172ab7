"""From a scan to an isotropic volume: the one place that knows every part of a run."""

from __future__ import annotations

import inspect
import json
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
from bida.errors import ScanError, plain_errors
from bida.io.files import NIFTI_SUFFIXES, result_path
from bida.io.nifti import source_header
from bida.mri.inferer import BiplanarInferer
from bida.mri.moments import Moments
from bida.mri.record import RESIDUALS, describe, worst
from bida.mri.result import Result
from bida.mri.settings import Settings
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


def preprocessing(
    keys: str = "image",
    *,
    spacing: str | float = "auto",
    factor: float | None = None,
    axis: str | None = None,
    thickness_mm: float | None = None,
    gap_mm: float | None = None,
    profile: str = "slr",
    like: str | None = None,
    volume: int | None = None,
    scale_header: float | None = None,
    n4: bool = True,
    bias_corrected: bool = False,
    noise: float = 0.0,
    multiple: int = 8,
) -> Compose:
    """Return the transform from a path to the network's input, A+ y on the padded grid, in [-1, 1].

    Its inverse takes a volume on that grid back to the scan's orientation and intensities. ``multiple`` is the
    network's stride; the other arguments are those of ``Settings``.
    """
    steps: list[Any] = [
        LoadScand(keys, volume=volume, scale_header=scale_header),
        Orientationd(keys, axcodes="RAS", labels=None),
        PlanScand(
            keys,
            axis=axis,
            factor=factor,
            spacing=spacing,
            thickness_mm=thickness_mm,
            gap_mm=gap_mm,
            profile=profile,
            like=like,
        ),
    ]
    if noise == 0:  # DDNM+ keeps away from a noisy scan on purpose: no last projection onto it
        steps.append(MatchScand(keys))
    if n4:
        steps.append(CorrectBiasd(keys, restore=not bias_corrected))
    steps += [
        ResampleInPlaned(keys),
        NormalizePercentilesd(keys),
        BackProjectd(keys),
        PadToNetworkd(keys, multiple=multiple),
    ]
    return Compose(steps)


def make_inferer(settings: Settings, progress: Progress | None = None) -> BiplanarInferer:
    """Return the sampler under the settings of a run."""
    names = ("steps", "samples", "fusion", "eta", "self_check", "guided", "grain", "noise", "seed", "batch_size")
    return BiplanarInferer(**{name: getattr(settings, name) for name in names}, progress=progress)


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
    inferer = make_inferer(settings, progress)
    prior = load_prior(prior_of(settings.model), settings.model, device, settings.dtype)
    clock.lap("load_weights")
    transform = scan_transform(settings, prior.stride)
    with plain_errors():
        item = transform({"image": source})
    clock.lap("preprocess")
    undo = undoing("draw", transform, settings.like)
    inputs = item["image"][None].to(device)
    adapted = None
    if settings.adapt is not None:
        from bida.mri.adapt import adapt_prior  # training code loads when it is used

        adapted = adapt_prior(prior, [inputs], settings.adapt, checkpoint, on_adapt)
        clock.lap("adapt")
    check = inferer.check(inputs, prior) if settings.self_check else None
    clock.lap("self_check")
    moments = Moments()
    residuals: dict[str, float | None] = dict.fromkeys(RESIDUALS, 0.0)
    for draw in inferer.draws(inputs, prior, weight=1.0 if check is None else check.weight):
        clock.lap("sample")
        last = undo({"image": item["image"], "draw": MetaTensor(draw.volume[None].cpu())})["draw"]
        volume = last[0].cpu().numpy()
        moments.add(volume.astype(np.float64))
        residuals = {name: worst(residuals[name], last.meta.get(name)) for name in RESIDUALS}
        if on_draw is not None:
            on_draw(volume)
        clock.lap("postprocess")
    mean, affine = moments.mean.astype(np.float32), last.affine.cpu().numpy().astype(np.float64)
    std = None
    if settings.samples > 1:
        meta = item["image"].meta
        unit = (meta["intensity_high"] - meta["intensity_low"]) / 2
        std = prior.uncertainty(moments.std, unit).astype(np.float32)
    found = json.dumps(check and replace(check, weight_of_result=draw.weight).record())
    made = {"self_check": found, "adapted": json.dumps(adapted)}
    record = describe({**last.meta, **residuals, **made}, settings, prior, clock)
    return Result(mean, affine, std, record, tuple(record["warnings"]), source_header(source))


def postprocessing(
    transform: Compose, settings: Settings, prior: PlanePrior, output_dir: str, overwrite: bool = False
) -> Compose:
    """Return the transform from the network's output ``pred`` to ``<name>_superres.nii.gz`` and its sidecar."""
    clock = Clock()

    def record(meta: Mapping[str, Any]) -> dict[str, Any]:
        clock.seconds.clear()
        clock.lap("total")
        return describe(meta, settings, prior, clock)

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


def scan_transform(settings: Settings, multiple: int) -> Compose:
    """Return ``preprocessing`` under the settings of a run."""
    names = inspect.signature(preprocessing).parameters.keys() - {"keys", "multiple"}
    return preprocessing(**{name: getattr(settings, name) for name in names}, multiple=multiple)


def undoing(keys: str, transform: Compose, like: str | None) -> Compose:
    """Return the transform of volumes on the network's grid back to the scan, or to the ``like`` file's orientation."""
    steps: list[Any] = [Invertd(keys, transform, orig_keys="image", nearest_interp=False)]
    if like is not None:
        steps.append(OrientLiked(keys, like))
    return Compose(steps)


def superres(source: Source, *, preset: str | None = None, progress: Progress | None = None, **options: Any) -> Result:
    """Turn a thick-slice scan into an isotropic volume; options are those of ``Settings``."""
    return restore(source, Settings.of(preset, **options), progress)
