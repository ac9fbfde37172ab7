"""Slices of a stack in its three planes, as batches of images."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bida.errors import SettingsError

Float = NDArray[np.float64]

PLANES = ("XY", "XZ", "YZ")
# of a stack [C, Z, Y, X]: the order of axes that gives [N, C, H, W]; in XZ and YZ rows run along z
_ORDER = {"XY": (1, 0, 2, 3), "XZ": (2, 0, 1, 3), "YZ": (3, 0, 1, 2)}


def plane_slices(stack: ArrayLike, plane: str) -> Float:
    """Return the slices [N, C, H, W] of a stack [C, Z, Y, X]: XY [Z, C, Y, X], XZ [Y, C, Z, X] or YZ [X, C, Z, Y].

    Raises:
        SettingsError: the stack isn't [C, Z, Y, X], a value is NaN or Inf, or the plane is not one of the three.
    """
    if plane not in _ORDER:
        raise SettingsError(f"plane must be one of {', '.join(PLANES)}, got {plane!r}")
    return np.transpose(finite("stack", stack, "[C, Z, Y, X]"), _ORDER[plane])


def finite(name: str, values: ArrayLike, axes: str) -> Float:
    """Return values as float64, checked to have four axes, none empty, and to be finite."""
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 4 or not x.size:
        raise SettingsError(f"{name} must be {axes}, got shape {x.shape}")
    if not np.isfinite(x).all():
        raise SettingsError(f"{name} must hold finite intensities, got NaN or Inf")
    return x
