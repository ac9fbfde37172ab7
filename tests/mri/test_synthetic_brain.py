"""The synthetic brain: the geometry it is built from, and that it is the mouse brain it claims to be."""

import numpy as np
import pytest
from scipy.ndimage import binary_erosion, gaussian_filter

from bida.errors import SettingsError
from bida.mri.synthetic_brain import SNR, ellipsoid, inside, shell, smooth_min, synthetic_brain


@pytest.fixture(scope="module")
def brain():
    return synthetic_brain()[0]


def test_ellipsoid_with_equal_radii_is_the_distance_to_a_sphere():
    p = tuple(np.random.default_rng(0).uniform(-4, 4, (3, 500)))
    expected = np.sqrt((p[0] - 1) ** 2 + p[1] ** 2 + (p[2] + 2) ** 2) - 1.5
    np.testing.assert_allclose(ellipsoid(p, (1, 0, -2), (1.5, 1.5, 1.5), pitch=0.7), expected, atol=1e-5)


def test_ellipsoid_is_zero_on_a_pitched_surface_with_unit_slope():
    radii, pitch, rng = np.array([1.0, 3.0, 2.0]), 0.4, np.random.default_rng(1)
    u = rng.standard_normal((3, 200))
    u /= np.linalg.norm(u, axis=0)
    turn = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
    on = turn @ (radii[:, None] * u)
    normal = turn @ (u / radii[:, None])
    normal /= np.linalg.norm(normal, axis=0)
    h = 1e-3
    out, back = (ellipsoid(tuple(on + sign * h * normal), (0, 0, 0), tuple(radii), pitch) for sign in (1, -1))
    np.testing.assert_allclose((out + back) / 2, 0, atol=1e-5)
    np.testing.assert_allclose((out - back) / (2 * h), 1, rtol=1e-2)


def test_smooth_min_only_adds_a_fillet():
    a, b = np.meshgrid(np.linspace(-2, 2, 81), np.linspace(-2, 2, 81))
    joined, plain = smooth_min(a, b, 0.5), np.minimum(a, b)
    far = np.abs(a - b) >= 0.5
    np.testing.assert_array_equal(joined[far], plain[far])
    assert (joined <= plain).all()
    np.testing.assert_allclose((plain - joined).max(), 0.5 / 4)


def test_coverage_conserves_width():
    distance = np.arange(-3, 3, 0.001)
    assert inside(distance).sum() * 0.001 == pytest.approx(3, abs=2e-3)
    assert shell(distance, 0.4, 0.6).sum() * 0.001 == pytest.approx(0.6, abs=2e-3)


def test_it_is_float32_in_ras_with_its_centre_at_the_origin():
    volume, affine = synthetic_brain(0.2, (50, 80, 40))
    assert volume.dtype == np.float32 and volume.shape == (50, 80, 40)
    np.testing.assert_allclose(affine[:3, :3], np.diag([0.2] * 3))
    np.testing.assert_allclose(affine @ [24.5, 39.5, 19.5, 1], [0, 0, 0, 1], atol=1e-12)


def test_a_seed_is_an_animal():
    small = {"voxel_mm": 0.3, "shape": (40, 60, 32)}
    first, again, other = (synthetic_brain(seed=seed, **small)[0] for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert np.corrcoef(first.ravel(), other.ravel())[0, 1] < 0.95
    assert ((first > 0) != (other > 0)).mean() > 0.01


@pytest.mark.parametrize("seed", range(3))
def test_it_fits_its_field_of_view_and_has_a_mouse_brains_size(seed):
    volume, _ = synthetic_brain(seed=seed)
    mask = volume > 0
    assert np.isfinite(volume).all() and (volume >= 0).all()
    for axis in range(3):
        faces = mask.take([0, -1], axis=axis)
        assert not faces.any(), f"the brain touches the faces of axis {axis}"
    # adult mouse brains with bulbs, cerebellum and brainstem: 450-550 mm3
    assert 430 < mask.sum() * 0.15**3 < 600


def test_left_mirrors_right_but_not_exactly(brain):
    smooth = gaussian_filter(brain, 2)
    assert np.corrcoef(smooth.ravel(), smooth[::-1].ravel())[0, 1] > 0.97
    assert not np.array_equal(brain, brain[::-1])


def test_contrast_is_t2_like(brain):
    deep = binary_erosion(brain > 0, iterations=3)
    values = gaussian_filter(brain, 0.5)[deep]
    grey = np.median(values)
    low, high = np.percentile(values, [2, 99.5]) / grey
    assert grey == pytest.approx(1000, rel=0.1)  # the median also holds white matter and the bias field
    assert 0.65 < low < 0.9, f"white matter at {low:.2f} of grey"
    assert 1.3 < high < 2.0, f"fluid at {high:.2f} of grey"


def test_noise_is_as_stated(brain):
    # second differences cancel smooth anatomy; the median absolute deviation ignores edges; 6 = 1 + 4 + 1
    deep = binary_erosion(brain > 0, iterations=4)[1:-1]
    second = (brain[2:] - 2 * brain[1:-1] + brain[:-2])[deep]
    sigma = 1.4826 * np.median(np.abs(second)) / np.sqrt(6)
    # texture counts into the estimate, so it lies somewhat above
    assert 1000 / SNR * 0.95 < sigma < 1000 / SNR * 1.35


@pytest.mark.parametrize("bad", [{"voxel_mm": 0.0}, {"voxel_mm": float("nan")}, {"shape": (2, 50, 50)}])
def test_bad_requests_are_refused(bad):
    with pytest.raises(SettingsError, match=r"synthetic_brain: .*got"):
        synthetic_brain(**bad)
