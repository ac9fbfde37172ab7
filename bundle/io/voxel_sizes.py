"""Is a voxel size one that a rodent scan has, and if not, by which factor is the header scaled?

Preclinical headers are often scaled by 10 or 20 to please software made for people, or hold micrometres. The bounds
are wide: they have to let every real rodent head or brain through and stop what is wrong by a factor of ten.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

# Finest voxel size, mm: ex vivo microscopy reaches 0.025, functional scans of rats 0.6.
FINEST_MM = (0.02, 0.6)
COARSEST_MM = 3.0  # thickest slice, mm; surveys reach 2
# Longest side of the field of view, mm: a mouse brain is 15 long, a rat with its body coil field 80.
LONGEST_MM = (2.0, 100.0)
# Factors met in practice: 10 and 20 for human software, 1000 for micrometres, 0.1 for cm, 0.001 for m.
FACTORS = (10.0, 20.0, 1000.0, 0.1, 0.001)
# A usual scan, mm: finest voxel, coarsest voxel, longest side. The likeliest factor comes nearest to it in ratio.
_USUAL_MM = (0.12, 0.8, 22.0)


def _measures(spacing_mm: Sequence[float], shape: Sequence[int], factor: float = 1.0) -> tuple[float, float, float]:
    """Return finest voxel, coarsest voxel and longest side, mm, of a header divided by `factor`."""
    sizes = [size / factor for size in spacing_mm]
    return min(sizes), max(sizes), max(size * voxels for size, voxels in zip(sizes, shape, strict=True))


def is_plausible(spacing_mm: Sequence[float], shape: Sequence[int], factor: float = 1.0) -> bool:
    """Tell whether voxel sizes divided by `factor` are ones that a rodent scan can have."""
    finest, coarsest, longest = _measures(spacing_mm, shape, factor)
    return (
        FINEST_MM[0] <= finest <= FINEST_MM[1] and coarsest <= COARSEST_MM and LONGEST_MM[0] <= longest <= LONGEST_MM[1]
    )


def likely_factors(spacing_mm: Sequence[float], shape: Sequence[int]) -> list[float]:
    """Return the factors whose division makes the voxel sizes plausible, the likeliest first."""

    def unlikeliness(factor: float) -> float:
        pairs = zip(_measures(spacing_mm, shape, factor), _USUAL_MM, strict=True)
        return sum(math.log(measure / usual) ** 2 for measure, usual in pairs)

    return sorted((f for f in FACTORS if is_plausible(spacing_mm, shape, f)), key=unlikeliness)


def implausible(spacing_mm: Sequence[float], shape: Sequence[int]) -> str:
    """Say which voxel sizes were found, and which `--scale-header` would cure them.

    Doctest:
        >>> implausible((1.25, 1.25, 7.5), (128, 128, 20))[:66]
        'voxel sizes must be those of a rodent scan (finest 0.02-0.6 mm, no'
    """
    sizes = " x ".join(f"{size:.4g}" for size in spacing_mm)
    longest = _measures(spacing_mm, shape)[2]
    rule = (
        f"voxel sizes must be those of a rodent scan (finest {FINEST_MM[0]}-{FINEST_MM[1]} mm, none above "
        f"{COARSEST_MM:g} mm, longest side {LONGEST_MM[0]:g}-{LONGEST_MM[1]:g} mm), "
        f"got {sizes} mm and {longest:.4g} mm; "
    )
    factors = likely_factors(spacing_mm, shape)
    if not factors:
        return rule + "correct the header's voxel sizes"
    divided = " x ".join(f"{size / factors[0]:.4g}" for size in spacing_mm)
    others = "".join(f", {factor:g} is possible too" for factor in factors[1:])
    return rule + f"likely scaled by {factors[0]:g}: give --scale-header {factors[0]:g} ({divided} mm){others}"
