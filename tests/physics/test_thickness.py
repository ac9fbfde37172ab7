"""What a scan says of how thick its slices are: right where it says it, and silent where it can't tell."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from bida.errors import SettingsError
from bida.physics.simulate import simulate_slices
from bida.physics.thickness import TOLD, ThicknessEstimate, estimate_thickness, judge

VOXEL, FACTOR = 0.15, 5


@pytest.fixture(scope="module")
def shapes() -> NDArray[np.float32]:
    """Random smooth shapes of several brightnesses, alike along every axis."""
    draw = np.random.default_rng(3)
    volume = np.full((110, 110, 110), 100.0)
    for size, value in ((14, 150), (11, -60), (9, 80)):
        field = gaussian_filter(draw.standard_normal(volume.shape), size, mode="wrap")
        volume += value * np.clip(0.5 + field / (0.1 * field.std()), 0, 1)
    return gaussian_filter(volume, 0.6).astype(np.float32)


def scan(volume: NDArray, share: float, axis: int = 1, snr: float = 0.0) -> tuple[NDArray, list[float], float]:
    thick, _ = simulate_slices(volume, VOXEL, axis, FACTOR, thickness_mm=share * FACTOR * VOXEL)
    sigma = float(volume.mean()) / snr if snr else 0.0
    draw = np.random.default_rng(5)
    noisy = np.hypot(thick + sigma * draw.standard_normal(thick.shape), sigma * draw.standard_normal(thick.shape))
    spacing = [VOXEL] * 3
    spacing[axis] = FACTOR * VOXEL
    return noisy, spacing, sigma


def estimate(made: tuple[NDArray, list[float], float], axis: int) -> ThicknessEstimate:
    slices, spacing, sigma = made
    return estimate_thickness(slices, spacing, axis, sigma)


@pytest.mark.parametrize(("share", "axis", "snr"), [(1.0, 0, 0), (1.0, 2, 20), (1.2, 1, 0), (1.2, 2, 20)])
def test_thick_slices_are_told_within_a_tenth(shapes: NDArray, share: float, axis: int, snr: float) -> None:
    slices, spacing, sigma = scan(shapes, share, axis, snr)
    found = estimate_thickness(slices, spacing, axis, sigma)
    assert found.thickness_mm is not None, found.reason
    assert found.thickness_mm == pytest.approx(share * FACTOR * VOXEL, rel=0.1)
    assert found.low_mm < share * FACTOR * VOXEL < found.high_mm
    assert found.share == pytest.approx(found.thickness_mm / (FACTOR * VOXEL))
    assert found.reason == ""
    json.dumps(found.record(), allow_nan=False)


def test_thin_slices_are_at_most_told_to_be_thin(shapes: NDArray) -> None:
    told = [estimate(scan(shapes, 0.5, axis, snr), axis) for axis in range(3) for snr in (0, 20)]
    assert [(found.thickness_mm, found.low_mm, found.share) for found in told] == [(None, None, None)] * 6
    thinner = [found for found in told if found.high_mm is not None]
    assert len(thinner) >= 2
    for found in thinner:
        assert found.high_mm == pytest.approx(TOLD * FACTOR * VOXEL)
        assert "thinner than 0.9 of their spacing" in found.reason


def test_intensities_do_not_matter(shapes: NDArray) -> None:
    slices, spacing, _ = scan(shapes, 1.0)
    one, other = (estimate_thickness(k * slices, spacing, 1, 0.0) for k in (1.0, 1000.0))
    assert one.by_edges == other.by_edges
    assert one.by_spectrum == pytest.approx(other.by_spectrum, rel=0.02)


@pytest.mark.parametrize(
    ("slices", "reason"),
    [
        (np.random.default_rng(0).standard_normal((40, 14, 40)), "edges"),
        (np.random.default_rng(0).standard_normal((40, 9, 40)), "it has 9 slices, and 10 are needed"),
        (np.ones((40, 14, 40)), "all its voxels are alike"),
    ],
)
def test_scans_that_cannot_tell_say_why(slices: NDArray, reason: str) -> None:
    found = estimate_thickness(slices, (0.15, 0.75, 0.15), 1, 1.0)
    assert (found.thickness_mm, found.high_mm) == (None, None)
    assert reason in found.reason


@pytest.mark.parametrize(
    ("said", "share", "high", "reason"),
    [
        ((1.0, 0.03, 1.06), np.sqrt(1.06), np.sqrt(1.06) * np.exp(0.15), ""),
        ((1.0, 0.03, 1.2), None, None, "contradictory"),
        ((1.0, 0.07, 1.0), None, None, "differ too much"),
        ((0.85, 0.03, 0.9), None, None, "can't be told from its edges"),
        ((0.7, 0.1, 0.5), None, 0.9, "thinner"),
        ((0.7, 0.3, 0.5), None, None, "contradictory"),
        ((0.7, 0.03, 0.8), None, None, "can't be told from its edges"),
    ],
)
def test_what_two_opinions_come_to(said: Any, share: float | None, high: float | None, reason: str) -> None:
    found = judge(*said, edges=50, spacing_mm=2.0)
    if share is None:
        assert found.share is found.thickness_mm is None
    else:
        assert (found.share, found.thickness_mm) == (pytest.approx(share), pytest.approx(2 * share))
    assert found.high_mm == (None if high is None else pytest.approx(2 * high))
    assert reason in found.reason and bool(found.reason) == (share is None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"axis": 3}, "axis must be 0"),
        ({"spacings_mm": (0.1, 0, 0.1)}, "voxel sizes must be > 0"),
        ({"noise": -1.0}, "noise must be"),
        ({"profile": "measured.txt"}, "profile must be slr, gaussian, box"),
        ({"slices": np.zeros((4, 4))}, "slices must be"),
    ],
)
def test_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        estimate_thickness(**{"slices": np.zeros((4, 4, 4)), "spacings_mm": (1, 1, 1), "axis": 0, **change})
