"""`bida export`: write the networks for other programs."""

from __future__ import annotations

import argparse
from pathlib import Path

from bida.errors import SettingsError
from bida.io.files import check_exists
from bida.progress import say

FACTOR = 4  # of a package for stacks


def add_options(sub: argparse.ArgumentParser) -> None:
    """Add the options."""
    sub.add_argument("model", nargs="?", metavar="MODEL", help="weights; default: the released ones")
    sub.add_argument("-o", "--output", required=True, metavar="FOLDER", help="folder to write to")
    sub.add_argument("--format", choices=["onnx", "torchscript", "bioimageio"], default="onnx",
                     help="onnx: guided.onnx and bare.onnx (default); torchscript: model.ts, both in one; "
                     "bioimageio: masked_Fx.zip, the network for stacks as BioImage Model Zoo package")  # fmt: skip
    sub.add_argument("--factor", type=int, metavar="F",
                     help=f"of bioimageio alone: plane spacing over voxel size, a whole number ({FACTOR})")  # fmt: skip
    sub.add_argument("--overwrite", action="store_true", help="replace existing files")


def run(arguments: argparse.Namespace) -> None:
    """Write networks for other programs."""
    if arguments.model is not None:
        check_exists(arguments.model)
    if arguments.format == "bioimageio":
        print(package(arguments))
        return
    if arguments.factor is not None:
        raise SettingsError(
            f"--factor: must not be given with --format {arguments.format}, which has no use for it, got "
            f"{arguments.factor}; leave it out"
        )
    import torch

    from bida.diffusion.export import export as write
    from bida.diffusion.load import load_prior, prior_of

    prior = load_prior(prior_of(arguments.model), arguments.model, torch.device("cpu"), "float32")
    say("\n".join(map(str, write(prior, arguments.output, arguments.format, overwrite=arguments.overwrite))))


def package(arguments: argparse.Namespace) -> Path:
    """Write the network for stacks as a package, and return its file."""
    from bida.cli.superres_masked import GENERAL
    from bida.io.released import released_path
    from bida.microscopy.bioimage_zoo import write_package
    from bida.microscopy.prior import MaskedPrior

    prior = MaskedPrior.load(released_path(GENERAL) if arguments.model is None else arguments.model)
    factor = FACTOR if arguments.factor is None else arguments.factor
    return write_package(prior, arguments.output, factor, overwrite=arguments.overwrite)
