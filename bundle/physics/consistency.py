"""Agreement with a noisy scan: what of a residual y - A x is to be believed.

Lee 1980, "Digital image enhancement and noise filtering by use of local statistics"
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from bida.physics.geometry import SliceGeometry
from bida.physics.grid import AxisGrid
from bida.physics.interpolation import filling_matrix, interpolation_matrix
from bida.physics.operators import SliceOperator, apply_along

COARSE, FINE = (7,), (5, 3)  # voxels: sides of the windows in which what an estimate missed is told from noise
# standard errors of noise alone by which the mean of a window must exceed it, to count as missed at all
CERTAIN, LIKELY = 2.0, 0.7
KEPT_SNR, LOW_SNR = 16.0, 10.0  # SNR from which a result keeps the noise of its slices, and to which `KEPT_LEAST` of it
KEPT_LEAST = 0.55
TISSUE = -0.5  # on the prior's scale: what is darker counts as air


def without_noise(
    residual: Tensor, noise: float, axis: int, windows: Sequence[int] = COARSE, certain: float = CERTAIN
) -> Tensor:
    """Return what of a residual is more than noise: what neighbouring voxels of a slice have in common.

    Where an estimate is right, the residual is noise alone; where it is wrong there is more, and alike in neighbouring
    voxels of a slice. One window after the other, from what the ones before left, the mean m of its K voxels is taken
    as far as noise alone would not make it (the local Wiener filter of Lee 1980, with a margin):

        (1 - z^2 noise^2 / (K m^2))+ m

    Args:
        residual: r, [R, A, S], slices along an axis.
        noise: standard deviation of a slice's noise, in its units; 0 returns the residual as it is.
        axis: along which the slices lie.
        windows: voxels of their sides, odd, the largest first.
        certain: z, in standard errors of the mean.
    """
    if noise <= 0:
        return residual
    slices = residual.movedim(axis, 0)[:, None]
    found = torch.zeros_like(slices)
    for side in windows:
        m = F.avg_pool2d(slices - found, side, stride=1, padding=side // 2, count_include_pad=False)
        square = m.square().clamp(min=torch.finfo(m.dtype).tiny)
        found = found + (1 - (certain * noise / side) ** 2 / square).clamp(min=0) * m
    return found[:, 0].movedim(0, axis)


def agreeing(x: Tensor, y: Tensor, operator: SliceOperator, noise: float = 0.0) -> Tensor:
    """Return the volume near x that agrees with slices of so much noise: A x = y without any.

    Of the residual r = y - A x, what is certainly missed, f(r), is put where the slices have it. Of what is left,
    r' = r - f(r), what is likely to be more than noise, h(r'), and the share k (`share_kept`) of the rest are put
    between the slices' centres as interpolation C does, where A+ would make a bar one slice high of them:

        x + A+ f(r) + C (h(r') + k (r' - h(r')))

    f and h are `without_noise` of coarse windows and of fine ones.

    Args:
        x: [R, A, S], padding included.
        y: the slices, [R, A, S], on the prior's scale.
        operator: A.
        noise: standard deviation of a slice's noise, in the units of y; 0 for A x = y.
    """
    if noise <= 0:
        return operator.project(x, y)
    residual = y - operator.forward(x)
    certain = without_noise(residual, noise, operator.axis)
    rest = residual - certain
    likely = without_noise(rest, noise, operator.axis, FINE, LIKELY)
    added = operator.pinv(certain).add_(x)
    return added.add_(cubic(likely + share_kept(y, noise) * (rest - likely), operator.geometry))


def share_kept(y: Tensor, noise: float) -> float:
    """Return which share of the noise of slices y, on the prior's scale, a result keeps.

    All of it where the SNR, the mean in tissue over the noise, is `KEPT_SNR` or more: it hardly shows, and to tell it
    from fine structure is a risk. `KEPT_LEAST` where it is `LOW_SNR` or less, since small lesions are in it, too. In
    proportion between.
    """
    tissue = y[y > TISSUE]
    if not tissue.numel():
        return 1.0
    snr = float(tissue.mean() + 1) / noise
    return KEPT_LEAST + (1 - KEPT_LEAST) * min(1.0, max(0.0, (snr - LOW_SNR) / (KEPT_SNR - LOW_SNR)))


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
