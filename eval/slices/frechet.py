"""Distances between two samples of features: of Frechet between Gaussians, and the kernel distance (KID).

A covariance estimated from few samples has eigenvalues that are too far apart, and the Frechet distance between two
halves of one set is then far from zero. Shrinkage mends most of it; the kernel distance has no such bias at all, but
a spread that its subsets show.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bida.errors import SettingsError

Float = NDArray[np.float64]
Shrinkage = Literal["auto", "ledoit-wolf", "none"]

# samples a dimension below which `auto` shrinks: at 10 the sample eigenvalues of white data already range over
# (1 -+ sqrt(1/10))^2 = 0.47 to 1.73 (Marchenko & Pastur 1967)
FEW = 10
KID_SUBSET = 1000  # Binkowski et al.'s


@dataclass(frozen=True)
class Kid:
    """Kernel distance: its mean over random subsets, their standard deviation, and how many and how large they were."""

    mean: float
    spread: float
    subsets: int
    subset_size: int


def frechet_distance(mean_a: ArrayLike, cov_a: ArrayLike, mean_b: ArrayLike, cov_b: ArrayLike) -> float:
    """Return the squared Frechet (2-Wasserstein) distance between two Gaussians.

    |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a^1/2 C_b C_a^1/2)^1/2). Both roots are of symmetric matrices and come from
    their eigenvalues, those below zero by rounding set to zero, so that singular covariances need no added diagonal.

    Args:
        mean_a: mean [D].
        cov_a: covariance [D, D], symmetric.
        mean_b: mean [D].
        cov_b: covariance [D, D].

    Raises:
        SettingsError: shapes don't fit, a value is NaN or Inf, or a covariance isn't symmetric.

    Source: Dowson & Landau, J. Multivariate Anal. 12:450-455, 1982; as a figure of merit Heusel et al., NeurIPS 2017.
    """
    m_a, m_b = (np.atleast_1d(np.asarray(m, dtype=np.float64)) for m in (mean_a, mean_b))
    c_a, c_b = (_symmetric(name, c, m_a.size) for name, c in (("cov_a", cov_a), ("cov_b", cov_b)))
    if m_a.ndim != 1 or m_a.shape != m_b.shape:
        raise SettingsError(f"frechet: means must be [D] of one length, got shapes {m_a.shape} and {m_b.shape}")
    if not (np.isfinite(m_a).all() and np.isfinite(m_b).all()):
        raise SettingsError("frechet: means must be finite, got NaN or Inf")
    values, vectors = np.linalg.eigh(c_a)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    product = root @ c_b @ root
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh((product + product.T) / 2), 0)).sum()
    distance = np.square(m_a - m_b).sum() + np.trace(c_a) + np.trace(c_b) - 2 * cross
    return max(float(distance), 0.0)  # rounding may leave -1e-15 of the trace for equal Gaussians


def ledoit_wolf(features: ArrayLike) -> tuple[Float, float]:
    """Return the shrunk covariance [D, D] of features [N, D], and the intensity of the shrinkage, 0 to 1.

    (1 - rho) S + rho mu I with S the covariance about the sample's mean divided by N, mu its mean eigenvalue, and rho
    the share of the distance of S from mu I that is the error of S.

    Raises:
        SettingsError: features aren't [N >= 2, D], or a value is NaN or Inf.

    Source: Ledoit & Wolf, J. Multivariate Anal. 88:365-411, 2004, section 3.3.
    """
    from sklearn import covariance

    shrunk, rho = covariance.ledoit_wolf(_features("features", features))
    return shrunk, float(rho)


def feature_frechet(a: ArrayLike, b: ArrayLike, shrinkage: Shrinkage = "auto") -> float:
    """Return the squared Frechet distance between the Gaussians fitted to two samples of features.

    Args:
        a: features [N, D].
        b: features [M, D].
        shrinkage: `ledoit-wolf` shrinks both covariances, `none` neither, and `auto` shrinks both if the smaller
            sample has fewer than 10 samples a dimension.

    Raises:
        SettingsError: an argument is not as said, a sample has fewer than 2 rows, or a value is NaN or Inf.
    """
    from sklearn.covariance import ledoit_wolf_shrinkage

    x, y = _pair(a, b)
    if shrinkage not in ("auto", "ledoit-wolf", "none"):
        raise SettingsError(f"shrinkage must be auto, ledoit-wolf or none, got {shrinkage!r}")
    dimension = x.shape[1]
    shrinks = shrinkage == "ledoit-wolf" or (shrinkage == "auto" and min(len(x), len(y)) < FEW * dimension)
    rhos = [float(ledoit_wolf_shrinkage(sample)) if shrinks else 0.0 for sample in (x, y)]
    levels = [
        rho * float(sample.var(axis=0).mean()) for rho, sample in zip(rhos, (x, y))
    ]  # rho times the mean eigenvalue
    if len(x) + len(y) < dimension:
        # few samples span little: in an orthonormal basis of it the other dimensions hold the shrinkage's level alone
        basis = np.linalg.qr(np.concatenate([x, y]).T)[0]
        x, y = x @ basis, y @ basis
    covariances = [
        (1 - rho) * np.atleast_2d(np.cov(sample, rowvar=False, bias=shrinks)) + level * np.eye(sample.shape[1])
        for sample, rho, level in zip((x, y), rhos, levels)
    ]
    within = frechet_distance(x.mean(axis=0), covariances[0], y.mean(axis=0), covariances[1])
    return within + (dimension - x.shape[1]) * (math.sqrt(levels[0]) - math.sqrt(levels[1])) ** 2


def kid(a: ArrayLike, b: ArrayLike, subsets: int = 100, subset_size: int | None = None, seed: int = 0) -> Kid:
    """Return the kernel distance, the unbiased squared MMD under the kernel (x.y / D + 1)^3, over random subsets.

    Args:
        a: features [N, D].
        b: features [M, D].
        subsets: how many pairs of subsets are drawn, each without replacement.
        subset_size: samples in each; default half of the smaller sample, at most 1000.
        seed: of the draws.

    Raises:
        SettingsError: an argument is not as said, or subset_size is out of 2..min(N, M).

    Source: Binkowski et al., ICLR 2018, section 4.
    """
    x, y = _pair(a, b)
    least = min(len(x), len(y))
    size = min(KID_SUBSET, least // 2) if subset_size is None else subset_size
    if subsets < 1 or not 2 <= size <= least:
        raise SettingsError(
            f"kid: subsets must be >= 1 and subset_size in 2..{least} (the smaller sample), got {subsets} and {size}"
        )
    generator = np.random.default_rng(seed)
    drawn = [_mmd2(*(f[generator.choice(len(f), size, replace=False)] for f in (x, y))) for _ in range(subsets)]
    spread = float(np.std(drawn, ddof=1)) if subsets > 1 else math.nan
    return Kid(float(np.mean(drawn)), spread, subsets, size)


def _mmd2(x: Float, y: Float) -> float:
    """Return the unbiased squared MMD of two samples of one size [n, D]."""
    n, dimension = x.shape
    xx, yy, xy = ((p @ q.T / dimension + 1) ** 3 for p, q in ((x, x), (y, y), (x, y)))
    within = xx.sum() - np.trace(xx) + yy.sum() - np.trace(yy)
    return float(within / (n * (n - 1)) - 2 * xy.mean())


def _pair(a: ArrayLike, b: ArrayLike) -> tuple[Float, Float]:
    x, y = _features("a", a), _features("b", b)
    if x.shape[1] != y.shape[1]:
        raise SettingsError(f"features must have one dimension, got {x.shape[1]} and {y.shape[1]}")
    return x, y


def _features(name: str, features: ArrayLike) -> Float:
    x = np.asarray(features, dtype=np.float64)
    if x.ndim != 2 or len(x) < 2 or not x.shape[1]:
        raise SettingsError(f"{name}: features must be [N, D] with at least 2 samples, got shape {x.shape}")
    if not np.isfinite(x).all():
        raise SettingsError(f"{name}: features must be finite, got NaN or Inf")
    return x


def _symmetric(name: str, covariance: ArrayLike, size: int) -> Float:
    c = np.atleast_2d(np.asarray(covariance, dtype=np.float64))
    if c.shape != (size, size):
        raise SettingsError(f"{name} must be [{size}, {size}] like its mean, got shape {c.shape}")
    if not np.isfinite(c).all() or not np.allclose(c, c.T, rtol=1e-6, atol=1e-9 * np.abs(c).max(initial=0)):
        raise SettingsError(f"{name} must be finite and symmetric, got one that is not")
    return (c + c.T) / 2
