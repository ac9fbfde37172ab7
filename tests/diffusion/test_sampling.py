"""For a Gaussian prior the exact denoiser is affine, so the whole sampler is: a basis pushed through it gives its
matrix, and that the exact mean and covariance of what it samples, to hold against the analytic posterior."""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
import torch

from bida.diffusion.sampling import DDNM, DDNMPlus, Level, Unconditional, sample
from bida.diffusion.schedule import cosine_alpha_bar, timestep_pairs
from bida.errors import SettingsError
from bida.physics.geometry import SliceGeometry
from bida.physics.operators import SliceOperator

N, M = 10, 4
ALPHA_BAR = cosine_alpha_bar()
OPERATOR = SliceOperator.build(
    SliceGeometry(axis=0, slices=M, slice_spacing_mm=0.5, thickness_mm=0.5, voxels=N, voxel_mm=0.2, profile="gaussian")
)
A, A_PINV, S = OPERATOR.matrix, OPERATOR.pinv_matrix, OPERATOR.singular_values
V_FULL = np.linalg.svd(A)[2].T  # the first M columns span the range of A+, the others the null space of A
MU = np.random.default_rng(0).normal(size=N) * 0.3
VARIANCES = np.linspace(0.1, 1.0, N)
ALIGNED = V_FULL * VARIANCES @ V_FULL.T  # no correlation between range and null space
X = np.arange(N) * 0.2
SMOOTH = 0.3 * np.exp(-0.5 * ((X[:, None] - X) / 0.3) ** 2) + 0.01 * np.eye(N)  # strong correlation


@dataclass
class Pushed:
    """What the sampler draws from: N(offset + gain y, covariance)."""

    offset: np.ndarray
    gain: np.ndarray
    covariance: np.ndarray


def push(covariance, condition, steps, eta):
    """Push bases of the measurement, of x_T and of each step's noise through the sampler; states: [N, 1, columns]."""
    variances, basis = (torch.from_numpy(part) for part in np.linalg.eigh(covariance))

    def denoiser(mu):
        def denoise(x, t, step):
            ab = float(ALPHA_BAR[t])
            wiener = math.sqrt(ab) * variances / (ab * variances + 1 - ab)
            x0 = mu + basis @ (wiener[:, None] * (basis.T @ (x[:, 0] - math.sqrt(ab) * mu)))
            return x0[:, None], ((x[:, 0] - math.sqrt(ab) * x0) / math.sqrt(1 - ab))[:, None]

        return denoise

    pairs = timestep_pairs(steps)
    y = torch.cat([torch.zeros(M, 1), torch.eye(M)], dim=1).double()[:, None]
    still = torch.zeros(N, 1, M + 1).double()
    mean = sample(
        still, denoiser(torch.from_numpy(MU)[:, None]), pairs, ALPHA_BAR, condition(y), lambda step: still, eta
    )
    columns = N * (steps + 1)

    def noise(step):
        z = torch.zeros(N, 1, columns).double()
        z[:, 0, (step + 1) * N : (step + 2) * N] = torch.eye(N)
        return z

    at_rest = condition(torch.zeros(M, 1, columns).double())
    jacobian = sample(noise(-1), denoiser(torch.zeros(N, 1).double()), pairs, ALPHA_BAR, at_rest, noise, eta)[:, 0]
    mean = mean[:, 0].numpy()
    return Pushed(mean[:, 0], mean[:, 1:] - mean[:, :1], (jacobian @ jacobian.T).numpy())


def posterior(covariance, sigma_y=0.0):
    """Return the moments of x given y = A x + sigma_y n."""
    gain = covariance @ A.T @ np.linalg.inv(A @ covariance @ A.T + sigma_y**2 * np.eye(M))
    return Pushed(MU - gain @ A @ MU, gain, covariance - gain @ A @ covariance)


def error(got, expected):
    return np.linalg.norm(got - expected) / np.linalg.norm(expected)


def ddnm(y):
    return DDNM(OPERATOR, y)


def falls(errors, at_least, at_most):
    """Check that each doubling of the steps shrinks the error by a factor in [at_least, at_most]."""
    ratios = [after / before for before, after in pairwise(errors)]
    assert all(at_least <= ratio <= at_most for ratio in ratios), f"errors {errors}, ratios {ratios}"


@pytest.mark.parametrize("eta, last", [(0.0, 0.025), (0.5, 0.03), (1.0, 0.05)])
@pytest.mark.parametrize("covariance", [ALIGNED, SMOOTH], ids=["aligned", "smooth"])
def test_ddim_samples_the_prior(covariance, eta, last):
    """First order: the error in the covariance halves with twice the steps."""
    pushed = [push(covariance, lambda y: Unconditional(), steps, eta) for steps in (32, 64, 128, 256)]
    errors = [error(p.covariance, covariance) for p in pushed]
    falls(errors, 0.45, 0.62)
    assert errors[-2] < last
    for p in pushed:
        assert np.allclose(p.offset, MU, rtol=0, atol=1e-3)  # x_T has mean 0 where sqrt(ab_T) mu = 5e-5 mu is due
        assert not p.gain.any()


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddnm_samples_the_posterior(eta):
    exact = posterior(ALIGNED)
    pushed = [push(ALIGNED, ddnm, steps, eta) for steps in (32, 64, 128)]
    falls([error(p.covariance, exact.covariance) for p in pushed], 0.45, 0.6)
    for p in pushed:
        assert np.allclose(p.offset, exact.offset, rtol=0, atol=1e-3)
        assert np.allclose(p.gain, exact.gain, rtol=0, atol=1e-10)


@pytest.mark.parametrize("eta, gain, at_most", [(0.0, 0.014, 0.9), (0.5, 0.009, 0.8), (1.0, 0.004, 0.65)])
def test_ddnm_infers_the_null_space_from_the_measurement(eta, gain, at_most):
    """With a correlated prior the measurement tells of the null space too, and the sooner the more fresh noise."""
    exact = posterior(SMOOTH)
    assert np.linalg.norm(exact.gain - A_PINV) > 0.3  # so that A+ y alone would not pass
    pushed = [push(SMOOTH, ddnm, steps, eta) for steps in (16, 32, 64, 128)]
    gains = [error(p.gain, exact.gain) for p in pushed]
    falls(gains, 0.4, at_most)
    assert gains[-1] < gain
    falls([error(p.offset, exact.offset) for p in pushed], 0.4, at_most)
    falls([error(p.covariance, exact.covariance) for p in pushed], 0.45, 0.66)


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("steps", [1, 3, 16])
def test_ddnm_keeps_the_measurement(steps, eta):
    pushed = push(SMOOTH, ddnm, steps, eta)
    assert np.allclose(A @ pushed.gain, np.eye(M), rtol=0, atol=1e-12)
    assert np.allclose(A @ pushed.offset, 0, rtol=0, atol=1e-12)
    assert np.allclose(A @ pushed.covariance, 0, rtol=0, atol=1e-12)


def scalar_ddnm_plus(variance, s, sigma_y, steps, eta):
    """DDNM+ for one range component, written again for numbers: its gain on u = (U^T y)_i / s_i and its variance."""
    gain, weights = 0.0, [1.0]
    times = [t for t, _ in timestep_pairs(steps)]
    for now, after in zip(times, [*times[1:], None]):
        a, b = float(ALPHA_BAR[now]), 1.0 if after is None else float(ALPHA_BAR[after])
        fresh = eta**2 * (1 - b) / (1 - a) * (1 - a / b)
        if after is None:
            lam, shrink = s**2 * (1 - a) / (s**2 * (1 - a) + a * sigma_y**2), 1.0
        else:
            lam = min(1.0, s * math.sqrt((1 - b - fresh) / b) / sigma_y)
            shrink = math.sqrt(max(0.0, 1 - b * (lam * sigma_y / s) ** 2 / (1 - b)))
        wiener = math.sqrt(a) * variance / (a * variance + 1 - a)
        predicted = (1 - math.sqrt(a) * wiener) / math.sqrt(1 - a)
        carried = math.sqrt(b) * (1 - lam) * wiener + shrink * math.sqrt(max(0.0, 1 - b - fresh)) * predicted
        gain = carried * gain + math.sqrt(b) * lam
        weights = [carried * w for w in weights] + [shrink * math.sqrt(fresh)]
    return gain, sum(w * w for w in weights)


@pytest.mark.parametrize("sigma_y", [0.02, 0.1, 0.4])
@pytest.mark.parametrize("eta", [0.0, 0.85, 1.0])
def test_ddnm_plus_is_the_paper_s_recursion_in_each_component(eta, sigma_y):
    pushed = push(ALIGNED, lambda y: DDNMPlus(OPERATOR, y, sigma_y), 16, eta)
    gain = V_FULL.T @ pushed.gain @ OPERATOR.U  # [N, M]: diagonal in the range, nothing in the null space
    covariance = V_FULL.T @ pushed.covariance @ V_FULL
    for i in range(M):
        expected_gain, expected_variance = scalar_ddnm_plus(VARIANCES[i], S[i], sigma_y, 16, eta)
        assert np.isclose(gain[i, i] * S[i], expected_gain, rtol=1e-9), f"{gain[i, i] * S[i]} != {expected_gain}"
        assert np.isclose(covariance[i, i], expected_variance, rtol=1e-9, atol=1e-12)
    assert np.allclose(gain[M:], 0, rtol=0, atol=1e-12)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_ddnm_plus_samples_the_posterior_in_the_null_space(eta):
    exact = posterior(ALIGNED, 0.2)
    null = np.eye(N) - A_PINV @ A
    pushed = [push(ALIGNED, lambda y: DDNMPlus(OPERATOR, y, 0.2), steps, eta) for steps in (32, 64, 128)]
    falls([error(null @ p.covariance @ null, null @ exact.covariance @ null) for p in pushed], 0.45, 0.6)
    for p in pushed:
        assert np.allclose(null @ p.offset, null @ exact.offset, rtol=0, atol=1e-3)


@pytest.mark.parametrize("covariance", [ALIGNED, SMOOTH], ids=["aligned", "smooth"])
@pytest.mark.parametrize("eta", [0.0, 0.85, 1.0])
@pytest.mark.parametrize("sigma_y", [0.1, 0.2, 0.4])
def test_ddnm_plus_is_nearer_to_the_posterior_mean_than_ddnm(sigma_y, eta, covariance):
    """Expected squared error of the mean over measurements: at least a quarter of what DDNM's noise costs is won back.

    Not all of it: below the measurement's noise level DDNM+ goes on correcting by a measurement that x holds already.
    """

    def excess(gain):
        miss = np.eye(N) - gain @ A
        mean_squared_error = np.trace(miss @ covariance @ miss.T) + sigma_y**2 * np.sum(gain**2)
        return mean_squared_error - np.trace(posterior(covariance, sigma_y).covariance)

    plus = excess(push(covariance, lambda y: DDNMPlus(OPERATOR, y, sigma_y), 16, eta).gain)
    plain = excess(push(covariance, ddnm, 16, eta).gain)
    assert 0 <= plus < 0.75 * plain, f"{plus} against {plain}"


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddnm_plus_without_noise_is_ddnm(eta):
    plus, plain = push(SMOOTH, lambda y: DDNMPlus(OPERATOR, y, 0.0), 16, eta), push(SMOOTH, ddnm, 16, eta)
    for name in ("offset", "gain", "covariance"):
        assert np.allclose(getattr(plus, name), getattr(plain, name), rtol=0, atol=1e-12), name


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("sigma_y", [0.01, 0.1, 1.0])
def test_ddnm_plus_keeps_the_noise_budget(sigma_y, eta):
    """The measurement's noise in x^ and the noise added come to sqrt(1 - ab') in every component (Eq. 18)."""
    identity = torch.eye(N).double()[:, None]
    measurement = torch.eye(M).double()[:, None]
    condition = DDNMPlus(OPERATOR, measurement, sigma_y)
    for t, t_next in timestep_pairs(16)[:-1]:
        ab, ab_next = float(ALPHA_BAR[t]), float(ALPHA_BAR[t_next])
        sig = eta * math.sqrt((1 - ab_next) / (1 - ab) * (1 - ab / ab_next))
        level = Level(ab, ab_next, sig)
        from_y = math.sqrt(ab_next) * sigma_y * condition.clean(torch.zeros(N, 1, M).double(), level)[:, 0]
        added = math.sqrt(1 - ab_next) * condition.noise(identity, level)[:, 0]
        total = from_y @ from_y.T + added @ added.T
        torch.testing.assert_close(total, (1 - ab_next) * identity[:, 0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("sigma_y", [0.02, 0.3])
def test_ddnm_plus_ends_with_the_mean_given_state_and_measurement(sigma_y):
    """For a flat prior x0 = x / sqrt(ab) and y are independent witnesses of x: their precisions weigh them."""
    rng = np.random.default_rng(2)
    x, y, ab = rng.normal(size=N), rng.normal(size=M), float(ALPHA_BAR[62])
    r2 = (1 - ab) / ab
    precision = np.eye(N) / r2 + A.T @ A / sigma_y**2
    expected = np.linalg.solve(precision, x / r2 + A.T @ y / sigma_y**2)
    condition = DDNMPlus(OPERATOR, torch.from_numpy(y)[:, None, None], sigma_y)
    got = condition.clean(torch.from_numpy(x)[:, None, None], Level(ab, 1.0, 0.0)).flatten().numpy()
    assert np.allclose(got, expected, rtol=0, atol=1e-10), f"{got} != {expected}"


def test_noise_is_asked_only_where_it_is_used():
    asked = []

    def noise(step):
        asked.append(step)
        return torch.zeros(3)

    def denoise(x, t, step):
        return x, x

    sample(torch.ones(3), denoise, timestep_pairs(4), ALPHA_BAR, Unconditional(), noise, eta=0.0)
    assert asked == []
    sample(torch.ones(3), denoise, timestep_pairs(4), ALPHA_BAR, Unconditional(), noise, eta=0.5)
    assert asked == [0, 1, 2]  # the last step ends in the clean sample


@pytest.mark.parametrize("eta", [-0.1, 1.1, float("nan")])
def test_eta_out_of_range_is_refused(eta):
    with pytest.raises(SettingsError, match="eta: must be from 0 to 1"):
        sample(torch.ones(3), lambda x, t, step: (x, x), [(5, -1)], ALPHA_BAR, Unconditional(), torch.zeros, eta)


@pytest.mark.parametrize("sigma_y", [-0.1, float("nan"), float("inf")])
def test_noise_level_out_of_range_is_refused(sigma_y):
    with pytest.raises(SettingsError, match="sigma_y"):
        DDNMPlus(OPERATOR, torch.zeros(M, 1, 1), sigma_y)
