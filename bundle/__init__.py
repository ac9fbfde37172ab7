"""Isotropic volumes from thick-slice rodent MR scans.

import bida

result = bida.superres("scan.nii.gz", samples=4)
result.save("scan_superres.nii.gz")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from bida import moved

if TYPE_CHECKING:
    __version__: str
    from bida import microscopy
    from bida.errors import BidaError, BidaWarning
    from bida.mri.pipeline import restore, superres
    from bida.mri.result import Result
    from bida.mri.settings import Settings
    from bida.physics.simulate import simulate_slices as simulate

__all__ = ["BidaError", "BidaWarning", "Result", "Settings", "microscopy", "restore", "simulate", "superres"]

# the public names come from here, and torch and MONAI with them, when they are first asked for
_PLACES = {
    "BidaError": ("bida.errors", "BidaError"),
    "BidaWarning": ("bida.errors", "BidaWarning"),
    "Result": ("bida.mri.result", "Result"),
    "Settings": ("bida.mri.settings", "Settings"),
    "restore": ("bida.mri.pipeline", "restore"),
    "simulate": ("bida.physics.simulate", "simulate_slices"),
    "superres": ("bida.mri.pipeline", "superres"),
}
moved.install()


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for."""
    if name == "microscopy":
        return import_module("bida.microscopy")
    if name == "__version__":
        return import_module("bida.provenance").own_version()
    if name not in _PLACES:
        raise AttributeError(f"module 'bida' has no attribute {name!r}")
    place, attribute = _PLACES[name]
    return getattr(import_module(place), attribute)


def __dir__() -> list[str]:
    """List the public names too, which are not there until they are asked for."""
    return sorted({*globals(), *__all__})
