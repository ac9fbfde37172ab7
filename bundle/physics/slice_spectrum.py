"""The power spectrum of thick slices, and the slice thickness that explains it best.

As in ESPRESO (Han et al., "MR slice profile estimation by learning to match internal patch distributions", IPMI 2021,
and Magnetic Resonance Imaging 98:155-163, 2023), what the scan is within the plane says what thin slices would be
through it. Here their spectra may differ by direction: with q the spatial frequency within the plane, k that through
it, and rho, phi the polar coordinates of (q, k), slices of spacing s and thickness T show

    S(q, k) = sum over n of P(q, k + n / s) |H(T (k + n / s)) sinc(D (k + n / s))|^2 + noise
    ln P = R(ln rho) + a2 cos 2 phi + a4 cos 4 phi

H the profile's transfer function, D the voxel that A sees thick slices through, R linear between knots.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bida.physics.slice_profile import make_profile

Float = NDArray[np.float64]
BANDS = 24  # of q
KNOTS = 9  # of R
ALIASES = np.arange(-3, 4)  # n
DIRECTIONS = (1 / 3, 0.1)  # standard deviations of a2 and a4, expected
CURVATURE = 0.3  # of R between knots, expected
MOST = 60.0  # frequencies that a band counts for at most: beyond them, the model's error is the larger one
ROBUST = 3.0  # standard deviations beyond which a difference counts by its size alone
SHARES = (0.3, 2.0)  # T / s looked at
STARTS = (0.6, 1.0)
FLOOR = 1e-9  # of the largest power: below it nothing is known


@dataclass(frozen=True)
class Spectrum:
    """Mean power of a scan in bands of in-plane frequency, at each frequency through the plane.

    Attributes:
        q: mean frequency of the bands, cycles/mm, [B].
        k: frequencies through the plane, cycles/mm, [K], from 0 to 1 / (2 s).
        power: [B, K]; white noise of a standard deviation sigma has sigma^2.
        count: frequencies of a band, [B].
        voxel_mm: D, the coarser in-plane voxel.
        spacing_mm: s.
    """

    q: Float
    k: Float
    power: Float
    count: Float
    voxel_mm: float
    spacing_mm: float


def slice_spectrum(slices: NDArray, spacings_mm: Sequence[float], axis: int) -> Spectrum:
    """Return the power spectrum of a scan [R, A, S] within a window that falls to zero at its edges."""
    from scipy.signal.windows import tukey

    volume = np.moveaxis(np.asarray(slices, dtype=np.float64), axis, 2)
    s = spacings_mm[axis]
    inplane = [spacings_mm[k] for k in range(3) if k != axis]
    tapers = [tukey(n + 2, taper)[1:-1] for n, taper in zip(volume.shape, (0.5, 0.5, 1.0), strict=True)]
    window = tapers[0][:, None, None] * tapers[1][:, None] * tapers[2]
    volume = (volume - (volume * window).sum() / window.sum()) * window
    power = np.abs(np.fft.fftn(volume)) ** 2 / (window**2).sum()
    q = np.hypot(*np.meshgrid(*[np.fft.fftfreq(volume.shape[j], inplane[j]) for j in (0, 1)], indexing="ij"))
    voxel = max(inplane)
    seen = q <= 0.5 / voxel
    longest = max(volume.shape[j] * inplane[j] for j in (0, 1))
    edges = np.concatenate([[0], np.geomspace(1.5 / longest, 0.5 / voxel * 1.001, BANDS)])
    band = np.digitize(q[seen], edges) - 1
    count = np.bincount(band, minlength=BANDS)
    full = count > 0
    half = volume.shape[2] // 2
    both = 0.5 * (power[seen] + power[seen][:, -np.arange(volume.shape[2])])[:, : half + 1]  # of k and -k
    mean = np.stack([np.bincount(band, column, minlength=BANDS) for column in both.T], axis=1)[full]
    mean_q = np.bincount(band, q[seen], minlength=BANDS)[full] / count[full]
    k = np.arange(half + 1) / (volume.shape[2] * s)
    return Spectrum(mean_q, k, mean / count[full, None], count[full].astype(np.float64), voxel, s)


def thickness_of_spectrum(spectrum: Spectrum, noise: float, profile: str) -> float:
    """Return the T / s that explains a spectrum best.

    Args:
        spectrum: with power.
        noise: standard deviation of the noise of a voxel.
        profile: slice profile, `slr`, `gaussian` or `box`.
    """
    from scipy.optimize import least_squares

    q, k, s = spectrum.q, spectrum.k, spectrum.spacing_mm
    through = k[None, :, None] + ALIASES / s + 0 * q[:, None, None]  # [B, K, aliases]
    rho = np.sqrt(q[:, None, None] ** 2 + through**2 + k[1] ** 2 / 4)
    cos2 = (q[:, None, None] ** 2 - through**2) / rho**2
    knots = np.linspace(np.log(rho).min(), np.log(0.5 / spectrum.voxel_mm), KNOTS)
    basis = _linear_between(np.log(rho), knots)
    floor = noise**2 + FLOOR * spectrum.power.max()
    log_power = np.log(np.maximum(spectrum.power, floor))
    weight = np.sqrt(np.minimum(spectrum.count[:, None] * np.where(k > 0, 1.0, 0.5), MOST))
    weight[0, :2] = 0  # the window's own
    bend = np.diff(np.eye(KNOTS), 2, axis=0) / CURVATURE
    voxel = np.sinc(through * spectrum.voxel_mm)
    grid, transfer = transfer_function(profile)

    def away(x: Float) -> Float:
        blur = np.interp(np.abs(through) * np.exp(x[-1]) * s, grid, transfer, right=0.0) * voxel
        exponent = basis @ x[:KNOTS] + x[KNOTS] * cos2 + x[KNOTS + 1] * (2 * cos2**2 - 1)
        model = (np.exp(exponent.clip(-80, 80)) * blur**2).sum(axis=-1) + floor
        expected = [x[KNOTS : KNOTS + 2] / np.array(DIRECTIONS), bend @ x[:KNOTS]]
        return np.concatenate([((np.log(model) - log_power) * weight).ravel(), *expected])

    start = np.interp(knots, np.log(np.maximum(q, 1e-12)), log_power[:, 0])
    bounds = np.full((2, KNOTS + 3), np.inf) * [[-1], [1]]
    bounds[:, -1] = np.log(SHARES)
    how: dict[str, Any] = {"loss": "soft_l1", "f_scale": ROBUST, "x_scale": "jac", "max_nfev": 60}
    fits = [least_squares(away, [*start, 0, 0, np.log(share)], bounds=bounds, **how) for share in STARTS]
    return float(np.exp(min(fits, key=lambda fit: fit.cost).x[-1]))


@lru_cache(maxsize=8)
def transfer_function(profile: str) -> tuple[Float, Float]:
    """Return frequencies, cycles a thickness, and the transfer function H of a profile there, 1 at 0."""
    table = make_profile(profile, 1.0)
    cells = np.linspace(table.positions_mm[0], table.positions_mm[-1], 2001)
    parts = table.integral(cells[:-1], cells[1:]) / table.area
    f = np.linspace(0, 8, 801)
    return f, np.cos(2 * np.pi * f[:, None] * 0.5 * (cells[:-1] + cells[1:])) @ parts


def _linear_between(x: Float, knots: Float) -> Float:
    """Return the matrix [..., knots] that interpolates values at knots linearly, beyond the last ones too."""
    step = knots[1] - knots[0]
    left = np.clip(((x - knots[0]) / step).astype(int), 0, knots.size - 2)
    t = (x - knots[left]) / step
    basis = np.zeros((*x.shape, knots.size))
    np.put_along_axis(basis, left[..., None], (1 - t)[..., None], axis=-1)
    np.put_along_axis(basis, (left + 1)[..., None], t[..., None], axis=-1)
    return basis
