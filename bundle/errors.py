"""Errors a user can act on: one line naming the file or argument, the rule, the value found and the cure."""

import atexit
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import NoReturn


class BidaError(ValueError):
    """Base of every error raised on purpose at the public edge.

    Attributes:
        exit_code: Of a command that ends by it.
    """

    exit_code = 2


class BidaWarning(UserWarning):
    """What was assumed of a scan, or is unusual about a result."""


class ScanError(BidaError):
    """A scan, or a file written from one, cannot be used."""


class WeightsError(BidaError):
    """A weights file is missing, damaged or does not fit the request."""


class SettingsError(BidaError):
    """An option or argument is out of its range or contradicts another one."""


class OutOfMemoryError(BidaError):
    """The machine has too little memory for the request."""


class FailuresError(BidaError):
    """Some of many scans failed, after the others were done."""

    exit_code = 1


class ExternalError(BidaError):
    """A program from outside is missing, failed, took too long or did not do what it was run for."""


class StripperError(BidaError):
    """A stripper returned no usable mask, or the scan is none that it can take."""


@contextmanager
def plain_errors() -> Iterator[None]:
    """Raise an own error itself, where MONAI's ``Compose`` or parser has wrapped it in errors of its own."""
    try:
        yield
    except RuntimeError as error:
        cause = cause_of(error)
        if cause is None:
            raise
        raise cause from None


def cause_of(error: BaseException | None) -> Exception | None:
    """Return the own error, or want of memory, that an error was raised from; None where there is none."""
    while error is not None:
        if isinstance(error, BidaError | MemoryError):
            return error
        if "allocate memory" in str(error) and error.__cause__ is None:  # torch's CPU allocator has no class for it
            return MemoryError(str(error))
        if error.__cause__ is None and any(words in str(error) for words in _SHARED):
            return OutOfMemoryError(
                "/dev/shm: must hold what processes hand to each other, it is full; free it, or give a container more "
                "(--shm-size 2g)"
            )
        error = error.__cause__
    return None


def end_process(code: int) -> NoReturn:
    """End the process with what is to be done at its end, but without taking its modules apart.

    Raises:
        OSError: What was printed can't be written.
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    os._exit(code)


_SHARED = ("</torch_", "insufficient shared memory", "out of shared memory")  # what torch says of it
_ENDS = "run is terminating due to exception"  # what ignite logs, twice, of an error that is told once it has ended


def errors_stand_first() -> None:
    """End a program of ``python -m monai.bundle`` with an own error's one line and exit code, where there is one.

    MONAI's parser wraps errors in a page of traces. Other programs are left alone.
    """
    main = getattr(sys.modules.get("__main__"), "__spec__", None)
    if main is None or main.name != "monai.bundle.__main__" or sys.excepthook is not sys.__excepthook__:
        return

    def shown(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        cause = cause_of(error)
        if not isinstance(cause, BidaError):
            sys.__excepthook__(kind, error, trace)
            return
        print(f"bida: error: {cause}", file=sys.stderr)
        end_process(cause.exit_code)  # a hook has no other way to choose the exit code

    sys.excepthook = shown
    for handler in logging.getLogger().handlers:
        handler.addFilter(lambda record: _ENDS not in record.getMessage())
