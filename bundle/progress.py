"""What a program says while it works: bars on the standard error, lines, and how much of that is wanted.

How much is the level of the logger ``bida``: from ERROR on nothing is said but errors, at INFO settings and the time of
each stage, too. Who calls the library sets it by ``logging``, the commands by ``-q`` and ``-v``.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from tqdm import tqdm

Progress = Callable[[int, int], None]  # steps done, steps in all
Report = Callable[[float, float, float], None]  # seconds done, seconds in all, loss

LOG = logging.getLogger("bida")
QUIET, VERBOSE = "quiet", "verbose"
TALKS = "monai.bundle.workflows"  # a logger that shows its INFO lines by itself, on the standard output
SILENT = {"PYTHONWARNINGS": "ignore"}  # of processes that a quiet command starts


def is_quiet() -> bool:
    """Return whether nothing is to be said but errors."""
    return not LOG.isEnabledFor(logging.WARNING)


def say(text: object) -> None:
    """Print what became of a run on the standard output, unless quiet; what was asked for is printed by ``print``."""
    if not is_quiet():
        write(str(text), sys.stdout)


def note(text: object, about: str = "") -> None:
    """Print what a user should know on the standard error, unless quiet, in a line that says it is no error.

    Args:
        text: The sentence.
        about: How much of a run it is about, as ", 3 of 4".
    """
    if not is_quiet():
        write(f"bida: note{about}: {text}", sys.stderr)


def log_values(what: str, values: Mapping[str, Any]) -> None:
    """Log names and their values in one line, those that are None left out."""
    told = ", ".join(f"{name}={value}" for name, value in values.items() if value is not None)
    LOG.info("%s: %s", what, told or "none")


def write(line: str, stream: TextIO) -> None:
    """Write a line at once, above the bars that are shown."""
    shown = sys.modules.get("tqdm")
    if shown is None:
        print(line, file=stream)
    else:
        shown.tqdm.write(line, file=stream)
    stream.flush()


def bar(**how: Any) -> tqdm:
    """Return a bar on the standard error, see ``tqdm``; one that does not show where quiet."""
    from tqdm import tqdm

    return tqdm(disable=is_quiet(), **how)


def console_progress(what: str = "sampling") -> Progress:
    """Return a callback that shows a bar on the standard error, one for each scan."""
    bars: list[tqdm] = []

    def progress(done: int, total: int) -> None:
        if not bars:
            bars.append(bar(total=total, desc=what, unit="step", mininterval=0.5))
        bars[0].update(done - bars[0].n)
        if done == total:
            bars.pop().close()

    return progress


def adapt_progress(what: str = "adapting") -> Report:
    """Return a callback that shows a bar of seconds, the loss and the time left on the standard error."""
    bars: list[tqdm] = []

    def report(done: float, total: float, loss: float) -> None:
        if not bars:
            layout = "{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} s{postfix}"
            bars.append(bar(total=total, desc=what, bar_format=layout, mininterval=1.0))
        left = bars[0].format_interval(total - done)
        bars[0].set_postfix_str(f"loss={loss:.4f}, {left} left", refresh=False)
        bars[0].update(done - bars[0].n)
        if done >= total:
            bars.pop().close()

    return report


def is_warning(record: logging.LogRecord) -> bool:
    """Return whether what is logged is a warning or worse."""
    return record.levelno >= logging.WARNING


class Lines(logging.Handler):
    """Shows what is logged as lines on the standard error, above the bars."""

    def emit(self, record: logging.LogRecord) -> None:
        """Show a line."""
        write(f"bida: {record.getMessage()}", sys.stderr)


@contextmanager
def loudness(wanted: str | None) -> Iterator[None]:
    """Say nothing but errors (`QUIET`), settings and times, too (`VERBOSE`), or what is usual (None), for a while.

    Quiet, Python's warnings and those that libraries log are not shown either; libraries whose log is listened to
    (tifffile's) are heard as before.
    """
    before, shown, last = LOG.level, LOG.propagate, logging.lastResort
    talks = logging.getLogger(TALKS)
    lines, environment = Lines(), {name: os.environ.get(name) for name in SILENT}
    with warnings.catch_warnings():
        try:
            LOG.setLevel({QUIET: logging.ERROR, VERBOSE: logging.INFO}.get(wanted or "", logging.WARNING))
            if wanted == VERBOSE:
                LOG.addHandler(lines)
                LOG.propagate = False  # else shown twice, where a training sets up the root's handler
            else:
                talks.addFilter(is_warning)
            if wanted == QUIET:
                warnings.simplefilter("ignore")
                logging.lastResort = logging.NullHandler()  # of loggers without a handler
                os.environ.update(SILENT)
            yield
        finally:
            LOG.removeHandler(lines)
            talks.removeFilter(is_warning)
            LOG.setLevel(before)
            LOG.propagate, logging.lastResort = shown, last
            for name, value in environment.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
