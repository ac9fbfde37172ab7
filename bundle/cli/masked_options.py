"""Options of every restoration of a stack by weights, and what is made of them."""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields

from bida.microscopy.restore import MaskedSettings

# options of sampling that a method, which takes no steps, has no use for; interpolation has none for any
UNUSED = {"msunet": ("steps", "eta"), "e2e": ("steps", "eta", "seed")}


def masked_options(sub: argparse._ActionsContainer, seeded: str = "") -> None:
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


def masked_settings(arguments: argparse.Namespace) -> MaskedSettings:
    """Return the settings that the given options make."""
    known = {field.name for field in fields(MaskedSettings)}
    return MaskedSettings(**{name: value for name, value in vars(arguments).items() if name in known})


def note(warning: str) -> None:
    """Say a warning of a run's record on the standard error."""
    print(f"bida: note: {warning}", file=sys.stderr)
