"""The spectrum of slices: noise of a known level, transfer functions in closed form, and a spectrum of a known T."""

from __future__ import annotations

import numpy as np
import pytest

from bida.physics.slice_profile import GAUSSIAN_FWHM_PER_SIGMA
from bida.physics.slice_spectrum import Spectrum, slice_spectrum, thickness_of_spectrum, transfer_function


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_white_noise_has_its_variance_everywhere(axis: int) -> None:
    noise = 3 * np.random.default_rng(0).standard_normal((40, 41, 42))
    spacing = [0.1, 0.1, 0.1]
    spacing[axis] = 0.5
    found = slice_spectrum(noise, spacing, axis)
    assert np.average(found.power[4:], weights=np.broadcast_to(found.count[4:, None], found.power[4:].shape)) == (
        pytest.approx(9, rel=0.03)
    )
    assert found.k[-1] == pytest.approx(0.5 / 0.5, rel=0.05)
    assert found.q[-1] < 0.5 / 0.1


def test_transfer_functions_are_those_known() -> None:
    f, h = transfer_function("box")
    np.testing.assert_allclose(h, np.sinc(f), atol=1e-5)
    f, h = transfer_function("gaussian")
    np.testing.assert_allclose(h, np.exp(-2 * (np.pi * f / GAUSSIAN_FWHM_PER_SIGMA) ** 2), atol=1e-5)


@pytest.mark.parametrize("share", [0.6, 0.9, 1.2])
@pytest.mark.parametrize("lean", [0.0, 0.5])
def test_a_spectrum_of_the_model_gives_its_thickness_back(share: float, lean: float) -> None:
    s, voxel, m = 0.75, 0.15, 28
    q, k = np.geomspace(0.1, 3.2, 24), np.arange(m // 2 + 1) / (m * s)
    through = k[None, :, None] + np.arange(-3, 4) / s
    rho = np.sqrt(q[:, None, None] ** 2 + through**2 + k[1] ** 2 / 4)
    blur = np.exp(-2 * (np.pi * through * share * s / GAUSSIAN_FWHM_PER_SIGMA) ** 2) * np.sinc(through * voxel)
    power = (rho**-3.5 * np.exp(lean * (q[:, None, None] ** 2 - through**2) / rho**2) * blur**2).sum(-1) + 1e-3
    found = thickness_of_spectrum(Spectrum(q, k, power, np.full(24, 50.0), voxel, s), np.sqrt(1e-3), "gaussian")
    assert found == pytest.approx(share, rel=0.05)  # lean is drawn to none, and R is linear between knots only
