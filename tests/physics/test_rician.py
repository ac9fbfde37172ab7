"""The noise of magnitude images against the closed forms of the Rice distribution."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import rice
from skimage.filters import threshold_otsu

from bida.errors import SettingsError
from bida.physics.rician import add_noise, add_noise_of_snr, otsu, sigma_of_snr, tissue
from bida.physics.simulate import simulate_slices

COUNT = 200_000


@pytest.mark.parametrize("signal", [0.0, 1.0, 3.0, 20.0])
def test_a_magnitude_has_the_moments_of_rice(signal):
    sigma = 2.5
    noisy = add_noise(np.full(COUNT, signal * sigma), sigma, seed=3)
    mean, variance = rice.stats(signal, scale=sigma, moments="mv")
    error = 5 * math.sqrt(variance / COUNT)
    assert noisy.mean() == pytest.approx(mean, abs=error)
    assert noisy.var() == pytest.approx(variance, rel=5 * math.sqrt(2.4 / COUNT))  # the kurtosis is at most 3.25
    assert noisy.min() >= 0


def test_every_slice_has_its_own_noise():
    noisy = add_noise(np.full((4, 3, 500, 20), 100.0)[0], 1.0, seed=0)
    between = np.corrcoef(noisy.reshape(3, -1))
    assert np.abs(between[~np.eye(3, dtype=bool)]).max() < 5 / math.sqrt(10_000)


@pytest.mark.parametrize("kind", ["rician", "gaussian"])
def test_arrays_and_tensors_get_the_same_noise(kind):
    clean = np.random.default_rng(0).random((6, 7, 8)).astype(np.float32)
    array = add_noise(clean, 0.1, 5, kind)
    tensor = add_noise(torch.from_numpy(clean), 0.1, 5, kind)
    assert isinstance(array, np.ndarray) and isinstance(tensor, torch.Tensor)
    assert array.dtype == np.float32 and tensor.dtype == torch.float32
    np.testing.assert_array_equal(array, tensor.numpy())
    np.testing.assert_array_equal(add_noise(clean[::-1], 0.0, 5, kind), clean[::-1])
    assert not np.array_equal(array, add_noise(clean, 0.1, 6, kind))


def test_gaussian_noise_is_what_numpy_draws():
    drawn = np.random.Generator(np.random.Philox(7)).standard_normal((3, 4))
    np.testing.assert_allclose(add_noise(np.ones((3, 4)), 2.0, 7, "gaussian"), 1 + 2 * drawn, rtol=1e-12)


@pytest.mark.parametrize(
    "given, said",
    [
        ({"sigma": -1.0}, "noise must be a standard deviation >= 0"),
        ({"sigma": math.nan}, "noise must be a standard deviation >= 0"),
        ({"seed": -1}, "seed must be >= 0, got -1"),
        ({"kind": "poisson"}, "the kind of noise must be one of rician, gaussian, got poisson"),
    ],
)
def test_noise_that_cannot_be_is_refused(given, said):
    with pytest.raises(SettingsError, match=said):
        add_noise(np.ones((2, 2)), **{"sigma": 1.0, "seed": 0, **given})


def test_otsu_is_that_of_scikit_image():
    draw = np.random.default_rng(0)
    values = np.concatenate([draw.normal(2, 1, 5000), draw.normal(9, 2, 3000)])
    assert otsu(values) == pytest.approx(threshold_otsu(values, nbins=256))


def disc(size=40, slices=6):
    x, y = np.meshgrid(*[np.linspace(-1, 1, size)] * 2, indexing="ij")
    inside = np.repeat((np.hypot(x, y) < 0.7)[:, None], slices, axis=1)
    return np.where(inside, 100.0, 0.0), inside


@pytest.mark.parametrize("snr", [5, 30])
def test_tissue_is_found_in_noise_and_beside_bright_fluid(snr):
    image, inside = disc()
    image[18:22, :, 18:22] = 900.0
    found = tissue(add_noise(image, 100 / snr, 0), axis=1)
    overlap = 2 * (found & inside).sum() / (found.sum() + inside.sum())
    assert overlap > 0.95  # the rest is the border, which averaging over 3 x 3 voxels moves by less than one


def test_all_is_tissue_without_background_and_nothing_is_that_was_masked():
    image, inside = disc()
    within = add_noise(image, 10.0, 0)[13:27, :, 13:27]
    assert tissue(within, 1).sum() == within.size - 1  # the least value might be a mask's
    masked = np.where(inside, add_noise(image, 10.0, 0), 0)
    assert not tissue(masked, 1)[~inside].any()
    with pytest.raises(SettingsError, match="slices must have contrast, got 3 everywhere"):
        tissue(np.full((5, 5, 5), 3.0), 1)


def test_snr_is_the_mean_in_tissue_over_sigma():
    image, inside = disc()
    assert sigma_of_snr(image, 8.0, inside) == pytest.approx(12.5)
    noisy, sigma = add_noise_of_snr(image, 1, 8.0, seed=1)
    assert sigma == pytest.approx(12.5, rel=0.03)  # the threshold's border
    assert noisy[inside].std() == pytest.approx(sigma, rel=0.03)
    tensor, same = add_noise_of_snr(torch.from_numpy(image), 1, 8.0, seed=1)
    assert same == sigma and torch.equal(tensor, torch.from_numpy(noisy))


@pytest.mark.parametrize("snr", [0.0, -3.0, math.inf])
def test_an_snr_must_be_above_zero(snr):
    image, inside = disc()
    with pytest.raises(SettingsError, match="snr must be > 0"):
        sigma_of_snr(image, snr, inside)
    with pytest.raises(SettingsError, match="snr must be > 0"):
        simulate_slices(image, 0.1, 1, 2.0, snr=snr)


def test_an_snr_without_tissue_is_refused():
    image, inside = disc()
    with pytest.raises(SettingsError, match="tissue of a mean above 0, got 0; give noise instead"):
        sigma_of_snr(image, 5.0, ~inside)


def test_simulated_slices_get_the_noise_of_one_slice():
    """Noise comes after the slices: its level does not fall with their thickness."""
    image, inside = disc(40, 30)
    clean, _ = simulate_slices(image, 0.1, 1, 5.0)
    noisy, _ = simulate_slices(image, 0.1, 1, 5.0, snr=10.0, seed=2)
    difference = (noisy - clean)[inside[:, : clean.shape[1]]]
    assert difference.std() == pytest.approx(10.0, rel=0.03)
    with pytest.raises(SettingsError, match="snr excludes noise, got 10 and 2"):
        simulate_slices(image, 0.1, 1, 5.0, noise=2.0, snr=10.0)
