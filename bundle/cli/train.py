"""`bida train`: train the priors."""

from __future__ import annotations

import argparse
from pathlib import Path

from bida.cli.options import training_options
from bida.io.bids import check_data_set


def add_options(sub: argparse.ArgumentParser) -> None:
    """Add the options."""
    sub.add_argument("data", nargs="+", help="BIDS folders of scans that are sharp in their planes")
    training_options(sub, "runs/prior", "on_device.yaml")
    sub.add_argument(
        "--minutes", type=float, help="length of the run; by default as many steps as the configuration says"
    )


def run(arguments: argparse.Namespace) -> None:
    """Train through the bundle's training configuration."""
    for folder in arguments.data:
        check_data_set(Path(folder))
    from bida.training.run import run_training

    fixed = {"dataset_dir": list(arguments.data), "output_dir": arguments.output}
    if arguments.minutes is not None:
        fixed["minutes"] = arguments.minutes
    run_training(["train.yaml", "on_device.yaml"], arguments.config, arguments.overrides, fixed, settable=2)
