"""The noise of magnitude images, and what is tissue in them: SNR is the mean in tissue over the noise of one slice.

A scanner measures a complex signal with Gaussian noise of one standard deviation, sigma, in its real and its imaginary
part, and stores the magnitude, which is Rician (Gudbjartsson & Patz, Magnetic Resonance in Medicine 34:910, 1995):
Rayleigh where there is no signal, nearly Gaussian of standard deviation sigma where the signal exceeds about 3 sigma.
"""

from __future__ import annotations

import math
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bida.errors import SettingsError
from bida.physics.windows import mean_around

Volume = TypeVar("Volume", NDArray[Any], Tensor)
KINDS = ("rician", "gaussian")
BINS = 256  # of Otsu's histogram
ONE_CLASS = 0.5  # a darker class of more than this share of the brighter one's mean is tissue, too


def add_noise(slices: Volume, sigma: float, seed: int, kind: str = "rician") -> Volume:
    """Add noise to slices, each its own: the same on every device and version of torch, as numpy draws it (Philox).

    Args:
        slices: array or tensor of any shape; integers become float32.
        sigma: standard deviation in the real and in the imaginary part, in units of the slices, >= 0.
        seed: of the noise, >= 0.
        kind: `rician`, the magnitude of a complex signal, or `gaussian`, which is added and leaves no magnitude.

    Returns:
        The noisy slices, of the same kind.

    Raises:
        SettingsError: A value is out of its range.
    """
    if not (math.isfinite(sigma) and sigma >= 0):
        raise SettingsError(f"noise must be a standard deviation >= 0 in intensity units, got {sigma:g}")
    if seed < 0:
        raise SettingsError(f"seed must be >= 0, got {seed}")
    if kind not in KINDS:
        raise SettingsError(f"the kind of noise must be one of {', '.join(KINDS)}, got {kind}")
    # torch takes no negative strides, which reorienting leaves
    clean = torch.as_tensor(np.ascontiguousarray(slices) if isinstance(slices, np.ndarray) else slices)
    if not clean.is_floating_point():
        clean = clean.to(torch.float32)
    generator = np.random.Generator(np.random.Philox(seed))

    def drawn() -> Tensor:
        return sigma * torch.from_numpy(generator.standard_normal(tuple(clean.shape))).to(clean)

    noisy = clean + drawn()
    if kind == "rician":
        noisy = torch.hypot(noisy, drawn())
    return noisy.numpy() if isinstance(slices, np.ndarray) else noisy


def tissue(slices: NDArray[Any], axis: int) -> NDArray[np.bool_]:
    """Return what counts as tissue in a scan: what is brighter than Otsu's threshold, [R, A, S].

    The threshold is that of the slices averaged over 3 x 3 voxels in plane, so that noise moves it little, and cut
    off at the mean of what is brighter than the mean, so that fluid or fat, however bright, does not. Where the darker
    class is half as bright as the other or more there is no background, and everything is tissue. Voxels of the
    scan's least value, which masking leaves, never are.

    Args:
        slices: [R, A, S].
        axis: through-plane axis.

    Raises:
        SettingsError: The slices have one value everywhere.
    """
    smooth = np.moveaxis(mean_around(np.moveaxis(np.asarray(slices, np.float32), axis, 0), 3), 0, axis)
    above = smooth[smooth > smooth.mean()]
    if above.size == 0:
        raise SettingsError(f"slices must have contrast, got {smooth.flat[0]:g} everywhere; look at the scan")
    cut = np.minimum(smooth, above.mean())
    bright = cut > otsu(cut)
    if bright.all() or cut[~bright].mean() > ONE_CLASS * cut[bright].mean():
        bright = np.ones_like(bright)
    return np.asarray(bright & (slices > slices.min()))


def otsu(values: NDArray[Any]) -> float:
    """Return the threshold that parts values into the two classes whose means are furthest apart (Otsu 1979).

    scikit-image's rule on 256 bins, without the time to import it.
    """
    counts, edges = np.histogram(values, BINS)
    centres = (edges[1:] + edges[:-1]) / 2
    below, sums = np.cumsum(counts), np.cumsum(counts * centres)
    above = below[-1] - below
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    return float(centres[int(np.nanargmax(between[:-1]))])


def sigma_of_snr(slices: Volume, snr: float, inside: NDArray[np.bool_]) -> float:
    """Return the noise's standard deviation for an SNR: mean in tissue over sigma of one acquired slice.

    Args:
        slices: the acquired slices without noise, [R, A, S].
        snr: > 0.
        inside: what of them is tissue, [R, A, S].

    Raises:
        SettingsError: The SNR is not above 0, or there is no tissue of a mean above 0.
    """
    if not (math.isfinite(snr) and snr > 0):
        raise SettingsError(f"snr must be > 0 (mean in tissue over sigma of one slice), got {snr:g}")
    values = as_array(slices)[inside]
    mean = float(values.mean(dtype=np.float64)) if values.size else 0.0
    if not mean > 0:
        raise SettingsError(f"snr must refer to tissue of a mean above 0, got {mean:g}; give noise instead")
    return mean / snr


def add_noise_of_snr(slices: Volume, axis: int, snr: float, seed: int) -> tuple[Volume, float]:
    """Return slices with Rician noise of an SNR in what `tissue` finds, and the standard deviation that it came to.

    Args:
        slices: the acquired slices without noise, [R, A, S].
        axis: through-plane axis.
        snr: mean in tissue over sigma of one slice, > 0.
        seed: of the noise, >= 0.

    Raises:
        SettingsError: A value is out of its range, or nothing is tissue.
    """
    inside = tissue(as_array(slices), axis)
    sigma = sigma_of_snr(slices, snr, inside)
    return add_noise(slices, sigma, seed), sigma


def as_array(slices: NDArray[Any] | Tensor) -> NDArray[Any]:
    """Return slices as an array in the memory of the CPU."""
    return slices if isinstance(slices, np.ndarray) else np.asarray(slices.detach().cpu())
