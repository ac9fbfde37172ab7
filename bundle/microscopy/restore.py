"""From an anisotropic stack to an isotropic one, in its own numbers: by trained weights or by interpolation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bida.device import choose_device, choose_dtype, dtype_choice, notes_of
from bida.errors import SettingsError
from bida.microscopy.grid import StackGrid
from bida.microscopy.inferer import MaskedSliceInferer, steps_of
from bida.microscopy.likeness import alike_distance, finer_factor
from bida.microscopy.load import PERCENTILES, IntensityLine, Seen, clipped
from bida.microscopy.prior import MaskedPrior
from bida.microscopy.settings import INTERPOLATIONS, TEXTURED, MaskedSettings
from bida.microscopy.stacks.stack import Stack, as_type
from bida.physics.grid import AxisGrid
from bida.physics.interpolation import interpolation_matrix
from bida.provenance import versions


def restore_stack(
    stack: Stack,
    prior: MaskedPrior,
    inferer: MaskedSliceInferer,
    clip_percentile: float | None = None,
    weights: Sequence[float] | None = None,
    line: IntensityLine | None = None,
) -> Stack:
    """Restore the voxels between the planes of a stack by trained weights.

    Each channel is brought to [-1, 1] by the percentiles of its own planes (`IntensityLine`) and back.

    Args:
        stack: The acquired planes.
        prior: The network.
        inferer: How it is sampled.
        clip_percentile: The network sees each channel clipped at this percentile, as it was trained; the acquired
            planes on the finer grid come back unclipped.
        weights: How much each channel counts against its linear interpolation, from 0 to 1; None: 1.
        line: Of the stack that the planes are a part of; None: their own.

    Raises:
        SettingsError: The stack, the factor and the weights do not fit each other, or the percentile is out of its
            range.
    """
    check_fits(stack, prior)
    seen = clipped(stack.data, clip_percentile)
    line = IntensityLine.of(seen) if line is None else line
    if weights is not None and not any(weights):
        return interpolate_stack(stack, inferer.factor, "linear")
    device = next(prior.parameters()).device
    y = torch.from_numpy(line.forward(seen))[None].to(device)
    restored: NDArray = line.backward(inferer(y, prior)[0].cpu().numpy())
    return finer(leaning(restored, stack, inferer.factor, weights), stack, inferer.factor, exact=not inferer.blur)


def check_fits(stack: Stack, prior: MaskedPrior) -> None:
    """Check that a network can restore a stack.

    Raises:
        SettingsError: The channels differ, or there is nothing between planes.
    """
    if len(stack.data) != prior.image_channels and prior.method != "guided":
        raise SettingsError(
            f"{stack.path}: the stack must have the weights' {prior.image_channels} channel(s), got {len(stack.data)}"
        )
    if stack.data.shape[1] < 2:
        raise SettingsError(f"{stack.path}: a stack must have at least 2 planes, got {stack.data.shape[1]}")


def leaning(restored: NDArray, stack: Stack, factor: float, weights: Sequence[float] | None) -> NDArray:
    """Return a restored stack [C, n, Y, X] drawn towards its linear interpolation, channel by channel.

    Args:
        restored: In the stack's numbers; it is changed in place.
        stack: The acquired planes.
        factor: Plane spacing over voxel size.
        weights: From 0, interpolation, to 1, or None, nothing changed.
    """
    if weights is None or min(weights) >= 1:
        return restored
    exactly = replace(stack, data=stack.data.astype(np.float32))
    interpolated = interpolate_stack(exactly, factor, "linear").data
    for channel, weight in enumerate(weights):
        restored[channel] = interpolated[channel] + weight * (restored[channel] - interpolated[channel])
    return restored


def interpolate_stack(stack: Stack, factor: float, method: str) -> Stack:
    """Interpolate a stack along z: one of `INTERPOLATIONS`."""
    if method not in INTERPOLATIONS:
        raise SettingsError(f"method: must be one of {', '.join(INTERPOLATIONS)}, got {method!r}")
    grid = StackGrid(stack.data.shape[1], factor)
    # the two grids share their first voxel, not their centres
    offset = ((grid.voxels - 1) - (grid.planes - 1) * factor) / 2
    target = AxisGrid(grid.voxels, 1.0, offset)
    matrix = interpolation_matrix(grid.planes, factor, target, INTERPOLATIONS[method])
    values = np.einsum("ij,cjyx->ciyx", matrix, stack.data.astype(np.float64), optimize=True)
    return finer(values, stack, factor)


def finer(values: NDArray, stack: Stack, factor: float, exact: bool = True) -> Stack:
    """Return values [C, n, Y, X] as a stack of the type of the one that they were made from.

    Args:
        values: In the stack's numbers.
        stack: The acquired planes.
        factor: Plane spacing over voxel size.
        exact: Put the acquired planes on the grid in, bit by bit.
    """
    data = as_type(values, stack.data.dtype)
    if exact:
        grid = StackGrid(stack.data.shape[1], factor)
        data[:, grid.rows] = stack.data[:, grid.on_grid]
    z, y, x = stack.spacing_um
    return replace(stack, data=data, spacing_um=(z / factor, y, x))


def restoration_record(
    settings: MaskedSettings, prior: MaskedPrior, stack: Stack, result: Stack, factor: float
) -> dict[str, Any]:
    """Return what the record of a restoration says of the stack, the network and the result, as JSON can hold it."""
    grid, device = StackGrid(stack.data.shape[1], factor), next(prior.parameters()).device
    choice = dtype_choice(settings.dtype, device)  # as it was made: a process measures once
    return {
        "source_spacing_um_zyx": list(stack.spacing_um),
        "method": prior.method,
        "prediction": prior.prediction,
        "weights_sha256": prior.weights_sha256,
        "device": str(device),
        "dtype": str(prior.compute_dtype).removeprefix("torch."),
        "dtype_choice": choice.how,
        "intensity_percentiles": list(PERCENTILES),
        "planes": grid.planes,
        "planes_on_grid": len(grid.on_grid),
        "shape_czyx": list(result.data.shape),
        "spacing_um_zyx": list(result.spacing_um),
        "warnings": notes_of(settings.device, choice),
        "versions": versions(),
    }


def inferer_of(
    settings: MaskedSettings, prior: MaskedPrior, factor: float, as_factor: float | None = None
) -> MaskedSliceInferer:
    """Return the inferer of settings for a network; `as_factor` of `fitting_factor`, None: the factor."""
    return MaskedSliceInferer(
        factor,
        settings.steps,
        fusion_of(settings, prior),
        settings.eta,
        settings.seed,
        settings.tile,
        settings.overlap,
        settings.blur,
        settings.batch_size,
        as_factor=as_factor,
    )


def fusion_of(settings: MaskedSettings, prior: MaskedPrior) -> str:
    """Return how XZ and YZ slices are joined: as settings say, else as suits what is made."""
    drawn = prior.method == "guided" and steps_of(settings.steps, prior.method) > 1
    return settings.fusion or (TEXTURED if drawn else "final")


def fitting_factor(
    stack: Stack, prior: MaskedPrior, settings: MaskedSettings, factor: float, seen: Seen | None = None
) -> float:
    """Return the factor that a stack is restored at, before it is brought to the one asked for.

    Args:
        stack: The acquired planes.
        prior: The network.
        settings: Of the restoration.
        factor: Plane spacing over voxel size.
        seen: How the network sees the stack; None: by its own planes.

    Returns:
        The factor, or, of a network's mean in one step and of textured draws, which build on it, that of the settings
        or of `bida.microscopy.likeness`.

    Raises:
        SettingsError: That of the settings is below the factor.
    """
    drawn = steps_of(settings.steps, prior.method) > 1
    if prior.method != "guided" or (drawn and fusion_of(settings, prior) != TEXTURED):
        return factor
    if settings.as_factor is None:
        return finer_factor(factor, alike_distance(stack, factor, seen))
    if settings.as_factor < factor:
        raise SettingsError(f"as_factor: must be at least the factor of {factor:g}, got {settings.as_factor:g}")
    return settings.as_factor


def load_masked(weights: str, settings: MaskedSettings) -> MaskedPrior:
    """Return the network of a weights file on the settings' device, in their arithmetic."""
    device = choose_device(settings.device)
    return MaskedPrior.load(weights, choose_dtype(settings.dtype, device)).to(device)
