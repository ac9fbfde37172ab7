"""`bida info`: say what would be done with a scan."""

from __future__ import annotations

import argparse

from bida.cli.options import plan_options, prior_options, settings_of


def add_options(sub: argparse.ArgumentParser) -> None:
    """Add the options."""
    sub.argument_default = argparse.SUPPRESS  # not given: the default of the settings, or of a preset
    sub.add_argument("input", metavar="SCAN", help="the scan")
    plan_options(sub)
    prior_options(sub)
    sub.add_argument("--self-check", action="store_true", dest="check",
                     help="measure what the priors gain on the scan's own slices")  # fmt: skip


def run(arguments: argparse.Namespace) -> None:
    """Say what superres would do with a scan."""
    from bida.mri.info import information

    print(information(arguments.input, settings_of(arguments), vars(arguments).get("check", False)))
