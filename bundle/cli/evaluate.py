"""`bida evaluate`: run the paper's experiment."""

from __future__ import annotations

import argparse
from dataclasses import fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bida.experiment.design import Experiment


def add_options(sub: argparse.ArgumentParser) -> None:
    """Add the options."""
    sub.argument_default = argparse.SUPPRESS  # not given: the default of the settings, or of a preset
    sub.add_argument("--data", required=True, metavar="BIDS", help="data set of isotropic scans")
    sub.add_argument("--out", required=True, metavar="DIR", dest="output",
                     help="results; finished cells are kept there and reused")  # fmt: skip
    sub.add_argument("--factors", nargs="+", type=float, metavar="F", help="slice spacing over voxel size (2.5 5)")
    sub.add_argument("--methods", nargs="+", metavar="NAME",
                     help="nearest linear cubic cubic+projection selfsr bida-paper bida-1 bida (all these), "
                     "bida-bare eclare")  # fmt: skip
    sub.add_argument("--metrics", nargs="+", metavar="NAME",
                     help="psnr ssim cdsc sharpness stitching residual volumes (all)")  # fmt: skip
    sub.add_argument("--subjects", nargs="+", metavar="SUB", help="animals; default: those of the split")
    sub.add_argument("--split", metavar="NAME", help="split in participants.tsv (val, where there are splits)")
    sub.add_argument("--axis", choices=["R", "A", "S"], help="through-plane axis (A: coronal slices)")
    sub.add_argument("--spacing", type=float, metavar="MM", dest="spacing_mm",
                     help="resample the scans to this voxel size first; default: their own")  # fmt: skip
    sub.add_argument("--no-n4", dest="n4", action="store_false", help="leave the scans' bias field where it is")
    sub.add_argument("--profile", metavar="slr|gaussian|box|FILE", help="slice profile (slr)")
    sub.add_argument("--strippers", nargs="+", metavar="STRIPPER",
                     help="builtin, threshold, rbm, antspynet or 'command:PROGRAM {in} {out}'; RS2-Net with its "
                          "weights: 'command:RS2_predict -i {in_dir} -o {out_dir} -m FILE -device cpu'")  # fmt: skip
    sub.add_argument("--atlases", type=int, metavar="N", help="training animals whose labels are carried over (3)")
    sub.add_argument("--samples", type=int, metavar="K", help="draws of bida, averaged (4)")
    sub.add_argument("--model", metavar="FILE", help="other weights than the released ones")
    sub.add_argument("--seed", type=int, metavar="N", help="seed of all noise (0)")
    sub.add_argument("--device", metavar="NAME", help="auto, cpu, cuda ...")
    sub.add_argument("--eclare", metavar="COMMAND", help="command of the published ECLARE (run-eclare)")
    sub.add_argument("--timeout", type=float, metavar="S", dest="timeout_s",
                     help="limit of an external program, seconds (3600)")  # fmt: skip
    sub.add_argument("--jobs", type=int, metavar="N", help="cells at once (1); each takes memory of its own")


def run(arguments: argparse.Namespace) -> None:
    """Run the paper's experiment."""
    from bida.experiment import run

    print(run(experiment_of(arguments)))


def experiment_of(arguments: argparse.Namespace) -> Experiment:
    """Return the experiment that the given options make."""
    from bida.experiment.design import Experiment
    from bida.experiment.methods import Choices

    given = vars(arguments)
    choices = {field.name: given[field.name] for field in fields(Choices) if field.name in given}
    names = {field.name for field in fields(Experiment)} & given.keys()
    return Experiment(**{name: given[name] for name in names}, choices=Choices(**choices))
