"""`bida isotropy`: say whether a microscopy stack looks alike along z, y and x."""

from __future__ import annotations

import argparse
from pathlib import Path

from bida.cli.masked_options import STACK, frames_option
from bida.errors import SettingsError
from bida.io.files import atomic, check_output, write_json
from bida.microscopy.stacks.paths import check_stack


def add_options(sub: argparse.ArgumentParser) -> None:
    """Add the options."""
    sub.add_argument("input", metavar="STACK", help=STACK)
    sub.add_argument("--voxel-um", type=float, nargs=3, metavar=("Z", "Y", "X"),
                     help="voxel sizes, um; default: the file's")  # fmt: skip
    sub.add_argument(
        "--block-mean", type=int, default=1, metavar="N", help="average cubes of N voxels a side first (%(default)s)"
    )
    frames_option(sub)
    sub.add_argument("--out", metavar="FILE.png", help="draw the spectra")
    sub.add_argument("--json", metavar="FILE", help="write what was measured")
    sub.add_argument("--overwrite", action="store_true", help="replace existing files")


def run(arguments: argparse.Namespace) -> None:
    """Say whether the planes XY of a stack look like its XZ and YZ, channel by channel."""
    if arguments.out is not None:
        check_output(arguments.out, overwrite=arguments.overwrite, suffixes=(".png",))
    if arguments.json is not None:
        check_output(arguments.json, overwrite=arguments.overwrite, suffixes=(".json",))
    check_stack(arguments.input)

    from bida.eval.slices.isotropy import isotropy
    from bida.microscopy.figures import plot
    from bida.microscopy.isotropy import record, table
    from bida.microscopy.load import load_stack

    stack = load_stack(
        arguments.input, arguments.block_mean, voxel_um=arguments.voxel_um, frames_are_z=arguments.frames_are_z
    )
    found = {name: isotropy(volume, stack.spacing_um) for name, volume in zip(stack.channels, stack.data)}
    if len(found) < len(stack.channels):
        raise SettingsError(f"{arguments.input}: channels must have names of their own, got {stack.channels}")
    print(table(stack, found))
    if arguments.json is not None:
        write_json(arguments.json, record(stack, found), overwrite=arguments.overwrite)
    if arguments.out is not None:
        with atomic(arguments.out) as temporary:
            Path(temporary).write_bytes(plot(stack, found))
