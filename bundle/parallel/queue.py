"""Work on items, each yielded with its result as it ends: here, in processes of this machine, or on a Dask cluster."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import uuid4

from bida.errors import SettingsError
from bida.parallel.cluster import BACK_S, TRIES, client
from bida.parallel.worker import at_work

Item = TypeVar("Item")
Result = TypeVar("Result")


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
            begun.append(connected.submit(at_work, work, item, key=f"bida-{own}-{number}", pure=False))
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
