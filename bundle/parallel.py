"""Many things done one after the other in this process, or on Dask: some processes here, or a cluster.

A process that dies loses what it ran, which another one takes up; an item at which processes die again and again is
told as lost. Ctrl-C, a request to end (SIGTERM) and a generator that is closed end the processes here with what they
run; they end, too, with the programs that they run, where the process that hands out the work is killed.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import uuid4

from bida.errors import SettingsError

Item = TypeVar("Item")
Result = TypeVar("Result")

TRIES = 3  # deaths of processes that an item may bring about before it counts as lost
GRACE_S = 3.0  # for what a process runs to end its programs and remove its files; a nanny kills it after 4 s
BACK_S = 300.0  # to wait for the processes that take the place of those that died
QUIET = logging.CRITICAL
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")


@dataclass(frozen=True)
class Lost:
    """What became of an item that has no result.

    Attributes:
        reason: One line.
    """

    reason: str


def each(
    work: Callable[[Item], Result], items: Iterable[Item], workers: int = 1, scheduler: str | None = None
) -> Generator[tuple[Item, Result | Lost], None, None]:
    """Do work on items; yield each with its result as it ends.

    At most ``workers`` items are handed out at once here, the next one when the one before was taken. One worker
    without a scheduler is this process, where what ``work`` raises ends the generator; elsewhere it is told as lost.

    Args:
        work: What is done; beyond this process it, its items and its results can be pickled.
        items: What it is done to.
        workers: Processes on this machine, each with its share of the cores, or a GPU of its own where there are some.
        scheduler: Address of a Dask scheduler, whose workers see the same files, instead of processes here.

    Raises:
        SettingsError: ``workers`` is below 1, the scheduler does not answer, or no process comes back after deaths.
    """
    check_workers(workers)
    items = list(items)
    if scheduler is None and workers == 1:
        for item in items:
            yield item, work(item)
    elif items:
        with client(min(workers, len(items)), scheduler) as connected:
            yield from on_dask(connected, work, items, None if scheduler else min(workers, len(items)))


def check_workers(workers: int) -> None:
    """Check a number of workers.

    Raises:
        SettingsError: It is below 1.
    """
    if workers < 1:
        raise SettingsError(f"--workers: must be at least 1, got {workers}; raise it")


def on_dask(
    connected: Any, work: Callable[[Item], Result], items: Iterable[Item], at_once: int | None = None
) -> Generator[tuple[Item, Result | Lost], None, None]:
    """Do work on items by a Dask client; yield each with its result as it ends.

    Args:
        connected: The client.
        work: What is done.
        items: What it is done to.
        at_once: How many workers there are, which are handed an item each; None hands out all, so that a cluster
            that grows with its work sees it.
    """
    from distributed import as_completed

    own = uuid4().hex  # two runs on one scheduler must not take each other's tasks for theirs
    waiting, running = deque(enumerate(items)), dict[Any, Item]()

    def hand_out() -> list[Any]:
        begun = []
        while waiting and (at_once is None or len(running) < at_once):
            if at_once is not None:  # else the next item would stand behind one at which processes die, and count so
                _wait_for(connected, at_once)
            number, item = waiting.popleft()
            begun.append(connected.submit(_at_work, work, item, key=f"bida-{own}-{number}", pure=False))
            running[begun[-1]] = item
        return begun

    ended = as_completed(hand_out())
    for future in ended:
        item, error = running.pop(future), future.exception()
        found = future.result() if error is None else Lost(_reason(error))
        future.release()
        yield item, found
        ended.update(hand_out())


def _wait_for(connected: Any, workers: int) -> None:
    """Wait until so many workers are there, as after one has died.

    Raises:
        SettingsError: None is there after a time.
    """
    try:
        connected.wait_for_workers(workers, timeout=BACK_S)
    except TimeoutError:
        if not connected.scheduler_info()["workers"]:
            raise SettingsError(
                f"--workers: a process must be there to go on, none came back within {BACK_S:g} s; "
                "look at memory, and run the same again"
            ) from None


def _reason(error: BaseException) -> str:
    """Return in one line why an item is lost."""
    from distributed.scheduler import KilledWorker

    if isinstance(error, KilledWorker):
        return f"{TRIES + 1} processes died at it; look at memory"
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


_working: set[int] = set()  # threads of this process that are at an item


def _at_work(work: Callable[[Item], Result], item: Item) -> Result:
    """Do work on an item in a worker, so that a worker that is told to end can end it."""
    thread = threading.get_ident()
    _working.add(thread)
    try:
        return work(item)
    except SystemExit as stopped:  # Dask would go on for a while
        _end_programs()
        os._exit(stopped.code if isinstance(stopped.code, int) else 128 + signal.SIGTERM)
    finally:
        _working.discard(thread)


def dask_setup(worker: Any) -> None:
    """Prepare a worker here: it ends, with what it runs, when it is told to, not at Ctrl-C, which all processes get.

    Dask calls it by this name, in the main thread.
    """
    signal.signal(signal.SIGINT, _nothing)  # not SIG_IGN, which programs that are started would inherit
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # see _interrupts_kept_away
    signal.signal(signal.SIGTERM, _leave)


async def dask_teardown(worker: Any) -> None:
    """End what a worker runs, before it closes. Dask calls it by this name."""
    import asyncio

    await asyncio.to_thread(_end_work)


def _nothing(number: int, frame: Any) -> None:
    """Let a signal pass."""


def _leave(number: int, frame: Any) -> None:
    _end_work()
    os._exit(128 + number)


def _end_work() -> None:
    """Raise SystemExit in what runs, on whose way out programs are stopped and unfinished files removed; wait for it.

    The work is in threads beside the main one, where a signal raises nothing.
    """
    for thread in list(_working):
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(SystemExit))
    limit = time.monotonic() + GRACE_S
    while _working and time.monotonic() < limit:
        time.sleep(0.02)


def _end_programs() -> None:
    """Kill what this process started: a program whose start was cut off is watched by nobody."""
    import psutil

    for one in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if not any("resource_tracker" in word for word in one.cmdline()):  # which cleans up, and ends by itself
                one.kill()


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
        "distributed.worker.preload": [__name__],
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
            with cluster, Client(cluster) as connected:
                yield connected


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
