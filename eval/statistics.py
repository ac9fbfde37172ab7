"""Paired comparison of two methods over animals: test, effect size, interval, and correction for many tests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bida.errors import SettingsError

Float = NDArray[np.float64]

EXACT_PAIRS = 50  # up to so many scipy tabulates the distribution of the signed-rank statistic; it holds without ties
EXACT_TIED_PAIRS = 13  # with ties every assignment of signs is counted, 2^13 of them
RESAMPLES = 9999


@dataclass(frozen=True)
class Comparison:
    """Method a against method b over the same animals; every difference is a - b.

    Attributes:
        n: Pairs.
        zeros: Pairs without a difference; the test drops them, the differences and their interval keep them.
        median_difference: Median over pairs.
        mean_difference: Mean over pairs.
        low: Lower end of the bootstrap interval of the mean difference; nan for n = 1.
        high: Its upper end; nan for n = 1.
        level: Its nominal coverage.
        effect: Matched-pairs rank-biserial correlation, from -1 (b larger in every pair) to 1; 0 where all are equal.
        p: Two-sided p of the Wilcoxon signed-rank test; 1 where all pairs are equal.
        smallest_p: The smallest p that n pairs allow; out of reach where zeros were dropped.
        exact: Whether p comes from the exact distribution, not from the normal approximation.
    """

    n: int
    zeros: int
    median_difference: float
    mean_difference: float
    low: float
    high: float
    level: float
    effect: float
    p: float
    smallest_p: float
    exact: bool


def compare(a: ArrayLike, b: ArrayLike, level: float = 0.95, seed: int = 0) -> Comparison:
    """Compare two methods by the two-sided Wilcoxon signed-rank test on the same animals.

    Pairs without a difference are dropped, as Wilcoxon does. p is exact for up to 50 pairs without ties among the sizes
    of their differences and for up to 13 with ties, else the normal approximation with the correction for ties.

    Args:
        a: one value an animal, [N].
        b: values of the same animals in the same order, [N].
        level: coverage of the interval of the mean difference, between 0 and 1.
        seed: seed of the bootstrap, >= 0.

    Raises:
        SettingsError: lengths differ, there is no pair, a value is NaN or Inf, or level or seed is out of its range.

    Source: Wilcoxon, Biometrics Bulletin 1(6):80-83, 1945; effect size: Kerby, Comprehensive Psychology 3, 2014.
    """
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape or not x.size:
        raise SettingsError(f"compare needs two lists of one length >= 1, got shapes {x.shape} and {y.shape}")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise SettingsError("compare needs finite values, got NaN or Inf; leave the pair out")
    difference = x - y
    low, high = bootstrap_interval(difference, level=level, seed=seed)
    p, effect, exact = _signed_rank(difference[difference != 0])
    return Comparison(
        n=int(x.size),
        zeros=int(np.count_nonzero(difference == 0)),
        median_difference=float(np.median(difference)),
        mean_difference=float(difference.mean()),
        low=low,
        high=high,
        level=float(level),
        effect=effect,
        p=p,
        smallest_p=smallest_p(int(x.size)),
        exact=exact,
    )


def smallest_p(n: int) -> float:
    """Return the smallest two-sided p that the signed-rank test can reach with n pairs, 2^(1 - n).

    It is reached where every difference has the same sign: two of the 2^n equally likely assignments of signs. The
    level 0.001 is thus out of reach with fewer than 11 pairs.

    Raises:
        SettingsError: n is below 1.
    """
    if n < 1:
        raise SettingsError(f"smallest_p: n must be >= 1 pair, got {n}")
    return 2.0 ** (1 - n)


def holm(ps: Sequence[float] | NDArray) -> list[float]:
    """Return p-values adjusted for their number by Holm's step-down method, in the order given.

    An adjusted p at or below a level is significant at that level for the family as a whole.

    Raises:
        SettingsError: a p-value is not between 0 and 1.

    Source: Holm, Scandinavian Journal of Statistics 6(2):65-70, 1979.
    """
    values = np.asarray(ps, dtype=np.float64)
    if values.ndim != 1 or not ((values >= 0) & (values <= 1)).all():
        raise SettingsError(f"holm needs a list of p-values between 0 and 1, got {values.tolist()}")
    order = np.argsort(values, kind="stable")
    remaining = np.arange(values.size, 0, -1)  # hypotheses not yet rejected: m for the smallest p, 1 for the largest
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.maximum.accumulate(remaining * values[order]), 1.0)
    return [float(p) for p in adjusted]


def bootstrap_interval(
    values: ArrayLike, level: float = 0.95, seed: int = 0, resamples: int = RESAMPLES
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the mean over animals; (nan, nan) for a single animal.

    Few animals make it too narrow: it can't reach beyond the values, and with N = 3 it covers the true mean of
    Gaussian values in about three of four cases where 95% is asked for.

    Args:
        values: one value an animal, [N].
        level: coverage, between 0 and 1.
        seed: seed of the resampling, >= 0.
        resamples: how many resampled sets of animals to draw.

    Raises:
        SettingsError: there is no value, one is NaN or Inf, or level, seed or resamples is out of its range.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13; computed by scipy.
    """
    # imported here: `import bida.eval` must not wait for scipy.stats
    from scipy import stats

    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or not sample.size or not np.isfinite(sample).all():
        raise SettingsError(f"bootstrap_interval needs a list of finite values, got shape {sample.shape}")
    if not 0 < level < 1:
        raise SettingsError(f"bootstrap_interval: level must be between 0 and 1, got {level:g}")
    if resamples < 1 or seed < 0:
        raise SettingsError(f"bootstrap_interval: resamples must be >= 1 and seed >= 0, got {resamples} and {seed}")
    if sample.size == 1:
        return math.nan, math.nan
    interval = stats.bootstrap(
        (sample,),
        np.mean,
        n_resamples=resamples,
        confidence_level=level,
        method="percentile",
        random_state=np.random.default_rng(seed),
    ).confidence_interval
    return float(interval.low), float(interval.high)


def _signed_rank(difference: Float) -> tuple[float, float, bool]:
    """Return p, rank-biserial correlation and whether p is exact, of differences none of which is zero."""
    from scipy import stats

    n = difference.size
    if not n:
        return 1.0, 0.0, True
    sizes = np.abs(difference)
    signed_ranks = np.sign(difference) * stats.rankdata(sizes)
    effect = float(signed_ranks.sum() / (n * (n + 1) / 2))
    tied = np.unique(sizes).size < n
    if tied and n <= EXACT_TIED_PAIRS:
        # a single sample's permutations are changes of sign: all 2^n of them, so nothing is random
        test = stats.permutation_test(
            (signed_ranks,), np.sum, permutation_type="samples", vectorized=True, n_resamples=2**n
        )
        return float(test.pvalue), effect, True
    exact = not tied and n <= EXACT_PAIRS
    p = stats.wilcoxon(difference, method="exact" if exact else "approx").pvalue
    return float(p), effect, exact
