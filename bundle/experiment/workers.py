"""Work in several processes: no more is handed out than runs, a process that dies loses what ran, Ctrl-C ends all."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children, get_context, parent_process
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

GRACE_S = 10.0  # for a process to end the programs that it runs, before it is killed


def side_by_side(
    work: Callable[[Item], Result], items: Iterable[Item], jobs: int, threads: int
) -> Generator[tuple[Item, Result | None], None, None]:
    """Do work on items in several processes; yield each item with its result as it ends.

    At most `jobs` items are in the processes' hands. Where one of these dies, the others beside it are ended too, the
    items that they worked on have None as their result, and new processes take the next. An exception here (Ctrl-C)
    or a generator that is closed ends the processes with what they run; the processes themselves ignore Ctrl-C.
    They end, too, where this one is killed.

    Args:
        work: what each process does; it and its items and results can be pickled.
        items: what it is done to.
        jobs: number of processes.
        threads: of torch and ITK in each.
    """
    waiting, running = deque(items), dict[Future[Result], Item]()
    others = set(active_children())
    pool, broken = _pool(jobs, threads), False
    try:
        while waiting or running:
            if broken and not running:
                pool.shutdown()
                pool, broken = _pool(jobs, threads), False
            while waiting and len(running) < jobs and not broken:
                try:
                    future = pool.submit(_run, work, waiting[0])
                except BrokenProcessPool:  # a process died that had nothing to do
                    broken = True
                else:
                    running[future] = waiting.popleft()
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                lost = isinstance(future.exception(), BrokenProcessPool)
                broken |= lost
                yield running.pop(future), None if lost else future.result()
    except BaseException:
        _end(set(active_children()) - others)
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _pool(jobs: int, threads: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(jobs, get_context("spawn"), _start, (threads,))


def _start(threads: int) -> None:
    """Prepare a process: its threads, and that it ends when it is told to, not at Ctrl-C, which all processes get."""
    import torch

    torch.set_num_threads(threads)
    os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = str(threads)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _exit)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process, and what it runs, when the process that hands out the work was killed."""
    parent = parent_process()
    assert parent is not None  # it runs in processes of the pool alone
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os._exit(1)


def _exit(number: int, frame: Any) -> None:
    """Leave by an exception, on whose way out programs that were started are stopped and unfinished files removed."""
    if not _working:  # the pool would print the exception
        os._exit(128 + number)
    sys.exit(128 + number)


_working: list[bool] = []  # one while this process is at work


def _run(work: Callable[[Item], Result], item: Item) -> Result:
    try:
        _working.append(True)
        return work(item)
    except SystemExit as stopped:  # the pool would take it for a result, and go on
        os._exit(stopped.code if isinstance(stopped.code, int) else 1)
    finally:
        _working.clear()


def _end(processes: Collection[BaseProcess]) -> None:
    for process in processes:
        process.terminate()
    limit = time.monotonic() + GRACE_S
    for process in processes:
        process.join(max(0.0, limit - time.monotonic()))
        if process.is_alive():
            process.kill()
