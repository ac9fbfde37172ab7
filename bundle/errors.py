"""Errors a user can act on: one line naming the file or argument, the rule, the value found and the cure."""


class BidaError(ValueError):
    """Base of every error raised on purpose at the public edge."""


class ScanError(BidaError):
    """A scan, or a file written from one, cannot be used."""


class WeightsError(BidaError):
    """A weights file is missing, damaged or does not fit the request."""


class SettingsError(BidaError):
    """An option or argument is out of its range or contradicts another one."""
