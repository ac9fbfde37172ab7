"""The steps from a scan to a network's input, each with its inverse, and the same as MONAI dictionary transforms.

The order in use: load, turn to RAS, PlanScan, MatchScan, CorrectBias, ResampleInPlane, NormalizePercentiles,
BackProject, PadToNetwork. Start reading at `base.py`.
"""

import lazy_loader

# imported when first asked for: MONAI takes seconds
__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "dictionary": ["Applyd", "Stepd", "composed"],
        "save": ["SaveVolumed"],
        "simulate": ["SimulateSlicesd", "simulate_slices"],
    },
)
