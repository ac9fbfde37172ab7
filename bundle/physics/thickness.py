"""How thick the slices of a scan are, told from the scan itself.

A scan is sharp within its slices and blurred through them. Two things say by how much, each under an assumption of its
own: the widths of oblique edges (`edge_widths`: edges are alike sharp whatever way they face) and the power spectrum
(`slice_spectrum`: it falls alike in every direction). Where both say the same the estimate stands. Slices thinner than
`TOLD` of their spacing leave too little trace to tell how thin they are, and often enough to tell that they are.

How far to trust it: `benchmarks/thickness.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bida.errors import SettingsError
from bida.physics.slice_profile import NAMED

LEAST_SLICES = 10
LEAST_STEEP = 20  # edges that move by at least 0.45 slice spacings from slice to slice
CHANCE = 0.06  # the largest standard error, of ln T, of what edges say
AGREE = 0.15  # the largest difference of ln T between edges and spectrum
TOLD = 0.9  # T / s from which there is enough to see
THIN, THIN_CHANCE = 0.75, 0.2  # where both say less than that, with such a standard error, slices are below `TOLD`
ERROR = 0.15  # ln T; of 16 estimates on animals that this was not made with all were nearer, 15 within 10%


@dataclass(frozen=True)
class ThicknessEstimate:
    """What a scan says of how thick its slices are.

    Attributes:
        thickness_mm: FWHM of the slice profile as the operator A has it; None where this scan can't tell.
        low_mm: lower end of the interval that it lies in; None without a thickness.
        high_mm: upper end; without a thickness, what the slices are thinner than, or None.
        share: thickness over slice spacing; None without a thickness.
        by_edges, by_spectrum: that share as each of the two says it; None where one could not be had.
        edges: number of oblique edges that tell much.
        reason: why there is no thickness; empty where there is.
    """

    thickness_mm: float | None = None
    low_mm: float | None = None
    high_mm: float | None = None
    share: float | None = None
    by_edges: float | None = None
    by_spectrum: float | None = None
    edges: int = 0
    reason: str = ""

    def record(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return asdict(self)


def estimate_thickness(
    slices: NDArray[Any], spacings_mm: Sequence[float], axis: int, noise: float | None = None, profile: str = "slr"
) -> ThicknessEstimate:
    """Estimate the slice thickness of a scan.

    Args:
        slices: the scan as it was stored, [R, A, S], finite, any unit.
        spacings_mm: voxel sizes on R, A and S, mm.
        axis: through-plane axis, 0 (R), 1 (A) or 2 (S).
        noise: standard deviation of the noise of a voxel, in the scan's units; None: estimated.
        profile: shape of the slice profile, `slr`, `gaussian` or `box`.

    Raises:
        SettingsError: the scan is not three-dimensional, or a value is out of its range.
    """
    _check(slices, spacings_mm, axis, noise, profile)
    if slices.shape[axis] < LEAST_SLICES:
        return ThicknessEstimate(reason=f"it has {slices.shape[axis]} slices, and {LEAST_SLICES} are needed")
    if not np.ptp(slices) > 0:
        return ThicknessEstimate(reason="all its voxels are alike")
    from bida.physics.edge_widths import measure_edges, thickness_of_edges
    from bida.physics.slice_spectrum import slice_spectrum, thickness_of_spectrum

    sigma = _noise(slices, axis) if noise is None else float(noise)
    s = float(spacings_mm[axis])
    edges = measure_edges(slices, spacings_mm, axis, sigma)
    if edges.steep < LEAST_STEEP:
        return ThicknessEstimate(
            edges=edges.steep,
            reason=f"{edges.steep} clear edges run obliquely through its slices, and {LEAST_STEEP} are needed",
        )
    voxel = max(spacings_mm[k] for k in range(3) if k != axis) / s
    by_edges, chance = thickness_of_edges(edges, voxel, profile)
    by_spectrum = thickness_of_spectrum(slice_spectrum(slices, spacings_mm, axis), sigma, profile)
    return judge(by_edges, chance, by_spectrum, edges.steep, s)


def judge(by_edges: float, chance: float, by_spectrum: float, edges: int, spacing_mm: float) -> ThicknessEstimate:
    """Return what two shares T / s, the standard error of the first one's logarithm and the edges behind it come to."""
    said: dict[str, Any] = {"by_edges": by_edges, "by_spectrum": by_spectrum, "edges": edges}
    words = f"{by_edges:.2f} of the slice spacing by its edges, {by_spectrum:.2f} by its spectrum"
    if max(by_edges, by_spectrum) < THIN and chance < THIN_CHANCE:
        reason = f"its slices are thinner than {TOLD} of their spacing, but by how much does not show ({words})"
        return ThicknessEstimate(high_mm=TOLD * spacing_mm, reason=reason, **said)
    if abs(np.log(by_edges / by_spectrum)) >= AGREE:
        return ThicknessEstimate(reason=f"what it says is contradictory ({words})", **said)
    if chance >= CHANCE:
        return ThicknessEstimate(reason=f"its edges differ too much ({words})", **said)
    share = float(np.sqrt(by_edges * by_spectrum))
    if share <= TOLD:
        return ThicknessEstimate(
            reason=f"below {TOLD} of the spacing it can't be told from its edges and its spectrum ({words})", **said
        )
    half = max(ERROR, 2 * chance)
    low, high = (share * spacing_mm * float(np.exp(sign * half)) for sign in (-1, 1))
    return ThicknessEstimate(share * spacing_mm, low, high, share, **said)


def _noise(slices: NDArray[Any], axis: int) -> float:
    """Return the standard deviation of a scan's noise; 0 where none is found."""
    from bida.physics.noise_level import estimate_noise

    found = estimate_noise(slices, axis)
    return 0.0 if found is None else found.sigma


def _check(slices: NDArray[Any], spacings_mm: Sequence[float], axis: int, noise: float | None, profile: str) -> None:
    if slices.ndim != 3 or len(spacings_mm) != 3:
        raise SettingsError(f"slices must be [R, A, S] with three voxel sizes, got {slices.shape} and {spacings_mm}")
    if axis not in (0, 1, 2):
        raise SettingsError(f"axis must be 0 (R), 1 (A) or 2 (S), got {axis}")
    if not all(np.isfinite(size) and size > 0 for size in spacings_mm):
        raise SettingsError(f"voxel sizes must be > 0 mm, got {list(spacings_mm)}")
    if noise is not None and not (np.isfinite(noise) and noise >= 0):
        raise SettingsError(f"noise must be a standard deviation >= 0, got {noise}")
    if profile not in NAMED:
        raise SettingsError(f"profile must be {', '.join(NAMED)} for an estimate of its width, got {profile!r}")
