import itertools
import json
import math
from dataclasses import asdict

import numpy as np
import pytest

from bida.errors import SettingsError
from bida.eval import bootstrap_interval, compare, holm, smallest_p

RNG = np.random.default_rng(0)


def p_by_enumeration(difference):
    """Both signs of every difference that is not zero, 2^n cases: how often is the rank sum as far from its mean?"""
    d = np.asarray([value for value in difference if value != 0])
    below = (np.abs(d)[:, None] > np.abs(d)[None, :]).sum(axis=1)
    equal = (np.abs(d)[:, None] == np.abs(d)[None, :]).sum(axis=1)
    ranks = below + (equal + 1) / 2
    seen = abs((np.sign(d) * ranks).sum())
    signs = np.array(list(itertools.product((-1, 1), repeat=len(d))))
    return float(np.mean(np.abs(signs @ ranks) >= seen - 1e-9))


@pytest.mark.parametrize("n", [1, 2, 3, 5, 10, 11, 13])
@pytest.mark.parametrize("kind", ["plain", "ties", "zeros and ties"])
def test_p_is_exact_for_few_pairs(n, kind):
    difference = RNG.normal(0.4, 1, n)
    if kind != "plain":
        # quarters add without rounding, so that equal differences are equal numbers
        difference = np.round(difference * 2) / 4
        difference[difference == 0] = 0.25 if kind == "ties" else 0.0
    base = np.round(RNG.normal(size=n) * 4) / 4 if kind != "plain" else np.zeros(n)
    found = compare(base + difference, base)
    assert found.zeros == np.count_nonzero(difference == 0)
    if found.zeros < n:
        assert found.p == pytest.approx(p_by_enumeration(difference), rel=1e-9)
    assert found.exact
    assert compare(base, base + difference).p == pytest.approx(found.p, rel=1e-12)


def test_p_of_many_pairs_approaches_the_exact_one():
    """The normal approximation of 60 pairs, against the exact distribution by the recursion over ranks."""
    difference = np.random.default_rng(1).normal(0.2, 1, 60)
    found = compare(difference, np.zeros(60))
    assert not found.exact
    ways = np.zeros(60 * 61 // 2 + 1)
    ways[0] = 1.0
    for rank in range(1, 61):
        ways[rank:] = ways[rank:] + ways[: len(ways) - rank]
    ranks = np.argsort(np.argsort(np.abs(difference))) + 1
    positive = int(ranks[difference > 0].sum())
    smaller = min(positive, len(ways) - 1 - positive)
    assert found.p == pytest.approx(2 * ways[: smaller + 1].sum() / 2.0**60, rel=0.05)


def test_many_tied_pairs_take_the_corrected_approximation():
    """z = (W - n (n + 1) / 4) / sqrt((n (n + 1) (2 n + 1) - sum(t^3 - t) / 2) / 24), t the numbers of equal sizes."""
    difference = np.repeat([1.0, 2.0, 3.0], 8) * np.tile([1, 1, 1, -1], 6)
    found = compare(difference, np.zeros(24))
    positive = 6 * (4.5 + 12.5 + 20.5)  # mean ranks of the three groups of eight, three quarters of each positive
    variance = (24 * 25 * 49 - 3 * (8**3 - 8) / 2) / 24
    z = (positive - 24 * 25 / 4) / math.sqrt(variance)
    assert not found.exact
    assert found.p == pytest.approx(math.erfc(z / math.sqrt(2)), rel=1e-9)
    assert found.effect == pytest.approx(0.5)


def test_the_level_of_the_paper_needs_eleven_pairs():
    assert smallest_p(10) > 0.001 >= smallest_p(11)
    assert smallest_p(3) == 0.25


@pytest.mark.parametrize("n", [1, 2, 3, 10, 11, 13])
@pytest.mark.parametrize("kind", ["plain", "ties"])
def test_differences_of_one_sign_reach_the_smallest_p(n, kind):
    difference = np.arange(1, n + 1) if kind == "plain" else np.ones(n)
    found = compare(difference, np.zeros(n))
    assert found.p == pytest.approx(smallest_p(n), rel=1e-9)
    assert found.smallest_p == smallest_p(n)
    assert found.effect == 1.0
    assert compare(np.zeros(n), difference).effect == -1.0


def test_effect_and_differences_by_hand():
    """Differences 3, -1, 2, 0, 4: ranks 3, 1, 2, 4 without the zero; (3 + 2 + 4 - 1) / 10."""
    found = compare([4.0, 1.0, 5.0, 7.0, 9.0], [1.0, 2.0, 3.0, 7.0, 5.0])
    assert (found.n, found.zeros) == (5, 1)
    assert found.median_difference == 2.0
    assert found.mean_difference == pytest.approx(1.6)
    assert found.effect == pytest.approx(0.8)
    assert found.p == 0.25  # as far out: W- of 0 or 1, two of 16 cases, on either side
    assert found.low < 1.6 < found.high


def test_equal_methods_differ_by_nothing():
    found = compare([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
    assert (found.p, found.effect, found.zeros, found.mean_difference) == (1.0, 0.0, 3, 0.0)
    assert (found.low, found.high) == (0.0, 0.0)


def test_a_comparison_is_plain_numbers():
    found = asdict(compare(RNG.normal(size=4), RNG.normal(size=4)))
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert all(type(value) in (int, float, bool) for value in found.values())


def test_one_animal_has_no_interval():
    found = compare([2.0], [1.0])
    assert found.p == 1.0
    assert math.isnan(found.low) and math.isnan(found.high)


def test_the_interval_of_few_animals_against_all_their_resamples():
    """N = 3 has 27 equally likely resampled sets; 9999 draws place the quantiles among their means."""
    values = np.array([1.0, 2.0, 4.0])
    means = sorted(np.mean(draw) for draw in itertools.product(values, repeat=3))
    assert bootstrap_interval(values, level=0.95) == (means[0], means[-1])  # a tail of 1/27 each is above 2.5%
    # 80%: the 10% and 90% quantiles lie 2.7 of 27 sets from the ends, where the third mean from either end stands
    assert bootstrap_interval(values, level=0.8) == pytest.approx((means[2], means[-3]))


def test_the_interval_of_many_animals_is_the_normal_one():
    values = np.random.default_rng(1).normal(5, 2, 400)
    low, high = bootstrap_interval(values)
    half = 1.96 * values.std() / math.sqrt(400)
    # a quantile of 9999 draws at 2.5% has a relative error of sqrt(.025 .975 / 9999) / .0584 / 1.96 = 1.4%, its
    # distribution a skewness of 1 / sqrt(400) of that of the values: 5% in all
    assert low == pytest.approx(values.mean() - half, abs=0.05 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.05 * half)


def test_the_interval_is_repeatable_and_moves_with_the_values():
    values = RNG.normal(size=6)
    assert bootstrap_interval(values, seed=3) == bootstrap_interval(values, seed=3)
    assert bootstrap_interval(values, seed=3) != bootstrap_interval(values, seed=4)
    low, high = bootstrap_interval(values)
    assert bootstrap_interval(2 * values + 1) == pytest.approx((2 * low + 1, 2 * high + 1))
    narrow = bootstrap_interval(values, level=0.5)
    assert low < narrow[0] < narrow[1] < high


def test_holm_by_hand():
    """3 x 0.01; 2 x 0.03 = 0.06; 1 x 0.04 = 0.04 is raised to the one before it."""
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    assert holm([0.02]) == [0.02]
    assert holm([]) == []


def holm_by_closed_testing(ps):
    """The largest Bonferroni p of all subsets that hold the hypothesis: what Holm's steps are a shortcut of."""
    m = len(ps)
    subsets = [s for size in range(1, m + 1) for s in itertools.combinations(range(m), size)]
    return [max(min(1.0, len(s) * min(ps[j] for j in s)) for s in subsets if i in s) for i in range(m)]


@pytest.mark.parametrize("m", [2, 5, 8])
def test_holm_equals_closed_testing(m):
    ps = (RNG.random(m) ** 3).tolist()
    ps[1] = ps[0]
    assert holm(ps) == pytest.approx(holm_by_closed_testing(ps), rel=1e-12)


def test_holm_equals_statsmodels():
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    ps = RNG.random(40) ** 4
    assert holm(ps) == pytest.approx(multitest.multipletests(ps, method="holm")[1].tolist(), rel=1e-12)


def test_bad_input_is_refused():
    with pytest.raises(SettingsError, match="two lists of one length"):
        compare([1.0, 2.0], [1.0])
    with pytest.raises(SettingsError, match="two lists of one length"):
        compare([], [])
    with pytest.raises(SettingsError, match="NaN or Inf; leave the pair out"):
        compare([math.inf, 1.0], [math.inf, 2.0])
    with pytest.raises(SettingsError, match="between 0 and 1"):
        holm([0.1, math.nan])
    with pytest.raises(SettingsError, match="between 0 and 1"):
        holm([1.1])
    with pytest.raises(SettingsError, match="n must be >= 1"):
        smallest_p(0)
    for options, message in (
        ({"level": 1.0}, "level must be between 0 and 1"),
        ({"resamples": 0}, "resamples must be >= 1"),
        ({"seed": -1}, "seed >= 0"),
    ):
        with pytest.raises(SettingsError, match=message):
            bootstrap_interval([1.0, 2.0], **options)
    for bad in ([], [1.0, math.nan]):
        with pytest.raises(SettingsError, match="finite values"):
            bootstrap_interval(bad)
