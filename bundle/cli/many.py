"""What commands share that restore many scans: options, a bar, the table of what failed, the page of all."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bida.errors import SettingsError
from bida.progress import LOG, bar

if TYPE_CHECKING:
    from bida.cohort.job import Job, Outcome

WORKERS = 1  # by default
FAILURES = 1  # exit code, where some scans failed and the others are done


def add_many_options(sub: argparse.ArgumentParser) -> None:
    """Add the options."""
    sub.add_argument("--report", action="store_true", help="write a page beside each result, NAME.html, to look at it")
    sub.add_argument(
        "--workers", type=int, default=WORKERS, metavar="N", help=f"of many scans: so many at once here ({WORKERS})"
    )
    sub.add_argument("--scheduler", metavar="ADDRESS", help="of many scans: a Dask cluster's, such as tcp://host:8786")
    sub.add_argument("--json", action="store_true", help="of many scans: print what became of each as JSON")
    sub.add_argument("--dry-run", action="store_true", help="of many scans: say what would be done, and do nothing")


def run_many(jobs: Sequence[Job], folder: Path, arguments: argparse.Namespace) -> int:
    """Do jobs, show a bar, say what became of them, and write the page of all; return the exit code.

    Args:
        jobs: What is to be done.
        folder: Where the page goes.
        arguments: Of the command, with those of `add_many_options`.
    """
    from bida.cohort.index import NAME
    from bida.cohort.job import kept
    from bida.cohort.queue import run
    from bida.parallel.queue import check_workers
    from bida.report.viewer import check_page

    check_workers(arguments.workers)
    if arguments.dry_run:
        plans: list[dict[str, Any]] = [
            {"scans": job.scans, "output": job.output, "there": kept(job) is not None} for job in jobs
        ]
        if arguments.json:
            print(json.dumps(plans, indent=1))
            return 0
        for plan in plans:
            print(f"{' + '.join(plan['scans'])} -> {plan['output']}{' (is there)' if plan['there'] else ''}")
        return 0
    check_page(folder / NAME)
    outcomes: list[Outcome] = []
    with (
        bar(total=len(jobs), desc="scans", unit="scan", smoothing=0) as shown,
        closing(run(jobs, arguments.workers, arguments.scheduler)) as ended,
    ):
        for outcome in ended:
            outcomes.append(outcome)
            LOG.info("%s: %s, %.1f s", outcome.scan, outcome.error or outcome.state, outcome.seconds)
            shown.update()
            shown.set_postfix(failed=sum(one.error is not None for one in outcomes), refresh=False)
    place = {job.output: number for number, job in enumerate(jobs)}
    outcomes.sort(key=lambda one: place[one.output])
    from bida.cohort.index import write_index
    from bida.cohort.told import tell

    page = write_index(folder, outcomes)
    tell(outcomes, page, arguments.json)
    return FAILURES if any(one.error is not None for one in outcomes) else 0


def refuse(arguments: argparse.Namespace, names: Sequence[str], reason: str) -> None:
    """Check that options are not given.

    Raises:
        SettingsError: One is.
    """
    defaults = {"workers": WORKERS}
    values = {name: getattr(arguments, name) for name in names}
    given = [
        f"--{name.replace('_', '-')}"
        for name, value in values.items()
        if value not in (None, []) and value is not False and value != defaults.get(name, object())
    ]
    if given:
        raise SettingsError(f"{', '.join(given)}: {reason}; leave it out")
