"""Agreement with a noisy scan: what of a residual y - A x is to be believed.

Lee 1980, "Digital image enhancement and noise filtering by use of local statistics"
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from bida.physics.geometry import SliceGeometry
from bida.physics.grid import AxisGrid
from bida.physics.interpolation import filling_matrix, interpolation_matrix
from bida.physics.operators import SliceOperator, apply_along

WINDOW = 7  # voxels: side of the window in which what an estimate missed is told from noise
KEPT_SNR, SMOOTHED_SNR = 16.0, 10.0  # SNR from which a result keeps the noise of its slices, and to which none
TISSUE = -0.5  # on the prior's scale: what is darker counts as air
CERTAIN = 2.0  # standard errors of noise alone by which a window's mean and variance must exceed it to count in full


def without_noise(residual: Tensor, noise: float, axis: int, window: int = WINDOW) -> Tensor:
    """Return what of a residual is more than noise, by an adaptive Wiener filter (Lee 1980) of each of its slices.

    Where an estimate is right, the residual is noise alone; where it is wrong there is more, and alike in neighbouring
    voxels of a slice. With the mean m and the variance v of the K voxels of a window about each voxel:

        (1 - z^2 noise^2 / (K m^2))+ m + (1 - noise^2 (1 + z sqrt(2 / (K - 1))) / v)+ (r - m)

    where z is `CERTAIN`. Lee's filter has z = 0: it lets a part of the noise pass everywhere, which shows as bars one
    slice high (`bida.eval.bricks`).

    Args:
        residual: r, [R, A, S], slices along an axis.
        noise: standard deviation of a slice's noise, in its units; 0 returns the residual as it is.
        axis: along which the slices lie.
        window: voxels of its side, odd.
    """
    if noise <= 0:
        return residual
    slices, count = residual.movedim(axis, 0)[:, None], window**2

    def local(values: Tensor) -> Tensor:
        return F.avg_pool2d(values, window, stride=1, padding=window // 2, count_include_pad=False)

    def share(of: float, square: Tensor) -> Tensor:
        return (1 - of * noise**2 / square.clamp(min=torch.finfo(square.dtype).tiny)).clamp(min=0)

    m = local(slices)
    v = local(slices.square()) - m.square()
    kept = share(CERTAIN**2 / count, m.square()) * m
    kept = kept + share(1 + CERTAIN * math.sqrt(2 / (count - 1)), v) * (slices - m)
    return kept[:, 0].movedim(0, axis)


def agreeing(x: Tensor, y: Tensor, operator: SliceOperator, noise: float = 0.0) -> Tensor:
    """Return the volume near x that agrees with slices of so much noise: A x = y without any.

    Of the residual r = y - A x, what is no noise, f(r) (`without_noise`), is put where the slices have it, and of the
    rest the share k (`share_kept`) is put between the slices' centres as interpolation C does, where A+ would make a
    bar one slice high of it:

        x + A+ f(r) + k C (r - f(r))

    Args:
        x: [R, A, S], padding included.
        y: the slices, [R, A, S], on the prior's scale.
        operator: A.
        noise: standard deviation of a slice's noise, in the units of y; 0 for A x = y.
    """
    if noise <= 0:
        return operator.project(x, y)
    residual = y - operator.forward(x)
    missed = without_noise(residual, noise, operator.axis)
    kept = share_kept(y, noise)
    x = x + operator.pinv(missed)
    return x if kept == 0 else x + kept * cubic(residual - missed, operator.geometry)


def share_kept(y: Tensor, noise: float) -> float:
    """Return which share of the noise of slices y, on the prior's scale, a result keeps.

    All of it where the SNR, the mean in tissue over the noise, is `KEPT_SNR` or more: it hardly shows, and to tell it
    from fine structure is a risk. None where it is `SMOOTHED_SNR` or less, and in proportion between.
    """
    tissue = y[y > TISSUE]
    if not tissue.numel():
        return 1.0
    snr = float(tissue.mean() + 1) / noise
    return min(1.0, max(0.0, (snr - SMOOTHED_SNR) / (KEPT_SNR - SMOOTHED_SNR)))


def cubic(y: Tensor, geometry: SliceGeometry) -> Tensor:
    """Return the cubic interpolation of slices [R, A, S], as if they were thin, its ends held in the padding."""
    grid = AxisGrid(geometry.voxels, geometry.voxel_mm, geometry.offset_mm)
    matrix = interpolation_matrix(geometry.slices, geometry.slice_spacing_mm, grid)
    matrix = matrix @ filling_matrix(geometry.slices, geometry.missing)
    matrix = np.pad(matrix, ((geometry.pad_before, geometry.pad_after), (0, 0)), mode="edge")
    return apply_along(matrix, y, geometry.axis, "slices")


def interpolated(y: Tensor, geometry: SliceGeometry, noise: float = 0.0) -> Tensor:
    """Return the cubic interpolation of slices, brought to agree with them (`agreeing`), its ends held in the padding.

    Without noise it is the guide (`bida.physics.guide.guide`).
    """
    bare = geometry.unpadded()
    x = agreeing(cubic(y, bare), y, SliceOperator.build(bare), noise).movedim(geometry.axis, 0)
    ends = ((x[:1], geometry.pad_before), (x[-1:], geometry.pad_after))
    before, after = (end.expand(size, *x.shape[1:]) for end, size in ends)
    return torch.cat([before, x, after]).movedim(0, geometry.axis)
