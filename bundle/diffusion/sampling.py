"""Diffusion sampling under a linear degradation: DDIM, DDNM, DDNM+ and masked rows as one loop and a condition.

Symbols: ab = alpha-bar at t and ab' at the next time (1 at the end), sig the standard deviation of the fresh noise,
x0 and e the estimates of the clean sample and of the noise in x, y = A x + sigma_y n the measurement.

    Song, Meng & Ermon 2021, "Denoising diffusion implicit models"
    Wang, Yu & Zhang 2023, "Zero-shot image restoration using denoising diffusion null-space model"
    Jiang et al. 2024, "Super-resolution of biomedical volumes with 2D supervision"
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bida.errors import SettingsError
from bida.physics.consistency import agreeing
from bida.physics.operators import SliceOperator

Denoise = Callable[[Tensor, int, int], tuple[Tensor, Tensor]]  # (x, t, step) -> (x0, e)
Noise = Callable[[int], Tensor]  # step -> z, standard normal, the shape of x


@dataclass(frozen=True)
class Level:
    """Hold the noise levels of one step.

    Attributes:
        ab: alpha-bar of the state x.
        ab_next: alpha-bar of the state that the step makes; 1 at the last step.
        sig: standard deviation of the fresh noise in it.
    """

    ab: float
    ab_next: float
    sig: float


class LinearOperator(Protocol):
    """A linear degradation y = A x with its SVD, acting on axis `axis`: `bida.physics.operators.SliceOperator`."""

    axis: int
    singular_values: NDArray[np.float64]

    def forward(self, x: Tensor) -> Tensor:
        """Return A x."""

    def pinv(self, y: Tensor) -> Tensor:
        """Return A+ y."""

    def project(self, x: Tensor, y: Tensor) -> Tensor:
        """Return x - A+ (A x - y)."""

    def to_range(self, x: Tensor) -> Tensor:
        """Return V^T x, the r coordinates of x in the range of A+."""

    def from_range(self, c: Tensor) -> Tensor:
        """Return V c."""


class Condition(Protocol):
    """What a measurement does to a step."""

    def clean(self, x0: Tensor, level: Level) -> Tensor:
        """Return x^, the estimate of the clean sample corrected by the measurement."""

    def noise(self, n: Tensor, level: Level) -> Tensor:
        """Return the noise term sqrt(1 - ab' - sig^2) e + sig z, less what the measurement's own noise brings."""


@dataclass(frozen=True)
class Unconditional:
    """Sample the prior: DDIM (eta = 0) to DDPM (eta = 1)."""

    def clean(self, x0: Tensor, level: Level) -> Tensor:
        """Return x0."""
        return x0

    def noise(self, n: Tensor, level: Level) -> Tensor:
        """Return n."""
        return n


@dataclass(frozen=True)
class DDNM:
    """Condition on A x = y exactly (Wang et al. 2023, Alg. 1).

    Attributes:
        operator: A.
        y: the measurement.
    """

    operator: LinearOperator
    y: Tensor

    def clean(self, x0: Tensor, level: Level) -> Tensor:
        """Return A+ y + (I - A+ A) x0: the range of A+ from the measurement, its null space from the prior."""
        return self.operator.project(x0, self.y)

    def noise(self, n: Tensor, level: Level) -> Tensor:
        """Return n."""
        return n


@dataclass(frozen=True)
class DDNMPlus:
    """Condition on y = A x + sigma_y n (Wang et al. 2023, DDNM+, Eq. 17-19, in the coordinates of the SVD).

    In range component i, of singular value s_i, the correction is scaled by lam_i and the noise term to the standard
    deviation gam_i, so that it and the measurement's noise, a' lam_i sigma_y / s_i, come to sqrt(1 - ab') together.
    lam_i is as near to 1 as that allows. sigma_y = 0 is DDNM.

    Attributes:
        operator: A.
        y: the measurement.
        sigma_y: standard deviation of its noise, in the units of y.
    """

    operator: LinearOperator
    y: Tensor
    sigma_y: float

    def __post_init__(self) -> None:
        """Check the noise level."""
        if not 0 <= self.sigma_y < math.inf:
            raise SettingsError(f"sigma_y: must be a number >= 0, got {self.sigma_y}")

    def clean(self, x0: Tensor, level: Level) -> Tensor:
        """Return x0 - V lam V^T (x0 - A+ y) (Eq. 17)."""
        A = self.operator
        return x0 - A.from_range(self._along_axis(self._lam(level), x0) * A.to_range(x0 - A.pinv(self.y)))

    def noise(self, n: Tensor, level: Level) -> Tensor:
        """Return n with its range component i scaled by gam_i / sqrt(1 - ab') (Eq. 18-19)."""
        if level.ab_next == 1:
            return n  # nothing is left to scale
        var = 1 - level.ab_next
        gam2 = var - level.ab_next * (self._lam(level) * self.sigma_y / self.operator.singular_values) ** 2
        scale = np.sqrt(np.maximum(gam2, 0) / var)  # a negative gam2 is rounding: lam keeps it >= sig^2
        return n + self.operator.from_range(self._along_axis(scale - 1, n) * self.operator.to_range(n))

    def _lam(self, level: Level) -> NDArray[np.float64]:
        """Return the weight of the measurement in each range component, [r]."""
        s = self.operator.singular_values
        if level.ab_next == 1:  # precision-weighted mean of A+ y and of x0, whose standard error is about r
            r2 = (1 - level.ab) / level.ab
            return r2 * s**2 / (r2 * s**2 + self.sigma_y**2)
        reach = s * math.sqrt(1 - level.ab_next - level.sig**2)
        return reach / np.maximum(reach, math.sqrt(level.ab_next) * self.sigma_y)  # min(1, .), also at sigma_y = 0

    def _along_axis(self, values: NDArray[np.float64], x: Tensor) -> Tensor:
        """Return one value a range component, [r], in a shape that broadcasts along the operator's axis of x."""
        shape = [1] * x.ndim
        shape[self.operator.axis] = -1
        return torch.as_tensor(values, dtype=x.dtype, device=x.device).reshape(shape)


@dataclass(frozen=True)
class NoisyScan(DDNMPlus):
    """Condition on y = A x + sigma_y n as `DDNMPlus`, but for the last step, where the measurement has its say.

    There x0 is brought to agree with slices of so much noise (`bida.physics.consistency.agreeing`): each measured value
    counts by how far the estimate is from it against the noise. sigma_y = 0 is DDNM.
    """

    operator: SliceOperator

    def clean(self, x0: Tensor, level: Level) -> Tensor:
        """Return x0 that agrees with the noisy slices at the last step; x0 - V lam V^T (x0 - A+ y) before it."""
        if level.ab_next < 1:
            return super().clean(x0, level)
        return agreeing(x0, self.y, self.operator, self.sigma_y)


@dataclass(frozen=True)
class MaskedRows:
    """Condition on acquired planes of a stack (Jiang et al. 2024): those on the grid are voxels and come back exactly.

    A network trained on masked rows wants the planes clean in what it is shown: its denoiser calls `write` on x.

    Attributes:
        rows: the voxels along `axis` that were acquired.
        values: their planes.
        axis: see above.
        between: A and y of a condition A x = y on planes between voxels, which A interpolates; None where there are
            none. They are met as in `DDNM`.
    """

    rows: NDArray[np.int64]
    values: Tensor
    axis: int
    between: DDNM | None = None

    def write(self, x: Tensor) -> Tensor:
        """Return x with the acquired planes in their places."""
        index = torch.as_tensor(self.rows, device=x.device)
        return x.index_copy(self.axis, index, self.values.to(x.dtype))

    def clean(self, x0: Tensor, level: Level) -> Tensor:
        """Return x0 with the acquired planes."""
        return self.write(x0 if self.between is None else self.between.clean(x0, level))

    def noise(self, n: Tensor, level: Level) -> Tensor:
        """Return n; what it brings to the acquired planes is overwritten."""
        return n


def sample(
    x: Tensor,
    denoise: Denoise,
    pairs: Sequence[tuple[int, int]],
    alpha_bar: Sequence[float] | Tensor,
    condition: Condition,
    noise: Noise,
    eta: float = 0.0,
) -> Tensor:
    """Draw a sample by DDIM steps (Song et al. 2021, Eq. 12) whose clean estimate a condition corrects.

    Args:
        x: x_T, standard normal; any shape that `denoise` and `condition` take.
        denoise: (x, t, step) -> (x0, e).
        pairs: times (t, t_next), t_next = -1 at the end (`schedule.timestep_pairs`).
        alpha_bar: [T].
        condition: `Unconditional`, `DDNM`, `DDNMPlus` or `MaskedRows`.
        noise: step -> z; asked only where eta > 0.
        eta: 0 is deterministic given x_T, 1 has the noise of DDPM.

    Returns:
        The sample, of the shape of x.

    Raises:
        SettingsError: eta is not in [0, 1].
    """
    if not 0 <= eta <= 1:
        raise SettingsError(f"eta: must be from 0 to 1, got {eta}")
    for step, (t, t_next) in enumerate(pairs):
        ab = float(alpha_bar[t])
        ab_next = float(alpha_bar[t_next]) if t_next >= 0 else 1.0
        sig = eta * math.sqrt((1 - ab_next) / (1 - ab)) * math.sqrt(1 - ab / ab_next)  # Song et al., Eq. 16
        level = Level(ab, ab_next, sig)
        x0, e = denoise(x, t, step)
        if ab_next == 1:  # neither noise nor the direction to it is left
            del x, e
            return condition.clean(x0, level)
        n = math.sqrt(1 - ab_next - sig**2) * e  # the direction to x_t
        if sig > 0:
            n = n + sig * noise(step)
        x_hat = condition.clean(x0, level)  # Wang et al., Alg. 1 and Eq. 17
        x = math.sqrt(ab_next) * x_hat + condition.noise(n, level)  # Song et al., Eq. 12
    return x
