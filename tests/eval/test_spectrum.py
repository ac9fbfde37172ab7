import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

from bida.errors import SettingsError
from bida.eval import axis_spectrum, spectrum_distance_db


def white(shape=(40, 64, 30), seed=0, sigma=1.0):
    return sigma * np.random.default_rng(seed).standard_normal(shape)


def test_frequencies_of_an_odd_number_of_voxels():
    frequency, power = axis_spectrum(white((5, 45, 5)), 1)
    assert frequency[1] == pytest.approx(2 / 45) and frequency[-1] == pytest.approx(44 / 45)
    assert len(frequency) == len(power)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_white_noise_has_its_variance_at_every_frequency(axis):
    frequency, power = axis_spectrum(white(sigma=3.0), axis)
    assert frequency[0] == 0 and frequency[-1] == 1  # even numbers of voxels
    # the mean that is taken out of each line takes the lowest frequencies with it; 1200 lines: a standard error of 3%
    np.testing.assert_allclose(power[3:-1], 9.0, rtol=0.12)


def test_a_wave_shows_at_its_frequency():
    z = np.arange(64)
    frequency, power = axis_spectrum(np.broadcast_to(np.sin(2 * np.pi * z / 8)[None, :, None], (4, 64, 5)), 1)
    assert frequency[np.argmax(power)] == pytest.approx(2 / 8)  # a period of 8 voxels is a quarter of Nyquist


def test_a_gaussian_blur_costs_what_theory_says():
    """The filter's gain is exp(-(sigma w)^2 / 2), w = pi f: in power 20 log10 of it."""
    truth, sigma = white((60, 128, 60)), 0.7
    blurred = gaussian_filter1d(truth, sigma, axis=1, mode="wrap", truncate=8)
    frequency, power = axis_spectrum(blurred, 1)
    _, known = axis_spectrum(truth, 1)
    counts = (frequency > 0.1) & (frequency < 0.6)  # beyond, what the Hann window leaks outdoes what is left
    expected = -20 * np.log10(np.e) * (sigma * np.pi * frequency[counts]) ** 2 / 2
    np.testing.assert_allclose(10 * np.log10(power / known)[counts], expected, atol=0.25)


def test_the_noise_floor_of_the_truth_does_not_count():
    """A restoration without the truth's noise is right; one with its power at all frequencies is not."""
    anatomy = gaussian_filter1d(white((50, 96, 50), sigma=20), 1.2, axis=1)
    truth = anatomy + white((50, 96, 50), seed=1, sigma=0.5)
    assert spectrum_distance_db(anatomy, truth, 1, limit=0.5) < 0.5
    blurred = gaussian_filter1d(anatomy, 1.5, axis=1)
    assert spectrum_distance_db(blurred, truth, 1, limit=0.5) > 3
    assert spectrum_distance_db(truth, truth, 1) > 0.5  # its own noise is too much


def test_the_mask_cuts_a_box():
    volume, mask = np.zeros((40, 64, 30)), np.zeros((40, 64, 30), bool)
    volume[10:20, 16:48, 5:25] = white((10, 32, 20))
    mask[10:20, 16:48, 5:25] = True
    np.testing.assert_array_equal(axis_spectrum(volume, 1, mask)[1], axis_spectrum(volume[10:20, 16:48, 5:25], 1)[1])


def test_bad_input():
    with pytest.raises(SettingsError, match=r"must be of a volume \[R, A, S\]"):
        axis_spectrum(np.zeros((4, 4)), 1)
    with pytest.raises(SettingsError, match="lines must have at least 8 voxels, got 4"):
        axis_spectrum(np.zeros((9, 4, 9)), 1)
    with pytest.raises(SettingsError, match="must be finite"):
        axis_spectrum(np.full((9, 9, 9), np.nan), 1)
    with pytest.raises(SettingsError, match="must have one shape"):
        spectrum_distance_db(np.zeros((9, 9, 9)), np.zeros((9, 9, 8)), 1)
    with pytest.raises(SettingsError, match="mask must have the volume's shape"):
        axis_spectrum(np.zeros((9, 9, 9)), 1, np.zeros((9, 9, 9), bool))
