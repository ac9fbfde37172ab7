"""What the commands for microscopy stacks do; imported only when one is run."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from bida.errors import SettingsError
from bida.io.files import check_output, sidecar_path, write_json
from bida.microscopy.evaluate import MaskedExperiment, evaluate_masked
from bida.microscopy.load import load_stack, split_range
from bida.microscopy.prior import MaskedPrior
from bida.microscopy.restore import MaskedSettings, describe, load_masked, restore_stack
from bida.microscopy.stacks.stack import check_stack_output, write_stack
from bida.progress import console_progress
from bida.provenance import Clock

# options of sampling that a method, which takes no steps, has no use for; interpolation has none for any
UNUSED = {"msunet": ("steps", "eta"), "e2e": ("steps", "eta", "seed")}
OF_NETWORKS = frozenset(field.name for field in fields(MaskedSettings)) - {"factor", "spacing_um"}


def masked_settings(arguments: argparse.Namespace) -> MaskedSettings:
    """Return the settings that the given options make."""
    known = {field.name for field in fields(MaskedSettings)}
    return MaskedSettings(**{name: value for name, value in vars(arguments).items() if name in known})


def note(warning: str) -> None:
    """Say a warning of a run's record on the standard error."""
    print(f"bida: note: {warning}", file=sys.stderr)


def superres_masked(arguments: argparse.Namespace) -> None:
    """Restore a stack, and write it with its record."""
    given = vars(arguments)
    settings, overwrite = masked_settings(arguments), given.get("overwrite", False)
    clip_percentile = given.get("clip_percentile")
    output, sidecar = Path(arguments.output), sidecar_path(arguments.output)
    if output.resolve() == Path(split_range(arguments.input)[0]).resolve():
        raise SettingsError(f"{output}: output must be a file of its own, not the stack; rename it")
    check_stack_output(output, overwrite=overwrite)
    check_output(sidecar, overwrite=overwrite, suffixes=(".json",))
    clock = Clock()
    stack = load_stack(arguments.input, voxel_um=given.get("voxel_um"))
    check_stack_output(output, stack.data.dtype, overwrite=overwrite)
    factor = settings.factor_for(stack)
    prior, inferer = load_masked(arguments.model, settings), settings.inferer(factor)
    unused = UNUSED.get(prior.method, ())
    for name in unused:
        if name in given:
            raise SettingsError(
                f"--{name}: must not be given for {arguments.model}, whose method {prior.method} does not sample, "
                f"got {given[name]}; leave it out"
            )
    inferer.progress = console_progress()
    clock.lap("read")
    result = restore_stack(stack, prior, inferer, clip_percentile)
    clock.lap("restore")
    write_stack(output, result, overwrite=overwrite)
    clock.lap("write")
    used = {name: value for name, value in (asdict(settings) | {"factor": factor}).items() if name not in unused}
    record = {
        "source": str(arguments.input),
        "weights": str(arguments.model),
        "clip_percentile": clip_percentile,
        "settings": used,
        **describe(settings, prior, stack, result, factor),
        "seconds": dict(clock.seconds),
    }
    write_json(sidecar, record, overwrite=overwrite)
    for warning in record["warnings"]:
        note(warning)
    sizes = " x ".join(map(str, result.data.shape[1:]))
    spacing = " x ".join(f"{size:.4g}" for size in result.spacing_um)
    kept = f"{record['planes_on_grid']} of {record['planes']} planes as acquired"
    print(
        f"{output}: {sizes} voxels of {spacing} um (z, y, x) in {sum(clock.seconds.values()):.0f} s; "
        f"{'smoothed' if settings.blur else kept}"
    )


def evaluate(arguments: argparse.Namespace) -> None:
    """Leave out planes of a stack with truth, and compare what methods make of them."""
    known = {field.name for field in fields(MaskedExperiment)} & vars(arguments).keys()
    values = {name: vars(arguments)[name] for name in known}
    experiment = MaskedExperiment(**values, settings=masked_settings(arguments))
    check_used(experiment, vars(arguments))
    print(evaluate_masked(experiment, console_progress(), note))


def check_used(experiment: MaskedExperiment, given: Mapping[str, Any]) -> None:
    """Check that some part of an experiment has a use for each given option.

    Raises:
        SettingsError: None has.
        WeightsError: Weights that are named cannot be read.
    """
    weights = [method.partition("=")[2] for method in experiment.methods]
    kinds = sorted({MaskedPrior.load(file).method for file in weights if file})
    unused = OF_NETWORKS.intersection(*(UNUSED.get(kind, ()) for kind in kinds))
    if experiment.panel or experiment.crops:
        unused -= {"seed"}
    if experiment.inception_weights is not None:
        unused -= {"device"}
    for name in sorted(unused & given.keys()):
        found = f"networks of {' and '.join(kinds)} alone" if kinds else "no network"
        raise SettingsError(
            f"--{name.replace('_', '-')}: must not be given where no method uses it, got {given[name]} with {found}; "
            "leave it out, or name weights that do with --methods NAME=FILE"
        )
