"""Edges within slices: their fitted widths and shifts against steps of known ones, and the law that ties both to T."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.interpolate import RegularGridInterpolator
from scipy.special import ndtr

from bida.physics.edge_widths import Edges, blur_law, fit_steps, measure_edges, thickness_of_edges
from bida.physics.simulate import simulate_slices
from bida.physics.slice_profile import GAUSSIAN_FWHM_PER_SIGMA, make_profile

U = np.linspace(-1.6, 1.6, 33)


def steps(shift: NDArray, width: NDArray, contrast: float = 3.0) -> NDArray:
    """What three slices hold across edges: [N, 3, L]."""
    t = U - np.array([-1.0, 0.0, 1.0])[:, None] * shift[:, None, None]
    return 1 + contrast * ndtr(t / width[:, None, None])


def test_steps_of_known_shift_and_width_are_fitted() -> None:
    shift, width = np.meshgrid([-1.1, -0.4, 0.0, 0.7], [0.08, 0.2, 0.4])
    shift, width = shift.ravel(), width.ravel()
    found, rms = fit_steps(U, steps(shift, width), np.round(shift * 5) / 5, rounds=40)
    np.testing.assert_allclose(found[:, 3], shift, atol=1e-3)
    np.testing.assert_allclose(np.exp(found[:, 4]), width, rtol=1e-3)
    np.testing.assert_allclose(found[:, :2], [[1, 3]] * len(shift), rtol=1e-3)
    assert rms.max() < 1e-3


def test_noise_leaves_widths_unbiased() -> None:
    draw = np.random.default_rng(0)
    shift, width = np.full(400, 0.6), np.full(400, 0.2)
    lines = steps(shift, width) + 0.15 * draw.standard_normal((400, 3, U.size))
    found, rms = fit_steps(U, lines, shift)
    assert np.exp(np.median(found[:, 4])) == pytest.approx(0.2, rel=0.03)  # 1 / sqrt(400) of a spread of a third
    assert np.median(rms) == pytest.approx(0.15, rel=0.1)  # five of about fifty values are fitted


@pytest.mark.parametrize("profile", ["gaussian", "slr", "box"])
def test_a_narrow_profile_adds_its_variance(profile: str) -> None:
    table = make_profile(profile, 1.0)
    z = np.linspace(-2.5, 2.5, 20001)
    p = np.interp(z, table.positions_mm, table.amplitudes, left=0, right=0)
    variance = (p * z**2).sum() / p.sum()
    log_sharp, blur, log_w = blur_law(profile)
    np.testing.assert_allclose(log_w[3:-3, 0], log_sharp[3:-3], atol=0.02)  # of no slice, a Gaussian's own width
    sharp, wide = np.exp(2 * log_sharp)[:, None], np.exp(2 * log_w)
    narrow = (blur > 0) & (variance * blur**2 < 0.5 * sharp) & (sharp > 0.1**2) & (sharp < 0.3**2)
    assert narrow.sum() > 10
    # a box that wide makes the fitted width a little larger than the variance says
    np.testing.assert_allclose(wide[narrow], (sharp + variance * blur**2)[narrow], rtol=0.05)
    assert (np.diff(log_w, axis=1)[(log_w < np.log(0.6))[:, 1:]] > 0).all()


@pytest.mark.parametrize("share", [0.5, 0.8, 1.2])
def test_widths_that_follow_the_law_give_the_thickness_back(share: float) -> None:
    draw = np.random.default_rng(1)
    p, sharp, voxel = draw.uniform(0, 1.3, 3000), 0.1, 0.2
    kappa = 1 / GAUSSIAN_FWHM_PER_SIGMA**2
    width = np.sqrt(sharp**2 * (1 + p**2) + voxel**2 / 12 * p**2 + kappa * (share * p) ** 2)
    p, width = p[width < 0.35], width[width < 0.35]  # where the fit sees all of a step
    edges = Edges(p, width * np.exp(0.3 * draw.standard_normal(p.size)), draw.integers(0, 60, p.size))
    found, chance = thickness_of_edges(edges, voxel, "gaussian")
    assert found == pytest.approx(share, rel=0.06)  # the grid's step, and chance
    assert 0.005 < chance < 0.06


@pytest.mark.parametrize("share", [0.6, 1.0])
@pytest.mark.parametrize("degrees", [20, 35, 45])
def test_thick_slices_of_a_plane_are_as_wide_as_the_law_says(share: float, degrees: float) -> None:
    slope, voxel, factor, sharp = np.deg2rad(degrees), 0.15, 5, 0.8  # the plane's own blur, voxels
    normal = np.array([np.cos(slope) * np.cos(0.4), np.cos(slope) * np.sin(0.4), np.sin(slope)])
    position = np.indices((56, 56, 80)) - np.array([27.5, 27.5, 39.5])[:, None, None, None]
    volume = ndtr(np.tensordot(normal, position, 1) / sharp)
    slices, _ = simulate_slices(volume, voxel, 2, factor, thickness_mm=share * factor * voxel)
    edges = measure_edges(slices, [voxel, voxel, factor * voxel], 2, noise=0.0)
    p = np.tan(slope)
    assert np.median(edges.shift) == pytest.approx(p, rel=0.02)
    alone = np.sqrt((sharp / factor) ** 2 * (1 + p**2) + p**2 / factor**2 / 12)
    log_sharp, blur, log_w = blur_law("slr")
    law = RegularGridInterpolator((log_sharp, blur), log_w)((np.log(alone), p * share))
    assert np.median(edges.width) == pytest.approx(np.exp(law).item(), rel=0.03)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_tilted_plane_moves_and_widens_as_its_slope_says(axis: int) -> None:
    x, y, i = np.meshgrid(np.arange(40.0), np.arange(44.0), np.arange(12.0), indexing="ij")
    normal = np.array([np.cos(0.4), np.sin(0.4)])
    away = normal[0] * (x - 20) + normal[1] * (y - 22) - 3.0 * (i - 5.5)  # in-plane voxels; p is 3 of 5
    volume = np.moveaxis(100 * ndtr(away / 0.9), 2, axis)
    spacing = [0.15, 0.15, 0.15]
    spacing[axis] = 0.75
    edges = measure_edges(volume, spacing, axis, noise=0.0)
    assert len(edges.shift) > 50
    assert np.median(edges.shift) == pytest.approx(3 / 5, rel=0.02)
    assert np.median(edges.width) == pytest.approx(0.9 / 5, rel=0.05)
    assert edges.steep == len(edges.shift)


def test_fine_voxels_are_averaged_and_what_that_adds_is_known() -> None:
    x, _, i = np.meshgrid(np.arange(240.0), np.arange(60.0), np.arange(10.0), indexing="ij")
    volume = ndtr((x - 120 - 9 * (i - 4.5)) / 3)
    edges = measure_edges(volume, [0.05, 0.05, 1.0], 2, noise=0.0)  # three voxels of a twentieth are averaged
    assert edges.binned == pytest.approx((3**2 - 1) * 0.05**2 / 12)
    assert np.median(edges.width**2) == pytest.approx(0.15**2 + edges.binned, rel=0.05)
