"""Texture between the planes of a stack, as strong as that of the acquired ones.

The mean of what lies between two planes is smooth, for what can't be known is averaged away. A draw fills it in, but
too weakly: the average of the XZ and the YZ draw halves what is independent in them, and a network that learned from XY
takes planes for as much alike as pixels are, which have less noise of their own. How much texture there has to be is
known: a plane between two acquired ones looks, in plane, like an acquired one. So what a draw adds is filtered, plane
by plane, until power spectra are those of the acquired planes:

    x = m + (1 - s)^1/2 G d + s^1/2 n,    |G(f)|^2 = (P_acquired(f) - P_m(f))+ / P_d(f)

m is the mean, d a draw less the mean that it belongs to, P the radial mean of the power spectrum of windowed planes as
far from the next acquired one, G at most `MOST`. n is noise that a plane has for itself, with the spectrum of G d and,
place by place, as strong; s is `OWN`. Without it neighbouring planes are more alike than those of a microscope are.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

RING = 1 / 48  # cycles a pixel: width of a ring of frequencies
MOST = 4.0
# Noise of each plane's own, of the power of what is added, and the pixels along the sides of the squares over which its
# strength is averaged: docs/microscopy.md, "The texture of a draw", has what others give.
OWN, ABOUT = 0.3, 3
AROUND = 32  # pixels of their mirror image around planes that are filtered


def textured(
    mean: Tensor,
    deviation: Tensor,
    planes: Tensor,
    distance: Tensor,
    chance: torch.Generator,
    own: float = OWN,
) -> Tensor:
    """Return a mean with the deviation of a draw added, as strong as makes planes look like acquired ones.

    Args:
        mean: m, [Z, Y, X].
        deviation: d, [Z, Y, X], zero in acquired planes.
        planes: the acquired ones, [M, Y, X].
        distance: of each of the Z planes to the next acquired one, voxels, [Z].
        chance: what the planes' noise is drawn by, on the CPU.
        own: s, the share of that noise.

    Returns:
        Tensor [Z, Y, X].
    """
    found, groups = mean.clone(), torch.ceil(2 * distance)  # half voxels
    wanted = spectrum(planes)
    for group in groups.unique().tolist():
        of = torch.nonzero(groups == group).squeeze(1)
        drawn = spectrum(deviation[of])
        if group == 0 or not drawn.any():
            continue
        lacking = (wanted - spectrum(mean[of])).clamp(min=0)
        gain = (lacking / drawn.clamp(min=torch.finfo(drawn.dtype).tiny)).sqrt().clamp(max=MOST)
        added = torch.stack([filtered(plane, gain.to(plane.dtype)) for plane in deviation[of]])
        noise = _noise_like(added, gain.square() * drawn, chance)
        found[of] += math.sqrt(1 - own) * added + math.sqrt(own) * noise
    return found


def _noise_like(added: Tensor, power: Tensor, chance: torch.Generator) -> Tensor:
    """Return noise [N, Y, X] of a power spectrum [rings], place by place as strong as what is added to planes."""
    strength = F.avg_pool2d(added.square()[:, None], ABOUT, 1, ABOUT // 2, count_include_pad=False)[:, 0]
    noise = torch.randn(added.shape, generator=chance).to(added) * strength.sqrt()
    noise -= noise.mean(dim=(1, 2), keepdim=True)
    level = (strength * _window(added).square()).sum() / len(added)  # of its spectrum, which is flat
    gain = (power / level.clamp(min=torch.finfo(level.dtype).tiny).double().cpu()).sqrt().to(noise.dtype)
    return torch.stack([filtered(plane, gain) for plane in noise])


def spectrum(planes: Tensor) -> Tensor:
    """Return the radial mean of the power spectrum of planes [N, Y, X] under a Hann window, [rings] of float64."""
    rings = _rings(planes.shape[1], planes.shape[2]).flatten()
    window = _window(planes)
    total = torch.zeros(int(rings.max()) + 1, dtype=torch.float64)
    for plane in planes:
        power = torch.fft.rfft2((plane - plane.mean()) * window).abs().square()
        total += torch.bincount(rings, power.flatten().cpu().double(), len(total))  # not every device has float64
    return total / (len(planes) * torch.bincount(rings, minlength=len(total)).clamp(min=1))


def filtered(plane: Tensor, gain: Tensor) -> Tensor:
    """Return a plane [Y, X] filtered by a gain at each ring of frequencies, [rings]."""
    sides = [min(AROUND, side - 1) for side in plane.shape]
    padded = F.pad(plane[None, None], (sides[1], sides[1], sides[0], sides[0]), mode="reflect")[0, 0]
    rows, columns = padded.shape
    there = gain[_rings(rows, columns).clamp(max=len(gain) - 1)].to(padded.device)
    again = torch.fft.irfft2(torch.fft.rfft2(padded) * there, s=(rows, columns))
    return again[sides[0] : sides[0] + plane.shape[0], sides[1] : sides[1] + plane.shape[1]]


def _window(planes: Tensor) -> Tensor:
    """Return the Hann window of planes [N, Y, X], [Y, X]."""
    return torch.outer(*(torch.hann_window(side, periodic=False, device=planes.device) for side in planes.shape[1:]))


def _rings(rows: int, columns: int) -> Tensor:
    """Return which ring each frequency of `torch.fft.rfft2` is in, [rows, columns // 2 + 1]."""
    across, along = torch.fft.fftfreq(rows), torch.fft.rfftfreq(columns)
    return (torch.hypot(*torch.meshgrid(across, along, indexing="ij")) / RING).long()
