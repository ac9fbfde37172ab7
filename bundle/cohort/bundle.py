"""The bundle's `inference`: its evaluator on one scan after the other, as `bida superres` goes through many."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from copy import copy
from pathlib import Path
from typing import Any

from bida.cohort.index import NAME, write_index
from bida.cohort.job import DONE, Job, Outcome, check_place, do, kept, restored, told_of
from bida.cohort.queue import run
from bida.cohort.told import tell
from bida.errors import FailuresError, SettingsError, plain_errors
from bida.io.claim import claimed
from bida.io.files import check_exists, make_folder, result_path
from bida.mri.same import record_of
from bida.mri.settings import EVERY, Settings
from bida.options import yes_or_no
from bida.parallel.queue import check_workers
from bida.report.viewer import check_page


def inference(
    evaluator: Any,
    source: str | Path | Sequence[str | Path] | None,
    settings: Settings,
    output_dir: str | Path,
    overwrite: bool = False,
    combine: str | Sequence[str] | None = None,
    workers: int = 1,
) -> list[Outcome]:
    """Restore scans into a folder, say what became of each, and write the page of many; return the outcomes.

    What was made of the same scan by the same settings and weights is there already and stays.

    Args:
        evaluator: MONAI's, whose data are the scans of `bida.mri.find_scans`. Series (``volume`` is ``all``) and
            scans that are combined go by `bida.cohort.job.restored` instead, since they are no single images.
        source: What the configuration has as ``input``.
        settings: Of the run.
        output_dir: The folder to write to, which is made where it does not exist.
        overwrite: Replace existing files.
        combine: Instead of ``source``: scans that make one volume, a list or separated by commas.
        workers: Of many scans: processes that restore them side by side. Above 1 each scan goes by
            `bida.cohort.job.restored` with ``settings``, since an evaluator stays in its process.

    Raises:
        FailuresError: Some of many scans failed; the others are done.
        ScanError: The one scan cannot be used, or what is there is no result of it; all that can be wrong with it.
        SettingsError: ``source`` is given beside ``combine``, ``workers`` is below 1, or above it for one scan, or see
            `bida.mri.combine.restore_combined`.
    """
    check_workers(workers)
    folder, overwrite = make_folder(output_dir), yes_or_no(overwrite, "overwrite")
    if combine:
        named: list[Sequence[str]] = [combined(combine, source)]
    else:
        named = [[item["image"]] for item in data_of(evaluator)]
    jobs = [Job(tuple(scans), str(result_path(folder, scans[0])), settings, overwrite) for scans in named]
    by_evaluator = not combine and settings.volume != EVERY

    def make(job: Job) -> dict[str, Any]:
        return evaluated(evaluator, job) if by_evaluator else restored(job)

    if len(jobs) == 1:
        if workers > 1:
            raise SettingsError(f"--workers: is for many scans, got {workers} for one; leave it out")
        (job,) = jobs
        before = kept(job)
        outcome = Outcome(job.scans[0], job.output, DONE, told=told_of(make(job))) if before is None else before
        tell([outcome])
        return [outcome]
    check_page(folder / NAME)
    if workers > 1:
        with closing(run(jobs, workers)) as ended:
            found = {outcome.output: outcome for outcome in ended}
        outcomes = [found[job.output] for job in jobs]
    else:
        outcomes = [do(job, make) for job in jobs]
    page = write_index(folder, outcomes)
    tell(outcomes, page)
    failures = [one for one in outcomes if one.error is not None]
    if failures:
        raise FailuresError(
            f"{folder}: every scan must be restored, {len(failures)} of {len(jobs)} failed, the first because of "
            f"'{failures[0].error}'; the others are there, mend these and run the same again"
        )
    return outcomes


def combined(combine: str | Sequence[str], source: Any) -> list[str]:
    """Return the scans that are to be combined.

    Raises:
        ScanError: One does not exist.
        SettingsError: ``source`` is given, too.
    """
    if source:
        raise SettingsError(f"combine: must stand alone, got --input {source} too; name every scan in --combine")
    scans = combine.split(",") if isinstance(combine, str) else list(combine)
    for scan in scans:
        check_exists(scan)
    return scans


def data_of(evaluator: Any) -> list[dict[str, str]]:
    """Return what an evaluator is to go through, an item a scan."""
    return list(evaluator.data_loader.dataset.data)


def evaluated(evaluator: Any, job: Job) -> dict[str, Any]:
    """Let an evaluator restore a job's scan, and its postprocessing write it; return the record that it wrote."""
    with claimed(job.output):
        check_place(job, job.overwrite)
        data = evaluator.data_loader.dataset
        everything = data.data
        give(data, [{"image": job.scans[0]}])
        evaluator.state.epoch_length = 1  # MONAI counts the scans when the evaluator is made
        try:
            with plain_errors():
                copy(evaluator).run()  # one that an error has ended does nothing when it is run again, and says nothing
        finally:
            give(data, everything)
    record = record_of(job.output)
    if record is None:
        raise SettingsError(
            f"{job.output}: the evaluator must write it and its record, it did not; leave SaveVolumed in postprocessing"
        )
    return record


def give(data: Any, items: list[dict[str, str]]) -> None:
    """Give a MONAI data set other items; one that keeps what it made of them has a way of its own to take them."""
    if hasattr(data, "set_data"):
        data.set_data(items)
    else:
        data.data = items
