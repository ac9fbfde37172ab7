"""`bida simulate`: make thick slices of an isotropic volume."""

from __future__ import annotations

import argparse

from bida.cli.options import check_outputs
from bida.physics.slice_profile import PROFILES


def add_options(sub: argparse.ArgumentParser) -> None:
    """Add the options."""
    sub.add_argument("input", metavar="HR", help="isotropic volume")
    sub.add_argument("output", metavar="LR", help="NIfTI file to write; a .json beside it records slices and grid")
    sub.add_argument("--factor", type=float, required=True, metavar="F", help="slice spacing over voxel size")
    sub.add_argument(
        "--axis", choices=["R", "A", "S"], default="A", help="through-plane axis, A for coronal slices (A)"
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
    sub.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the noise (0)")
    sub.add_argument("--volume", type=int, metavar="I", help="volume of a 4D file, from 0")
    sub.add_argument("--overwrite", action="store_true", help="replace existing files")


def run(arguments: argparse.Namespace) -> None:
    """Make thick slices from an isotropic volume."""
    output = check_outputs(arguments.input, arguments.output, arguments.overwrite)
    from bida.mri.simulate import simulate_file

    made = simulate_file(
        arguments.input,
        output,
        arguments.factor,
        arguments.axis,
        arguments.thickness,
        arguments.profile,
        arguments.noise,
        arguments.seed,
        arguments.volume,
        snr=arguments.snr,
        overwrite=arguments.overwrite,
    )
    geometry = made.geometry
    print(
        f"{output}: {geometry.slices} slices of {geometry.thickness_mm:.4g} mm every "
        f"{geometry.slice_spacing_mm:.4g} mm along {arguments.axis}, {geometry.profile} profile"
    )
    if arguments.snr is not None:
        print(f"Rician noise, standard deviation {made.noise:.4g} in intensity units: SNR {arguments.snr:g} in tissue")
