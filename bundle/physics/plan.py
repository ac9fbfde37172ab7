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
from bida.physics.slice_profile import PROFILES
from bida.physics.slice_sizes import (
    ASSUMED,
    EQUAL,
    ESTIMATE,
    from_sidecar,
    positive_number,
    slice_sizes,
    wanted_thickness,
    with_estimate,
)
from bida.physics.thickness import ThicknessEstimate

PRIOR_RANGE_MM = (0.1, 0.25)  # voxel sizes that the released prior was trained for
MEASURED_FACTOR = 5.0  # the largest slice spacing over voxel size in the model card's table

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
            positive_number(self.factor, "--factor", above=1.0)
        if self.spacing not in ("auto", "inplane"):
            positive_number(self.spacing, "--spacing (auto, inplane or mm)", above=0.01)
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
            positive_number(self.thickness, "--thickness")
        if self.gap is not None:
            positive_number(self.gap, "--gap", above=-math.inf)


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
    wanted_mm = wanted_thickness(options.thickness, profile)
    told_mm = wanted_mm or from_sidecar(sidecar or {}, "SliceThickness", name)
    through = _through_plane_axis(spacing_of(affine), axis, factor, spacing, like, told_mm, name, warnings)
    slice_spacing, thickness, thickness_from = slice_sizes(
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
        thickness, thickness_from = with_estimate(found, asked, thickness, thickness_from, warnings)
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
        warnings.append(
            f"factor {factor:.3g}, slice spacing over voxel size, is above {MEASURED_FACTOR:g}, up to which bida was "
            f"measured: look twice, or give --factor {MEASURED_FACTOR:g}"
        )
