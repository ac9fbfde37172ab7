"""Features of oriented filters: how much of which scale and direction a patch holds, and how unevenly.

A blur along one axis takes energy from the filters across it alone, so that slices which are sharp along one axis and
blurred along the other are far from isotropic ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bida.errors import SettingsError
from bida.eval.slices.planes import finite

Float = NDArray[np.float64]

WAVELENGTHS = (3.0, 6.0, 12.0)  # pixels, an octave apart; the shortest that a sampled filter holds without folding
ORIENTATIONS = 6  # 30 degrees apart
BANDWIDTH = (
    0.65  # sigma over centre frequency on the log scale: 2 sqrt(2 / ln 2) |ln 0.65| = 1.5 octaves at half height
)
PATCH = 16  # pixels a side: a period of the longest wavelength and its surroundings
MARGIN = 12  # pixels by which slices are mirrored, so that the filters do not see the far border
FLOOR = 1e-3  # of the intensity range, a quarter of a grey level of 8 bits: below it nothing can be seen


def oriented_features(slices: ArrayLike, width: float) -> Float:
    """Return the features of every whole patch of 16 x 16 pixels of slices, [N patches, C x 36].

    Of the amplitude |r| of each of 3 x 6 log-Gabor filters: log(mean + w / 1000) and log(standard deviation + w / 1000)
    over the patch, w the width. Wavelengths are 3, 6 and 12 pixels; orientation k has its wave at 30 k degrees from the
    columns' axis (W) towards the rows' (H).

    Args:
        slices: [N, C, H, W], H and W at least 16.
        width: range of the intensities, e.g. from the darkest to the brightest.

    Raises:
        SettingsError: an argument is not as said, or a value is NaN or Inf.

    Source: Field, J. Opt. Soc. Am. A 4:2379-2394, 1987, for the filters.
    """
    x = finite("slices", slices, "[N, C, H, W]")
    n, c, height, columns = x.shape
    if min(height, columns) < PATCH or not width > 0:
        raise SettingsError(
            f"oriented: slices must have {PATCH} or more pixels a side and width must be > 0, "
            f"got {height} x {columns} and {width:g}"
        )
    features = []
    for amplitude in _amplitudes((x / width).astype(np.float32)):
        cut = amplitude[..., : height // PATCH * PATCH, : columns // PATCH * PATCH]
        patches = cut.reshape(n, c, height // PATCH, PATCH, columns // PATCH, PATCH)
        mean, spread = patches.mean(axis=(3, 5)), patches.std(axis=(3, 5))  # [N, C, rows, columns] of patches
        features += [np.log(mean + FLOOR), np.log(spread + FLOOR)]
    stacked = np.stack(features, axis=2).astype(np.float64)  # [N, C, features, rows, columns]
    return np.moveaxis(stacked, (1, 2), (3, 4)).reshape(-1, c * len(features))


def filter_bank(shape: tuple[int, int]) -> Float:
    """Return the transfer functions [18, H, W] of the filters on the grid of `numpy.fft`, scale by scale.

    exp(-ln^2(f / f0) / (2 ln^2 0.65)) exp(-angle^2 / (2 s^2)) with s half the step of orientations; each is on one side
    of the origin alone, which makes the response analytic and its modulus the amplitude.
    """
    v, u = np.meshgrid(*(np.fft.fftfreq(size) for size in shape), indexing="ij")
    radius = np.hypot(v, u)
    radius[0, 0] = 1  # ln 0; the mean is taken out below
    step = math.pi / ORIENTATIONS
    bank = []
    for wavelength in WAVELENGTHS:
        radial = np.exp(-(np.log(radius * wavelength) ** 2) / (2 * math.log(BANDWIDTH) ** 2))
        radial[0, 0] = 0
        for k in range(ORIENTATIONS):
            turned = np.angle(np.exp(1j * (np.arctan2(v, u) - k * step)))  # -pi to pi
            bank.append(2 * radial * np.exp(-(turned**2) / (2 * (step / 2) ** 2)))
    return np.stack(bank)


def _amplitudes(x: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    """Yield the amplitude [N, C, H, W] of each filter's response; single precision, to 1e-6 of the range."""
    from scipy import fft

    height, columns = x.shape[2:]
    padded = np.pad(x, ((0, 0), (0, 0), (MARGIN, MARGIN), (MARGIN, MARGIN)), mode="reflect")
    shape = tuple(fft.next_fast_len(size) for size in padded.shape[2:])
    spectrum = fft.fft2(padded, s=shape)
    inside = (..., slice(MARGIN, MARGIN + height), slice(MARGIN, MARGIN + columns))
    for transfer in filter_bank((shape[0], shape[1])).astype(np.float32):
        yield np.abs(fft.ifft2(spectrum * transfer)[inside])
