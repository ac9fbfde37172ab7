"""How much noise the slices of a scan have, from their intensities alone.

Each acquired slice has noise of its own, sharp in plane, so only what a slice shows in plane is used: structure is
averaged over the thickness of a slice, noise is not. Two levels are found, both of sigma, the standard deviation in
the real and the imaginary part of what one coil measures (Gudbjartsson & Patz, Magnetic Resonance in Medicine 34:910,
1995), which is the standard deviation of the noise in bright tissue:

- of the slices, in tissue: patches of 5 x 5 voxels are ranked by their lower frequencies, and the power of the higher
  ones is taken in the flattest fifth. White noise has no say in that choice, as its frequencies are independent, and
  edges and texture are low and high at once, so they are left out: noise from patches of weak texture (Liu, Tanaka &
  Okutomi, IEEE Transactions on Image Processing 22:5226, 2013), without their search for a threshold.
- of the background: of voxels away from tissue, those around which the mean is what it is around most; they must be
  distributed as Rayleigh has it, or it does not count: several coils, ghosts and means of magnitudes are not.

Where both are there, the background's counts if they agree: no texture is in it. If they do not, noise in tissue that
is white in plane is what it is seen to be: a background below it was masked, suppressed or added later, and one above
it has dim tissue in it. Noise that lacks its highest frequencies in tissue was made smooth (zeros around the measured
frequencies interpolate the images of many scanners); its level in tissue is seen too low, and a higher one of the
background counts. Without a background such noise is found too low; nothing in the slices tells it from texture.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bida.physics.rician import tissue
from bida.physics.windows import all_around, any_around, mean_around

PATCH = 5  # voxels along either side of a patch
# orthonormal cosines [order, voxel] along a side (DCT-II)
COSINES = np.cos(math.pi / PATCH * np.outer(np.arange(PATCH), np.arange(PATCH) + 0.5)) * math.sqrt(2 / PATCH)
COSINES[0] = 1 / math.sqrt(PATCH)
LOW = 3  # sum of the two orders of the cosines below which a frequency tells texture, above which noise
FLATTEST = 0.2  # share of the patches that the slices' level is taken from
LEAST_PATCHES = 400  # of fewer the level cannot be told
MOST_PATCHES = 40_000  # that are looked at, evenly spread over the scan
STRONG = 30.0  # mean over deviation of a magnitude from which on its deviation is sigma, to 3 in 10,000
ROUNDING = 1e-6  # of the mean in tissue; what is below it is the computer's
AIR_WINDOW = 7  # voxels along either side of the window of a local mean in the background
AIR_MARGIN = 2  # voxels around tissue that are not background
AIR_SHARE = 0.1  # of the background's local means, that lie closest together: noise without signal is the most even
AIR_WIDTH = 0.2  # of the mean of those: how far a local mean may be from it; 3 standard errors of 49 voxels
LEAST_AIR = 500  # voxels
RAYLEIGH = math.sqrt(4 / math.pi - 1)  # standard deviation over mean
RAYLEIGH_WIDTH = 0.05  # how far from it a background may be; a signal of sigma makes 0.93 of it, two coils 0.69
AGREE = 0.1  # of the slices' level, which texture can raise by as much
WHITE = 0.75  # of a frequency's usual power's root: a highest frequency below it is that of smooth noise


@dataclass(frozen=True)
class NoiseLevel:
    """The noise of one acquired slice of a scan.

    Attributes:
        sigma: its standard deviation in tissue, in the scan's units.
        snr: mean in tissue, without what the noise adds to it, over sigma; infinite without noise.
        source: where sigma is from, ``background`` or ``slices``.
        tissue: share of the scan's voxels that is tissue.
        in_background: sigma in the background; None where there is none of noise alone.
        in_slices: sigma in tissue, from what the slices show in plane; None where they show too little.
    """

    sigma: float
    snr: float
    source: str
    tissue: float
    in_background: float | None
    in_slices: float | None

    def describe(self) -> str:
        """Return it in words."""
        where = "the background" if self.source == "background" else "the tissue in the slices"
        if not self.sigma > 0:
            return f"no noise, from {where}"
        return f"standard deviation {self.sigma:.4g}, SNR {self.snr:.3g} in tissue, from {where}"

    def record(self) -> dict[str, Any]:
        """Return it as JSON can hold it; an SNR of infinity is None."""
        found: Mapping[str, Any] = asdict(self)
        return {
            name: (float(f"{value:.5g}") if math.isfinite(value) else None) if isinstance(value, float) else value
            for name, value in found.items()
        }


def estimate_noise(slices: NDArray[Any], axis: int) -> NoiseLevel | None:
    """Estimate the noise of one acquired slice of a scan.

    Args:
        slices: the scan as it was stored, [R, A, S], before bias correction or resampling.
        axis: through-plane axis, 0 (R), 1 (A) or 2 (S).

    Returns:
        The level; None where it cannot be told, of slices with too little tissue and no background.
    """
    stack = np.moveaxis(np.asarray(slices, np.float32), axis, 0)  # [slice, row, column]
    inside = tissue(stack, 0)
    flat, white = slices_level(stack, inside)
    air = background_level(stack, inside)
    agree = flat is not None and air is not None and abs(air - flat) <= AGREE * flat
    if air is not None and (flat is None or agree or (air > flat and not white)):
        sigma, source = air, "background"
    elif flat is not None:
        sigma, source = flat, "slices"
    else:
        return None
    mean = float(stack[inside].mean(dtype=np.float64)) if inside.any() else 0.0
    if sigma < ROUNDING * mean:
        sigma = 0.0
    signal = math.sqrt(max(mean**2 - sigma**2, 0.0))  # of a magnitude M, E[M^2] = signal^2 + 2 sigma^2
    snr = signal / sigma if sigma > 0 else math.inf
    return NoiseLevel(sigma, snr, source, float(inside.mean()), air, flat)


def slices_level(stack: NDArray[np.float32], inside: NDArray[np.bool_]) -> tuple[float | None, bool]:
    """Return sigma from the flattest patches in tissue, None of fewer than `LEAST_PATCHES`, and whether it is white.

    Args:
        stack: [slice, row, column].
        inside: what of it is tissue.
    """
    whole = all_around(inside, PATCH)  # where a patch around a voxel is tissue alone
    places = np.argwhere(whole)
    if len(places) < LEAST_PATCHES:
        return None, False
    if len(places) > MOST_PATCHES:
        places = places[np.linspace(0, len(places) - 1, MOST_PATCHES).astype(int)]
    patches = patches_at(stack, places)
    flattest, variance, highest = flattest_of(patches)
    deviation = math.sqrt(variance)
    white = math.sqrt(highest) >= WHITE * deviation
    return sigma_of_magnitude(float(patches[flattest].mean(dtype=np.float64)), deviation), white


def patches_at(stack: NDArray[Any], places: NDArray[np.int64]) -> NDArray[Any]:
    """Return the patches of [slice, row, column] around places [n, 3], [n, PATCH, PATCH]."""
    number, row, column = places.T[..., None, None]
    around = np.arange(PATCH) - PATCH // 2
    return stack[number, row + around[:, None], column + around]


def flattest_of(patches: NDArray[Any]) -> tuple[NDArray[np.int64], float, float]:
    """Return which of the patches [n, PATCH, PATCH] are flattest, and the power of their noise: usual, and highest."""
    frequencies = COSINES @ patches.astype(np.float64) @ COSINES.T  # [patch, PATCH, PATCH]
    order = np.add.outer(np.arange(PATCH), np.arange(PATCH))
    texture = (frequencies[:, (order > 0) & (order <= LOW)] ** 2).sum(axis=1)
    flattest = np.argsort(texture, kind="stable")[: round(FLATTEST * len(patches))]
    power = (frequencies[flattest] ** 2).mean(axis=0)
    return flattest, float(np.median(power[order > LOW])), float(power[-1, -1])


def sigma_of_magnitude(mean: float, deviation: float) -> float:
    """Return sigma of a magnitude of that mean and standard deviation, which is below sigma where the signal is weak.

    By the fixed point of Koay & Basser, Journal of Magnetic Resonance 179:317, 2006.
    """
    if not deviation < mean < STRONG * deviation:
        return deviation
    ratio, snr = (mean / deviation) ** 2, mean / deviation
    for _ in range(50):
        snr = math.sqrt(max(magnitude_variance(snr) * (1 + ratio) - 2, 0.0))
    return deviation / math.sqrt(magnitude_variance(snr))


def magnitude_variance(snr: float) -> float:
    """Return the variance of a magnitude, of a signal over sigma, in units of sigma squared."""
    from scipy.special import ive  # of weak signals alone, and slow to import

    quarter = snr**2 / 4  # ive is exp(-quarter) I
    mean = math.sqrt(math.pi / 2) * ((1 + 2 * quarter) * ive(0, quarter) + 2 * quarter * ive(1, quarter))
    return float(2 + snr**2 - mean**2)


def background_level(stack: NDArray[np.float32], inside: NDArray[np.bool_]) -> float | None:
    """Return sigma from a background of noise alone; None where there is none, or it is not Rayleigh's.

    Args:
        stack: [slice, row, column].
        inside: what of it is tissue.
    """
    near = any_around(inside, 2 * AIR_MARGIN + 1)
    whole = all_around(~near & (stack > stack.min()), AIR_WINDOW)  # masked voxels have the least value
    if whole.sum() < LEAST_AIR:
        return None
    local = mean_around(stack, AIR_WINDOW)
    means = np.sort(local[whole])
    many = max(int(AIR_SHARE * len(means)), 2)
    first = int(np.argmin(means[many - 1 :] - means[: len(means) - many + 1]))
    middle = float(means[first : first + many].mean())
    air = stack[whole & (np.abs(local - middle) <= AIR_WIDTH * middle)].astype(np.float64)
    if len(air) < LEAST_AIR or not abs(air.std() / air.mean() / RAYLEIGH - 1) <= RAYLEIGH_WIDTH:
        return None
    return math.sqrt(float(np.square(air).mean()) / 2)  # E[M^2] = 2 sigma^2
