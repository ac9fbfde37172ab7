"""`bida info`: say what would be done with a scan."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bida.cli.many import FAILURES, refuse
from bida.cli.options import MACHINE, PLAN, PRIOR, SCANS, STEPS, add_settings, preset_option, settings_of
from bida.errors import BidaError, SettingsError
from bida.io.files import check_exists
from bida.io.find import find_scans
from bida.io.studies import listed
from bida.mri.settings import Settings, check_alone


def add_options(sub: argparse.ArgumentParser) -> None:
    """Add the options."""
    listing = "a folder of scans; of a scanner's folder with several they are listed"
    sub.add_argument("input", nargs="*", metavar="SCAN", help=f"{SCANS}, or {listing}")
    sub.add_argument("--combine", nargs="+", metavar="SCAN", help="several scans that would make one volume")
    add_settings(sub, Settings, (*PLAN, *STEPS, "align", *PRIOR, *MACHINE))
    preset_option(sub)
    sub.add_argument("--json", action="store_true", help="print it as JSON, a list with an entry a scan, of scans and "
                     "folders of them")  # fmt: skip
    sub.add_argument("--self-check", action="store_true", dest="check",
                     help="also measure what the priors gain on the scan's own slices")  # fmt: skip


def run(arguments: argparse.Namespace) -> int | None:
    """Say what superres would do with a scan, or with several; return 1 where some of several cannot be used."""
    settings = settings_of(arguments)
    if (not arguments.input) == (arguments.combine is None):
        raise SettingsError("info: one scan, or several by --combine, must be named; give SCAN or --combine SCAN SCAN")
    for scan in arguments.combine or arguments.input:
        check_exists(scan)
    if arguments.combine is None:
        check_alone(settings)
        if arguments.json:
            return print_json(arguments.input, settings, arguments.check)
        return print_all(arguments.input, settings, arguments.check)
    refuse(arguments, ("json",), "is for single scans, got --combine")
    from bida.mri.info_combined import information_combined

    print(information_combined(arguments.combine, settings, arguments.check))
    return None


def print_all(named: Sequence[str], settings: Settings, checking: bool) -> int:
    """Print the plans of scans, and of those in folders; one of several that cannot be used is told, and ends none.

    Raises:
        BidaError: The only one cannot be used.
    """
    scans, code = find_scans(named), 0
    for number, scan in enumerate(scans):
        if number:
            print()
        try:
            print_one(str(scan), settings, checking)
        except BidaError as error:
            if len(scans) == 1:
                raise
            print(f"failed: {' '.join(str(error).split())}")
            code = FAILURES
    return code


def print_one(scan: str, settings: Settings, checking: bool) -> None:
    """Print the plan of a scan, or the scans that a study's folder has."""
    from bida.mri.info import information

    scans = listed(Path(scan), settings.series)
    if scans is None:
        print(information(scan, settings, checking))
    else:
        print("\n".join([f"{scan}: {len(scans)} scans", *(f"  {line}" for line in scans)]))


def print_json(named: Sequence[str], settings: Settings, checking: bool) -> int:
    """Print the plans of scans, and of those in folders, as one list; what cannot be used has an ``error`` instead."""
    from bida.mri.info import as_json

    found: list[dict[str, Any]] = []
    for scan in map(str, find_scans(named)):
        try:
            several = listed(Path(scan), settings.series)
            told = as_json(scan, settings, checking) if several is None else {"scan": scan, "scans": several}
        except BidaError as error:
            told = {"scan": scan, "error": " ".join(str(error).split())}
        found.append(told)
    print(json.dumps(found, indent=1))
    return FAILURES if any("error" in one for one in found) else 0
