"""How familiar a scan is to the prior, from the scan alone.

The scan's own slices are noised, and the prior, not shown anything else, takes the noise off. What it knows of the
anatomy shows in how much better it does than the best linear filter that is told the slice's own power spectrum
(Wiener 1949), which knows of no shape at all. Pure noise has no shape, and on a texture that the prior has never seen
it does worse than the filter.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bida.diffusion.noise import slice_noise
from bida.diffusion.prediction import diffuse
from bida.diffusion.prior import SlicePrior
from bida.physics.grid import PLANES, to_slices

TIMES = (300, 500, 700)  # of the schedule: alpha-bar over 1 - alpha-bar is 5.6, -0.1 and -6.0 dB
THRESHOLD_DB = 0.2  # see `benchmarks/trust.py`, which measures it on known and on strange scans
SEED = 0
TINY = 1e-9  # against a division by zero where nothing is wrong


@torch.no_grad()
def familiarity(slices: Tensor, plane: str, network: SlicePrior) -> float:
    """Return by how many dB the prior denoises slices better than a filter; above `THRESHOLD_DB` they are known.

    Args:
        slices: sharp slices of a plane as a volume [R, A, S], in the prior's space, sizes multiples of its stride.
        plane: a name in ``bida.physics.grid.PLANES``.
        network: the prior.

    Returns:
        Mean over the `TIMES`, dB.
    """
    slices = to_slices(slices, plane).contiguous().clamp(*network.x0_range)
    gains = []
    for step, t in enumerate(TIMES):
        ab = network.alpha_bar[t : t + 1]
        shape = (slices.shape[2], slices.shape[3])
        drawn = [slice_noise(shape, SEED, 0, PLANES.index(plane), index, step) for index in range(len(slices))]
        noise = torch.stack([torch.from_numpy(one) for one in drawn])[:, None].to(slices)
        x_t = diffuse(slices, noise, ab.to(slices))
        x0, _ = network.predict(x_t, t, plane)
        a, s = math.sqrt(float(ab)), math.sqrt(1 - float(ab))
        filtered = wiener(x_t / a, slices, s / a)
        estimates = (x0.clamp(*network.x0_range), filtered.clamp(*network.x0_range))
        error, reference = ((estimate - slices).square().mean() for estimate in estimates)
        gains.append(10 * math.log10((float(reference) + TINY) / (float(error) + TINY)))
    return sum(gains) / len(gains)


def wiener(noised: Tensor, clean: Tensor, sigma: float) -> Tensor:
    """Filter slices by S / (S + sigma^2), S the power of the clean slices, averaged over rings of one frequency.

    Args:
        noised: slices [B, 1, H, W], clean slices and white noise.
        clean: the clean ones.
        sigma: standard deviation of the noise.
    """
    mean = clean.mean(dim=(2, 3), keepdim=True)
    height, width = clean.shape[2:]
    power = torch.fft.fft2(clean - mean).abs().square() / (height * width)
    fy, fx = (torch.fft.fftfreq(size, device=clean.device) for size in (height, width))
    ring = (torch.hypot(fy[:, None], fx[None, :]) * min(height, width)).round().long().flatten()
    count = torch.bincount(ring).clamp(min=1)
    sums = torch.zeros(len(clean), len(count), device=clean.device).index_add(1, ring, power.flatten(1))
    smooth = (sums / count)[:, ring].reshape(power.shape)
    return torch.fft.ifft2(torch.fft.fft2(noised - mean) * smooth / (smooth + sigma**2)).real + mean
