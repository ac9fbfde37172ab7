"""Do the planes XZ and YZ of a volume look like its planes XY? Its power along z, y and x, on physical frequency.

A prior that learns from XY alone is right for XZ and YZ where lines along z have the spectrum of lines along x and y.
Power is compared in octaves from the Nyquist frequency of the coarsest axis downwards: no axis knows more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.signal import detrend

from bida.errors import SettingsError
from bida.eval.slices.spectrum import FLOOR, SHARE, axis_spectrum

Float = NDArray[np.float64]

AXES = ("z", "y", "x")
SHORTEST = 16  # voxels a line: two octaves above the frequencies that the window smears
OCTAVES = 4  # at most, from the finest: more would thin out what the finest ones say
# A volume is isotropic where z holds on average no more than twice or less than half the power of x and y, and in no
# octave more than 2.5 times or less than 0.4 times their amplitude. Between an isotropic microCT cube's finest octave
# after averaging 2 x 2 x 2 voxels (6 to 7 dB, 2 to 3 on average) and before it (13 dB, 5 on average).
MEAN_DB = 3.0
LARGEST_DB = 8.0
FLAT_DB = 1.0  # white noise: the last tenth of the spectrum is level with the tenth before it
_POINTS = 64  # of an octave, where the axes' spectra are compared
_SLAB = 1 << 24  # voxels whose lines are transformed at once: some 0.5 GB


@dataclass(frozen=True)
class Octave:
    """Hold what one octave says: its limits, cycles per um, and differences of power, dB."""

    low: float
    high: float
    z_minus_xy_db: float
    y_minus_x_db: float


@dataclass(frozen=True)
class Isotropy:
    """Hold the spectra of a volume's three axes and how they differ.

    Attributes:
        frequency: of each axis (z, y, x), cycles per um.
        power: of each axis, squared intensities times um.
        nyquist: of the coarsest axis, cycles per um.
        noise: variance of the white noise that was taken off, None where it cannot be told.
        octaves: from the finest to the coarsest.
    """

    frequency: tuple[Float, Float, Float]
    power: tuple[Float, Float, Float]
    nyquist: float
    noise: float | None
    octaves: tuple[Octave, ...]

    @property
    def largest_db(self) -> float:
        """The difference between z and the mean of x and y that is largest by its size, with its sign, dB."""
        return max((octave.z_minus_xy_db for octave in self.octaves), key=abs)

    @property
    def mean_db(self) -> float:
        """The mean over the octaves of the size of that difference, dB."""
        return float(np.mean([abs(octave.z_minus_xy_db) for octave in self.octaves]))

    @property
    def isotropic(self) -> bool:
        """Whether XY looks like XZ and YZ: see `MEAN_DB` and `LARGEST_DB`."""
        return self.mean_db <= MEAN_DB and abs(self.largest_db) <= LARGEST_DB


def isotropy(volume: ArrayLike, spacing_um: Sequence[float]) -> Isotropy:
    """Compare a volume's power along z with that along y and x.

    Lines lose their straight-line trend and are windowed (Hann). Noise that is white from voxel to voxel has one
    variance on every axis; the lowest level at the end of a spectrum bounds it, and where that spectrum is flat there
    it is taken off all of them. An octave where less than 5% of the power is left counts as if 5% were.

    Args:
        volume: [Z, Y, X].
        spacing_um: voxel sizes (z, y, x), um.

    Raises:
        SettingsError: another shape, an axis shorter than 16 voxels or with too little length to compare, intensities
            that are not finite or all the same, sizes that are not positive.
    """
    data = np.asarray(volume)
    sizes = [float(size) for size in spacing_um]
    if data.ndim != 3 or min(data.shape) < SHORTEST:
        raise SettingsError(f"isotropy: every axis must have {SHORTEST} voxels or more, got shape {data.shape}")
    if len(sizes) != 3 or not all(size > 0 and np.isfinite(size) for size in sizes):
        raise SettingsError(f"isotropy: voxel sizes must be three positive numbers, got {sizes}")
    if any((data == data.take([0], axis)).all() for axis in range(3)):
        raise SettingsError(
            "isotropy: intensities must differ along every axis, they are constant; look at the channel"
        )
    spectra = [_spectrum(data, axis) for axis in range(3)]
    noise = white_noise(spectra)
    frequency = [share / (2 * size) for (share, _), size in zip(spectra, sizes)]  # a share of Nyquist, 1 / (2 size)
    density = [power * size for (_, power), size in zip(spectra, sizes)]
    floors = [(noise or 0.0) * size for size in sizes]
    octaves: list[Octave] = []
    # the window smears the two lowest frequencies of the shortest line
    lowest = max(f[2] for f in frequency)
    high = nyquist = min(f[-1] for f in frequency)
    while high / 2 >= lowest and len(octaves) < OCTAVES:
        grid = np.linspace(high / 2, high, _POINTS)
        means = [float(np.interp(grid, f, p).mean()) for f, p in zip(frequency, density)]
        left = [max(mean - floor, SHARE * mean) for mean, floor in zip(means, floors)]
        z, y, x = 10 * np.log10(np.maximum(left, np.finfo(np.float64).tiny))
        octaves.append(Octave(high / 2, high, float(z - (y + x) / 2), float(y - x)))
        high /= 2
    if not octaves:
        raise SettingsError(
            f"isotropy: the axes must share an octave of frequencies, shape {data.shape} at {sizes} um does not; "
            "take a larger field of view"
        )
    return Isotropy(tuple(frequency), tuple(density), nyquist, noise, tuple(octaves))  # type: ignore[arg-type]


def white_noise(spectra: Sequence[tuple[Float, Float]]) -> float | None:
    """Return the variance of white noise in spectra of share of Nyquist and power, None where it cannot be told."""
    levels = [(float(p[f >= FLOOR].mean()), float(p[(f >= 2 * FLOOR - 1) & (f < FLOOR)].mean())) for f, p in spectra]
    last, before = min(levels)
    flat = last > 0 and before > 0 and abs(10 * np.log10(before / last)) <= FLAT_DB
    return last if flat else None


def _spectrum(data: NDArray, axis: int) -> tuple[Float, Float]:
    """Return `axis_spectrum` of lines without their trend, slab by slab: equal slabs of lines weigh equally."""
    across = 0 if axis else 1
    step = max(1, _SLAB // (data.size // data.shape[across]))
    total, frequency = np.zeros(data.shape[axis] // 2 + 1), np.zeros(0)
    for start in range(0, data.shape[across], step):
        slab = np.take(data, range(start, min(start + step, data.shape[across])), axis=across)
        if not np.isfinite(slab).all():
            raise SettingsError("isotropy: intensities must be finite, got NaN or Inf; look at the volume")
        frequency, power = axis_spectrum(detrend(slab.astype(np.float64), axis=axis), axis)
        total += power * slab.shape[across] / data.shape[across]
    return frequency, total
