"""`bida evaluate`: run the paper's experiment."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bida.io.bids import check_data_set
from bida.physics.slice_profile import PROFILES
from bida.progress import note, say

if TYPE_CHECKING:
    from bida.experiment.design import Experiment


def add_options(sub: argparse.ArgumentParser) -> None:
    """Add the options, with the methods, the metrics and the defaults that there are."""
    from bida.experiment.design import CLEAN_WORD, Experiment
    from bida.experiment.methods import METHODS, Choices
    from bida.experiment.metrics import METRICS

    default: dict[str, Any] = {one.name: one.default for one in (*fields(Experiment), *fields(Choices))}
    others = [name for name in METHODS if name not in default["methods"]]
    sub.argument_default = argparse.SUPPRESS  # not given: the default of the settings, or of a preset
    sub.add_argument("--data", required=True, metavar="BIDS", help="data set of isotropic scans")
    sub.add_argument("--out", required=True, metavar="DIR", dest="output",
                     help="results; finished cells are kept there and reused")  # fmt: skip
    sub.add_argument("--factors", nargs="+", type=float, metavar="F",
                     help=f"slice spacing over voxel size ({listed(default['factors'])})")  # fmt: skip
    sub.add_argument("--snr", nargs="+", metavar="SNR",
                     help="add Rician noise to the thick slices, each its own: mean in tissue over its standard "
                          f"deviation; {CLEAN_WORD}: none ({CLEAN_WORD})")  # fmt: skip
    sub.add_argument("--scans", nargs="+", metavar="AXES",
                     help="beside the single scan, sets of scans of each animal, by their through-plane axes: A+S, "
                          "A+A, R+A+S; methods that join scans take all, the others the first (none)")  # fmt: skip
    sub.add_argument("--methods", nargs="+", metavar="NAME",
                     help=f"{listed(default['methods'])} (all these), {listed(others)}")  # fmt: skip
    sub.add_argument("--metrics", nargs="+", metavar="NAME",
                     help=f"{listed(METRICS)} (all)")  # fmt: skip
    sub.add_argument("--subjects", nargs="+", metavar="SUB",
                     help="animals, as sub-08 or 08; default: those of the split")  # fmt: skip
    sub.add_argument("--split", metavar="NAME", help="split in participants.tsv (val, where there are splits)")
    sub.add_argument("--axis", choices=["R", "A", "S"],
                     help=f"through-plane axis, A for coronal slices ({default['axis']})")  # fmt: skip
    sub.add_argument("--spacing", type=float, metavar="MM", dest="spacing_mm",
                     help="resample the scans to this voxel size first; default: their own")  # fmt: skip
    sub.add_argument("--no-n4", dest="n4", action="store_false", help="leave the scans' bias field where it is")
    sub.add_argument("--profile", metavar=PROFILES,
                     help=f"slice profile ({default['profile']})")  # fmt: skip
    sub.add_argument("--strippers", nargs="+", metavar="STRIPPER",
                     help="builtin, threshold, rbm, antspynet, seg4:WHEEL, rs2net:WEIGHTS or "
                          f"'command:PROGRAM {{in}} {{out}}' ({listed(default['strippers'])})")  # fmt: skip
    sub.add_argument("--atlases", type=int, metavar="N",
                     help=f"training animals whose labels are carried over ({default['atlases']})")  # fmt: skip
    sub.add_argument("--samples", type=int, metavar="K", help=f"draws of bida-draws, averaged ({default['samples']})")
    sub.add_argument("--model", metavar="FILE",
                     help="other weights than the released ones; 0.3, 0.2, 0.1: those before")  # fmt: skip
    sub.add_argument("--seed", type=int, metavar="N", help=f"seed of all noise ({default['seed']})")
    sub.add_argument("--device", metavar="NAME", help=f"auto, cpu, cuda ... ({default['device']})")
    sub.add_argument("--eclare", metavar="COMMAND",
                     help=f"command of the published ECLARE ({default['eclare']})")  # fmt: skip
    sub.add_argument("--unires", metavar="COMMAND",
                     help=f"Python in whose environment the published UniRes is ({default['unires']})")  # fmt: skip
    sub.add_argument("--unires-strength", type=float, metavar="X",
                     help=f"weight of its prior, its reg_scl ({default['unires_strength']:g})")  # fmt: skip
    sub.add_argument("--timeout", type=float, metavar="S", dest="timeout_s",
                     help=f"limit of an external program, seconds ({default['timeout_s']:g})")  # fmt: skip
    sub.add_argument("--jobs", type=int, metavar="N",
                     help=f"cells at once ({default['jobs']}); each takes memory of its own")  # fmt: skip


def listed(values: Iterable[object]) -> str:
    """Return names or numbers as they are typed."""
    return " ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)


def run(arguments: argparse.Namespace) -> None:
    """Run the paper's experiment."""
    check_data_set(Path(arguments.data))
    experiment = experiment_of(arguments)
    from bida.eval.skullstrip.strippers import licence_of
    from bida.experiment import run

    for notice in filter(None, map(licence_of, experiment.strippers)):
        note(notice)
    say(run(experiment))


def experiment_of(arguments: argparse.Namespace) -> Experiment:
    """Return the experiment that the given options make."""
    from bida.experiment.design import Experiment
    from bida.experiment.methods import Choices

    given = vars(arguments)
    choices = {field.name: given[field.name] for field in fields(Choices) if field.name in given}
    names = {field.name for field in fields(Experiment)} & given.keys()
    return Experiment(**{name: given[name] for name in names}, choices=Choices(**choices))
