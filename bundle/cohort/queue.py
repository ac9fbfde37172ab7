"""Jobs one after the other in this process, or side by side on Dask, see `bida.parallel`.

A scan at which workers die again and again counts as failed. What was written before a run was cut off is found
finished by the next.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from bida.cohort.job import DONE, FAILED, Job, Outcome, do, kept, unreadable
from bida.mri.same import absolute
from bida.parallel.queue import Lost, check_workers, each


def run(jobs: Sequence[Job], workers: int = 1, scheduler: str | None = None) -> Generator[Outcome, None, None]:
    """Do jobs; yield the outcome of each as it ends.

    Args:
        jobs: What is to be done.
        workers: Processes on this machine, each with its share of the cores, or a GPU of its own where there are some.
        scheduler: Address of a Dask scheduler, whose workers see the same files, instead of processes here.

    Raises:
        SettingsError: See `bida.parallel.queue.each`.
    """
    check_workers(workers)
    ahead = []
    for job in jobs:  # no process is started for what is there, or cannot be read
        before = kept(job) or unreadable(job)
        if before is None:
            ahead.append(job)
        else:
            yield before
    if scheduler is None and workers == 1:
        yield from map(do, ahead)
        return
    sent = [everywhere(job) for job in ahead]
    named = {id(one): job for one, job in zip(sent, ahead)}
    with closing(each(do, sent, workers, scheduler)) as ended:
        for one, found in ended:
            yield told(named[id(one)], found)


def told(job: Job, found: Outcome | Lost) -> Outcome:
    """Return a job's outcome as it is told here, of what came back from a worker."""
    if isinstance(found, Lost):
        return Outcome(job.scans[0], job.output, FAILED, f"{job.scans[0]}: {found.reason}")
    outcome = replace(found, scan=job.scans[0], output=job.output)
    if outcome.state == DONE and not Path(outcome.output).is_file():
        seen = f"its result must be seen here, {outcome.output} is not; give workers the same files"
        return replace(outcome, state=FAILED, error=f"{outcome.scan}: {seen}", told={})
    return outcome


def everywhere(job: Job) -> Job:
    """Return a job whose paths hold in whatever folder a worker runs."""
    scans = tuple(str(Path(scan).absolute()) for scan in job.scans)
    return replace(job, scans=scans, output=str(Path(job.output).absolute()), settings=absolute(job.settings))
