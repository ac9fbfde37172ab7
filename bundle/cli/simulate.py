"""`bida simulate`: make thick slices of an isotropic volume, one scan or several."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

from bida.cli.options import check_outputs
from bida.errors import SettingsError
from bida.io.files import stem
from bida.physics.slice_profile import PROFILES
from bida.progress import say

ORIENTATIONS = {"R": "sag", "A": "cor", "S": "ax"}  # of slices across an axis, as the entity acq names them
BEFORE = ("sub", "tpl", "ses", "sample", "task")  # entities of BIDS that come before acq


def add_options(sub: argparse.ArgumentParser) -> None:
    """Add the options."""
    sub.add_argument("input", metavar="HR", help="isotropic volume")
    sub.add_argument(
        "output",
        metavar="LR",
        help="NIfTI file to write; a .json beside it records slices and grid; of several axes a file each, "
        "LR_acq-sag, LR_acq-cor, LR_acq-ax, with run-1, run-2 of an axis given twice; in a BIDS name before its suffix",
    )
    sub.add_argument("--factor", type=float, required=True, metavar="F", help="slice spacing over voxel size")
    sub.add_argument(
        "--axis",
        nargs="+",
        type=axis_of,
        default=["A"],
        dest="axes",
        metavar="R|A|S",
        help="through-plane axis, A for coronal slices (A); several, as A S: a scan each, with noise of its own",
    )
    sub.add_argument(
        "--thickness", type=float, metavar="MM", help="slice thickness (FWHM), mm; default: the slice spacing"
    )
    sub.add_argument("--profile", default="slr", metavar=PROFILES, help="slice profile (slr)")
    noise = sub.add_mutually_exclusive_group()
    noise.add_argument(
        "--noise",
        type=float,
        default=0.0,
        metavar="SIGMA",
        help="standard deviation of Gaussian noise to add, in intensity units (0)",
    )
    noise.add_argument(
        "--snr",
        type=float,
        metavar="SNR",
        help="add a scanner's noise (Rician) to every slice: mean in tissue, which is what is brighter than Otsu's "
        "threshold, over its standard deviation",
    )
    sub.add_argument(
        "--move",
        type=float,
        nargs=2,
        metavar=("MM", "DEGREES"),
        help="shift and turn the object at random by up to so much in every scan but the first, without a word of it "
        "in the header; the .json has the true matrix",
    )
    sub.add_argument("--seed", type=int, default=0, metavar="N", help="seed of noise and motion (0)")
    sub.add_argument("--volume", type=int, metavar="I", help="volume of a 4D file, from 0")
    sub.add_argument("--overwrite", action="store_true", help="replace existing files")


def axis_of(text: str) -> str:
    """Return an axis as it is, and say where files belong, which this option would take for axes."""
    if text not in ORIENTATIONS:
        raise argparse.ArgumentTypeError(f"must be R, A or S, got {text!r}; give the files before this option")
    return text


def run(arguments: argparse.Namespace) -> None:
    """Make thick slices from an isotropic volume."""
    axes = arguments.axes
    if arguments.move is not None and len(axes) == 1:
        raise SettingsError(f"--move: must come with several axes, got {axes[0]} alone; give for example --axis A S")
    outputs = [
        check_outputs(arguments.input, str(one), arguments.overwrite, read=[arguments.profile])
        for one in paths_of(arguments.output, axes)
    ]
    from bida.mri.simulate import simulate_set

    made = simulate_set(
        arguments.input,
        outputs,
        arguments.factor,
        axes,
        arguments.thickness,
        arguments.profile,
        arguments.noise,
        arguments.seed,
        arguments.volume,
        snr=arguments.snr,
        move=arguments.move,
        overwrite=arguments.overwrite,
    )
    for output, axis, one in zip(outputs, axes, made):
        geometry = one.geometry
        say(
            f"{output}: {geometry.slices} slices of {geometry.thickness_mm:.4g} mm every "
            f"{geometry.slice_spacing_mm:.4g} mm along {axis}, {geometry.profile} profile"
        )
        if arguments.snr is not None:
            say(f"Rician noise, standard deviation {one.noise:.4g} in intensity units: SNR {arguments.snr:g} in tissue")
        if one.motion is not None:
            turn = math.degrees(math.acos(min(1.0, max(-1.0, (float(one.motion[:3, :3].trace()) - 1) / 2))))
            say(f"the object is turned by {turn:.2f} degrees and shifted, see motion in the .json")


def paths_of(output: str | Path, axes: Sequence[str]) -> list[Path]:
    """Return the file of each scan of a set: the one that is given where there is one scan.

    Of several each has the orientation of its slices in the entity acq, and its number in run where there are more of
    it: before the suffix of a BIDS name (sub-01_T2w.nii.gz: sub-01_acq-cor_T2w.nii.gz), else at its end.

    Raises:
        SettingsError: The name has a run of its own where an axis is given twice.
    """
    output = Path(output)
    if len(axes) == 1:
        return [output]
    name = stem(output)
    ending = output.name[len(name) :]
    found = []
    for place, axis in enumerate(axes):
        run = axes[: place + 1].count(axis) if axes.count(axis) > 1 else None
        found.append(output.with_name(_named(name, ORIENTATIONS[axis], run) + ending))
    return found


def _named(name: str, orientation: str, run: int | None) -> str:
    """Return a name with the entity acq, and run where it has a number."""
    words, suffix = name.split("_"), []
    if words[0].startswith(("sub-", "tpl-")) and "-" not in words[-1]:
        words, suffix = words[:-1], words[-1:]
    keys = [word.split("-")[0] for word in words]
    if run is not None and "run" in keys:
        raise SettingsError(f"{name}: must not name a run where an axis is given twice, got {name}; leave run- out")
    if suffix and "acq" in keys:
        words[keys.index("acq")] += orientation
    else:
        place = max((i + 1 for i, key in enumerate(keys) if key in BEFORE), default=0) if suffix else len(words)
        words.insert(place, f"acq-{orientation}")
    if run is not None:
        words.append(f"run-{run}")
    return "_".join([*words, *suffix])
