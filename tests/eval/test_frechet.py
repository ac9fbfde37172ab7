import math

import numpy as np
import pytest
from scipy.linalg import sqrtm

from bida.errors import SettingsError
from bida.eval import feature_frechet, frechet_distance, kid, ledoit_wolf

RNG = np.random.default_rng(0)


def covariance(size, seed=0):
    a = np.random.default_rng(seed).normal(size=(size, 2 * size))
    return a @ a.T / size


def test_a_shift_alone_is_its_squared_length():
    shift = np.array([3.0, -4.0, 0.0])
    assert frechet_distance(np.ones(3), covariance(3), np.ones(3) + shift, covariance(3)) == pytest.approx(25)


def test_one_dimension():
    """(m_a - m_b)^2 + (s_a - s_b)^2."""
    assert frechet_distance([1.0], [[4.0]], [3.0], [[25.0]]) == pytest.approx(4 + 9)


def test_commuting_covariances():
    """In common axes the distance is the sum of (sqrt(l_a) - sqrt(l_b))^2."""
    axes, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(5, 5)))
    l_a, l_b = np.array([0.0, 1, 2, 3, 4]), np.array([9.0, 0, 1, 5, 4])
    got = frechet_distance(np.zeros(5), axes * l_a @ axes.T, np.zeros(5), axes * l_b @ axes.T)
    assert got == pytest.approx(np.square(np.sqrt(l_a) - np.sqrt(l_b)).sum(), rel=1e-6)  # roots of 1e-16 in l = 0


def test_against_the_general_matrix_root():
    a, b = covariance(6, 1), covariance(6, 2)
    expected = np.trace(a + b - 2 * sqrtm(a @ b).real)
    got = frechet_distance(np.zeros(6), a, np.zeros(6), b)
    assert got == pytest.approx(expected, rel=1e-9)
    assert got == pytest.approx(frechet_distance(np.zeros(6), b, np.zeros(6), a), rel=1e-9)


def test_singular_covariances_of_few_samples():
    x = RNG.normal(size=(8, 50))
    c = np.cov(x, rowvar=False)
    assert frechet_distance(x.mean(0), c, x.mean(0), c) < 1e-6 * np.trace(c)
    assert frechet_distance(x.mean(0), c, x.mean(0), 4 * c) == pytest.approx(np.trace(c), rel=1e-6)


@pytest.mark.parametrize("n, p", [(5, 8), (40, 6), (400, 3)])
def test_ledoit_wolf_by_its_definition(n, p):
    x = np.random.default_rng(n).normal(size=(n, p)) * np.arange(1, p + 1) + 7
    centred = x - x.mean(0)
    S = sum(np.outer(row, row) for row in centred) / n
    mu = np.trace(S) / p
    d2 = np.sum((S - mu * np.eye(p)) ** 2) / p
    b2 = min(sum(np.sum((np.outer(row, row) - S) ** 2) for row in centred) / p / n**2, d2)
    expected = b2 / d2 * mu * np.eye(p) + (d2 - b2) / d2 * S
    got, rho = ledoit_wolf(x)
    np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-12)
    assert rho == pytest.approx(b2 / d2)


def test_shrinkage_brings_few_samples_nearer_to_the_truth_and_fades_with_many():
    size = 20
    truth = np.diag(np.linspace(0.5, 2, size))
    few = np.random.default_rng(3).normal(size=(25, size)) @ np.sqrt(truth)
    many = np.random.default_rng(4).normal(size=(20_000, size)) @ np.sqrt(truth)
    assert np.linalg.norm(ledoit_wolf(few)[0] - truth) < 0.7 * np.linalg.norm(np.cov(few, rowvar=False) - truth)
    assert ledoit_wolf(few)[1] > 0.3 and ledoit_wolf(many)[1] < 0.01


def test_auto_shrinks_below_ten_samples_a_dimension():
    a, b = RNG.normal(size=(2, 40, 4)) * np.arange(1, 5)
    shrunk, plain = feature_frechet(a, b, "ledoit-wolf"), feature_frechet(a, b, "none")
    assert shrunk != plain
    assert feature_frechet(a, b) == plain
    assert feature_frechet(a[:39], b) == feature_frechet(a[:39], b, "ledoit-wolf")
    assert plain == frechet_distance(a.mean(0), np.cov(a.T), b.mean(0), np.cov(b.T))


def test_features_drawn_from_known_gaussians():
    a = np.random.default_rng(5).normal(size=(60_000, 3))
    b = np.random.default_rng(6).normal(size=(60_000, 3)) * 2 + [1, 0, 0]
    assert feature_frechet(a, b) == pytest.approx(1 + 3, rel=0.02)  # standard error about 1%


@pytest.mark.parametrize("shrinkage", ["none", "ledoit-wolf"])
def test_few_samples_of_many_dimensions_by_the_whole_covariances(shrinkage):
    """The short way over the samples' span is exact."""
    rng = np.random.default_rng(8)
    a, b = rng.normal(size=(9, 40)) + 1, 2 * rng.normal(size=(12, 40)) * np.linspace(0.1, 2, 40)
    covariances = [ledoit_wolf(x)[0] if shrinkage == "ledoit-wolf" else np.cov(x, rowvar=False) for x in (a, b)]
    expected = frechet_distance(a.mean(0), covariances[0], b.mean(0), covariances[1])
    assert feature_frechet(a, b, shrinkage) == pytest.approx(expected, rel=1e-6)


def test_kid_by_its_definition():
    x, y = RNG.normal(size=(2, 6, 3))
    y = y + 0.5

    def k(p, q):
        return (np.dot(p, q) / 3 + 1) ** 3

    pairs = [(i, j) for i in range(6) for j in range(6)]
    expected = (
        sum(k(x[i], x[j]) + k(y[i], y[j]) for i, j in pairs if i != j) / 30
        - 2 * sum(k(x[i], y[j]) for i, j in pairs) / 36
    )
    assert kid(x, y, subsets=3, subset_size=6).mean == pytest.approx(expected)


def test_kid_is_unbiased_and_its_spread_says_how_far_it_strays():
    drawn = [kid(*np.random.default_rng(seed).normal(size=(2, 40, 5)), subsets=20) for seed in range(60)]
    means = np.array([d.mean for d in drawn])
    assert abs(means.mean()) < 3 * means.std() / math.sqrt(60)
    assert drawn[0].subset_size == 20 and drawn[0].spread > 0
    far = kid(RNG.normal(size=(40, 5)), RNG.normal(size=(40, 5)) + 1)
    assert far.mean > 5 * np.abs(means).max()
    assert kid(*np.ones((2, 9, 3)), subsets=1).subset_size == 4


def test_kid_is_seed_exact():
    x, y = RNG.normal(size=(2, 30, 3))
    assert kid(x, y, seed=1) == kid(x, y, seed=1) != kid(x, y, seed=2)


def test_bad_input():
    eye = np.eye(2)
    with pytest.raises(SettingsError, match="cov_b must be"):
        frechet_distance(np.zeros(2), eye, np.zeros(2), np.eye(3))
    with pytest.raises(SettingsError, match="means must be"):
        frechet_distance(np.zeros(2), eye, np.zeros(3), eye)
    with pytest.raises(SettingsError, match="finite and symmetric"):
        frechet_distance(np.zeros(2), [[1, 2], [0, 1]], np.zeros(2), eye)
    with pytest.raises(SettingsError, match="means must be finite"):
        frechet_distance([0, np.nan], eye, np.zeros(2), eye)
    with pytest.raises(SettingsError, match="at least 2 samples"):
        feature_frechet(np.zeros((1, 3)), np.zeros((5, 3)))
    with pytest.raises(SettingsError, match="b: features must be finite"):
        feature_frechet(np.zeros((5, 3)), np.full((5, 3), np.inf))
    with pytest.raises(SettingsError, match="one dimension, got 3 and 4"):
        kid(np.zeros((5, 3)), np.zeros((5, 4)))
    with pytest.raises(SettingsError, match="shrinkage must be"):
        feature_frechet(np.zeros((5, 3)), np.zeros((5, 3)), "some")
    for options in ({"subsets": 0}, {"subset_size": 6}, {"subset_size": 1}):
        with pytest.raises(SettingsError, match=r"subset_size in 2\.\.5"):
            kid(np.zeros((5, 3)), np.zeros((5, 3)), **options)
