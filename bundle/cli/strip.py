"""`bida strip`: find the brain of a scan."""

from __future__ import annotations

import argparse
import time

from bida.cli.options import SCANS, add_settings, check_outputs
from bida.errors import SettingsError
from bida.mri.settings import Settings
from bida.progress import note, say

READ = ("volume", "scale_header", "series", "echo", "position", "subject")
STRIPPERS = (
    "builtin, threshold (for scans without a head), rbm, antspynet, seg4:WHEEL, rs2net:WEIGHTS or "
    "'command:PROGRAM {in} {out}'"
)


def add_options(sub: argparse.ArgumentParser) -> None:
    """Add the options."""
    sub.add_argument("input", metavar="SCAN", help=SCANS)
    sub.add_argument("output", metavar="MASK",
                     help="NIfTI file to write, 1 in the brain, on the scan's grid; a .json beside it")  # fmt: skip
    sub.add_argument("--stripper", default="builtin", metavar="STRIPPER", help=f"{STRIPPERS} (builtin)")
    add_settings(sub, Settings, (*READ, "device"))
    sub.add_argument("--overwrite", action="store_true", help="replace existing files")


def run(arguments: argparse.Namespace) -> None:
    """Write the brain mask of a scan, and say how large the brain is.

    Raises:
        ScanError: The scan cannot be read, no brain is found in it, or the mask not written.
        SettingsError: There is no such stripper, or an option is none of its.
    """
    start = time.monotonic()
    given = vars(arguments)
    builtin = arguments.stripper == "builtin"
    if "device" in given and not builtin:
        raise SettingsError(
            f"--device: must be for the stripper builtin, got {arguments.device} for {arguments.stripper}; leave it out"
        )
    output = check_outputs(arguments.input, arguments.output, arguments.overwrite)
    from bida.eval.skullstrip.strippers import licence_of, make_stripper

    if builtin:
        from bida.device import choose_device

        stripper = make_stripper("builtin", device=str(choose_device(given.get("device", "auto"))))
    else:
        stripper = make_stripper(arguments.stripper)
    notice = licence_of(arguments.stripper)
    if notice:
        note(notice)
    from bida.mri.strip import strip_file

    read = {name: given[name] for name in READ if name in given}
    found = strip_file(arguments.input, output, stripper, overwrite=arguments.overwrite, **read)
    for warning in found.warnings:
        note(warning)
    say(f"{output}: brain of {found.volume_mm3:.1f} mm3, by {stripper.name}, in {time.monotonic() - start:.0f} s")
