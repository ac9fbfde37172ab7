"""How wide edges are within the slices of a scan, and how far they move from slice to slice.

A plane edge that runs obliquely through the slices shows how thick they are. From one slice to the next it moves by p
within the plane; a slice of thickness T averages over T / s of that way and blurs it by as much. With W the width that
edges have anyway, as a standard deviation, and everything in units of the slice spacing s, its width in a slice is

    w^2 = W^2 (1 + p^2) + D^2 p^2 / 12 + kappa (T / s)^2 p^2

D the voxel that the operator A sees thick slices through, kappa T^2 the variance of the slice profile (`blur_law` for
steps that are no longer a Gaussian's). Edges of many p tell W and T apart, if edges are as sharp through the plane as
within it.

How many edges there are of which direction, and how strong they are, differs between the axes of a head and does not
matter here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from bida.physics.slice_profile import make_profile

Float = NDArray[np.float64]
REACH = 1.6  # slice spacings seen on either side of an edge
WINDOW = 0.8  # slice spacings around an edge that the fit looks at; nothing beyond 1.25 of them counts
BLUR = 0.3  # slice spacings, standard deviation: of what edges are looked for in
STEEPEST = 1.4  # slice spacings that an edge may move from slice to slice
CANDIDATES, FITTED = 8000, 2500  # points looked at, and those most like a plane edge
LEAST_CONTRAST = 0.15  # of the scan's range
LEAST_OVER_NOISE = 12.0  # contrast over the noise's standard deviation; fainter edges come out too narrow
MISFIT = 0.06  # rms of what a plane edge leaves unexplained, over its contrast, noise apart
OFF_CENTRE = 0.25  # slice spacings between the point and the edge fitted there
BIN = 1 / 6  # in-plane voxels are averaged while they stay below this share of the slice spacing
ORDER = np.array([-1.0, 0.0, 1.0])[:, None]  # of the slices around a point

SHARES = np.geomspace(0.25, 2.0, 43)  # T / s looked at, 5% apart
WIDTHS = np.geomspace(0.03, 0.4, 22)  # W / s looked at
SHIFTS = (0.2, 1.3)  # p of the edges used: below, T does not show
BINS = (0.3, 0.45, 0.6, 0.8, 1.0)  # p; an edge counts one over the root of those beside it
STEEP = 0.45  # p from which an edge tells much
SPREAD = 0.12  # of ln w; differences beyond count by their size alone
BOOTSTRAPS = 40


@dataclass(frozen=True)
class Edges:
    """Plane edges of a scan, one an entry; lengths in slice spacings.

    Attributes:
        shift: p, how far it moves within the plane from slice to slice, >= 0.
        width: w, the standard deviation of the Gaussian that blurs a step alike within a slice.
        part: number of the quarter of a slice in which it lies.
        binned: variance that the averaging of in-plane voxels adds to w^2.
    """

    shift: Float
    width: Float
    part: NDArray[np.int64]
    binned: float = 0.0

    @property
    def steep(self) -> int:
        """Number of edges that tell much of the thickness."""
        return int(((self.shift >= STEEP) & (self.shift < SHIFTS[1])).sum())


def measure_edges(slices: NDArray, spacings_mm: Sequence[float], axis: int, noise: float) -> Edges:
    """Find and measure the plane edges of a scan.

    Args:
        slices: [R, A, S].
        spacings_mm: voxel sizes on R, A and S, mm.
        axis: through-plane axis.
        noise: standard deviation of the noise of a voxel, in the scan's units.
    """
    volume = np.moveaxis(np.asarray(slices, dtype=np.float32), axis, 2)
    inplane = np.array([spacings_mm[k] for k in range(3) if k != axis]) / spacings_mm[axis]
    volume, inplane, binned = _averaged(volume, inplane)
    low, high = np.percentile(volume, (1, 99.5))
    if not high > low:
        return Edges(np.empty(0), np.empty(0), np.empty(0, np.int64), binned)
    volume, noise = (volume - low) / (high - low), noise / float(high - low)
    points, normal = _candidates(volume, inplane)
    if len(points) == 0:
        return Edges(np.empty(0), np.empty(0), np.empty(0, np.int64), binned)
    u, lines = _profiles(volume, inplane, points, normal)
    kept, shift = _most_like_edges(u, lines)
    fitted, rms = fit_steps(u, lines[kept], shift[kept])
    points = points[kept]
    contrast, centre, shift, width = np.abs(fitted[:, 1]), fitted[:, 2], np.abs(fitted[:, 3]), np.exp(fitted[:, 4])
    good = rms**2 < (MISFIT * contrast) ** 2 + (1.05 * noise) ** 2
    good &= (np.abs(centre) < OFF_CENTRE) & (width < 1) & (shift < STEEPEST)
    good &= contrast > max(LEAST_OVER_NOISE * noise, LEAST_CONTRAST)
    rows, columns = np.array(volume.shape[:2]) / 2
    part = points[:, 2] * 4 + (points[:, 0] > rows) * 2 + (points[:, 1] > columns)
    return Edges(shift[good], width[good], part[good], binned)


def thickness_of_edges(edges: Edges, voxel: float, profile: str) -> tuple[float, float]:
    """Return T / s of the edges' widths, the least sum of absolute differences of ln w, and the standard error of ln T.

    Args:
        edges: of a scan; at least one with a shift between `SHIFTS`.
        voxel: D / s.
        profile: slice profile, `slr`, `gaussian` or `box`.
    """
    used = (edges.shift >= SHIFTS[0]) & (edges.shift < SHIFTS[1])
    p, log_w, part = edges.shift[used], np.log(edges.width[used]), edges.part[used]
    bins = np.digitize(p, BINS)
    weight = 1 / np.sqrt(np.bincount(bins, minlength=len(BINS) + 1)[bins])
    from scipy.interpolate import RegularGridInterpolator

    log_sharp, blur, widths = blur_law(profile)
    law = RegularGridInterpolator((log_sharp, blur), widths, bounds_error=False, fill_value=None)
    without = WIDTHS[:, None] ** 2 * (1 + p**2) + edges.binned + (voxel * p) ** 2 / 12  # [W, N]
    sharp = 0.5 * np.log(without)
    parts, index = np.unique(part, return_inverse=True)
    member = np.zeros((p.size, parts.size))
    member[np.arange(p.size), index] = weight
    cost = np.empty((SHARES.size, WIDTHS.size, parts.size))
    for i, share in enumerate(SHARES):
        away = log_w - law((sharp, np.broadcast_to(p * share, sharp.shape)))
        cost[i] = np.sqrt(SPREAD**2 + away**2) @ member
    draw = np.random.default_rng(0)
    counts = np.ones((1 + BOOTSTRAPS, parts.size))
    for k in range(1, 1 + BOOTSTRAPS):
        counts[k] = np.bincount(draw.integers(0, parts.size, parts.size), minlength=parts.size)
    best = (cost @ counts.T).min(axis=1).argmin(axis=0)  # the least over W, then over T: [1 + BOOTSTRAPS]
    return float(SHARES[best[0]]), float(np.log(SHARES[best[1:]]).std())


@lru_cache(maxsize=8)
def blur_law(profile: str) -> tuple[Float, Float, Float]:
    """Return what `fit_steps` makes of the width of a step that a Gaussian and a profile have blurred.

    It is more than the root of both variances where the profile is wide: a step blurred by a box is not a Gaussian's,
    and of a wide one the fit does not see the ends.

    Returns:
        ln of the Gaussian's standard deviation [I], the profile's FWHM [J], both in slice spacings, and ln w [I, J].
    """
    from scipy.special import ndtr

    table = make_profile(profile, 1.0)
    cells = np.linspace(table.positions_mm[0], table.positions_mm[-1], 402)
    parts = table.integral(cells[:-1], cells[1:]) / table.area
    depth = 0.5 * (cells[:-1] + cells[1:])
    u = np.linspace(-REACH, REACH, 65)
    sharp, blur = np.geomspace(0.02, 0.8, 18), np.linspace(0, SHIFTS[1] * SHARES[-1], 27)
    steps = np.stack([[ndtr((u[:, None] - t * depth) / w) @ parts for t in blur] for w in sharp])  # [I, J, L]
    lines = np.repeat(steps.reshape(-1, 1, u.size), 3, axis=1)
    fitted, _ = fit_steps(u, lines, np.zeros(len(lines)), rounds=30)
    return np.log(sharp), blur, fitted[:, 4].reshape(sharp.size, blur.size)


def fit_steps(u: Float, lines: NDArray, shift: Float, rounds: int = 12) -> tuple[Float, Float]:
    """Fit a + b Phi((u - c - k p) / w), k the slice, by Levenberg's and Marquardt's method, all lines at once.

    Args:
        u: positions [L], slice spacings.
        lines: what slices k = -1, 0, 1 hold there, [N, 3, L].
        shift: where p starts, [N].

    Returns:
        [N, 5] of a, b, c, p and ln w, and the rms of what is left [N].
    """
    low, high = lines[:, 1].min(axis=-1), lines[:, 1].max(axis=-1)
    found = np.stack([low, high - low, np.zeros(len(lines)), shift, np.full(len(lines), np.log(0.2))], axis=1)
    damping = np.full(len(lines), 1e-2)
    residual, jacobian, mass = _linearised(u, lines, found)
    cost = (residual**2).sum(axis=1) / mass
    for _ in range(rounds):
        normal = jacobian @ jacobian.swapaxes(1, 2)  # [N, 5, 5]
        scale = np.einsum("nii->ni", normal)
        added = scale * damping[:, None] + 1e-9 * scale.max(axis=1, keepdims=True) + 1e-30
        step = np.linalg.solve(normal + np.eye(5) * added[:, None], jacobian @ residual[..., None])[..., 0]
        step[:, 2:4], step[:, 4] = step[:, 2:4].clip(-0.3, 0.3), step[:, 4].clip(-0.5, 0.5)
        tried = found + step
        tried[:, 3], tried[:, 4] = tried[:, 3].clip(-2, 2), tried[:, 4].clip(np.log(0.02), np.log(1.5))
        new, slope, mass = _linearised(u, lines, tried)
        new_cost = (new**2).sum(axis=1) / mass
        better = new_cost < cost
        found[better], cost[better] = tried[better], new_cost[better]
        residual[better], jacobian[better] = new[better], slope[better]
        damping = np.where(better, damping * 0.4, damping * 4).clip(1e-6, 1e4)
    return found, np.sqrt(cost)


def _linearised(u: Float, lines: NDArray, found: Float) -> tuple[Float, Float, Float]:
    """Return weighted residuals [N, 3 L], their Jacobian [N, 5, 3 L] and the sum of the squared weights [N]."""
    from scipy.special import ndtr

    a, b, c, p, log_w = (column[:, None, None] for column in found.T)
    t = u - c - ORDER * p
    x = t / np.exp(log_w)
    shape, bell = ndtr(x), np.exp(-0.5 * x**2) / np.sqrt(2 * np.pi)
    weight = np.clip(1.25 - np.abs(t) / WINDOW, 0, 1)
    slope = -b * bell / np.exp(log_w)
    n = len(lines)
    parts = [np.ones_like(t), shape, slope, slope * ORDER, slope * t]
    jacobian = np.stack([(part * weight).reshape(n, -1) for part in parts], axis=1)
    return ((lines - a - b * shape) * weight).reshape(n, -1), jacobian, (weight**2).sum(axis=(1, 2)) + 1e-12


def _averaged(volume: NDArray, inplane: Float) -> tuple[NDArray, Float, float]:
    """Average in-plane voxels far finer than the slices; return voxels, their sizes and the variance that adds."""
    binned = 0.0
    for k in (0, 1):
        n = max(1, int(BIN / inplane[k]))
        length = volume.shape[k] // n * n
        along = np.moveaxis(volume, k, 0)[:length]
        volume = np.moveaxis(along.reshape(length // n, n, *along.shape[1:]).mean(axis=1), 0, k)
        binned = max(binned, (n**2 - 1) * inplane[k] ** 2 / 12)
        inplane = np.where(np.arange(2) == k, inplane * n, inplane)
    return volume, inplane, float(binned)


def _candidates(volume: NDArray, inplane: Float) -> tuple[NDArray[np.int64], Float]:
    """Return points [N, 3] where the gradient in the plane peaks along itself, and its direction [N, 2]."""
    from scipy.ndimage import gaussian_filter, map_coordinates

    smooth = gaussian_filter(volume, (BLUR / inplane[0], BLUR / inplane[1], 0))
    gradient = np.stack([np.gradient(smooth, inplane[k], axis=k) for k in (0, 1)])
    size = np.hypot(*gradient)
    direction = gradient / np.maximum(size, 1e-12)
    where = np.indices(size.shape, dtype=np.float32)
    peak = size > LEAST_CONTRAST * np.subtract(*np.percentile(smooth, (99.5, 1)))  # per slice spacing
    for sign in (-1, 1):
        beside = [where[k] + sign * inplane.min() / inplane[k] * direction[k] for k in (0, 1)]
        peak &= size > map_coordinates(size, [*beside, where[2]], order=1, mode="nearest") * (1 - 1e-6 * sign)
    peak[..., [0, -1]] = False
    points = np.argwhere(peak)
    strongest = np.sort(np.argsort(-size[peak], kind="stable")[:CANDIDATES])
    points = points[strongest]
    return points, direction[:, points[:, 0], points[:, 1], points[:, 2]].T


def _profiles(volume: NDArray, inplane: Float, points: NDArray, normal: Float) -> tuple[Float, NDArray]:
    """Return positions u [L] across edges, slice spacings, and what the slices around hold there, [N, 3, L]."""
    from scipy.ndimage import map_coordinates, spline_filter

    step = max(float(inplane.min()), 1 / 12)
    u = np.arange(-np.floor(REACH / step), np.floor(REACH / step) + 1) * step
    across = [points[:, k, None] + normal[:, k, None] * u / inplane[k] for k in (0, 1)]
    lines = np.empty((len(points), 3, u.size), dtype=np.float32)
    for i in range(volume.shape[2]):
        coefficients = spline_filter(volume[..., i], order=3, output=np.float32)
        for k in (-1, 0, 1):
            here = points[:, 2] + k == i
            at = [line[here] for line in across]
            lines[here, k + 1] = map_coordinates(coefficients, at, order=3, mode="nearest", prefilter=False)
    return u, lines


def _most_like_edges(u: Float, lines: NDArray) -> tuple[NDArray[np.int64], Float]:
    """Return which lines [K] a blurred step fits best, relative to its contrast, and at which of 15 shifts, [N]."""
    from scipy.special import ndtr

    best, shift = np.full(len(lines), np.inf), np.zeros(len(lines))
    for p in np.linspace(-STEEPEST, STEEPEST, 15):
        t = u - ORDER * p
        near = np.abs(t) < WINDOW
        shape = ndtr(t[near] / 0.25)
        values = lines[:, near]
        shape = shape - shape.mean()
        values = values - values.mean(axis=1, keepdims=True)
        contrast = values @ shape / (shape @ shape)
        left = ((values - contrast[:, None] * shape) ** 2).mean(axis=1)
        misfit = np.where(contrast > 0, left / np.maximum(contrast, 1e-30) ** 2, np.inf)
        better = misfit < best
        best[better], shift[better] = misfit[better], p
    order = np.argsort(best, kind="stable")[:FITTED]
    return np.sort(order[np.isfinite(best[order])]), shift
