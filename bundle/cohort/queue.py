"""Jobs one after the other in this process, or on Dask: some processes here, or a cluster.

A worker that dies loses what it ran, which another one takes up; a scan at which workers die again and again counts as
failed. What was written before a run was cut off is found finished by the next.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from bida.cohort.job import DONE, FAILED, Job, Outcome, do, kept, unreadable
from bida.errors import SettingsError
from bida.mri.same import absolute

TRIES = 3  # deaths of workers that a scan may bring about before it counts as failed
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")


def run(jobs: Sequence[Job], workers: int = 1, scheduler: str | None = None) -> Iterator[Outcome]:
    """Do jobs; yield the outcome of each as it ends.

    Args:
        jobs: What is to be done.
        workers: Processes on this machine, each with its share of the cores, or a GPU of its own where there are some.
        scheduler: Address of a Dask scheduler, whose workers see the same files, instead of processes here.

    Raises:
        SettingsError: ``workers`` is below 1, or the scheduler does not answer.
    """
    check_workers(workers)
    ahead = []
    for job in jobs:  # no process is started for what is there, or cannot be read
        before = kept(job) or unreadable(job)
        if before is None:
            ahead.append(job)
        else:
            yield before
    if not ahead:
        return
    if scheduler is None and workers == 1:
        yield from map(do, ahead)
        return
    with client(min(workers, len(ahead)), scheduler) as connected:
        for outcome in on_dask(connected, ahead):
            if outcome.state == DONE and not Path(outcome.output).is_file():
                seen = f"its result must be seen here, {outcome.output} is not; give workers the same files"
                line = f"{outcome.scan}: {seen}"
                outcome = Outcome(outcome.scan, outcome.output, FAILED, line, outcome.seconds)
            yield outcome


def check_workers(workers: int) -> None:
    """Check a number of workers.

    Raises:
        SettingsError: It is below 1.
    """
    if workers < 1:
        raise SettingsError(f"--workers: must be at least 1, got {workers}; raise it")


def on_dask(connected: Any, jobs: Sequence[Job]) -> Iterator[Outcome]:
    """Do jobs by a Dask client; yield the outcome of each as it ends."""
    from distributed import as_completed
    from distributed.scheduler import KilledWorker

    own = uuid4().hex  # two runs on one scheduler must not take each other's tasks for theirs
    keys = [f"bida-{own}-{number}" for number in range(len(jobs))]
    futures = {connected.submit(do, everywhere(job), key=key, pure=False): job for key, job in zip(keys, jobs)}
    for future in as_completed(list(futures)):
        job = futures.pop(future)
        error = future.exception()
        if error is None:
            yield replace(future.result(), scan=job.scans[0], output=job.output)
        else:
            killed = isinstance(error, KilledWorker)
            line = f"{TRIES + 1} processes died at it; look at memory" if killed else f"{type(error).__name__}: {error}"
            yield Outcome(job.scans[0], job.output, FAILED, f"{job.scans[0]}: {' '.join(line.split())[:300]}")
        future.release()


def everywhere(job: Job) -> Job:
    """Return a job whose paths hold in whatever folder a worker runs."""
    scans = tuple(str(Path(scan).absolute()) for scan in job.scans)
    return replace(job, scans=scans, output=str(Path(job.output).absolute()), settings=absolute(job.settings))


@contextmanager
def client(workers: int, scheduler: str | None) -> Iterator[Any]:
    """Connect to a scheduler, or start one here with its workers; they end with the block.

    Raises:
        SettingsError: The scheduler does not answer.
    """
    import dask
    from distributed import Client, SpecCluster

    settings = {
        "distributed.worker.daemon": False,  # a daemonic process may start none, and adaptation prepares slices in one
        "distributed.scheduler.allowed-failures": TRIES,
        # before a worker's first import, which fixes the number of threads; `env` of a nanny comes after it
        "distributed.nanny.pre-spawn-environ": dict.fromkeys(THREADS, str(threads_of(workers))),
        "distributed.worker.memory.terminate": False,
        "distributed.worker.memory.pause": False,
    }
    logging.getLogger("distributed").setLevel(logging.ERROR)
    with dask.config.set(settings):
        if scheduler is not None:
            try:
                connected = Client(scheduler, timeout="20s")
            except (OSError, ValueError) as error:  # a time-out, too
                reason = " ".join(str(error).split())[:200]
                raise SettingsError(
                    f"--scheduler: must answer, {scheduler} does not ({reason}); check the address"
                ) from None
            with connected:
                yield connected
            return
        spec = workers_spec(workers)
        with (
            same_environment(),
            SpecCluster(spec, scheduler_spec(), silence_logs=logging.ERROR) as cluster,
            Client(cluster) as connected,
        ):
            yield connected


def scheduler_spec() -> dict[str, Any]:
    """Return how the scheduler is started: here, on loopback, without a page of its own."""
    from distributed import Scheduler

    return {"cls": Scheduler, "options": {"host": "127.0.0.1", "dashboard": False}}


def workers_spec(workers: int) -> dict[int, dict[str, Any]]:
    """Return how each worker is started: alone at its job, and with a GPU of its own where there are some."""
    import torch
    from distributed import Nanny

    cards = torch.cuda.device_count()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")  # a scheduler of the machine may have given some alone
    names = visible.split(",") if visible else [str(card) for card in range(cards)]
    found = {}
    for number in range(workers):
        environment = {"CUDA_VISIBLE_DEVICES": names[number % cards]} if cards else {}
        quiet = {"silence_logs": logging.ERROR, "dashboard": False}
        options = {"nthreads": 1, "host": "127.0.0.1", "env": environment, **quiet}
        found[number] = {"cls": Nanny, "options": options}
    return found


def threads_of(workers: int) -> int:
    """Return how many threads each of some workers may use, so that they share the cores, and no more than was set."""
    from bida.device import usable_cores

    share = max(1, usable_cores() // workers)
    set_to = os.environ.get("OMP_NUM_THREADS", "")
    return min(share, int(set_to)) if set_to.isdigit() and int(set_to) > 0 else share


@contextmanager
def same_environment() -> Iterator[None]:
    """Put back what a nanny leaves in this process's environment: the limits that it set for its worker."""
    before = dict(os.environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
