from itertools import pairwise

import numpy as np
import pytest
import torch
from monai.networks.schedulers import DDIMScheduler

from bida.diffusion.schedule import alpha_bar_of, cosine_alpha_bar, first_time_above, timestep_pairs
from bida.errors import SettingsError

SIXTEEN = [999, 936, 874, 812, 749, 686, 624, 562, 499, 436, 374, 312, 249, 186, 124, 62]


@pytest.mark.parametrize("T", [50, 1000])
def test_alpha_bar_is_monai_s_cosine_schedule(T):
    ours = cosine_alpha_bar(T)
    theirs = DDIMScheduler(num_train_timesteps=T, schedule="cosine").alphas_cumprod
    # theirs is in float32, where 1 - 0.999 (the clipped last beta) is off by 6e-5 of itself
    torch.testing.assert_close(ours, theirs.double(), rtol=1e-4, atol=0)


def test_alpha_bar_is_the_closed_form_but_for_the_clipped_last_time():
    ours = cosine_alpha_bar().numpy()
    f = np.cos((np.arange(1001) / 1000 + 0.008) / 1.008 * np.pi / 2) ** 2
    assert ours.dtype == np.float64
    assert np.allclose(ours[:-1], f[1:-1] / f[0], rtol=1e-9, atol=0)
    assert np.isclose(ours[-1], ours[-2] * 1e-3, rtol=1e-9)
    assert np.all(np.diff(ours) < 0) and ours[-1] > 0 and ours[0] < 1


def test_the_linear_schedule_is_monai_s():
    theirs = DDIMScheduler(num_train_timesteps=1000, schedule="linear_beta", beta_start=1e-4, beta_end=0.02)
    torch.testing.assert_close(alpha_bar_of("linear", 1000), theirs.alphas_cumprod.double(), rtol=1e-4, atol=0)


@pytest.mark.parametrize("T", [50, 100, 500, 1000])
def test_the_linear_schedule_ends_in_noise_whatever_its_length(T):
    alpha_bar = alpha_bar_of("linear", T)
    assert alpha_bar[0] > 0.99 and 0 < alpha_bar[-1] < 1e-4
    assert (alpha_bar.diff() < 0).all()
    with pytest.raises(SettingsError, match="timesteps: must be above 20 with the linear schedule, got 20; use 1000"):
        alpha_bar_of("linear", 20)


def test_a_schedule_goes_by_its_name():
    assert torch.equal(alpha_bar_of("cosine", 50), cosine_alpha_bar(50))
    with pytest.raises(SettingsError, match="schedule: must be one of cosine, linear, got 'sigmoid'; use cosine"):
        alpha_bar_of("sigmoid", 50)


def test_sixteen_steps_are_the_published_ones():
    assert timestep_pairs(16) == list(zip(SIXTEEN, [*SIXTEEN[1:], -1]))


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 10, 20, 32, 50, 100, 250, 1000])
def test_pairs_are_numpy_s_rounded_range(steps):
    times = [t for t, _ in timestep_pairs(steps)]
    assert times == list(np.round(np.arange(1000, 0, -1000 / steps) - 1).astype(int))


@pytest.mark.parametrize("start", [None, 992, 62])
def test_pairs_fall_strictly_from_the_start_to_the_clean_sample(start):
    first = 999 if start is None else start
    for steps in range(1, first + 2):
        pairs = timestep_pairs(steps, start=start)
        assert len(pairs) == steps
        assert pairs[0][0] == first and pairs[-1][1] == -1
        assert all(t > t_next for t, t_next in pairs)
        assert all(pair[1] == after[0] for pair, after in pairwise(pairs))


@pytest.mark.parametrize("steps, start", [(0, None), (1001, None), (64, 62), (4, 1000), (4, -1)])
def test_impossible_lists_are_refused(steps, start):
    with pytest.raises(SettingsError, match=r"must be .* got"):
        timestep_pairs(steps, start=start)


def test_first_time_above():
    alpha_bar = cosine_alpha_bar()
    t = first_time_above(alpha_bar, 1e-4)
    assert alpha_bar[t] > 1e-4 >= alpha_bar[t + 1]
    with pytest.raises(SettingsError, match="no time lies above 2"):
        first_time_above(alpha_bar, 2)
