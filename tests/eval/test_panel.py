"""The panel, and the distances that it is made of, on textures whose answer is known."""

import math

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from bida.errors import SettingsError
from bida.eval import Panel, feature_frechet, log_spectrum_db, oriented_features, plane_slices, sliced_wasserstein
from bida.eval.slices.oriented import BANDWIDTH, FLOOR, filter_bank
from bida.eval.slices.wasserstein import patch_distance, pyramid_patches

PLANES = ("XY", "XZ", "YZ")


def texture(shape, seed=0, sigma=1.0):
    """Isotropic noise of standard deviation 1."""
    x = gaussian_filter(np.random.default_rng(seed).normal(size=shape), (*[0] * (len(shape) - 2), sigma, sigma))
    return x / x.std()


def volume(side=48, seed=0, axes=(1.0, 1.0, 1.0)):
    x = gaussian_filter(np.random.default_rng(seed).normal(size=(side, side, side)), axes)
    return x[None] / x.std()


def values(rows):
    return {(row.plane, row.metric): row.value for row in rows}


def wave(angle_deg, wavelength, size=96):
    y, x = np.mgrid[:size, :size]
    angle = np.deg2rad(angle_deg)
    return np.cos(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / wavelength)[None, None]


@pytest.mark.parametrize("scale, wavelength", list(enumerate([3, 6, 12])))
@pytest.mark.parametrize("k", [0, 3])  # along the columns' axis and the rows', where a mirrored wave is the same wave
def test_a_wave_has_the_amplitude_of_its_own_filter(scale, wavelength, k):
    """The centre of a filter passes its wave at gain 1; the others' gains follow from the definition."""
    patches = oriented_features(3 * wave(30 * k, wavelength), width=2.0)[:, ::2].reshape(6, 6, 18)
    means = np.exp(patches[1:-1, 1:-1].mean(axis=(0, 1))).reshape(3, 6) - FLOOR  # away from the mirrored borders
    assert np.unravel_index(means.argmax(), means.shape) == (scale, k)
    assert means[scale, k] == pytest.approx(1.5, rel=0.05)
    radial = math.exp(-(math.log(2) ** 2) / (2 * math.log(BANDWIDTH) ** 2))
    near = scale + 1 if scale < 2 else scale - 1
    assert means[near, k] == pytest.approx(1.5 * radial, rel=0.05)
    assert means[scale, (k + 1) % 6] == pytest.approx(1.5 * math.exp(-2), rel=0.1)  # a step is two sigma off


def test_filters_are_one_sided_turns_of_one_another():
    bank = filter_bank((63, 63)).reshape(3, 6, 63, 63)
    assert np.all(bank[..., 0, 0] == 0)
    np.testing.assert_allclose(bank[:, 3, :, 0], bank[:, 0, 0, :], atol=1e-12)  # 90 degrees apart
    flipped = np.roll(bank[..., ::-1, ::-1], (1, 1), (-2, -1))
    assert (bank * flipped).max() < 0.04 * bank.max()  # little on the other side


def test_oriented_features_see_a_quarter_turn_of_an_oriented_texture_but_not_of_an_isotropic_one():
    streaks = gaussian_filter1d(texture((40, 1, 48, 48)), 2, axis=-1)
    fine = texture((40, 1, 48, 48), 1)
    width = 4.0

    def turn(a):
        return feature_frechet(oriented_features(a, width), oriented_features(np.rot90(a, axes=(2, 3)), width))

    assert turn(streaks) > 50 * turn(fine)


def test_oriented_features_count_patches_and_channels():
    x = texture((3, 2, 35, 50))
    found = oriented_features(x, 2.0)
    assert found.shape == (3 * 2 * 3, 72)
    one = oriented_features(x[:, 1:], 2.0)
    np.testing.assert_allclose(found[:, 36:], one, rtol=1e-5)
    np.testing.assert_allclose(oriented_features(5 * x, 10.0), found, rtol=1e-4, atol=1e-4)


def test_wasserstein_of_known_gaussians():
    """Along every direction two Gaussians of equal spread differ by the projected shift: |d| mean |cos|."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 20_000, 1, 9))
    shift = np.zeros(9)
    shift[4] = 2.0
    found = patch_distance(x, y + shift)
    cosine = math.gamma(4.5) / (math.sqrt(math.pi) * math.gamma(5))  # mean |u_1| of a unit vector of 9 dimensions
    assert found == pytest.approx(2 * cosine, rel=0.06)  # 256 directions
    assert patch_distance(x, 3 * x) == pytest.approx(2 * math.sqrt(2 / math.pi), rel=0.02)
    assert patch_distance(x, x) == 0


@pytest.mark.slow
def test_wasserstein_over_the_pyramid():
    a, b = texture((20, 1, 64, 64)), texture((20, 1, 64, 64), 1)
    floor = sliced_wasserstein(a, b)
    assert floor.shape == (3,)  # 64, 32 and 16 pixels
    blurred = sliced_wasserstein(gaussian_filter1d(a, 1.5, axis=2), b)
    assert blurred[0] > 4 * floor[0]
    assert np.array_equal(sliced_wasserstein(a, b), floor)
    assert not np.array_equal(sliced_wasserstein(a, b, seed=2), floor)
    assert not sliced_wasserstein(a, a).any()
    np.testing.assert_allclose(sliced_wasserstein(7 * a - 3, b), floor, rtol=1e-9)  # normalised


def test_patches_are_of_the_slices_and_normalised():
    x = np.concatenate([texture((5, 1, 16, 20)), 100 * texture((5, 1, 16, 20), 1)], axis=1)
    (patches,) = pyramid_patches(x)
    assert patches.shape == (8192, 2, 49)
    np.testing.assert_allclose(patches.mean(axis=(0, 2)), 0, atol=1e-9)
    np.testing.assert_allclose(patches.std(axis=(0, 2)), 1)


def test_log_spectrum_of_scaled_and_of_longer_lines():
    x = np.random.default_rng(0).normal(size=(30, 30, 32))
    assert log_spectrum_db(10 * x, x, 2) == pytest.approx(20)
    assert log_spectrum_db(x, x, 1) == 0
    longer = np.random.default_rng(1).normal(size=(30, 30, 48))
    assert log_spectrum_db(longer, x, 2) < 0.5
    blurred = gaussian_filter1d(longer, 1.0, axis=2)
    frequency = np.linspace(0, 1, 25)[1:]
    expected = 10 * np.log10(np.exp(-((np.pi * frequency) ** 2))).mean()
    assert log_spectrum_db(blurred, x, 2) == pytest.approx(-expected, rel=0.15)  # the kernel is cut at 4 sigma


@pytest.mark.usefixtures("few_directions")
def test_a_panel_of_the_truth_is_its_floor_and_a_blur_along_z_is_far_in_the_planes_that_hold_z():
    truth = volume()
    panel = Panel({plane: plane_slices(truth, plane) for plane in PLANES}, [4.0])
    floor = values(panel.floor())
    assert values(panel(truth)) == floor and len(floor) == 15
    blurred = values(panel(gaussian_filter1d(truth, 1.0, axis=1)))
    for plane in ("XZ", "YZ"):
        for metric in ("oriented_frechet", "swd", "swd_finest", "spectrum_down_db"):
            assert blurred[plane, metric] > 2 * floor[plane, metric]
    assert floor["XZ", "spectrum_down_db"] == pytest.approx(
        log_spectrum_db(truth[0, :, ::2].swapaxes(0, 1), truth[0, :, 1::2].swapaxes(0, 1), 1)
    )


@pytest.mark.usefixtures("few_directions")
def test_an_unpaired_panel_tells_a_plane_that_is_unlike_xy():
    stack, other = volume(axes=(2.0, 1.0, 1.0)), volume(seed=5)
    found = values(Panel(dict.fromkeys(PLANES, plane_slices(other, "XY")), [4.0])(stack))
    for metric in ("oriented_frechet", "spectrum_down_db"):
        assert min(found["XZ", metric], found["YZ", metric]) > 3 * found["XY", metric]


@pytest.mark.usefixtures("few_directions")
def test_channels_are_averaged():
    truth, other = np.concatenate([volume(), volume(seed=1)]), np.concatenate([volume(seed=2), volume(seed=3)])
    both = values(Panel({"XZ": plane_slices(truth, "XZ")}, [4.0, 4.0])(other))
    single = [values(Panel({"XZ": plane_slices(truth[[c]], "XZ")}, [4.0])(other[[c]])) for c in (0, 1)]
    for key, value in both.items():
        assert value == pytest.approx((single[0][key] + single[1][key]) / 2)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: oriented_features(np.zeros((1, 1, 15, 20)), 1.0), "16 or more pixels a side"),
        (lambda: oriented_features(np.zeros((1, 1, 16, 20)), 0.0), "width must be > 0"),
        (lambda: pyramid_patches(np.zeros((1, 1, 15, 20))), "16 pixels a side or more, got 15 x 20"),
        (lambda: pyramid_patches(np.ones((1, 1, 16, 20))), "must hold detail at every level"),
        (lambda: Panel({"XY": texture((1, 1, 16, 16))}, [1.0]), "2 slices or more to be halved, got 1"),
        (lambda: Panel({"XY": texture((4, 2, 16, 16))}, [1.0]), r"must have 1 channel\(s\), got 2"),
        (lambda: Panel({"XY": np.full((4, 1, 16, 16), np.nan)}, [1.0]), "reference XY must hold finite"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(SettingsError, match=message):
        call()
