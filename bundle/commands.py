"""What each command does; imported only when one is run."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from bida.diffusion.load import load_prior, prior_of
from bida.errors import OutOfMemoryError, SettingsError, plain_errors
from bida.io.files import check_output, sidecar_path, stem
from bida.io.nifti import write_volume
from bida.io.scan import read_scan
from bida.mri.pipeline import restore, scan_transform
from bida.mri.result import Result
from bida.mri.settings import Settings
from bida.progress import adapt_progress, console_progress
from bida.provenance import versions

if TYPE_CHECKING:
    from bida.experiment.design import Experiment


def run(arguments: argparse.Namespace) -> None:
    """Run the command that the arguments name."""
    if arguments.version:
        print(", ".join(f"{name} {version}" for name, version in versions().items()))
        return
    commands = {
        "superres": superres,
        "simulate": simulate,
        "info": info,
        "evaluate": evaluate,
        "volumes": volumes,
        "demo": demo,
        "train": train,
        "train-masked": train_masked,
        "superres-masked": superres_masked,
        "evaluate-masked": evaluate_masked,
        "adapt": adapt,
        "export": export,
        "isotropy": isotropy,
    }
    with memory_errors():
        commands[arguments.command](arguments)


@contextmanager
def memory_errors() -> Iterator[None]:
    """Turn an allocation that failed, Python's, numpy's or torch's, into an error of one line."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise _no_memory(error) from error
    except RuntimeError as error:
        if "allocate memory" in str(error):  # torch's CPU allocator has no class of its own
            raise _no_memory(error) from error
        raise


def _no_memory(error: BaseException) -> OutOfMemoryError:
    reason = " ".join(str(error).split())[:120] or "allocation failed"
    return OutOfMemoryError(f"memory: the run must fit, it does not ({reason}); give a larger --spacing, or crop")


def settings_of(arguments: argparse.Namespace) -> Settings:
    """Return the settings that the given options make, over a preset where one is named."""
    given = vars(arguments)
    options = {field.name: given[field.name] for field in fields(Settings) if field.name in given}
    if "self_check" in options:
        options["self_check"] = options["self_check"] == "on"
    return Settings.of(given.get("preset"), **options)


def superres(arguments: argparse.Namespace) -> None:
    """Restore a scan, and write the volume, its record and what else was asked for."""
    settings, given = settings_of(arguments), vars(arguments)
    overwrite, uncertainty, picture = given.get("overwrite", False), given.get("uncertainty"), given.get("preview")
    output = check_outputs(arguments.input, arguments.output, overwrite, uncertainty, picture)
    if uncertainty is not None and settings.samples < 2:
        raise SettingsError(f"--uncertainty: needs at least 2 draws, got {settings.samples}; give --samples 4")
    dtype = integer_type(arguments.input, settings) if given.get("keep_dtype") else np.dtype(np.float32)
    checkpoint = output.with_name(f"{stem(output)}_adapt.ckpt")  # of an adaptation that is cut off
    result = restore(arguments.input, settings, console_progress(), on_adapt=adapt_progress(), checkpoint=checkpoint)
    for warning in result.warnings:
        print(f"bida: note: {warning}", file=sys.stderr)
    result.save(output, dtype, overwrite=overwrite)
    if uncertainty is not None and result.std is not None:
        write_volume(uncertainty, result.std, result.affine, result.header, overwrite=overwrite)
    checkpoint.unlink(missing_ok=True)
    if picture is not None:
        draw_preview(picture, arguments.input, settings, result)
    print(summary(output, result))


def check_outputs(
    scan: str, output: str, overwrite: bool, uncertainty: str | None = None, picture: str | None = None
) -> Path:
    """Check before any work that every file can be written and none is another or the scan's; return the first.

    Raises:
        ScanError: See ``bida.io.files.check_output``.
        SettingsError: Two of the files are one, or a file is the scan or its sidecar.
    """
    files = [check_output(output, overwrite=overwrite)]
    files.append(check_output(sidecar_path(output), overwrite=overwrite, suffixes=(".json",)))
    if uncertainty is not None:
        files.append(check_output(uncertainty, overwrite=overwrite))
    if picture is not None:
        files.append(check_output(picture, overwrite=overwrite, suffixes=(".png",)))
    source = Path(scan).resolve()
    taken = {source, sidecar_path(source)} if source.name else {source}  # the root folder has no name
    for file in files:
        if file.resolve() in taken:
            raise SettingsError(
                f"{file}: output must be a file of its own, not the scan's or another output's; rename it"
            )
        taken.add(file.resolve())
    return files[0]


def integer_type(scan: str, settings: Settings) -> np.dtype:
    """Return the integer type of a scan's voxels on disk.

    Raises:
        SettingsError: They are not integers.
    """
    dtype = read_scan(scan, settings.volume, settings.scale_header).dtype
    if dtype.kind not in "iu":
        raise SettingsError(f"--keep-dtype: the scan must hold integers, its voxels are {dtype}; leave it out")
    return dtype


def summary(output: Path, result: Result) -> str:
    """Return the lines that end a run."""
    sizes = " x ".join(map(str, result.data.shape))
    spacing = " x ".join(f"{size:.4g}" for size in np.linalg.norm(result.affine[:3, :3], axis=0))
    names = {"sampler_residual": "sampler's space", "scan_residual": "scan's intensities"}
    consistency = result.record["data_consistency"]
    residuals = [f"{consistency[key]:.1e} ({text})" for key, text in names.items() if consistency[key] is not None]
    seconds = sum(result.record["seconds"].values())
    return (
        f"{output}: {sizes} voxels of {spacing} mm in {seconds:.0f} s\n"
        f"degraded again it differs from the scan by at most, as a share of its range: {', '.join(residuals)}"
        f"{gain(result.record['self_check'])}"
    )


def gain(check: Mapping[str, Any] | None) -> str:
    """Return the line on the self-check that ends a run, empty where there was none."""
    if check is None:
        return ""
    return (
        f"\non the scan's own slices a prior with a weight of {check['weight']:.0%} gains "
        f"{check['gain_shrunk_db']:+.2f} dB on cubic + projection; "
        f"the priors have a weight of {check['weight_of_result']:.0%} in the result"
    )


def draw_preview(path: str, scan: str, settings: Settings, result: Result) -> None:
    """Draw the scan, its cubic interpolation and the result."""
    from bida.io.nifti import ras
    from bida.mri.preview import preview, restoration_panels

    thick, interpolated = restoration_panels(scan, settings)
    preview(path, {"thick slices": thick, "cubic": interpolated, "bida": ras(result.data, result.affine)})


def adapt(arguments: argparse.Namespace) -> None:
    """Fine-tune the priors on the slices of scans, and write the weights."""
    from bida.device import choose_device
    from bida.io.weights import save_weights
    from bida.mri.adapt import adapt_prior

    settings = settings_of(arguments)
    output = check_output(arguments.output, overwrite=vars(arguments).get("overwrite", False), suffixes=(".pt",))
    device = choose_device(settings.device)
    prior = load_prior(prior_of(settings.model), settings.model, device, settings.dtype)
    transform = scan_transform(settings, prior.stride)
    with plain_errors():
        scans = [transform({"image": scan})["image"][None].to(device) for scan in arguments.scans]
    checkpoint = output.with_suffix(".ckpt")
    found = adapt_prior(prior, scans, arguments.minutes, checkpoint, adapt_progress())
    save_weights(prior, output)
    checkpoint.unlink(missing_ok=True)
    print(f"{output}: adapted to {len(scans)} scan(s) in {found['steps']} steps; use it with --model {output}")


def export(arguments: argparse.Namespace) -> None:
    """Write the networks of the priors for other programs."""
    from bida.diffusion.export import export as write

    prior = load_prior(prior_of(arguments.model), arguments.model, torch.device("cpu"), "float32")
    print(*write(prior, arguments.output, arguments.format, overwrite=arguments.overwrite), sep="\n")


def simulate(arguments: argparse.Namespace) -> None:
    """Make thick slices from an isotropic volume."""
    from bida.mri.simulate import simulate_file

    output = check_outputs(arguments.input, arguments.output, arguments.overwrite)
    geometry = simulate_file(
        arguments.input,
        output,
        arguments.factor,
        arguments.axis,
        arguments.thickness,
        arguments.profile,
        arguments.noise,
        arguments.seed,
        arguments.volume,
        overwrite=arguments.overwrite,
    )
    print(
        f"{output}: {geometry.slices} slices of {geometry.thickness_mm:.4g} mm every "
        f"{geometry.slice_spacing_mm:.4g} mm along {arguments.axis}, {geometry.profile} profile"
    )


def info(arguments: argparse.Namespace) -> None:
    """Say what superres would do with a scan."""
    from bida.mri.info import information

    print(information(arguments.input, settings_of(arguments), vars(arguments).get("check", False)))


def evaluate(arguments: argparse.Namespace) -> None:
    """Run the paper's experiment."""
    from bida.experiment.run import run

    print(run(experiment_of(arguments)))


def experiment_of(arguments: argparse.Namespace) -> Experiment:
    """Return the experiment that the given options make."""
    from bida.experiment.design import Experiment
    from bida.experiment.methods import Choices

    given = vars(arguments)
    choices = {field.name: given[field.name] for field in fields(Choices) if field.name in given}
    names = {field.name for field in fields(Experiment)} & given.keys()
    return Experiment(**{name: given[name] for name in names}, choices=Choices(**choices))


def volumes(arguments: argparse.Namespace) -> None:
    """Measure structures by registration."""
    from bida.mri.atlases import volumes as measure

    measure(arguments)


def demo(arguments: argparse.Namespace) -> None:
    """Run the built-in sample through the bundle and draw what came out."""
    from bida.mri.demo import run_demo

    print(run_demo(Path(arguments.output), arguments.factor, arguments.samples))


def train(arguments: argparse.Namespace) -> None:
    """Train through the bundle's training configuration."""
    from bida.training.run import run_training

    fixed = {"dataset_dir": list(arguments.data), "output_dir": arguments.output}
    run_training(["train.yaml"], arguments.config, arguments.overrides, fixed)


def train_masked(arguments: argparse.Namespace) -> None:
    """Train on microscopy stacks through the bundle's training configuration and the one that lies over it."""
    from bida.microscopy.dataset import validation_stacks
    from bida.training.run import run_training

    validation = validation_stacks(arguments.stacks, arguments.validation)
    fixed = {"stacks": arguments.stacks, "validation_stacks": validation, "output_dir": arguments.output}
    fixed |= {"voxel_um": arguments.voxel_um} if arguments.voxel_um else {}
    run_training(["train.yaml", "masked_train.yaml"], arguments.config, arguments.overrides, fixed)


def superres_masked(arguments: argparse.Namespace) -> None:
    """Restore a microscopy stack."""
    from bida.masked_commands import superres_masked as restore_masked

    restore_masked(arguments)


def evaluate_masked(arguments: argparse.Namespace) -> None:
    """Compare methods on a microscopy stack with truth."""
    from bida.masked_commands import evaluate as compare

    compare(arguments)


def isotropy(arguments: argparse.Namespace) -> None:
    """Compare a stack's spectra along its axes."""
    from bida.microscopy.isotropy import isotropy as compare

    compare(arguments)
