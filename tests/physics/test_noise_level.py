"""The noise of a scan is found again where it was added, and structure is not taken for it."""

import json
import math
import time
from functools import cache

import nibabel as nib
import numpy as np
import pytest
from conftest import load_benchmark
from scipy.fft import dct
from scipy.stats import rice

from bida.physics.noise_level import COSINES, PATCH, estimate_noise, magnitude_variance, sigma_of_magnitude
from bida.physics.rician import add_noise, sigma_of_snr, tissue
from bida.physics.simulate import simulate_slices

BENCHMARK = load_benchmark("noise_level")
cut = BENCHMARK.cut
TOLERANCE = 0.15  # what is asked of the estimate
SNRS = (5.0, 10.0, 20.0, 30.0)


@cache
def phantom(size=72, count=25):
    """That of the benchmark, with more background around it; no test can change it."""
    made = BENCHMARK.phantom(size, count, radii=(0.75, 0.8, 0.75))
    made.setflags(write=False)
    return made


def test_the_cosines_are_those_of_scipy():
    np.testing.assert_allclose(COSINES, dct(np.eye(PATCH), norm="ortho", axis=0), atol=1e-15)


def template(folder, name):
    paths = {
        "drcarbon": "mouse-template-drcarbon/tpl-drcarbon/tpl-drcarbon_T2w.nii.gz",
        "atlasbrex": "mouse-template-atlasbrex/tpl-atlasbrex/anat/tpl-atlasbrex_T2w.nii.gz",
        "sub-17": "mouse-rtg4510/sub-17/anat/sub-17_T2w.nii.gz",
    }
    return np.asarray(nib.as_closest_canonical(nib.load(folder / paths[name])).dataobj, dtype=np.float32)


def check(slices, axis, snr, background, tolerance=TOLERANCE):
    inside = tissue(slices, axis)
    sigma = sigma_of_snr(slices, snr, inside)
    level = estimate_noise(cut(add_noise(slices, sigma, seed=int(snr)), inside, background), axis)
    assert level is not None
    assert level.source == ("background" if background == "noise" else "slices")
    assert level.sigma == pytest.approx(sigma, rel=tolerance)
    return level


@pytest.mark.parametrize("background", ["noise", "zero", "none"])
@pytest.mark.parametrize("snr", SNRS)
def test_noise_added_to_a_phantom_is_found(snr, background):
    check(phantom(), 1, snr, background, tolerance=0.06)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_noise_of_thick_slices_is_found_along_every_axis(axis):
    slices, _ = simulate_slices(phantom(), 0.1, axis, 5.0)
    for snr in SNRS:
        for background in ("noise", "zero"):
            level = check(slices, axis, snr, background)
            if background == "noise":
                assert level.snr == pytest.approx(snr, rel=TOLERANCE)


@pytest.mark.parametrize("name", ["drcarbon", "atlasbrex"])
@pytest.mark.parametrize("background", ["noise", "zero", "none"])
def test_noise_added_to_a_template_is_found(name, background, shared_data):
    image = template(shared_data, name)[:, ::2]
    for snr in SNRS:
        check(image, 1, snr, background)


def test_noise_added_to_a_mouse_comes_on_top_of_its_own(shared_data):
    image = template(shared_data, "sub-17")
    inside, own = tissue(image, 1), estimate_noise(image, 1)
    assert own.source == "slices"
    for snr in SNRS:
        sigma = sigma_of_snr(image, snr, inside)
        noisy = add_noise(image, sigma, seed=1)
        for background in ("noise", "zero"):
            found = estimate_noise(cut(noisy, inside, background), 1)
            assert found.sigma == pytest.approx(math.hypot(own.sigma, sigma), rel=TOLERANCE)


def test_edges_and_texture_are_not_taken_for_noise(shared_data):
    for axis in range(3):
        assert estimate_noise(phantom(), axis).snr > 500
        for name in ("drcarbon", "atlasbrex"):
            assert estimate_noise(template(shared_data, name), axis).snr > 60


def test_an_image_without_any_noise_says_so():
    flat = np.where(phantom() > 0, 100.0, 0.0)
    level = estimate_noise(flat, 1)
    assert level.sigma == 0 and level.describe().startswith("no noise")
    assert json.loads(json.dumps(level.record(), allow_nan=False))["snr"] is None


def smoothed_noise(image, sigma, share, seed=0):
    """Magnitude of an image and complex noise whose frequencies end at a share of the grid's along both axes."""
    draw = np.random.default_rng(seed)
    noise = draw.standard_normal((2, *image.shape)) * sigma / share  # white noise that would leave sigma
    spectrum = np.fft.fft2(noise[0] + 1j * noise[1], axes=(0, 2))
    for axis in (0, 2):
        shape = [-1 if a == axis else 1 for a in range(3)]
        spectrum *= (np.abs(np.fft.fftfreq(image.shape[axis])) < share / 2).reshape(shape)
    return np.abs(image + np.fft.ifft2(spectrum, axes=(0, 2))).astype(np.float32)


@pytest.mark.parametrize("share", [0.5, 0.7])
def test_noise_interpolated_in_plane_is_told_by_the_background(share):
    noisy = smoothed_noise(phantom(), 40.0, share)
    level = estimate_noise(noisy, 1)
    assert level.source == "background" and level.in_slices < 0.85 * 40
    assert level.sigma == pytest.approx(40.0, rel=0.05)


def test_a_suppressed_background_does_not_count():
    image = phantom()
    noisy = add_noise(image, 40.0, 0)
    inside = tissue(image, 1)
    level = estimate_noise(np.where(inside, noisy, 0.3 * noisy), 1)
    assert level.source == "slices" and level.sigma == pytest.approx(40.0, rel=0.05)
    assert level.in_background == pytest.approx(12.0, rel=0.05)


def test_a_background_of_several_coils_does_not_count():
    """Root of the sum of squares of four coils: the background is not Rayleigh's, the tissue's noise is one coil's."""
    coils = [add_noise(phantom() / 2, 40.0, seed) for seed in range(4)]
    level = estimate_noise(np.sqrt(np.square(coils).sum(axis=0)), 1)
    assert level.in_background is None and level.source == "slices"
    assert level.sigma == pytest.approx(40.0, rel=0.05)


def test_dim_tissue_is_no_background():
    image = np.where(phantom() > 0, phantom(), 40.0)  # signal of one sigma everywhere
    level = estimate_noise(add_noise(image, 40.0, 0), 1)
    assert level.source == "slices" and level.sigma == pytest.approx(40.0, rel=0.05)


def test_small_slices_are_told_or_not_told():
    small = phantom(24, 3)
    for snr in SNRS:
        level = check(small, 1, snr, "zero")
        assert level.in_background is None
    assert estimate_noise(add_noise(small[:, 10:13][8:14], 40.0, 0), 1) is None
    assert estimate_noise(np.random.default_rng(0).random((4, 5, 4)), 1) is None


def test_the_axis_is_the_one_across_the_slices():
    slices, _ = simulate_slices(phantom(), 0.1, 2, 5.0)
    noisy = add_noise(slices, 40.0, 0)
    turned = estimate_noise(np.moveaxis(noisy, 2, 0), 0)
    assert turned == estimate_noise(noisy, 2) == estimate_noise(noisy, 2)


def test_the_correction_of_weak_signals_is_that_of_rice():
    for snr in (0.5, 1.0, 2.0, 5.0, 20.0):
        mean, variance = rice.stats(snr, scale=3.0, moments="mv")
        assert magnitude_variance(snr) == pytest.approx(variance / 9, rel=1e-9)
        if snr >= 2:  # below, the fixed point is slow, and nothing of it is tissue
            assert sigma_of_magnitude(float(mean), math.sqrt(variance)) == pytest.approx(3.0, rel=1e-3)


def test_it_takes_less_than_a_second():
    noisy = add_noise(np.pad(phantom(96)[:, :, 38:58], ((16, 16), (32, 32), (0, 0))), 40.0, 0)
    start = time.process_time()
    level = estimate_noise(noisy, 2)
    assert time.process_time() - start < 1
    assert noisy.shape == (128, 160, 20)
    assert (
        level.describe() == f"standard deviation {level.sigma:.4g}, SNR {level.snr:.3g} in tissue, from the background"
    )
    assert level.record()["sigma"] == pytest.approx(level.sigma, rel=1e-4)
