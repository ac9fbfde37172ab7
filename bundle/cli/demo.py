"""`bida demo`: run the built-in sample through the bundle."""

from __future__ import annotations

import argparse
from pathlib import Path

from bida.progress import say


def add_options(sub: argparse.ArgumentParser) -> None:
    """Add the options."""
    sub.add_argument("-o", "--output", default="demo", metavar="DIR", help="where to put the files (demo)")
    sub.add_argument("--factor", type=float, default=5.0, metavar="F", help="slice spacing over voxel size (5)")
    sub.add_argument("--samples", type=int, default=0, metavar="K",
                     help="draws to average; 0: the mean in one step (0)")  # fmt: skip


def run(arguments: argparse.Namespace) -> None:
    """Run the built-in sample through the bundle and draw what came out."""
    from bida.mri.demo import run_demo

    say(run_demo(Path(arguments.output), arguments.factor, arguments.samples))
