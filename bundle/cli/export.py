"""`bida export`: write the priors' networks for other programs."""

from __future__ import annotations

import argparse

from bida.io.files import check_exists
from bida.progress import say


def add_options(sub: argparse.ArgumentParser) -> None:
    """Add the options."""
    sub.add_argument("model", nargs="?", metavar="MODEL", help="weights; default: the released ones")
    sub.add_argument("-o", "--output", required=True, metavar="FOLDER", help="folder to write to")
    sub.add_argument("--format", choices=["onnx", "torchscript"], default="onnx",
                     help="onnx: guided.onnx and bare.onnx (default); torchscript: model.ts, both in one")  # fmt: skip
    sub.add_argument("--overwrite", action="store_true", help="replace existing files")


def run(arguments: argparse.Namespace) -> None:
    """Write the networks of the priors for other programs."""
    if arguments.model is not None:
        check_exists(arguments.model)
    import torch

    from bida.diffusion.export import export as write
    from bida.diffusion.load import load_prior, prior_of

    prior = load_prior(prior_of(arguments.model), arguments.model, torch.device("cpu"), "float32")
    say("\n".join(map(str, write(prior, arguments.output, arguments.format, overwrite=arguments.overwrite))))
