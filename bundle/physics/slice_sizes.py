"""How thick slices are and how far apart: options, then the sidecar, then the header; and what the scan says."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from bida.errors import ScanError, SettingsError
from bida.physics.slice_profile import measured_thickness
from bida.physics.thickness import ThicknessEstimate

EQUAL = 0.01  # relative; voxel sizes closer than this count as one size
ASSUMED = "assumed"
ESTIMATE = "estimate"
UNLIKE = 0.2  # relative; an estimated thickness that is further from the one taken is worth a note
# A slice thickness outside these shares of the slice spacing is a header's mistake (another unit, another scale).
THICKNESS_SHARE = (0.1, 4.0)


def wanted_thickness(thickness_mm: str | float | None, profile: str) -> float | None:
    """Return the thickness that an option gives in mm; refuse an estimate where the profile was measured."""
    if thickness_mm is None:
        return None
    if thickness_mm != ESTIMATE:
        return float(thickness_mm)
    measured = measured_thickness(profile)
    if measured is not None:
        raise SettingsError(
            f"--thickness {ESTIMATE} must be left out with a profile file, whose thickness is {measured:.4g} mm, "
            f"got {profile}; leave one out"
        )
    return None


def with_estimate(
    found: ThicknessEstimate, asked: bool, thickness_mm: float, source: str, warnings: list[str]
) -> tuple[float, str]:
    """Return the thickness to use, mm, and where it is from, and note where the scan says something else."""
    if found.thickness_mm is None:
        if asked:
            warnings.append(f"this scan can't tell how thick its slices are: {found.reason}")
        elif found.high_mm is not None and thickness_mm > found.high_mm:
            warnings.append(
                f"the slices look thinner than {found.high_mm:.3g} mm, but are taken as {thickness_mm:.4g} mm thick: "
                "give --thickness where it is known"
            )
        return thickness_mm, source
    unlike = abs(found.thickness_mm - thickness_mm) > UNLIKE * thickness_mm
    says = f"{found.thickness_mm:.3g} mm ({found.low_mm:.3g}-{found.high_mm:.3g} mm) by an estimate from the scan"
    taken = "the slice spacing" if source == ASSUMED else "what the sidecar says"
    if unlike and asked:
        warnings.append(f"the slices are {says}, not {thickness_mm:.4g} mm, {taken}: look twice")
    elif unlike:
        warnings.append(
            f"the slices are {says}, but taken as {thickness_mm:.4g} mm thick, {taken}: give --thickness {ESTIMATE}, "
            "or the true one"
        )
    return (found.thickness_mm, ESTIMATE) if asked else (thickness_mm, source)


def slice_sizes(
    header_mm: float,
    thickness_mm: float | None,
    gap_mm: float | None,
    profile: str,
    sidecar: Mapping[str, Any],
    name: str,
    warnings: list[str],
) -> tuple[float, float, str]:
    """Return slice spacing and slice thickness, mm, option, then sidecar, then header, and where the latter is from."""
    measured = measured_thickness(profile)
    if measured is not None and (thickness_mm is None) != (gap_mm is None):
        given = "--gap" if thickness_mm is None else "--thickness"
        raise SettingsError(
            f"{given} must be left out with a profile file, whose thickness is {measured:.4g} mm, "
            f"got {profile}; give --thickness and --gap together to set the slice spacing"
        )
    thickness, gap = thickness_mm, gap_mm
    if thickness is not None and gap is not None:
        spacing = positive_number(thickness + gap, "slice spacing, --thickness plus --gap,")
    else:
        spacing = from_sidecar(sidecar, "SpacingBetweenSlices", name) or header_mm
    if measured is not None:
        thickness, source = measured, "profile file"
    elif thickness is not None:
        source = "--thickness"
    elif gap is not None:
        thickness, source = spacing - gap, "--gap"
    else:
        read = from_sidecar(sidecar, "SliceThickness", name)
        thickness, source = (spacing, ASSUMED) if read is None else (read, "sidecar")
    if abs(spacing - header_mm) <= EQUAL * header_mm:
        spacing = header_mm  # the header has more digits
    elif not 0.5 < spacing / header_mm < 2:
        raise ScanError(
            f"{name}: slice spacing must be near the header's {header_mm:.4g} mm, got {spacing:.4g} mm; "
            "correct --thickness and --gap or the sidecar's SpacingBetweenSlices, or give --scale-header"
        )
    else:
        warnings.append(f"slice spacing is {spacing:.4g} mm, not the header's {header_mm:.4g} mm")
    low, high = (share * spacing for share in THICKNESS_SHARE)
    if not low <= thickness <= high:
        cure = "give --thickness" if measured is None else f"correct {profile}"
        if source == "sidecar":
            cure = f"{_other_unit(thickness, low, high)}correct SliceThickness in the JSON sidecar, or {cure}"
        raise ScanError(
            f"{name}: slice thickness must be {low:.3g}-{high:.3g} mm for slices {spacing:.4g} mm apart, "
            f"got {thickness:.4g} mm; {cure}"
        )
    if thickness < 0.5 * spacing:
        warnings.append(f"slices of {thickness:.4g} mm every {spacing:.4g} mm: over half of the result lies in gaps")
    return spacing, thickness, source


def _other_unit(size_mm: float, low_mm: float, high_mm: float) -> str:
    """Say which unit a size may be written in that lies out of its range as mm."""
    for unit, factor in (("micrometres", 1e-3), ("metres", 1e3), ("cm", 10.0)):
        if low_mm <= size_mm * factor <= high_mm:
            return f"it looks like {unit}: "
    return ""


def from_sidecar(sidecar: Mapping[str, Any], key: str, name: str) -> float | None:
    """Return a size in a sidecar, mm; null is as not given, a list of one value over again is that value."""
    value = sidecar.get(key)
    if value is None:
        return None
    if isinstance(value, list) and value and all(one == value[0] for one in value):
        value = value[0]
    try:
        return positive_number(value, key)
    except SettingsError as error:
        raise ScanError(f"{name}: sidecar: {error}, in mm; correct the JSON file") from error


def positive_number(value: Any, what: str, above: float = 0.0) -> float:
    """Return a finite number above a bound."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(value, bool) or not (math.isfinite(number) and number > above):
        raise SettingsError(f"{what} must be a number above {above:g}, got {value!r}; give one that is")
    return number
