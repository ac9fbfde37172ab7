"""The command ``bida``: arguments in, one line of error out, exit code 2 for what the user can mend.

Only the standard library is imported here, so that ``bida --help`` answers at once; the work is in ``commands``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from bida.errors import BidaError

EPILOG = "Research use only, not for diagnosis."


def parser() -> argparse.ArgumentParser:
    """Return the parser of every command."""
    main = argparse.ArgumentParser(
        prog="bida", description="Isotropic volumes from thick-slice rodent MR scans.", epilog=EPILOG
    )
    main.add_argument("--version", action="store_true", help="show versions and exit")
    commands = main.add_subparsers(dest="command", metavar="COMMAND")
    # options that are not given stay out of the namespace: the defaults are those of Settings and of the presets
    given: dict[str, Any] = {"argument_default": argparse.SUPPRESS, "epilog": EPILOG}
    _superres(commands.add_parser("superres", help="turn a thick-slice scan into an isotropic volume", **given))
    _simulate(commands.add_parser("simulate", help="make thick slices from an isotropic volume"))
    _info(commands.add_parser("info", help="say what superres would do with a scan", **given))
    _evaluate(commands.add_parser("evaluate", help="run the paper's experiment, and report", **given))
    _volumes(commands.add_parser("volumes", help="measure structures by labels carried over from atlases"))
    _demo(commands.add_parser("demo", help="run the built-in sample and draw a picture"))
    _adapt(commands.add_parser("adapt", help="fine-tune the priors on the sharp slices of scans", **given))
    _train(commands.add_parser("train", help="train the priors on a BIDS data set of isotropic scans"))
    _export(commands.add_parser("export", help="write the priors' networks as ONNX or TorchScript"))
    _isotropy(commands.add_parser("isotropy", help="say whether a microscopy stack looks alike along z, y and x"))
    _train_masked(commands.add_parser("train-masked", help="train on the planes of microscopy stacks"))
    _superres_masked(commands.add_parser("superres-masked", help="restore an anisotropic microscopy stack", **given))
    _evaluate_masked(
        commands.add_parser("evaluate-masked", help="compare methods on a stack with planes left out", **given)
    )
    return main


def _plan_options(sub: argparse.ArgumentParser) -> None:
    """Add the options that say how the scan was made and what grid is wanted."""
    sub.add_argument("--spacing", metavar="auto|inplane|MM", type=_spacing,
                     help="voxel size of the result; auto: the finer in-plane size, within 0.1-0.25 mm")  # fmt: skip
    sub.add_argument("--factor", type=float, metavar="F", help="slice spacing over voxel size, instead of --spacing")
    sub.add_argument("--axis", choices=["R", "A", "S"], help="through-plane axis; default: the coarsest")
    sub.add_argument("--thickness", type=float, metavar="MM", dest="thickness_mm",
                     help="slice thickness (FWHM); default: the sidecar's, else the slice spacing")  # fmt: skip
    sub.add_argument("--gap", type=float, metavar="MM", dest="gap_mm", help="gap between slices; negative: overlap")
    sub.add_argument("--profile", metavar="slr|gaussian|box|FILE", help="slice profile; FILE: columns mm, amplitude")
    sub.add_argument("--like", metavar="FILE", help="put the result on this file's grid")
    sub.add_argument("--volume", type=int, metavar="I", help="volume of a 4D file, from 0")
    sub.add_argument("--scale-header", type=float, metavar="F", help="divide the header's voxel sizes and origin by F")
    sub.add_argument("--preset", choices=["paper"], help="settings as published; other options change them")
    sub.add_argument("--no-n4", dest="n4", action="store_false", help="leave the bias field where it is")
    sub.add_argument("--device", metavar="NAME", help="auto, cpu, cuda ...")
    sub.add_argument("--dtype", choices=["auto", "float32", "bfloat16"], help="arithmetic of the network")
    sub.add_argument("--model", metavar="FILE", help="other weights than the released ones")


def _prior_options(sub: argparse.ArgumentParser) -> None:
    """Add the options that say what the priors are shown and asked for."""
    sub.add_argument("--steps", type=int, metavar="N", help="sampling steps (4)")
    sub.add_argument("--samples", type=int, metavar="K", help="draws to average (1); more: less error, more time")
    sub.add_argument("--guided", action=argparse.BooleanOptionalAction,
                     help="show the priors the interpolated scan (yes; as published: no)")  # fmt: skip
    sub.add_argument("--grain", action=argparse.BooleanOptionalAction,
                     help="draw the grain of scans, too (no; as published: yes)")  # fmt: skip


def _spacing(text: str) -> str | float:
    """Return a name as it is, a number as a number."""
    if text in ("auto", "inplane"):
        return text
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be auto, inplane or a number of mm, got {text!r}") from None


def _superres(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("input", help="NIfTI, NRRD or MetaImage file, or a folder with one DICOM series")
    sub.add_argument("output", help="NIfTI file to write (.nii or .nii.gz); a .json beside it records the run")
    _plan_options(sub)
    _prior_options(sub)
    sub.add_argument("--self-check", choices=["on", "off"], type=str,
                     help="measure the priors on the scan's own slices, and lean on interpolation where they do not "
                     "help (on)")  # fmt: skip
    sub.add_argument("--adapt", type=float, metavar="MINUTES", help="first fine-tune the priors on the scan's slices")
    sub.add_argument("--fusion", choices=["final", "step", "alternate"], help="how the two planes are joined (final)")
    sub.add_argument("--noise", type=float, metavar="SIGMA", help="noise of the scan, in its intensity units (DDNM+)")
    sub.add_argument("--bias-corrected", action="store_true", help="leave the bias field out of the result")
    sub.add_argument("--uncertainty", metavar="FILE", help="write the error's standard deviation (K >= 2)")
    sub.add_argument("--seed", type=int, metavar="N", help="seed of the noise (0)")
    sub.add_argument("--batch-size", type=int, metavar="N", help="slices at once; changes no result")
    sub.add_argument("--keep-dtype", action="store_true", help="write the scan's integer type instead of float32")
    sub.add_argument("--preview", metavar="FILE.png", help="draw scan, cubic interpolation and result")
    sub.add_argument("--overwrite", action="store_true", help="replace existing files")


def _simulate(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("input", metavar="HR", help="isotropic volume")
    sub.add_argument("output", metavar="LR", help="NIfTI file to write; a .json beside it records slices and grid")
    sub.add_argument("--factor", type=float, required=True, metavar="F", help="slice spacing over voxel size")
    sub.add_argument("--axis", choices=["R", "A", "S"], default="A", help="through-plane axis (A: coronal slices)")
    sub.add_argument("--thickness", type=float, metavar="MM", help="slice thickness (FWHM); default: slice spacing")
    sub.add_argument("--profile", default="slr", metavar="slr|gaussian|box|FILE", help="slice profile (slr)")
    sub.add_argument("--noise", type=float, default=0.0, metavar="SIGMA", help="noise to add, in intensity units")
    sub.add_argument("--seed", type=int, default=0, metavar="N", help="seed of that noise")
    sub.add_argument("--volume", type=int, metavar="I", help="volume of a 4D file, from 0")
    sub.add_argument("--overwrite", action="store_true", help="replace existing files")


def _info(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("input", metavar="SCAN", help="the scan")
    _plan_options(sub)
    _prior_options(sub)
    sub.add_argument("--self-check", action="store_true", dest="check",
                     help="measure what the priors gain on the scan's own slices")  # fmt: skip


def _adapt(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("scans", nargs="+", metavar="SCAN", help="scans to adapt to, alike in contrast and sequence")
    sub.add_argument("-o", "--output", required=True, metavar="FILE.pt", help="weights to write, for --model")
    sub.add_argument("--minutes", type=float, default=10.0, metavar="M", help="time to spend (10)")
    _plan_options(sub)
    sub.add_argument("--overwrite", action="store_true", help="replace an existing file")


def _evaluate(sub: argparse.ArgumentParser) -> None:
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


def _volumes(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("input", metavar="SCAN", help="the scan; a thick-slice one is better restored first")
    sub.add_argument("--atlas", required=True, metavar="DIR", help="BIDS data set with the atlases' images")
    sub.add_argument("--labels", required=True, metavar="DIR", help="BIDS data set with their label maps (dseg)")
    sub.add_argument("-o", "--output", required=True, metavar="TSV", help="table to write")
    sub.add_argument("--atlases", type=int, default=3, metavar="N", help="how many atlases, at most (3)")
    sub.add_argument("--names", metavar="TSV", help="index and name of the structures; default: the labels' dseg.tsv")
    sub.add_argument("--labels-out", metavar="FILE", help="write the labels on the scan's grid as NIfTI")
    sub.add_argument("--volume", type=int, metavar="I", help="volume of a 4D file, from 0")
    sub.add_argument("--scale-header", type=float, metavar="F", help="divide the header's voxel sizes and origin by F")
    sub.add_argument("--overwrite", action="store_true", help="replace existing files")


def _demo(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--output", default="demo", metavar="DIR", help="where to put the files (demo)")
    sub.add_argument("--factor", type=float, default=5.0, metavar="F", help="slice spacing over voxel size (5)")
    sub.add_argument("--samples", type=int, default=1, metavar="K", help="draws to average (1)")


def _export(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("model", nargs="?", metavar="MODEL", help="weights; default: the released ones")
    sub.add_argument("-o", "--output", required=True, metavar="FOLDER", help="folder to write to")
    sub.add_argument("--format", choices=["onnx", "torchscript"], default="onnx",
                     help="onnx: guided.onnx and bare.onnx (default); torchscript: model.ts, both in one")  # fmt: skip
    sub.add_argument("--overwrite", action="store_true", help="replace existing files")


def _train(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("data", nargs="+", help="BIDS folders of scans that are sharp in their planes")
    _training_options(sub, "runs/prior", "train.yaml")


def _training_options(sub: argparse.ArgumentParser, output: str, config: str) -> None:
    """Add the options of every training."""
    sub.add_argument("--output", default=output, metavar="DIR", help="checkpoints, logs, weights; resumes there")
    sub.add_argument("--config", action="append", default=[], metavar="FILE", help=f"a configuration over {config}")
    sub.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", dest="overrides",
                     help=f"override a value of {config}, as in --set epochs=100")  # fmt: skip


def _train_masked(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("stacks", nargs="+", metavar="STACK",
                     help="stacks; FILE[START:STOP] takes some of the planes; or OpenSRH's folder")  # fmt: skip
    sub.add_argument("--val", nargs="+", metavar="STACK", dest="validation", default=[],
                     help="stacks, or planes of them, for the validation loss; OpenSRH's: its val split")  # fmt: skip
    sub.add_argument("--voxel-um", type=float, nargs=3, metavar=("Z", "Y", "X"),
                     help="voxel sizes of stacks that hold none, um; change no training; not of OpenSRH")  # fmt: skip
    _training_options(sub, "runs/masked", "masked_train.yaml")


def _isotropy(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("input", metavar="STACK",
                     help="TIFF, OME-Zarr, NIfTI, folder or glob of TIFF planes, or FILE.pt[ROW,COLUMN]; "
                     "FILE[START:STOP] takes some of the planes")  # fmt: skip
    sub.add_argument("--voxel-um", type=float, nargs=3, metavar=("Z", "Y", "X"),
                     help="voxel sizes, um; default: the file's")  # fmt: skip
    sub.add_argument("--block-mean", type=int, default=1, metavar="N", help="average cubes of N voxels a side first")
    sub.add_argument("--out", metavar="FILE.png", help="draw the spectra")
    sub.add_argument("--json", metavar="FILE", help="write what was measured")
    sub.add_argument("--overwrite", action="store_true", help="replace existing files")


def _masked_options(sub: argparse._ActionsContainer, seeded: str = "") -> None:
    """Add the options of every restoration of a stack by weights."""
    sub.add_argument("--steps", type=int, metavar="N", help="sampling steps, of diffusion alone (16)")
    sub.add_argument(
        "--fusion",
        choices=["final", "step", "alternate", "single-xz", "single-yz"],
        help="how xz and yz slices are joined, or one of them alone (final); msunet: not alternate; e2e: neither",
    )
    sub.add_argument("--eta", type=float, metavar="E", help="noise of the steps, 0 to 1, of diffusion alone (0)")
    sub.add_argument("--blur", action="store_true", help="smooth the result by 3 x 3 x 3 voxels; no plane stays exact")
    sub.add_argument("--seed", type=int, metavar="N", help=f"seed of the noise of diffusion and msunet{seeded} (0)")
    sub.add_argument("--tile", type=int, metavar="N", help="side of the tiles that the network sees, pixels (128)")
    sub.add_argument("--overlap", type=int, metavar="N", help="pixels that tiles share, at most half a tile (32)")
    sub.add_argument("--batch-size", type=int, metavar="N", help="tiles at once; changes no result")
    sub.add_argument("--device", metavar="NAME", help="auto, cpu, cuda ...")
    sub.add_argument("--dtype", choices=["auto", "float32", "bfloat16"], help="arithmetic of the network")


def _superres_masked(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("input", metavar="STACK", help="the stack, as for isotropy")
    sub.add_argument("output", metavar="OUT", help="stack to write; a .json beside it records the run")
    sub.add_argument("--model", required=True, metavar="FILE", help="weights, from train-masked")
    grid = sub.add_mutually_exclusive_group(required=True)
    grid.add_argument("--factor", type=float, metavar="F", help="plane spacing over voxel size, any number from 1 on")
    grid.add_argument("--spacing", type=float, metavar="UM", dest="spacing_um", help="voxel size along z of the result")
    sub.add_argument("--voxel-um", type=float, nargs=3, metavar=("Z", "Y", "X"),
                     help="z, y and x voxel size of the stack; default: the file's")  # fmt: skip
    sub.add_argument("--clip-percentile", type=float, metavar="P",
                     help="the network sees each channel clipped at this percentile, as it was trained with "
                     "clip_percentile; acquired planes stay as they are")  # fmt: skip
    _masked_options(sub)
    sub.add_argument("--overwrite", action="store_true", help="replace existing files")


def _evaluate_masked(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("truth", metavar="TRUTH", help="isotropic stack; FILE[START:STOP] takes some of the planes")
    sub.add_argument("--out", required=True, metavar="DIR", dest="output", help="table and pictures")
    sub.add_argument("--factors", nargs="+", type=int, metavar="F", help="every F-th plane is kept (4 8)")
    sub.add_argument("--methods", nargs="+", metavar="NAME",
                     help="nearest linear cubic (all these), and NAME=FILE for weights from train-masked")  # fmt: skip
    sub.add_argument("--block-mean", type=int, metavar="N", help="average cubes of N voxels a side first (1)")
    sub.add_argument("--clip-percentile", type=float, metavar="P", help="clip each channel at this percentile")
    sub.add_argument("--voxel-um", type=float, nargs=3, metavar=("Z", "Y", "X"),
                     help="voxel sizes of the truth, um; default: the file's")  # fmt: skip
    sub.add_argument("--overwrite", action="store_true", help="replace the results of an earlier run")
    sub.add_argument("--no-panel", dest="panel", action="store_false", help="leave the slices' panel out")
    sub.add_argument("--inception-weights", metavar="FILE",
                     help="add SliceFID; TorchScript from [B, 3, 299, 299] in -1 to 1 to [B, 2048]")  # fmt: skip
    sub.add_argument("--inception-sha256", metavar="HASH", help="SHA-256 that this file must have")
    sub.add_argument("--crops", type=int, metavar="N", help="restore N crops of 48 x 48 pixels with masked rows, too")
    _masked_options(
        sub.add_argument_group("restoration by weights", "refused where no method that is named uses them"),
        ", and of the panel's patches and the crops",
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return 0, 2 for an error that the user can mend, or 130 after Ctrl-C."""
    arguments = parser().parse_args(argv)
    if not arguments.version and arguments.command is None:
        parser().print_help()
        return 2
    try:
        from bida import commands

        commands.run(arguments)
    except BidaError as error:
        print(f"bida: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("bida: stopped", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
