"""`bida train`: train the priors."""

from __future__ import annotations

import argparse
from pathlib import Path

from bida.cli.options import training_options
from bida.io.bids import check_data_set


def add_options(sub: argparse.ArgumentParser) -> None:
    """Add the options."""
    sub.add_argument("data", nargs="+", help="BIDS folders of scans that are sharp in their planes")
    training_options(sub, "runs/prior", "train.yaml")


def run(arguments: argparse.Namespace) -> None:
    """Train through the bundle's training configuration."""
    for folder in arguments.data:
        check_data_set(Path(folder))
    from bida.training.run import run_training

    fixed = {"dataset_dir": list(arguments.data), "output_dir": arguments.output}
    run_training(["train.yaml"], arguments.config, arguments.overrides, fixed)
