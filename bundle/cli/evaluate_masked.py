"""`bida evaluate-masked`: leave out planes of a stack with truth, and compare what methods make of them."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from bida.cli.masked_options import OF_NETWORKS, frames_option, masked_options, masked_settings, unused_by
from bida.errors import SettingsError
from bida.microscopy.settings import MaskedExperiment
from bida.progress import console_progress, note, say


def add_options(sub: argparse.ArgumentParser) -> None:
    """Add the options."""
    sub.argument_default = argparse.SUPPRESS  # not given: the default of the settings
    sub.add_argument("truth", metavar="TRUTH", help="isotropic stack; FILE[START:STOP] takes some of the planes")
    sub.add_argument("--out", required=True, metavar="DIR", dest="output", help="table and pictures")
    default: dict[str, Any] = {field.name: field.default for field in fields(MaskedExperiment)}
    sub.add_argument("--factors", nargs="+", type=int, metavar="F",
                     help=f"every F-th plane is kept ({' '.join(map(str, default['factors']))})")  # fmt: skip
    sub.add_argument("--methods", nargs="+", metavar="NAME",
                     help=f"{' '.join(default['methods'])} (all these), and NAME=FILE for weights from "
                     "train-masked")  # fmt: skip
    sub.add_argument("--block-mean", type=int, metavar="N",
                     help=f"average cubes of N voxels a side first ({default['block_mean']})")  # fmt: skip
    sub.add_argument("--clip-percentile", type=float, metavar="P", help="clip each channel at this percentile")
    sub.add_argument("--voxel-um", type=float, nargs=3, metavar=("Z", "Y", "X"),
                     help="voxel sizes of the truth, um; default: the file's")  # fmt: skip
    frames_option(sub)
    sub.add_argument("--overwrite", action="store_true", help="replace the results of an earlier run")
    sub.add_argument("--no-panel", dest="panel", action="store_false", help="leave the slices' panel out")
    sub.add_argument("--inception-weights", metavar="FILE",
                     help="add SliceFID; TorchScript from [B, 3, 299, 299] in -1 to 1 to [B, 2048]")  # fmt: skip
    sub.add_argument("--inception-sha256", metavar="HASH", help="SHA-256 that this file must have")
    sub.add_argument("--crops", type=int, metavar="N", help="restore N crops of 48 x 48 pixels with masked rows, too")
    masked_options(sub.add_argument_group("restoration by weights", "refused where no method that is named uses them"))


def run(arguments: argparse.Namespace) -> None:
    """Leave out planes of a stack with truth, and compare what methods make of them."""
    given = vars(arguments)
    values = {field.name: given[field.name] for field in fields(MaskedExperiment) if field.name in given}
    experiment = MaskedExperiment(**values, settings=masked_settings(arguments))
    experiment.check_inputs()
    if Path(experiment.output).is_dir():  # else it is made when the work begins
        experiment.check_outputs()
    if not experiment.weights:
        check_used(experiment, (), given)

    from bida.microscopy.evaluate import evaluate_masked, load_priors

    priors = load_priors(experiment)
    check_used(experiment, (prior.method for prior in priors.values()), given)
    say(evaluate_masked(experiment, console_progress(), note, priors))


def check_used(experiment: MaskedExperiment, methods: Iterable[str], given: Mapping[str, Any]) -> None:
    """Check that some part of an experiment, with networks of these methods, has a use for each given option.

    Raises:
        SettingsError: None has.
    """
    kinds = sorted(set(methods))
    unused = set(OF_NETWORKS).intersection(*(unused_by(kind, experiment.settings) for kind in kinds))
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
