"""A scheduler and workers of Dask on this machine, or the connection to a scheduler elsewhere."""

from __future__ import annotations

import atexit
import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bida.errors import SettingsError
from bida.parallel import worker

TRIES = 3  # deaths of processes that an item may bring about before it counts as lost
BACK_S = 300.0  # to wait for the processes that take the place of those that died
QUIET = logging.CRITICAL
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")


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
        "distributed.worker.preload": [worker.__name__],
        "distributed.worker.profile.enabled": False,  # every 10 ms, and nobody looks at it
        "distributed.scheduler.allowed-failures": TRIES,
        # SpecCluster gives a worker up, and makes no other, whose next process takes longer to start: 15 s
        "distributed.deploy.lost-worker-timeout": f"{BACK_S:.0f}s",
        "distributed.scheduler.worker-ttl": None,  # one that says nothing for long is busy, or stopped by Ctrl-Z
        # before a worker's first import, which fixes the number of threads; `env` of a nanny comes after it
        "distributed.nanny.pre-spawn-environ": dict.fromkeys(THREADS, str(threads_of(workers))),
        "distributed.worker.memory.terminate": False,
        "distributed.worker.memory.pause": False,
    }
    logging.getLogger("distributed").setLevel(QUIET)  # what is lost is told by `each`
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
        with same_environment():
            with _interrupts_kept_away():
                try:
                    cluster = SpecCluster(spec, scheduler_spec(), silence_logs=QUIET)
                except RuntimeError as error:
                    reason = " ".join(str(error.__cause__ or error).split())[:200]
                    raise SettingsError(
                        f"--workers: {workers} processes must start, one did not ({reason or 'it died'}); "
                        "look at memory, or give fewer"
                    ) from error
                except BaseException:  # told to end
                    _give_up()
                    raise
            with cluster, Client(cluster) as connected:
                yield connected


def _give_up() -> None:
    """End processes that are about to start, which Dask would close at the end and can't."""
    from distributed import SpecCluster

    for one in list(SpecCluster._instances):
        one.shutdown_on_close = False
    logging.getLogger("asyncio").setLevel(QUIET)  # told of by nobody: tasks that wait for what will not come
    worker.end_programs()
    atexit.register(worker.end_programs, "multiprocessing")  # that Dask's thread starts meanwhile


@contextmanager
def _interrupts_kept_away() -> Iterator[None]:
    """Let threads that start in the block, and the processes that they start ever after, see no Ctrl-C.

    They inherit the mask of signals: a worker that is still at its imports would end with a traceback.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    from multiprocessing.resource_tracker import ensure_running

    ensure_running()  # here, since its start takes the mask away from the thread that starts it
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def scheduler_spec() -> dict[str, Any]:
    """Return how the scheduler is started: here, on loopback, without a page of its own."""
    from distributed import Scheduler

    return {"cls": Scheduler, "options": {"host": "127.0.0.1", "dashboard": False, "dashboard_address": ":0"}}


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
        quiet = {"silence_logs": QUIET, "dashboard": False}
        options = {"nthreads": 1, "host": "127.0.0.1", "env": environment, **quiet}
        found[number] = {"cls": Nanny, "options": options}
    return found


def threads_of(workers: int) -> int:
    """Return how many threads each of some workers may use, so that they share the cores, and no more than was set."""
    from bida.device import usable_cores  # with torch, which a worker need not have to start

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
