"""`bida train-masked`: train on the planes of microscopy stacks."""

from __future__ import annotations

import argparse

from bida.cli.masked_options import frames_option
from bida.cli.options import training_options


def add_options(sub: argparse.ArgumentParser) -> None:
    """Add the options."""
    sub.add_argument("stacks", nargs="+", metavar="STACK",
                     help="stacks; FILE[START:STOP] takes some of the planes; or OpenSRH's folder")  # fmt: skip
    sub.add_argument("--val", nargs="+", metavar="STACK", dest="validation", default=[],
                     help="stacks, or planes of them, for the validation loss; OpenSRH's: its val split")  # fmt: skip
    sub.add_argument("--voxel-um", type=float, nargs=3, metavar=("Z", "Y", "X"),
                     help="voxel sizes of stacks that hold none, um; change no training; not of OpenSRH")  # fmt: skip
    frames_option(sub)
    training_options(sub, "runs/masked", "masked_train.yaml")


def run(arguments: argparse.Namespace) -> None:
    """Train on microscopy stacks through the bundle's training configuration and the one that lies over it."""
    from bida.microscopy.dataset import validation_stacks
    from bida.training.run import run_training

    validation = validation_stacks(arguments.stacks, arguments.validation)
    fixed = {"stacks": arguments.stacks, "validation_stacks": validation, "output_dir": arguments.output}
    fixed |= {"voxel_um": arguments.voxel_um} if arguments.voxel_um else {}
    fixed |= {"frames_are_z": True} if arguments.frames_are_z else {}
    run_training(["train.yaml", "masked_train.yaml"], arguments.config, arguments.overrides, fixed)
