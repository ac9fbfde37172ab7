"""Measure what the trust in a result rests on: calibration and the self-check's promise.

    python benchmarks/trust.py calibrate DATA/mouse-rtg4510 --subjects sub-15 sub-17 sub-24 [--write models/model.pt]
    python benchmarks/trust.py promise DATA
    python benchmarks/trust.py whole DATA
    python benchmarks/trust.py rat DATA/rat-nirodents/sub-15/anat/sub-15_T2w.nii.gz [--adapt 10 | --held] [--at 5]
    python benchmarks/trust.py noise DATA/rat-nirodents/sub-15/anat/sub-15_T2w.nii.gz
    python benchmarks/trust.py planes DATA/mouse-rtg4510 --subjects sub-01 sub-24

`calibrate` restores thick slices of isotropic animals and prints which share of the brain's voxels a 90% interval,
mean +- 1.645 sd, holds; it gives the scale and the floor that make it 90%, and with --write stores them with the
weights.
`promise` takes sharp slices that the self-check does not see, makes them thick in their plane, and compares the result
under the self-check's weight with cubic + projection.
`whole` makes isotropic volumes thick, 5x, and compares the result at the default settings, of two planes, with
cubic + projection: a mouse, the template, microCT and noise.
`rat` does as `promise` with every slice of one scan at 5x (or --at) and at its own factor, by the bare prior and
against cubic, too, and tells the self-check; with --adapt, or --held to compare it with, with the slices kept from the
adaptation. --samples 0 is the mean in one step.
`noise` restores a scan at the default settings and gives the noise level (wavelets, Donoho & Johnstone 1994) of the
scan's own slices and of the result's slices in each plane, over the middle half of each axis.
`planes` gives the gain on cubic + projection at 5x of slices of isotropic animals, for every plane and axis: of animals
that the prior was trained on and of others.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import tifffile
import torch
from numpy.typing import NDArray
from scipy.optimize import brentq
from skimage.restoration import estimate_sigma

from bida.device import choose_device
from bida.diffusion.leaning import ratio_db
from bida.diffusion.load import load_prior, prior_of
from bida.diffusion.prior import PlanePrior
from bida.errors import BidaError, SettingsError
from bida.experiment.truth import choose_animals, prepare
from bida.io.nifti import ras
from bida.io.weights import save_weights
from bida.mri.adapt import adapt_prior
from bida.mri.measurement import Measurement
from bida.mri.moments import Moments
from bida.mri.pipeline import restore
from bida.mri.run import measured, way_of
from bida.mri.sampler import BiplanarSampler
from bida.mri.selfcheck import Restore, chosen_indices, measure, plane_across, window
from bida.mri.settings import Settings
from bida.mri.simulate import simulate_file
from bida.mri.slice_errors import Errors, Restored, Slices
from bida.physics.geometry import SliceGeometry
from bida.physics.grid import AXES, NORMAL, PLANES
from bida.physics.guide import guide
from bida.physics.operators import SliceOperator
from bida.progress import adapt_progress
from bida.training.dataset import load_normalised

Z90 = 1.6449  # 90% of a normal distribution lies within so many standard deviations
SHARP = ("*_T2w.nii.gz", "*_T1w.nii.gz", "*_run-1_boldref.nii.gz")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=list(MODES))
    parser.add_argument("data", type=Path)
    parser.add_argument("--subjects", nargs="+", help="animals to calibrate on")
    parser.add_argument("--factors", nargs="+", type=float, default=[2.5, 5.0])
    parser.add_argument("--scans", type=int, default=2, help="scans of each data set, at most")
    parser.add_argument("--adapt", type=float, metavar="MINUTES")
    parser.add_argument("--at", type=float, default=5.0, metavar="FACTOR", help="of rat: beside the scan's own")
    parser.add_argument("--held", action="store_true", help="of rat: the slices kept from an adaptation alone")
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--steps", type=int, default=Settings().steps)
    parser.add_argument("--model")
    parser.add_argument("--write", type=Path, help="weights file, written anew with scale and floor")
    arguments = parser.parse_args()
    MODES[arguments.what](arguments)


def calibrate(arguments: argparse.Namespace) -> None:
    cells: dict[str, Cell] = {}
    work = Path(tempfile.mkdtemp())
    prior = load_prior(prior_of(arguments.model), arguments.model, torch.device("cpu"), "float32")
    for animal in choose_animals(arguments.data, arguments.subjects, None):
        truth = prepare(animal, arguments.data, work, None, n4=True)
        brain = truth.data > 0 if truth.mask is None else truth.mask
        for factor in arguments.factors:
            path, name = work / f"{animal.subject}_{factor:g}x.nii.gz", f"{animal.subject} {factor:g}x"
            simulate_file(truth.path, path, factor, "A")
            options = {"samples": arguments.samples, "steps": arguments.steps, "model": arguments.model}
            settings = Settings.of(like=str(truth.path), n4=False, **options)
            draws = Moments()
            result = restore(path, settings, on_draw=draws.add)
            meta = way_of(settings, prior.stride).there(path)[0].meta
            unit = (meta["intensity_high"] - meta["intensity_low"]) / 2
            mean, std = (ras(values, result.affine)[0][brain] for values in (result.data, draws.std))
            cells[name] = Cell(np.abs(mean - truth.data[brain]) / unit, std / unit, factor)
            held = np.mean(cells[name].error <= Z90 * prior.uncertainty(cells[name].std, 1.0))
            print(f"{name}: a 90% interval holds {held:.1%}", flush=True)
    scale, floor = fitted(list(cells.values()))
    print(f"for 90%, at every factor as nearly as can be: scale {scale:.3f}, floor {floor:.4f}")
    for name, cell in cells.items():
        print(f"{name}: with them {cell.held(scale, floor):.1%}")
    if arguments.write:
        prior.set_uncertainty(scale, floor)
        save_weights(prior, arguments.write)


@dataclass(frozen=True)
class Cell:
    """Errors and standard deviations over draws of the voxels of one brain, on the prior's scale of [-1, 1]."""

    error: NDArray
    std: NDArray
    factor: float

    def held(self, scale: float, floor: float) -> float:
        """Return the share of the voxels that a 90% interval holds."""
        return float(np.mean(self.error <= Z90 * np.hypot(scale * self.std, floor)))


def fitted(cells: list[Cell]) -> tuple[float, float]:
    """Return the scale and the floor with which the intervals hold 90%, and the factors' shares differ least."""

    def shares(scale: float, floor: float) -> list[float]:
        factors = {cell.factor for cell in cells}
        return [float(np.mean([c.held(scale, floor) for c in cells if c.factor == factor])) for factor in factors]

    def scale_for(floor: float) -> float:
        return float(brentq(lambda scale: np.mean(shares(scale, floor)) - 0.9, 0, 1e3, xtol=1e-3))

    most = min(float(np.quantile(cell.error, 0.9)) for cell in cells) / Z90  # a floor that alone holds 90% of one
    floors = np.linspace(0, 0.95 * most, 40)
    floor = float(min(floors, key=lambda floor: np.ptp(shares(scale_for(floor), floor))))
    return scale_for(floor), floor


def scans_of(data: Path, limit: int) -> Iterator[tuple[str, Any]]:
    """Yield name and source of some scans of every data set below a folder."""
    for folder in sorted(path for path in data.iterdir() if path.is_dir()):
        found = sorted(path for pattern in SHARP for path in folder.glob(f"[st]*-*/**/{pattern}"))
        for path in found[:limit] if folder.name != "mouse-rtg4510" else found:
            yield f"{folder.name} {path.name.partition('.')[0]}", path


def strange(data: Path) -> Iterator[tuple[str, Any]]:
    """Yield scans of no animal: noise, a checkerboard, and microCT where it is at hand."""
    rng = np.random.default_rng(0)
    board = np.indices((96, 16, 96)) // 6
    volumes = {
        "white noise": rng.normal(100, 20, (96, 16, 96)),
        "magnitude noise": np.abs(rng.normal(0, 20, (96, 16, 96)) + 1j * rng.normal(0, 20, (96, 16, 96))),
        "checkerboard": 100.0 * ((board[0] + board[1] + board[2]) % 2) + rng.normal(0, 1, (96, 16, 96)),
    }
    for path in sorted((data / "microscopy" / "xbrain-microct").rglob("*.tif*")):
        half = half_size(tifffile.imread(path))
        volumes[f"microCT {path.name}"] = half[:, :80].reshape(100, 16, 5, 100).mean(axis=2)
    for name, volume in volumes.items():
        yield name, nib.Nifti1Image(volume.astype(np.float32), np.diag([0.15, 0.75, 0.15, 1]))


def prepared(
    source: Any, arguments: argparse.Namespace, **options: Any
) -> tuple[BiplanarSampler, PlanePrior, Measurement]:
    """Return the sampler, the prior and the measurement of a scan at the defaults of a run, but options."""
    settings = Settings.of(samples=arguments.samples, steps=arguments.steps, model=arguments.model, **options)
    prior = load_prior(prior_of(settings.model), settings.model, choose_device("auto"), "auto")
    return BiplanarSampler(settings), prior, measured(way_of(settings, prior.stride).there(source)[0], prior)


def thickened(source: Any) -> Any:
    """Return an isotropic scan as thick coronal slices, five voxels apart; others as they are."""
    image = source if isinstance(source, nib.Nifti1Image) else nib.load(source)
    sizes = image.header.get_zooms()[:3]
    if max(sizes) > 1.05 * min(sizes):
        return source
    folder = Path(tempfile.mkdtemp())
    simulate_file(source, folder / "thick.nii.gz", 5.0, "A")
    return folder / "thick.nii.gz"


def restored_by(sampler: BiplanarSampler, prior: PlanePrior) -> Restore:
    """Return what restores thick slices of one plane, the mean of the sampler's draws."""

    def run(thick: torch.Tensor, own: SliceGeometry, plane: str) -> Restored:
        draws = sampler.sampled(Measurement(thick, own), prior, (plane,))
        return Restored(torch.stack([volume for (volume,) in draws]).mean(dim=0))

    return run


def unseen(scan: Measurement, stride: int) -> torch.Tensor | None:
    """Return slices that the self-check does not see, cut to their content; None where none is left."""
    y, axis = scan.inside(), scan.geometry.axis
    held = set(chosen_indices(y, axis))
    left = y.index_select(axis, torch.tensor([i for i in range(y.shape[axis]) if i not in held]))
    chosen = chosen_indices(left, axis)
    return window(left.index_select(axis, torch.tensor(chosen)), axis, stride) if chosen else None


def errors_of(sharp: torch.Tensor, geometry: SliceGeometry, run: Restore) -> Errors | None:
    """Return the errors of slices that are taken to have no noise."""
    return measure(Slices.of(sharp, geometry.axis, 0.0), geometry, run)


def promise(arguments: argparse.Namespace) -> None:
    for name, source in [*scans_of(arguments.data, arguments.scans), *strange(arguments.data)]:
        try:
            sampler, prior, scan = prepared(thickened(source), arguments)
            check, sharp = sampler.check(scan, prior), unseen(scan, prior.stride)
        except BidaError as error:
            print(f"{name}: {error}")
            continue
        run = restored_by(sampler, prior)
        errors = None if sharp is None else errors_of(sharp, scan.geometry, run)
        if check is None or errors is None:
            print(f"{name}: no self-check, or no slice left")
            continue
        print(
            f"{name}: weight {check.weight:.2f}, promised {check.gain_shrunk_db:+.2f} dB, "
            f"on slices not seen {errors.gain_db(check.weight):+.2f} dB (bare {errors.gain_db(1.0):+.2f} dB)",
            flush=True,
        )


def whole(arguments: argparse.Namespace) -> None:
    folder = Path(tempfile.mkdtemp())
    for name, image in isotropic(arguments.data):
        truth, thick = folder / "truth.nii.gz", folder / "thick.nii.gz"
        nib.save(image, truth)
        simulate_file(truth, thick, 5.0, "A", overwrite=True)
        settings = Settings.of(samples=arguments.samples, steps=arguments.steps, model=arguments.model)
        result = restore(thick, replace(settings, like=str(truth), n4=False))
        restored, x = ras(result.data, result.affine)[0], ras(image.get_fdata(), image.affine)[0]
        geometry = SliceGeometry(**result.record["slice_geometry"]).unpadded()
        y = nib.load(thick)
        physics = guide(torch.from_numpy(ras(y.get_fdata(), y.affine)[0]), geometry).numpy()
        gain = 10 * np.log10(np.square(physics - x).mean() / np.square(restored - x).mean())
        check = result.record["self_check"] or {}
        print(f"{name}: {gain:+.2f} dB on cubic + projection, weight {check.get('weight_of_result')}", flush=True)


def isotropic(data: Path) -> Iterator[tuple[str, nib.Nifti1Image]]:
    """Yield volumes that are their own truth, 100 voxels and more along A."""
    for folder in ("mouse-rtg4510/sub-15", "mouse-template-drcarbon"):
        for path in sorted((data / folder).rglob("*_T2w.nii.gz"))[:1]:
            yield path.name, nib.load(path)
    for path in sorted((data / "microscopy" / "xbrain-microct").rglob("*.tif*")):
        yield f"microCT {path.name}", as_image(half_size(tifffile.imread(path)))
    rng = np.random.default_rng(0)
    yield "white noise", as_image(rng.normal(100, 20, (96, 100, 96)))
    board = (np.indices((96, 100, 96)) // 6).sum(axis=0) % 2
    yield "checkerboard", as_image(100.0 * board + rng.normal(0, 1, board.shape))


def as_image(volume: NDArray) -> nib.Nifti1Image:
    return nib.Nifti1Image(volume.astype(np.float32), np.diag([0.15, 0.15, 0.15, 1]))


def half_size(stack: NDArray) -> NDArray[np.float32]:
    return stack.astype(np.float32).reshape(100, 2, 100, 2, 100, 2).mean(axis=(1, 3, 5))


def rat(arguments: argparse.Namespace) -> None:
    sampler, prior, scan = prepared(arguments.data, arguments)
    y, axis = scan.inside(), scan.geometry.axis
    held = chosen_indices(y, axis)
    told_check("before", sampler, scan, prior)
    if arguments.adapt:
        print(adapt_prior(prior, [scan], arguments.adapt, sampler.options, report=adapt_progress()))
        told_check("after", sampler, scan, prior)
    chosen = held if arguments.adapt or arguments.held else list(range(y.shape[axis]))
    sharp = y.index_select(axis, torch.tensor(chosen))
    sharp = cut_to_stride(sharp, axis, prior.stride)
    for geometry in (at_factor(scan.geometry, arguments.at), scan.geometry.unpadded()):
        for samples in sorted({min(1, arguments.samples), arguments.samples}):
            averaging = BiplanarSampler(replace(sampler.options, samples=samples))
            cubic, projected = gains(averaging, prior, sharp, geometry)
            print(
                f"{len(chosen)} slices at {geometry.factor:.3g}x along both axes, {averaging.options.estimate}: "
                f"{cubic:+.2f} dB on cubic, {projected:+.2f} dB on cubic + projection",
                flush=True,
            )


def told_check(when: str, sampler: BiplanarSampler, scan: Measurement, prior: PlanePrior) -> None:
    """Print what the self-check finds, at the scan's own factor and with its noise."""
    check = sampler.check(scan, prior)
    if check is not None:
        print(f"self-check {when}: {check.gain_db:+.3f} dB on cubic + projection, {check.better_db:+.3f} on cubic, "
              f"weight {check.weight:.2f}, familiarity {check.familiarity:.2f}", flush=True)  # fmt: skip


def gains(
    sampler: BiplanarSampler, prior: PlanePrior, sharp: torch.Tensor, geometry: SliceGeometry
) -> tuple[float, float]:
    """Return what the prior gains, without the self-check, on slices made thick in their plane, dB.

    Args:
        sampler: with the settings of a run.
        prior: that restores.
        sharp: slices, as `measure` takes them.
        geometry: how thick slices lie.

    Returns:
        PSNR in tissue less that of cubic interpolation, and less that of cubic + projection.

    Raises:
        SettingsError: an axis is too short for two thick slices.
    """
    errors = errors_of(sharp, geometry, restored_by(sampler, prior))
    if errors is None:
        raise SettingsError(f"--at: two slices must fit, got {geometry.factor:g} on {tuple(sharp.shape)}; lower it")
    return ratio_db(float(errors.cc.sum()), errors.total(1.0)), errors.gain_db(1.0)


def at_factor(geometry: SliceGeometry, factor: float) -> SliceGeometry:
    return replace(geometry, slice_spacing_mm=factor * geometry.voxel_mm, thickness_mm=factor * geometry.voxel_mm)


def cut_to_stride(volume: torch.Tensor, axis: int, stride: int) -> torch.Tensor:
    for other in (other for other in range(3) if other != axis):
        volume = volume.narrow(other, 0, volume.shape[other] // stride * stride)
    return volume


def noise(arguments: argparse.Namespace) -> None:
    result = restore(
        arguments.data, Settings.of(samples=arguments.samples, steps=arguments.steps, model=arguments.model)
    )
    scan = nib.as_closest_canonical(nib.load(arguments.data))
    axis = int(np.argmax(scan.header.get_zooms()[:3]))
    levels = {"the scan's own slices": noise_level(np.asarray(scan.dataobj, dtype=np.float32), axis)}
    restored = ras(result.data, result.affine)[0]
    levels |= {f"{plane} slices of the result": noise_level(restored, NORMAL[plane]) for plane in PLANES}
    for name, level in levels.items():
        print(f"{name}: {level:.3g}")


def noise_level(volume: NDArray, axis: int) -> float:
    """Return the median noise level of the slices across an axis, each axis' middle half."""
    middle = volume[tuple(slice(size // 4, size - size // 4) for size in volume.shape)]
    return float(np.median([estimate_sigma(part) for part in np.moveaxis(middle, axis, 0)]))


def planes(arguments: argparse.Namespace) -> None:
    settings = Settings.of(samples=arguments.samples, steps=arguments.steps, model=arguments.model)
    prior = load_prior(prior_of(settings.model), settings.model, choose_device("auto"), "auto")
    run = restored_by(BiplanarSampler(replace(settings, samples=2 * settings.samples)), prior)
    for animal in choose_animals(arguments.data, arguments.subjects, None):
        volume, (voxel_mm, *_) = load_normalised(animal.path)
        for axis in range(3):
            size = volume.shape[axis]
            chosen = np.linspace(0.35 * size, 0.65 * size, 4).round().astype(int)
            sharp = cut_to_stride(torch.from_numpy(np.take(volume, chosen, axis)), axis, prior.stride)
            for other in (other for other in range(3) if other != axis):
                own = SliceGeometry(
                    other, sharp.shape[other] // 5, 5 * voxel_mm, 5 * voxel_mm, sharp.shape[other], voxel_mm
                )
                thick = SliceOperator.build(own).forward(sharp)
                restored = run(thick, own, plane_across(axis)).volume
                wanted, found = sharp - guide(thick, own), restored - guide(thick, own)
                gain = 10 * float(torch.log10(wanted.square().sum() / (wanted - found).square().sum()))
                print(f"{animal.subject} {plane_across(axis)}, thick along {AXES[other]}: {gain:+.2f} dB", flush=True)


MODES = {
    "calibrate": calibrate,
    "promise": promise,
    "whole": whole,
    "rat": rat,
    "noise": noise,
    "planes": planes,
}

if __name__ == "__main__":
    main()
