"""Options of every restoration of a stack by weights, and what is made of them."""

from __future__ import annotations

import argparse
import sys

from bida.cli.options import add_settings
from bida.microscopy.settings import MaskedSettings
from bida.options import options_of

OF_GRID = ("factor", "spacing_um")
OF_NETWORKS = tuple(name for name in options_of(MaskedSettings) if name not in OF_GRID)
# options of sampling that a method, which takes no steps, has no use for; interpolation has none for any
UNUSED = {"msunet": ("steps", "eta"), "e2e": ("steps", "eta", "seed")}


def masked_options(sub: argparse._ActionsContainer) -> None:
    """Add the options of every restoration of a stack by weights."""
    add_settings(sub, MaskedSettings, OF_NETWORKS)


def masked_settings(arguments: argparse.Namespace) -> MaskedSettings:
    """Return the settings that the given options make."""
    known = options_of(MaskedSettings)
    return MaskedSettings(**{name: value for name, value in vars(arguments).items() if name in known})


def note(warning: str) -> None:
    """Say a warning of a run's record on the standard error."""
    print(f"bida: note: {warning}", file=sys.stderr)
