"""Options of every restoration of a stack by weights, and what is made of them."""

from __future__ import annotations

import argparse

from bida.cli.options import add_settings
from bida.microscopy.settings import TEXTURED, MaskedSettings
from bida.options import options_of

STACK = (
    "TIFF, OME-Zarr, CZI, LIF, ND2, IMS (FILE[SCENE]), NIfTI, folder or glob of TIFF planes, or FILE.pt[ROW,COLUMN]; "
    "FILE[START:STOP] takes some of the planes"
)
OF_GRID = ("factor", "spacing_um")
OF_STACKS = (*OF_GRID, "self_check", "noise")  # of stacks without truth alone
OF_NETWORKS = tuple(name for name in options_of(MaskedSettings) if name not in OF_STACKS)
# options that a method has no use for: it takes no steps, or has no least error; interpolation has use for none
UNUSED = {
    "msunet": ("steps", "eta", "as_factor"),
    "e2e": ("steps", "eta", "seed", "as_factor"),
    "diffusion": ("self_check", "as_factor"),
}


def unused_by(method: str, settings: MaskedSettings, trains: bool = False) -> tuple[str, ...]:
    """Return the options that a method has no use for with these settings.

    Args:
        method: Of the weights.
        settings: Of the restoration.
        trains: The network is trained first, by the seed.
    """
    one_step = method == "guided" and settings.steps in (None, 1)  # which has no noise
    if method == "guided" and not one_step:
        return () if settings.fusion in (None, TEXTURED) else ("as_factor",)
    return (*UNUSED.get(method, ()), *(("eta",) if trains else ("eta", "seed")) * one_step)


def frames_option(sub: argparse._ActionsContainer) -> None:
    """Add the option of every command that reads stacks."""
    sub.add_argument("--frames-are-z", action="store_true", help="time points are planes, as some microscopes write")


def masked_options(sub: argparse._ActionsContainer) -> None:
    """Add the options of every restoration of a stack by weights."""
    add_settings(sub, MaskedSettings, OF_NETWORKS)


def masked_settings(arguments: argparse.Namespace) -> MaskedSettings:
    """Return the settings that the given options make."""
    known = options_of(MaskedSettings)
    return MaskedSettings(**{name: value for name, value in vars(arguments).items() if name in known})
