"""What is done to a whole stack [C, Z, Y, X] or its rows: other planes by interpolation, doubled rows, a blur."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from bida.physics.grid import ROUNDING

BLUR_SIGMA = 0.8  # voxels, of the 3 x 3 x 3 kernel: 0.3 ((3 - 1)/2 - 1) + 0.8, the usual rule of a kernel's size


def resampled(volume: Tensor, step: float, voxels: int) -> Tensor:
    """Return a stack [C, Z, Y, X] at voxels 0, step, 2 step ... along z, by linear interpolation, [C, voxels, Y, X]."""
    place = torch.arange(voxels, dtype=torch.float64) * step  # here: not every device has float64
    near = place.round()
    place = torch.where((place - near).abs() <= ROUNDING * near.clamp(min=1), near, place)
    below = place.floor().clamp(max=volume.shape[1] - 1)
    share = (place - below).to(volume)[:, None, None]
    lower = below.long().to(volume.device)
    upper = (lower + 1).clamp(max=volume.shape[1] - 1)
    return volume.index_select(1, lower) * (1 - share) + volume.index_select(1, upper) * share


def doubled(rows: Tensor, middle: Callable[[Tensor], Tensor]) -> Tensor:
    """Return slices [N, C, m, W] with a row between every two, [N, C, 2 m - 1, W] (E2E UNet).

    Args:
        rows: X_0, X_2, X_4 ...
        middle: From pairs (X_i, X_{i+2}) as channels, [N, 2 C, m - 1, W], to X_{i+1}, [N, C, m - 1, W].
    """
    n, c, m, w = rows.shape
    result = rows.new_empty(n, c, 2 * m - 1, w)
    result[:, :, ::2] = rows
    if m > 1:
        result[:, :, 1::2] = middle(torch.cat([rows[:, :, :-1], rows[:, :, 1:]], dim=1))
    return result


def blurred(volume: Tensor) -> Tensor:
    """Return a stack [C, Z, Y, X] smoothed by a Gaussian of 3 x 3 x 3 voxels; the border is repeated outwards."""
    side = torch.exp(torch.tensor(-0.5 / BLUR_SIGMA**2)).item()
    centre, side = 1 / (1 + 2 * side), side / (1 + 2 * side)
    for axis in (1, 2, 3):
        last = volume.shape[axis] - 1
        place = torch.arange(last + 1, device=volume.device)
        before, after = (volume.index_select(axis, (place + d).clamp(0, last)) for d in (-1, 1))
        volume = centre * volume + side * (before + after)
    return volume
