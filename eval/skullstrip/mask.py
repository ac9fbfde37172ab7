"""The contract of skull strippers: a volume goes in, a brain mask on the same grid comes out, or an error."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bida.errors import StripperError

Mask = NDArray[np.bool_]

# A convex brain in a field of view cut to its size fills about half of it, and a slab through its middle pi / 4 = 0.79.
_FULLEST = 0.95


class Stripper(Protocol):
    """Return the brain mask [R, A, S] of a volume [R, A, S] with its affine (4 x 4, mm, RAS+); `name` is for tables."""

    @property
    def name(self) -> str:
        """Return the name in tables and errors."""
        ...

    def __call__(self, volume: NDArray, affine: NDArray) -> Mask:
        """Return the mask."""
        ...


def check_mask(mask: NDArray, volume: NDArray, name: str) -> Mask:
    """Return a stripper's mask, or refuse one that cannot be the brain of the volume.

    Args:
        mask: what the stripper returned.
        volume: what it was given.
        name: the stripper's name.

    Raises:
        StripperError: the mask is not boolean, on another grid, empty, or fills (nearly) the whole field of view.
    """
    values = np.asarray(mask)
    if values.shape != volume.shape:
        raise StripperError(
            f"stripper {name}: the mask must have the volume's shape {volume.shape}, got {values.shape}; "
            "let it return the mask on the grid that it was given"
        )
    if values.dtype != np.bool_:
        raise StripperError(f"stripper {name}: the mask must be boolean, got {values.dtype}; threshold it")
    share = float(values.mean())
    if not 0 < share <= _FULLEST:
        found = "an empty mask" if share == 0 else f"{share:.0%} of it"
        raise StripperError(
            f"stripper {name}: the brain must fill some, and at most {_FULLEST:.0%}, of the volume, got {found}; "
            "look at the scan's orientation and contrast, or take another stripper"
        )
    return values
