"""What a worker does beside its work: it ends, with what it runs, when it is told to, and not at Ctrl-C.

Dask imports it into each worker before any work, so it imports little.
"""

from __future__ import annotations

import ctypes
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

GRACE_S = 3.0  # for what a process runs to end its programs and remove its files; a nanny kills it after 4 s

_working: set[int] = set()  # threads of this process that are at an item


def at_work(work: Callable[[Item], Result], item: Item) -> Result:
    """Do work on an item in a worker, so that a worker that is told to end can end it."""
    thread = threading.get_ident()
    _working.add(thread)
    try:
        return work(item)
    except SystemExit as stopped:  # Dask would go on for a while
        end_programs()
        os._exit(stopped.code if isinstance(stopped.code, int) else 128 + signal.SIGTERM)
    finally:
        _working.discard(thread)


def dask_setup(worker: Any) -> None:
    """Prepare a worker here: it ends, with what it runs, when it is told to, not at Ctrl-C, which all processes get.

    Dask calls it by this name, in the main thread.
    """
    signal.signal(signal.SIGINT, _nothing)  # not SIG_IGN, which programs that are started would inherit
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # see `bida.parallel.cluster`
    signal.signal(signal.SIGTERM, _leave)


async def dask_teardown(worker: Any) -> None:
    """End what a worker runs, before it closes. Dask calls it by this name."""
    import asyncio

    await asyncio.to_thread(end_work)


def _nothing(number: int, frame: Any) -> None:
    """Let a signal pass."""


def _leave(number: int, frame: Any) -> None:
    end_work()
    os._exit(128 + number)


def end_work() -> None:
    """Raise SystemExit in what runs, on whose way out programs are stopped and unfinished files removed; wait for it.

    The work is in threads beside the main one, where a signal raises nothing.
    """
    for thread in list(_working):
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(SystemExit))
    limit = time.monotonic() + GRACE_S
    while _working and time.monotonic() < limit:
        time.sleep(0.02)


def end_programs(of: str = "") -> None:
    """Kill what this process started: a program whose start was cut off is watched by nobody.

    Args:
        of: a part of the command lines of those that are meant; by default all are.
    """
    import psutil

    for one in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            words = " ".join(one.cmdline())
            if "resource_tracker" not in words and of in words:  # which cleans up, and ends by itself
                one.kill()
