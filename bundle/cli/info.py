"""`bida info`: say what would be done with a scan."""

from __future__ import annotations

import argparse

from bida.cli.options import MACHINE, PLAN, PRIOR, STEPS, add_settings, preset_option, settings_of
from bida.io.files import check_exists
from bida.mri.settings import Settings


def add_options(sub: argparse.ArgumentParser) -> None:
    """Add the options."""
    sub.add_argument("input", metavar="SCAN", help="NIfTI, NRRD or MetaImage file, or a folder with one DICOM series")
    add_settings(sub, Settings, (*PLAN, *STEPS, *PRIOR, *MACHINE))
    preset_option(sub)
    sub.add_argument("--self-check", action="store_true", dest="check",
                     help="also measure what the priors gain on the scan's own slices")  # fmt: skip


def run(arguments: argparse.Namespace) -> None:
    """Say what superres would do with a scan."""
    settings = settings_of(arguments)
    check_exists(arguments.input)
    from bida.mri.info import information

    print(information(arguments.input, settings, arguments.check))
