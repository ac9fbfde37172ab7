"""Errors a user can act on: one line naming the file or argument, the rule, the value found and the cure."""

from collections.abc import Iterator
from contextlib import contextmanager


class BidaError(ValueError):
    """Base of every error raised on purpose at the public edge."""


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


@contextmanager
def plain_errors() -> Iterator[None]:
    """Raise an own error itself, where MONAI's ``Compose`` has wrapped it in errors of its own."""
    try:
        yield
    except RuntimeError as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, BidaError | MemoryError):
                raise cause from None
            if "allocate memory" in str(cause) and cause.__cause__ is None:  # torch's CPU allocator has no class for it
                raise MemoryError(str(cause)) from None
            cause = cause.__cause__
        raise


class ExternalError(BidaError):
    """A program from outside is missing, failed, took too long or did not do what it was run for."""


class StripperError(BidaError):
    """A stripper returned no usable mask, or the scan is none that it can take."""
