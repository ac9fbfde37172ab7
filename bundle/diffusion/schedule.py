"""The noise schedule as a table of alpha-bar, and the list of times that a sampler visits."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bida.errors import SettingsError

EPS_FLOOR = 1e-4  # alpha-bar from which a network that predicts the noise can tell the signal


def cosine_alpha_bar(T: int = 1000) -> Tensor:
    """Return alpha-bar of the cosine schedule (Nichol & Dhariwal 2021, Eq. 17), as MONAI's "cosine" schedule has it.

    f(u) = cos^2( (u + 0.008) / 1.008 * pi / 2 ), beta_t = min(0.999, 1 - f((t+1)/T) / f(t/T)), and alpha-bar_t is the
    running product of 1 - beta, so that t = 0 already holds a little noise and t = T - 1 a little signal.

    Args:
        T: number of diffusion times.

    Returns:
        [T] float64, strictly decreasing, inside (0, 1).
    """
    u = torch.arange(T + 1, dtype=torch.float64) / T
    f = torch.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2
    beta = (1 - f[1:] / f[:-1]).clamp(max=0.999)
    return torch.cumprod(1 - beta, dim=0)


def linear_alpha_bar(T: int = 1000) -> Tensor:
    """Return alpha-bar of the linear schedule (Ho et al. 2020, section 4), whose beta rises from 0.1 / T to 20 / T.

    Args:
        T: number of diffusion times; theirs is 1000. The scaling is that of Nichol & Dhariwal 2021.

    Returns:
        [T] float64, strictly decreasing, inside (0, 1).

    Raises:
        SettingsError: T is too small for a beta below 1.
    """
    if T <= 20:
        raise SettingsError(f"timesteps: must be above 20 with the linear schedule, got {T}; use 1000")
    return torch.cumprod(1 - torch.linspace(0.1 / T, 20 / T, T, dtype=torch.float64), dim=0)


# weights hold a schedule as its place here: add at the end only
SCHEDULES = {"cosine": cosine_alpha_bar, "linear": linear_alpha_bar}


def alpha_bar_of(schedule: str, T: int) -> Tensor:
    """Return alpha-bar of a schedule by its name in `SCHEDULES`, [T] float64.

    Raises:
        SettingsError: there is none of that name.
    """
    if schedule not in SCHEDULES:
        raise SettingsError(f"schedule: must be one of {', '.join(SCHEDULES)}, got {schedule!r}; use cosine")
    return SCHEDULES[schedule](T)


def timestep_pairs(steps: int, T: int = 1000, start: int | None = None) -> list[tuple[int, int]]:
    """List the pairs (t, t_next) that the sampler visits, evenly spaced and strictly decreasing.

    The times are round((start + 1) (1 - k / steps) - 1), half to even, for k = 0 .. steps - 1. The last pair ends at
    t_next = -1, which stands for alpha-bar' = 1: the clean sample.

    Args:
        steps: number of pairs, at most `start` + 1.
        T: number of diffusion times.
        start: the first time; T - 1 when not given.

    Raises:
        SettingsError: no such list exists.
    """
    first = T - 1 if start is None else start
    if not 0 <= first < T:
        raise SettingsError(f"start: must be a time from 0 to {T - 1}, got {first}")
    if not 1 <= steps <= first + 1:
        raise SettingsError(f"steps: must be from 1 to {first + 1}, got {steps}")
    # exact integers until the one division: round() is then half to even as np.round is, without its drift
    times = [round((first + 1) * (steps - k) / steps - 1) for k in range(steps)]
    return list(zip(times, [*times[1:], -1]))


def first_time_above(alpha_bar: Tensor, floor: float) -> int:
    """Return the noisiest time whose alpha-bar is above `floor`.

    A network that predicts the noise starts there: x0 = (x - sqrt(1 - ab) e) / sqrt(ab) loses its digits below 1e-4.

    Args:
        alpha_bar: [T], decreasing.
        floor: threshold.

    Raises:
        SettingsError: no time lies above it.
    """
    above = int((alpha_bar > floor).sum())
    if above == 0:
        raise SettingsError(f"alpha_bar: no time lies above {floor}, its largest is {float(alpha_bar.max()):.3g}")
    return above - 1
