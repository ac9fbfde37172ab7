"""`bida superres-masked`: restore an anisotropic microscopy stack, by a network that is trained on the stack first."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bida.cli.masked_options import OF_GRID, OF_STACKS, STACK, frames_option, masked_options, masked_settings, unused_by
from bida.cli.options import add_settings
from bida.errors import SettingsError
from bida.io.checkpoints import discard_used
from bida.io.claim import claimed, will_write
from bida.io.files import check_output, sidecar_path, write_json
from bida.io.released import released_path
from bida.microscopy.settings import (
    FROM_NOTHING,
    OWN_MINUTES,
    MaskedSettings,
    check_percentile,
    check_weights,
    own_minutes,
)
from bida.microscopy.stacks.paths import check_stack, check_stack_output, split_range
from bida.progress import adapt_progress, console_progress, log_values, note, say
from bida.provenance import Clock

if TYPE_CHECKING:
    from bida.microscopy.inferer import MaskedSliceInferer
    from bida.microscopy.load import Seen
    from bida.microscopy.prior import MaskedPrior
    from bida.microscopy.stacks.stack import Stack

GENERAL = "masked.pt"  # the weights that are shipped


def add_options(sub: argparse.ArgumentParser) -> None:
    """Add the options."""
    sub.argument_default = argparse.SUPPRESS  # not given: the default of the settings
    sub.add_argument("input", metavar="STACK", help=STACK)
    sub.add_argument("output", metavar="OUT",
                     help="stack to write; a .json beside it is the record, a .pt what was trained")  # fmt: skip
    sub.add_argument("--model", metavar="FILE",
                     help="weights of train-masked or of an earlier run; none: from nothing; default: the network that "
                     "is shipped")  # fmt: skip
    sub.add_argument("--minutes", type=float, metavar="M",
                     help=f"training on the stack's own planes ({OWN_MINUTES:g}; with --model FILE 0)")  # fmt: skip
    add_settings(sub.add_mutually_exclusive_group(), MaskedSettings, OF_GRID)
    sub.add_argument("--voxel-um", type=float, nargs=3, metavar=("Z", "Y", "X"),
                     help="z, y and x voxel size of the stack; default: the file's")  # fmt: skip
    sub.add_argument("--clip-percentile", type=float, metavar="P",
                     help="the network sees each channel clipped at this percentile, as it was trained with "
                     "clip_percentile; acquired planes stay as they are")  # fmt: skip
    frames_option(sub)
    masked_options(sub)
    add_settings(sub, MaskedSettings, [name for name in OF_STACKS if name not in OF_GRID])
    sub.add_argument("--overwrite", action="store_true", help="replace existing files")


def run(arguments: argparse.Namespace) -> None:
    """Restore a stack, and write it with its record and what was trained."""
    given = vars(arguments)
    settings, model = masked_settings(arguments), given.get("model")
    output, minutes = Path(arguments.output), own_minutes(model, given.get("minutes"))
    check_outputs(output, arguments, minutes, overwrite=True)
    check_percentile(given.get("clip_percentile"))
    check_stack(arguments.input)
    if model != FROM_NOTHING:
        check_weights(released_path(GENERAL) if model is None else model)
    with claimed(output), ExitStack() as beside:  # the first clears what a run that was killed has left
        discard_used(sidecar_path(output).with_suffix(".ckpt"), sidecar_path(output))
        check_outputs(output, arguments, minutes, overwrite=given.get("overwrite", False))
        restore_and_write(arguments, settings, output, minutes, beside)


def check_outputs(output: Path, arguments: argparse.Namespace, minutes: float, *, overwrite: bool) -> None:
    """Check, before any work, that the stack, its record and what is trained can be written.

    Raises:
        ScanError: One of them cannot.
        SettingsError: It would replace what is read.
    """
    sidecar, model = sidecar_path(output), vars(arguments).get("model")
    if output.resolve() == Path(split_range(arguments.input)[0]).resolve():
        raise SettingsError(f"{output}: output must be a file of its own, not the stack; rename it")
    check_stack_output(output, overwrite=overwrite, with_record=True)
    check_output(sidecar, overwrite=overwrite, suffixes=(".json",))
    if minutes:
        weights = check_output(sidecar.with_suffix(".pt"), overwrite=overwrite, suffixes=(".pt",))
        if model is not None and weights.resolve() == Path(model).resolve():
            raise SettingsError(f"{weights}: what is trained must be a file of its own, not --model; rename the output")


def restore_and_write(
    arguments: argparse.Namespace, settings: MaskedSettings, output: Path, minutes: float, beside: ExitStack
) -> None:
    """Restore a stack, and write it with its record; no other run writes them meanwhile.

    Closing `beside` removes what was kept beside the output meanwhile.
    """
    given, sidecar = vars(arguments), sidecar_path(output)
    overwrite, clip_percentile, model = given.get("overwrite", False), given.get("clip_percentile"), given.get("model")
    from bida.microscopy.blocks import check_memory, restored
    from bida.microscopy.isotropy import asked
    from bida.microscopy.load import Seen, open_planes
    from bida.microscopy.noise import cleaned
    from bida.microscopy.restore import check_fits, fitting_factor, inferer_of, restoration_record
    from bida.microscopy.selfcheck import checked, verdict
    from bida.microscopy.stacks.stack import check_voxel_type, write_stack

    clock = Clock()
    stack = open_planes(arguments.input, given.get("voxel_um"), given.get("frames_are_z", False))
    factor = settings.factor_for(stack)
    check_voxel_type(output, stack.data.dtype, round(stack.data.size * factor))
    log_values("settings", asdict(settings) | {"factor": factor})
    prior = begun(model, settings)
    unused = unused_by(prior.method, settings, minutes > 0)
    for name in unused:
        if name in given:
            steps = "one step" if settings.steps in (None, 1) else f"{settings.steps} steps"
            where = f"in {steps}" if prior.method == "guided" else f"of method {prior.method}"
            raise SettingsError(
                f"--{name.replace('_', '-')}: must not be given for {model or GENERAL}, which has no use for it "
                f"{where}, got {given[name]}; leave it out"
            )
    check_fits(stack, prior)
    for warning in absent(arguments.input):
        note(warning)

    def fitted(stack: Stack) -> tuple[Seen, float, MaskedSliceInferer]:
        seen = Seen.of(stack, clip_percentile)
        made_at = fitting_factor(stack, prior, settings, factor, seen)
        inferer = inferer_of(settings, prior, factor, made_at)
        check_memory(stack, inferer, output)
        return seen, made_at, inferer

    seen, made_at, inferer = fitted(stack)
    clock.lap("read")
    isotropy = asked(stack)[1]
    say(isotropy)
    clock.lap("isotropy")
    stack, cleaning = beside.enter_context(cleaned(stack, settings.noise, output, console_progress("cleaning")))
    if cleaning is not None:
        say(cleaning.describe())
        seen, made_at, inferer = fitted(stack)
        clock.lap("clean")
    training = trained(prior, stack, minutes, settings, seen, sidecar) if minutes else None
    clock.lap("train")
    checks = settings.self_check and "self_check" not in unused
    check = checked(stack, prior, settings, made_at, seen=seen) if checks else None
    clock.lap("self_check")
    inferer.progress = console_progress()
    kept = sidecar.with_suffix(".pt")
    with restored(stack, prior, inferer, seen, output, check.weights if check else None) as result:
        clock.lap("restore")
        will_write(output, [output, sidecar, *([kept] if training else [])])
        # a stack beside no record was cut off here, one beside a record is that record's, with the weights it names
        write_stack(output, result, overwrite=overwrite, old_record=sidecar)
    if training:
        from bida.io.weights import save_weights, sha256

        save_weights(prior, kept)
        training |= {"from_sha256": prior.weights_sha256 or None, "weights": str(kept)}
        prior.weights_sha256 = sha256(kept)
    clock.lap("write")
    told_of = asdict(settings) | {"factor": factor, "as_factor": made_at, "fusion": inferer.fusion}
    used = {name: value for name, value in told_of.items() if name not in unused}
    told = verdict(check, settings.steps not in (None, 1)) if checks else None
    record = {
        "source": str(arguments.input),
        "weights": str(model or GENERAL),
        "clip_percentile": clip_percentile,
        "settings": used,
        "isotropy": isotropy,
        "noise": None if cleaning is None else cleaning.record(),
        "training": training,
        "self_check": None if check is None else check.record(),
        "verdict": told,
        **restoration_record(settings, prior, stack, result, factor),
        "seconds": dict(clock.seconds),
    }
    write_json(sidecar, record, overwrite=overwrite)
    sidecar.with_suffix(".ckpt").unlink(missing_ok=True)
    for warning in record["warnings"]:
        note(warning)
    say(summary(output, result, record, settings, sum(clock.seconds.values())))
    if training:
        say(f"{kept}: trained in {training['steps']} steps; for other stacks of the kind: --model {kept}")
    if told:
        say(told)


def begun(model: str | None, settings: MaskedSettings) -> MaskedPrior:
    """Return the network to begin with: named, shipped, or one that has learned nothing."""
    from bida.microscopy.restore import load_masked

    if model != FROM_NOTHING:
        return load_masked(str(released_path(GENERAL)) if model is None else model, settings)
    from bida.device import choose_device, choose_dtype
    from bida.microscopy.own import new_prior

    device = choose_device(settings.device)
    return new_prior(choose_dtype(settings.dtype, device), settings.seed).to(device)


def trained(
    prior: MaskedPrior,
    stack: Stack,
    minutes: float,
    settings: MaskedSettings,
    seen: Seen,
    sidecar: Path,
) -> dict[str, Any]:
    """Train a network on a stack, in place, until it is what its file will hold; return what the record says of it."""
    from bida.microscopy.own import OwnTraining, held_planes, taught_shape, train_on_stack

    how = OwnTraining(minutes, seed=settings.seed)
    checkpoint = sidecar.with_suffix(".ckpt")
    clip, report = seen.clip_percentile, adapt_progress("training")
    steps = train_on_stack(prior, stack, how, clip, checkpoint, report, seen)
    for parameter in prior.parameters():
        parameter.data = parameter.data.half().float()
    return {
        "minutes": minutes,
        "steps": steps,
        "held_back": held_planes(stack.data.shape[1]),
        "pixels_yx": list(taught_shape(stack)),
    }


def absent(spec: str) -> list[str]:
    """Say where chunks of an OME-Zarr image have no file: they are of one value, or were not copied."""
    from bida.microscopy.stacks.ome_zarr import absent_chunks
    from bida.microscopy.stacks.paths import is_zarr

    path = Path(split_range(spec)[0])
    missing, chunks = absent_chunks(path) if is_zarr(path) else (0, 0)
    if not missing:
        return []
    return [f"{path}: {missing} of {chunks} chunks have no file and read as one value; copy it again if it was cut off"]


def summary(output: Path, result: Stack, record: dict[str, Any], settings: MaskedSettings, seconds: float) -> str:
    """Return the line that says what was written."""
    sizes = " x ".join(map(str, result.data.shape[1:]))
    spacing = " x ".join(f"{size:.4g}" for size in result.spacing_um)
    as_they_are = "cleaned of noise" if (record["noise"] or {}).get("planes_changed") else "as acquired"
    on_grid, planes = record["planes_on_grid"], record["planes"]
    kept = f"{on_grid} of {planes} planes {as_they_are}" + (
        ", the others lie between voxels" if on_grid < planes else ""
    )
    return (
        f"{output}: {sizes} voxels of {spacing} um (z, y, x) in {seconds:.0f} s; "
        f"{'smoothed' if settings.blur else kept}"
    )
