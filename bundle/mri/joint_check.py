"""The self-check of several scans: their own sharp slices, made thick as the scans lie to each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from bida.diffusion.prior import SlicePrior
from bida.mri.evidence import Evidence, Restore
from bida.mri.familiarity import is_mere_noise, kind_of_scan
from bida.mri.selfcheck import (
    SelfCheck,
    check_of,
    chosen_indices,
    plane_across,
    slice_geometry,
    window,
)
from bida.mri.settings import SamplerOptions
from bida.mri.slice_errors import Errors, Restored, Slices
from bida.physics.consistency import cubic
from bida.physics.geometry import SliceGeometry
from bida.physics.joint import LocatedScan
from bida.physics.operators import SliceOperator

# scans, multiple, minimum -> `bida.mri.joint.JointMeasurement`
Join = Callable[[list[LocatedScan], int, int], Evidence]


def several_check(
    scans: Sequence[LocatedScan], axes: Sequence[int], network: SlicePrior, restore: Restore, make: Join
) -> SelfCheck | None:
    """Measure what a prior gains on the slices of scans, see `bida.mri.joint.JointMeasurement.self_check`.

    Args:
        scans: without their shading.
        axes: along which they are thick, each once.
        network: the prior.
        restore: the way of restoring that is checked.
        make: what joins scans.

    Returns:
        What was found; None where no scan has slices for it.
    """
    parts: list[Errors] = []
    planes, noisy, count = [], True, 0
    for axis in axes:
        scan = next(one for one in scans if one.geometry.axis == axis)
        chosen = chosen_indices(scan.y, axis, scan.geometry.missing)
        sizes = [n for k, n in enumerate(scan.y.shape) if k != axis]
        if not chosen or min(sizes) < network.stride:
            continue
        index = torch.tensor(chosen, device=scan.y.device)
        sharp = window(scan.y.index_select(axis, index), axis, network.stride)
        slices = Slices.of(sharp, axis, scan.noise)
        for layout in layouts([(one.geometry, one.noise) for one in scans], axis, sharp.shape):
            errors = stack_errors(slices, layout, network.stride, restore, make)
            if errors is not None:
                parts.append(errors)
        planes.append(plane_across(axis))
        noisy = noisy and is_mere_noise(slices.truth, scan.noise)
        count += len(chosen)
    if not parts:
        return None
    sizes = [len(one.xx) for one in parts]
    return check_of(Errors.joined(parts), sizes, "+".join(planes), count, kind_of_scan(scans[0].y), noisy)


def layouts(
    scans: Sequence[tuple[SliceGeometry, float]], axis: int, shape: Sequence[int]
) -> list[list[tuple[SliceGeometry, float]]]:
    """Return how scans are laid on sharp slices, thick along their two axes instead of the one they are stacked along.

    Args:
        scans: geometry and noise of each.
        axis: along which the sharp slices are stacked.
        shape: of their stack [R, A, S].

    Returns:
        One set of scans; for scans all thick along that one axis one set along each of the other two.
    """
    one, other = (k for k in range(3) if k != axis)
    axes = {geometry.axis for geometry, _ in scans}

    def laid(along: int, geometry: SliceGeometry, noise: float) -> tuple[SliceGeometry, float]:
        return slice_geometry(geometry, along, shape[along]), noise

    if axes == {axis}:
        return [[laid(along, *scan) for scan in scans] for along in (one, other)]
    free = [k for k in (one, other) if k not in axes]
    placed = []
    for geometry, noise in scans:
        if geometry.axis != axis:
            placed.append(laid(geometry.axis, geometry, noise))
        elif free:
            placed.append(laid(free[0], geometry, noise))
    return [placed]


def stack_errors(
    slices: Slices, layout: Sequence[tuple[SliceGeometry, float]], stride: int, restore: Restore, make: Join
) -> Errors | None:
    """Make a stack of sharp slices thick as scans are laid on it, restore it, and return the errors.

    Args:
        slices: sharp ones, stacked along an axis.
        layout: geometry and noise of each scan.
        stride: the network's.
        restore, make: see `several_check`.

    Returns:
        The errors; None where a scan would have fewer than two slices.
    """
    if any(geometry.slices < 2 for geometry, _ in layout):
        return None
    located, interpolations = [], []
    truth = slices.truth
    for number, (geometry, noise) in enumerate(layout):
        thick = SliceOperator.build(geometry).forward(truth)
        if noise > 0:
            drawn = np.random.Generator(np.random.Philox(number)).standard_normal(tuple(thick.shape), dtype=np.float32)
            thick = thick + noise * torch.from_numpy(drawn).to(thick)
        scale = np.diag([*[geometry.voxel_mm] * 3, 1.0])
        located.append(LocatedScan(thick, geometry, scale, noise))
        interpolations.append(cubic(thick, geometry))
    stack = make(located, stride, 1)
    g = stack.cropped(stack.reference(stack.noise_of(SamplerOptions())))
    volume, told = restore(stack, plane_across(slices.axis))
    found = Restored(stack.cropped(volume), None if told is None else stack.cropped(told))
    c = min(interpolations, key=lambda one: float((slices.inside * (truth - one).square()).sum()))
    return Errors.of(slices, g, found, c)
