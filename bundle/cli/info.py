"""`bida info`: say what would be done with a scan."""

from __future__ import annotations

import argparse
from pathlib import Path

from bida.cli.options import MACHINE, PLAN, PRIOR, SCANS, STEPS, add_settings, preset_option, settings_of
from bida.errors import SettingsError
from bida.io.files import check_exists
from bida.io.studies import listed
from bida.mri.settings import Settings, check_alone


def add_options(sub: argparse.ArgumentParser) -> None:
    """Add the options."""
    sub.add_argument(
        "input", nargs="?", metavar="SCAN", help=f"{SCANS}; of a folder with several scans they are listed"
    )
    sub.add_argument("--combine", nargs="+", metavar="SCAN", help="several scans that would make one volume")
    add_settings(sub, Settings, (*PLAN, *STEPS, "align", *PRIOR, *MACHINE))
    preset_option(sub)
    sub.add_argument("--self-check", action="store_true", dest="check",
                     help="also measure what the priors gain on the scan's own slices")  # fmt: skip


def run(arguments: argparse.Namespace) -> None:
    """Say what superres would do with a scan."""
    settings = settings_of(arguments)
    if (arguments.input is None) == (arguments.combine is None):
        raise SettingsError("info: one scan, or several by --combine, must be named; give SCAN or --combine SCAN SCAN")
    for scan in [arguments.input] if arguments.combine is None else arguments.combine:
        check_exists(scan)
    if arguments.combine is None:
        check_alone(settings)
        scans = listed(Path(arguments.input), settings.series)
        if scans is not None:
            print("\n".join([f"{arguments.input}: {len(scans)} scans", *(f"  {line}" for line in scans)]))
            return
        from bida.mri.info import information

        print(information(arguments.input, settings, arguments.check))
    else:
        from bida.mri.info_combined import information_combined

        print(information_combined(arguments.combine, settings, arguments.check))
