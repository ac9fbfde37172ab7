"""Work for processes of their own, which import it by this name."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from bida.eval.external import run_external

SLEEP = ["sh", "-c", 'echo $$ > "$0"; sleep 100']  # a program of its own, that writes its process id first


def double(number: int) -> int:
    return 2 * number


def double_or_die(number: int) -> int:
    """Double a number; the process that does 1 dies, whenever."""
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return 2 * number


def die_once(folder: Path, number: int) -> int:
    """Do a number; the process that does 1 for the first time dies."""
    with (folder / str(number)).open("a") as file:
        file.write("x")
    if number == 1 and (folder / "1").read_text() == "x":
        os.kill(os.getpid(), signal.SIGKILL)
    return 2 * number


def threads(number: int) -> list[Any]:
    import torch

    return [torch.get_num_threads(), os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"]]


def hang(folder: Path, number: int) -> None:
    """Run a program without end, with an unfinished file; but item 0 ends once another one runs."""
    if number:
        unfinished = folder.parent / f"unfinished{number}"
        unfinished.touch()
        try:
            run_external([*SLEEP, str(folder / str(number))], 200, "sleep")
        finally:
            unfinished.unlink()
    while not started(folder):
        time.sleep(0.05)


def started(folder: Path) -> list[int]:
    return [int(text) for file in folder.iterdir() if (text := file.read_text())]
