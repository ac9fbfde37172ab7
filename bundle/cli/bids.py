"""`bida bids`: the scans of a BIDS data set, as a BIDS-App."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from bida.cli.many import add_many_options, refuse, run_many
from bida.cli.options import add_settings, preset_option, settings_of
from bida.errors import SettingsError
from bida.mri.settings import EVERY, Settings
from bida.options import options_of
from bida.progress import note, say


def add_options(sub: argparse.ArgumentParser) -> None:
    """Add the options."""
    sub.add_argument("bids_dir", metavar="BIDS_DIR", help="the data set")
    sub.add_argument("out_dir", metavar="OUT_DIR", help="where the results go, a BIDS derivative")
    sub.add_argument(
        "level",
        choices=("participant", "group"),
        help="participant restores the scans; group writes a table and a page of all results",
    )
    sub.add_argument(
        "--participant-label", nargs="+", default=[], metavar="LABEL", help="animals, with sub- or without (all)"
    )
    sub.add_argument("--session-label", nargs="+", default=[], metavar="LABEL", help="sessions, likewise (all)")
    sub.add_argument("--suffix", nargs="+", default=[], metavar="SUFFIX", help="such as T2w (every anatomical one)")
    sub.add_argument("--bids-filter-file", metavar="FILE", help='JSON of more entities, such as {"acquisition": "cor"}')
    sub.add_argument(
        "--combine", action="store_true", help="make one volume of the scans of a session that have one suffix"
    )
    add_settings(sub, Settings, [name for name in options_of(Settings) if name != "like"])
    preset_option(sub)
    add_many_options(sub)
    sub.add_argument("--overwrite", action="store_true", help="replace existing files")


def main() -> int:
    """Run `bida bids` by its own name, `bida-bids`, as BIDS-Apps have one; return the exit code."""
    from bida.cli.parser import main as bida

    sys.argv.insert(1, "bids")
    return bida()


def run(arguments: argparse.Namespace) -> int:
    """Restore what is wanted, or sum up what is there."""
    from bida.cohort.bids_app import Wanted, check_derivative, describe, jobs_of, open_layout, thick_scans, write_table

    out = Path(arguments.out_dir)
    if arguments.level == "group":
        words = ("participant_label", "session_label", "suffix", "bids_filter_file", "combine", "report", "workers")
        refuse(arguments, (*words, "scheduler", "json", "dry_run", "overwrite"), "is for participant, got group")
        table = write_table(out)
        say(f"{table}: one line a result; see {write_gallery(out)}")
        return 0
    settings = settings_of(arguments)
    if settings.volume == EVERY:
        refuse(arguments, ("combine", "report"), f"is for one volume, got --volume {EVERY}")
    layout = open_layout(arguments.bids_dir)
    wanted = Wanted(
        tuple(arguments.participant_label),
        tuple(arguments.session_label),
        tuple(arguments.suffix),
        filters_of(arguments.bids_filter_file),
    )
    images, passed = thick_scans(layout, wanted)
    for line in passed:
        note(line)
    given = {"overwrite": arguments.overwrite, "report": arguments.report}
    check_derivative(out, Path(layout.root))
    jobs = jobs_of(layout, images, out, settings, arguments.combine, **given)
    if not arguments.dry_run:
        describe(out, Path(layout.root), settings)
    return run_many(jobs, out, arguments)


def write_gallery(out: Path) -> Path:
    """Write the page of all results of a derivative; return it."""
    from bida.cohort.index import write_index

    return write_index(out, [])


def filters_of(file: str | None) -> dict[str, object]:
    """Return the entities of a filter file; of one that names a kind of scans (fMRIPrep's way), those of that kind.

    Raises:
        SettingsError: It cannot be read, or is no JSON object.
    """
    if file is None:
        return {}
    try:
        found = json.loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(f"{file}: must be a JSON file, reading failed with '{error}'; correct it") from error
    if not isinstance(found, dict):
        raise SettingsError(f"{file}: must be an object of entities and values, got {type(found).__name__}; correct it")
    inner = [value for value in found.values() if isinstance(value, dict)]
    if inner and len(inner) != 1:
        raise SettingsError(f"{file}: must describe one kind of scans, got {', '.join(found)}; give one, and --suffix")
    return dict(inner[0]) if inner else found
