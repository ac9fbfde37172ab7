"""From a scan to an isotropic volume: the one place that knows every part of a run."""

from __future__ import annotations

import inspect
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Invertd, Orientationd
from numpy.typing import NDArray
from tqdm import tqdm

from bida.device import choose_device, choose_dtype
from bida.errors import BidaError, ScanError, SettingsError
from bida.inferer import BiplanarInferer
from bida.prior import PlanePrior
from bida.scan import read_affine
from bida.transforms import (
    BackProjectd,
    CorrectBiasd,
    LoadScand,
    MatchScand,
    NormalizePercentilesd,
    PadToNetworkd,
    PlanScand,
    ResampleInPlaned,
    SaveVolumed,
)
from bida.unet import SliceUNet
from bida.weights import load_weights

Progress = Callable[[int, int], None]

# data consistency max |A x - y| / range(y), in the sampler's space and on the scan's own intensities
RESIDUALS = ("sampler_residual", "scan_residual")

PRESETS: dict[str, dict[str, Any]] = {
    # Gharib et al. 2025: Gaussian operator at inference, 0.2 mm, 16 steps, one draw, volumes averaged at the end
    "paper": {"profile": "gaussian", "spacing": 0.2, "steps": 16, "samples": 1, "fusion": "final"},
}


@dataclass(frozen=True)
class Settings:
    """Every choice of a run, with its default.

    Attributes:
        spacing: Voxel size of the result: ``auto``, ``inplane`` or mm.
        factor: Slice spacing over voxel size of the result; excludes ``spacing``.
        axis: Through-plane axis, ``R``, ``A`` or ``S``; the coarsest when None.
        thickness_mm: Slice thickness (FWHM), mm; from the sidecar, or else the slice spacing, when None.
        gap_mm: Slice spacing minus slice thickness, mm.
        profile: Slice profile: ``slr``, ``gaussian``, ``box``, or a file of mm and amplitude.
        like: File on whose grid the result is put; excludes ``spacing`` and ``factor``.
        steps: Sampling steps.
        samples: Draws; the result is their mean.
        fusion: ``final``, ``step`` or ``alternate``.
        eta: 0 for the deterministic sampler, 1 for the noise of DDPM.
        noise: Standard deviation of the scan's noise, in its intensities; above 0 DDNM+ replaces DDNM.
        n4: Divide out the bias field before sampling.
        bias_corrected: Leave the bias field out of the result.
        seed: Seed of all noise.
        device: ``auto``, ``cpu``, ``cuda`` ...
        dtype: The network's arithmetic: ``auto``, ``float32`` or ``bfloat16``.
        batch_size: Slices handed to the device at once; no effect on the result.
        model: Weights file; the released one when None.
        volume: Which volume of a 4D file, from 0.
        scale_header: Divide the header's voxel sizes and origin by this.
    """

    spacing: str | float = "auto"
    factor: float | None = None
    axis: str | None = None
    thickness_mm: float | None = None
    gap_mm: float | None = None
    profile: str = "slr"
    like: str | None = None
    steps: int = 16
    samples: int = 1
    fusion: str = "final"
    eta: float = 0.0
    noise: float = 0.0
    n4: bool = True
    bias_corrected: bool = False
    seed: int = 0
    device: str = "auto"
    dtype: str = "auto"
    batch_size: int = 16
    model: str | None = None
    volume: int | None = None
    scale_header: float | None = None

    @classmethod
    def of(cls, preset: str | None = None, **options: Any) -> Settings:
        """Return the settings of a preset, changed by options.

        Raises:
            SettingsError: The preset or an option does not exist.
        """
        if preset is not None and preset not in PRESETS:
            raise SettingsError(f"preset: must be one of {', '.join(PRESETS)}, got {preset!r}")
        unknown = sorted(set(options) - {field.name for field in fields(cls)})
        if unknown:
            raise SettingsError(f"settings: must be known ones, got {', '.join(unknown)}; see bida.pipeline.Settings")
        return replace(cls(), **{**PRESETS.get(preset or "", {}), **options})


@dataclass(frozen=True)
class Result:
    """A restored volume.

    Attributes:
        data: Mean of the draws [X, Y, Z], float32, the scan's orientation and intensities.
        affine: 4 x 4, voxel index to mm.
        std: Standard deviation over the draws (ddof 1), like ``data``; None for one draw.
        record: What was done: settings, operator, weights, residuals, timings, as JSON can hold it.
        warnings: What was assumed or is unusual, a sentence each.
    """

    data: NDArray[np.float32]
    affine: NDArray[np.float64]
    std: NDArray[np.float32] | None
    record: dict[str, Any]
    warnings: tuple[str, ...]


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


def released_prior() -> PlanePrior:
    """Return the network of the released weights, not yet loaded."""
    return PlanePrior(SliceUNet())


def load_prior(prior: PlanePrior, model: str | None, device: torch.device, dtype: str) -> PlanePrior:
    """Load weights into a prior, ready to sample; their SHA-256 stays with it as ``weights_sha256``.

    Raises:
        WeightsError: See ``bida.weights.load_weights``.
    """
    prior.weights_sha256 = load_weights(prior, model)
    return prior.to(device).eval().set_dtype(choose_dtype(dtype, device))


def make_inferer(settings: Settings, progress: Progress | None = None) -> BiplanarInferer:
    """Return the sampler under the settings of a run."""
    names = ("steps", "samples", "fusion", "eta", "noise", "seed", "batch_size")
    return BiplanarInferer(**{name: getattr(settings, name) for name in names}, progress=progress)


def restore(
    path: str | Path,
    settings: Settings | None = None,
    progress: Progress | None = None,
    on_draw: Callable[[NDArray[np.float32]], None] | None = None,
) -> Result:
    """Turn a thick-slice scan into an isotropic volume.

    Args:
        path: The scan: NIfTI, NRRD, MetaImage, or a folder with one DICOM series.
        settings: Choices of the run; the defaults when None.
        progress: Called with (steps done, steps in all).
        on_draw: Called with each draw, like the result's ``data``.

    Returns:
        The volume, its uncertainty where ``samples`` is above 1, and the record of the run.

    Raises:
        ScanError: The scan cannot be used.
        SettingsError: A setting is out of range or contradicts another.
        WeightsError: The weights are missing or not what they should be.
    """
    settings = settings or Settings()
    clock = Clock()
    device = choose_device(settings.device)
    inferer = make_inferer(settings, progress)
    prior = load_prior(released_prior(), settings.model, device, settings.dtype)
    clock.lap("load_weights")
    transform = scan_transform(settings, prior.stride)
    with plain_errors():
        item = transform({"image": path})
    clock.lap("preprocess")
    moments = Moments()
    for draw in inferer.draws(item["image"][None].to(device), prior):
        clock.lap("sample")
        last = moments.add(invert(transform, item, draw))
        if on_draw is not None:
            on_draw(on_like_grid(last[0].cpu().numpy(), last, settings.like)[0])
        clock.lap("postprocess")
    mean, affine = on_like_grid(moments.mean, last, settings.like)
    std = None if settings.samples == 1 else on_like_grid(moments.std, last, settings.like)[0]
    residuals = {name: moments.worst(name) for name in RESIDUALS}
    record = describe({**last.meta, **residuals}, settings, prior, clock)
    return Result(mean, affine, std, record, tuple(record["warnings"]))


def describe(meta: Mapping[str, Any], settings: Settings, prior: PlanePrior, clock: Clock) -> dict[str, Any]:
    """Return the record of a run, as JSON can hold it, from the meta of its result."""
    return {
        "source": str(meta["filename_or_obj"]),
        "settings": asdict(settings),
        "device": str(next(prior.parameters()).device),
        "dtype": str(prior.compute_dtype).removeprefix("torch."),
        "weights_sha256": prior.weights_sha256,
        "slice_geometry": json.loads(meta["slice_geometry"]),
        "grid_ras": json.loads(meta["target_grids"]),
        "data_consistency": {name: meta.get(name) for name in RESIDUALS},
        "warnings": json.loads(meta["warnings"]),
        "seconds": dict(clock.seconds),
        "versions": versions(),
    }


def postprocessing(
    transform: Compose, settings: Settings, prior: PlanePrior, output_dir: str, overwrite: bool = False
) -> Compose:
    """Return the transform from the network's output ``pred`` to ``<name>_superres.nii.gz`` and its sidecar."""
    clock = Clock()

    def record(meta: Mapping[str, Any]) -> dict[str, Any]:
        clock.seconds.clear()
        clock.lap("total")
        return describe(meta, settings, prior, clock)

    return Compose(
        [
            Invertd("pred", transform, orig_keys="image", nearest_interp=False),
            SaveVolumed("pred", output_dir, record, overwrite=overwrite),
        ]
    )


def find_scans(source: str | Path | Sequence[str | Path] | None) -> list[dict[str, str]]:
    """List the scans that a bundle run shall restore: a file, a DICOM folder, a folder of NIfTI files, or a list.

    Raises:
        ScanError: Nothing is named, a path does not exist, or a folder holds no scan.
    """
    if not source:
        raise ScanError("input: a scan must be named, got none; give --input SCAN")
    if not isinstance(source, str | Path):
        return [scan for one in source for scan in find_scans(one)]
    path = Path(source)
    if not path.exists():
        raise ScanError(f"{path}: the scan must exist, nothing is there; check the path")
    if not path.is_dir() or any(path.glob("*.dcm")):
        return [{"image": str(path)}]
    found = sorted(p for p in path.iterdir() if p.name.endswith((".nii", ".nii.gz")))
    if not found:
        raise ScanError(f"{path}: a folder must hold .nii or .nii.gz files or a DICOM series, got none; check the path")
    return [{"image": str(p)} for p in found]


@contextmanager
def plain_errors() -> Iterator[None]:
    """Raise an own error itself, where MONAI's ``Compose`` has wrapped it in errors of its own."""
    try:
        yield
    except RuntimeError as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, BidaError | MemoryError):
            cause = cause.__cause__
        if cause is None:
            raise
        raise cause from None


def scan_transform(settings: Settings, multiple: int) -> Compose:
    """Return ``preprocessing`` under the settings of a run."""
    names = inspect.signature(preprocessing).parameters.keys() - {"keys", "multiple"}
    return preprocessing(**{name: getattr(settings, name) for name in names}, multiple=multiple)


def invert(transform: Compose, item: dict[str, Any], draw: torch.Tensor) -> MetaTensor:
    """Take a draw [R, A, S] on the network's grid back to the scan's orientation and intensities, [1, X, Y, Z]."""
    undo = Invertd("draw", transform, orig_keys="image", nearest_interp=False)
    return undo({"image": item["image"], "draw": MetaTensor(draw[None].cpu())})["draw"]


def on_like_grid(volume: NDArray, image: MetaTensor, like: str | None) -> tuple[NDArray[np.float32], NDArray]:
    """Return a volume and its affine, in the orientation of the ``like`` file where one is named."""
    affine = np.asarray(image.affine.cpu().numpy(), dtype=np.float64)
    if like is None:
        return volume.astype(np.float32), affine
    _, wanted = read_affine(like)
    turn = nib.orientations.ornt_transform(
        nib.orientations.io_orientation(affine), nib.orientations.io_orientation(wanted)
    )
    return nib.orientations.apply_orientation(volume, turn).astype(np.float32), wanted


def console_progress() -> Progress:
    """Return a callback that shows a bar on the standard error, one for each scan."""
    bar: list[tqdm] = []

    def progress(done: int, total: int) -> None:
        if not bar:
            bar.append(tqdm(total=total, desc="sampling", unit="step", mininterval=0.5))
        bar[0].update(done - bar[0].n)
        if done == total:
            bar.pop().close()

    return progress


class Moments:
    """Running mean and variance of draws (Welford 1962), and the worst of the residuals that they carry."""

    def __init__(self) -> None:
        """Start with no draw."""
        self.count = 0
        self.metas: list[dict[str, Any]] = []

    def add(self, draw: MetaTensor) -> MetaTensor:
        """Take in a draw [1, X, Y, Z] and return it."""
        x = draw[0].cpu().numpy().astype(np.float64)
        if not self.count:
            self.mean, self.spread = np.zeros_like(x), np.zeros_like(x)
        self.count += 1
        delta = x - self.mean
        self.mean += delta / self.count
        self.spread += delta * (x - self.mean)
        self.metas.append(dict(draw.meta))
        return draw

    @property
    def std(self) -> NDArray[np.float64]:
        """Standard deviation with ddof 1."""
        return np.sqrt(self.spread / (self.count - 1))

    def worst(self, key: str) -> float | None:
        """Return the largest residual of that name over the draws, None where they have none."""
        found = [float(meta[key]) for meta in self.metas if key in meta]
        return max(found) if found else None


class Clock:
    """Seconds by part of a run."""

    def __init__(self) -> None:
        """Start."""
        self.start, self.seconds = time.perf_counter(), dict[str, float]()

    def lap(self, part: str) -> None:
        """Add the time since the last lap to a part."""
        now = time.perf_counter()
        self.seconds[part] = round(self.seconds.get(part, 0.0) + now - self.start, 3)
        self.start = now


def versions() -> dict[str, str]:
    """Return the versions that a result depends on."""
    from importlib.metadata import version

    return {name: version(name) for name in ("bida", "torch", "monai", "numpy", "scipy", "nibabel", "sigpy")}


def superres(
    path: str | Path, *, preset: str | None = None, progress: Progress | None = None, **options: Any
) -> Result:
    """Turn a thick-slice scan into an isotropic volume; options are those of ``Settings``."""
    return restore(path, Settings.of(preset, **options), progress)
