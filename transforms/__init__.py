"""The steps from a scan to a network's input, each with its inverse, and the same as MONAI dictionary transforms.

The order in use: load, turn to RAS, PlanScan, MatchScan, CorrectBias, ResampleInPlane, NormalizePercentiles,
BackProject, PadToNetwork. Start reading at `base.py`.
"""

from typing import Any

import lazy_loader

from bida import moved

# imported when first asked for: MONAI takes seconds
_lazy, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "dictionary": ["Applyd", "Stepd", "composed"],
        "save": ["SaveVolumed"],
        "simulate": ["SimulateSlicesd", "simulate_slices"],
    },
)


def __getattr__(name: str) -> Any:
    """Import a name when it is first asked for; one of 0.1 comes with a note of what it is now."""
    return moved.old_transform(name) if name in moved.TRANSFORMS else _lazy(name)
