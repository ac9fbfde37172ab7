"""Decide what will be done with a scan: through-plane axis, spacings, slice thickness and the grid of the result.

Each of slice thickness and slice spacing comes from the first that gives it: option, JSON sidecar, header. A profile
file is an option that gives the thickness: the FWHM that was measured. Asked for, the scan's own voxels say it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bida.errors import ScanError, SettingsError
from bida.options import documented, option
from bida.physics.geometry import SliceGeometry
from bida.physics.grid import AXES, SAME_GRID, AxisGrid, isotropic_axis, resampled_affine, spacing_of
from bida.physics.grid_like import ImageGrid, like_grids
from bida.physics.slice_profile import PROFILES, measured_thickness
from bida.physics.thickness import ThicknessEstimate

PRIOR_RANGE_MM = (0.1, 0.25)  # voxel sizes that the released prior was trained for
MEASURED_FACTOR = 5.0  # the largest slice spacing over voxel size in the model card's table
EQUAL = 0.01  # relative; voxel sizes closer than this count as one size
# A slice thickness outside these shares of the slice spacing is a header's mistake (another unit, another scale).
THICKNESS_SHARE = (0.1, 4.0)
ASSUMED = "assumed"
ESTIMATE = "estimate"
UNLIKE = 0.2  # relative; an estimated thickness that is further from the one taken is worth a note

Estimator = Callable[[Sequence[float], int], ThicknessEstimate]  # of voxel sizes, mm, and the through-plane axis


@documented
@dataclass(frozen=True)
class PlanOptions:
    """How a scan was made, and what grid its result shall have."""

    spacing: str | float = option(
        "auto",
        "voxel size of the result, mm; auto: the finer in-plane size, within 0.1-0.25 mm; inplane: just that size",
        "MM",
        words=("auto", "inplane"),
    )
    factor: float | None = option(None, "slice spacing over the result's voxel size, instead of --spacing", "F")
    axis: str | None = option(None, "through-plane axis; default: the coarsest", choices=tuple(AXES))
    thickness: str | float | None = option(
        None,
        "slice thickness (FWHM), mm; estimate: from the scan itself; default: the sidecar's, else the slice spacing",
        "MM",
        words=(ESTIMATE,),
    )
    gap: float | None = option(None, "slice spacing minus slice thickness, mm; negative: overlap", "MM")
    profile: str | Path = option("slr", "slice profile; a file has columns of mm and amplitude", PROFILES)
    like: str | Path | None = option(None, "put the result on this file's grid", "FILE")

    def __post_init__(self) -> None:
        """Check what can be checked without a scan.

        Raises:
            SettingsError: An option is out of its range or contradicts another one.
        """
        if self.factor is not None:
            if self.spacing != "auto":
                raise SettingsError(
                    f"--factor excludes --spacing, got {self.factor} and {self.spacing}; give one of them"
                )
            _number(self.factor, "--factor", above=1.0)
        if self.spacing not in ("auto", "inplane"):
            _number(self.spacing, "--spacing (auto, inplane or mm)", above=0.01)
        if self.like is not None and (self.factor is not None or self.spacing != "auto"):
            raise SettingsError("--like brings its own grid, got --factor or --spacing too; give one of them")
        if self.axis is not None and str(self.axis).upper() not in tuple(AXES):
            raise SettingsError(f"--axis must be R, A or S, got {self.axis!r}; give one of those")
        if self.thickness == ESTIMATE:
            if self.gap is not None:
                raise SettingsError(
                    f"--gap says the thickness, got {self.gap} beside --thickness {ESTIMATE}; give one of them"
                )
        elif self.thickness is not None:
            _number(self.thickness, "--thickness")
        if self.gap is not None:
            _number(self.gap, "--gap", above=-math.inf)


@dataclass(frozen=True)
class Plan:
    """What will be done with a scan.

    Attributes:
        geometry: the through-plane axis: its slices and the voxels they become.
        grids: grid of the result on R, A and S.
        shape: the scan's voxels on R, A and S.
        affine: 4 x 4 of the scan [R, A, S], its slice spacing put right where the sidecar or an option corrects it.
        warnings: what was assumed, a sentence each.
        thickness_from: where the slice thickness is from: ``--thickness``, ``--gap``, ``profile file``, ``sidecar``,
            ``estimate``, or ``assumed``, as large as the slice spacing.
        estimate: what the scan says of its slice thickness; None where it was not asked.
    """

    geometry: SliceGeometry
    grids: tuple[AxisGrid, AxisGrid, AxisGrid]
    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    warnings: tuple[str, ...] = ()
    thickness_from: str = ASSUMED
    estimate: ThicknessEstimate | None = None


def plan_scan(
    shape: Sequence[int],
    affine: ArrayLike,
    options: PlanOptions = PlanOptions(),
    *,
    like: ImageGrid | None = None,
    sidecar: Mapping[str, Any] | None = None,
    name: str = "scan",
    estimate: Estimator | None = None,
) -> Plan:
    """Plan the way from a scan to an isotropic volume.

    Args:
        shape: voxels on R, A and S.
        affine: 4 x 4 of the scan in RAS, mm.
        options: how the scan was made and what is wanted. Thickness and gap together give the slice spacing; beside a
            profile file neither may stand alone. The file `options.like` is not opened here.
        like: the grid of that file; excludes `factor` and `spacing`.
        sidecar: content of the scan's JSON sidecar.
        name: what errors call the scan.
        estimate: says how thick the slices of this scan are; asked by ``thickness="estimate"``, and for a note where
            the thickness would be assumed.

    Raises:
        ScanError: the scan has no coarsest axis, or its sidecar or the `like` grid does not fit it.
        SettingsError: an option is out of range or contradicts another one.
    """
    axis, factor, spacing, profile = options.axis, options.factor, options.spacing, str(options.profile)
    size = (int(shape[0]), int(shape[1]), int(shape[2]))
    affine = np.array(affine, dtype=np.float64)
    warnings = list[str]()
    wanted_mm = _wanted_thickness(options.thickness, profile)
    told_mm = wanted_mm or _from_sidecar(sidecar or {}, "SliceThickness", name)
    through = _through_plane_axis(spacing_of(affine), axis, factor, spacing, like, told_mm, name, warnings)
    slice_spacing, thickness, thickness_from = _slice_sizes(
        spacing_of(affine)[through], wanted_mm, options.gap, profile, sidecar or {}, name, warnings
    )
    affine = _with_slice_spacing(affine, size, through, slice_spacing)
    voxels = list(spacing_of(affine))
    asked = options.thickness == ESTIMATE
    found = None
    if asked and estimate is None:
        raise SettingsError(f"--thickness {ESTIMATE} needs the voxels of {name}, got its header alone; give mm")
    if estimate is not None and (asked or thickness_from == ASSUMED):
        found = estimate(voxels, through)
        thickness, thickness_from = _estimated(found, asked, thickness, thickness_from, warnings)
    if like is not None:
        if factor is not None or spacing != "auto":
            raise SettingsError("--like brings its own grid, got --factor or --spacing too; give one of them")
        grids = like_grids(affine, size, through, like, name, warnings)
    else:
        wanted = _result_spacing(voxels, through, factor, spacing, warnings)
        grids = [_axis_grid(size[k], voxels[k], wanted) for k in range(3)]
    _check_voxel(voxels[through], grids[through].spacing_mm, name, warnings)
    if thickness_from == ASSUMED:
        warnings.append(
            f"the slice thickness is not in the file and taken as the slice spacing, {slice_spacing:.4g} mm: "
            "give --thickness where there are gaps between slices"
        )
    return Plan(
        SliceGeometry(
            axis=through,
            slices=size[through],
            slice_spacing_mm=slice_spacing,
            thickness_mm=thickness,
            voxels=grids[through].voxels,
            voxel_mm=grids[through].spacing_mm,
            profile=profile,
            offset_mm=grids[through].offset_mm,
        ),
        (grids[0], grids[1], grids[2]),
        size,
        affine,
        tuple(warnings),
        thickness_from,
        found,
    )


def _number(value: Any, what: str, above: float = 0.0) -> float:
    """Return a finite number above a bound."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(value, bool) or not (math.isfinite(number) and number > above):
        raise SettingsError(f"{what} must be a number above {above:g}, got {value!r}; give one that is")
    return number


def _sizes(spacing_mm: Sequence[float]) -> str:
    return " x ".join(f"{size:.4g}" for size in spacing_mm) + " mm"


def _through_plane_axis(
    spacing_mm: Sequence[float],
    axis: str | None,
    factor: float | None,
    spacing: str | float,
    like: ImageGrid | None,
    thickness_mm: float | None,
    name: str,
    warnings: list[str],
) -> int:
    """Return the axis asked for or the coarsest one; refuse to guess at a tie."""
    coarsest = max(spacing_mm)
    overlap = thickness_mm is not None and thickness_mm > coarsest * (1 + EQUAL)
    tied = [k for k in range(3) if spacing_mm[k] > coarsest * (1 - EQUAL)]
    if len(tied) == 3 and not (axis and (factor is not None or spacing not in ("auto", "inplane") or like)):
        if overlap:
            raise ScanError(
                f"{name}: the through-plane axis must be known where slices overlap, got slices of {thickness_mm:.4g} "
                f"mm in voxels of {_sizes(spacing_mm)}; give --axis with --spacing {coarsest / 2:.4g}"
            )
        raise ScanError(
            f"{name}: a scan must have a coarsest axis, got isotropic voxels of {_sizes(spacing_mm)}; it needs no "
            "super-resolution, or give --axis with --factor or --spacing"
        )
    if axis is not None:
        asked = AXES.index(str(axis).upper())
        if spacing_mm[asked] < coarsest * (1 - EQUAL):
            warnings.append(f"axis {AXES[asked]} is not the coarsest of {_sizes(spacing_mm)}")
        return asked
    if len(tied) > 1:
        axes = " and ".join(AXES[k] for k in tied)
        raise ScanError(
            f"{name}: a scan must have one coarsest axis, got {axes} alike in {_sizes(spacing_mm)}; give --axis"
        )
    return tied[0]


def _wanted_thickness(thickness_mm: str | float | None, profile: str) -> float | None:
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


def _estimated(
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


def _slice_sizes(
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
        spacing = _number(thickness + gap, "slice spacing, --thickness plus --gap,")
    else:
        spacing = _from_sidecar(sidecar, "SpacingBetweenSlices", name) or header_mm
    if measured is not None:
        thickness, source = measured, "profile file"
    elif thickness is not None:
        source = "--thickness"
    elif gap is not None:
        thickness, source = spacing - gap, "--gap"
    else:
        read = _from_sidecar(sidecar, "SliceThickness", name)
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


def _from_sidecar(sidecar: Mapping[str, Any], key: str, name: str) -> float | None:
    """Return a size in a sidecar, mm; null is as not given, a list of one value over again is that value."""
    value = sidecar.get(key)
    if value is None:
        return None
    if isinstance(value, list) and value and all(one == value[0] for one in value):
        value = value[0]
    try:
        return _number(value, key)
    except SettingsError as error:
        raise ScanError(f"{name}: sidecar: {error}, in mm; correct the JSON file") from error


def _with_slice_spacing(affine: NDArray, shape: Sequence[int], axis: int, spacing_mm: float) -> NDArray[np.float64]:
    """Return the affine with another slice spacing, about the centre of the field of view."""
    old = spacing_of(affine)
    grids = [AxisGrid(shape[k], spacing_mm if k == axis else old[k]) for k in range(3)]
    return resampled_affine(affine, shape, old, grids)


def _result_spacing(
    voxels: Sequence[float],
    axis: int,
    factor: float | None,
    spacing: str | float,
    warnings: list[str],
) -> float:
    """Return the result's voxel size, mm."""
    inplane = min(size for k, size in enumerate(voxels) if k != axis)
    low, high = PRIOR_RANGE_MM
    if factor is not None:
        wanted = voxels[axis] / factor
    elif spacing == "auto":
        if low * (1 - EQUAL) <= inplane <= high * (1 + EQUAL):
            return inplane
        wanted = min(max(inplane, low), high)
        warnings.append(
            f"in-plane spacing {inplane:.4g} mm is outside the prior's {low:g}-{high:g} mm: the result has "
            f"{wanted:g} mm (--spacing inplane keeps {inplane:.4g} mm)"
        )
        return wanted
    elif spacing == "inplane":
        wanted = inplane
    else:
        wanted = float(spacing)
    if not low * (1 - EQUAL) <= wanted <= high * (1 + EQUAL):
        warnings.append(f"voxel size {wanted:.4g} mm is outside the prior's {low:g}-{high:g} mm")
    return wanted


def _axis_grid(voxels: int, spacing_mm: float, wanted_mm: float) -> AxisGrid:
    """Return the grid of one axis at the spacing wanted; the scan's own one where that is the same."""
    if abs(spacing_mm - wanted_mm) <= SAME_GRID * spacing_mm:
        return AxisGrid(voxels, spacing_mm)
    return isotropic_axis(voxels, spacing_mm, wanted_mm)


def _check_voxel(slice_spacing_mm: float, voxel_mm: float, name: str, warnings: list[str]) -> None:
    """Refuse a result no finer than the slices; note an unusual factor."""
    if voxel_mm > slice_spacing_mm * (1 - EQUAL):
        raise ScanError(
            f"{name}: slice spacing must be above the result's voxel size, got {slice_spacing_mm:.4g} and "
            f"{voxel_mm:.4g} mm; give a smaller --spacing, a --factor or another --axis"
        )
    if slice_spacing_mm / voxel_mm > MEASURED_FACTOR * (1 + EQUAL):
        factor = slice_spacing_mm / voxel_mm
        warnings.append(f"factor {factor:.3g} is above {MEASURED_FACTOR:g}, up to which the prior was measured")
