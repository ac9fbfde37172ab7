import numpy as np
import pytest
import torch

from bida.diffusion.prior import CLASSES, GUIDE_RANGE, SPREAD, relative_alpha_bar
from bida.diffusion.schedule import cosine_alpha_bar
from bida.physics.grid import PLANES
from bida.physics.guide import NOISE_UNIT, guide, shown
from bida.physics.operators import SliceOperator
from bida.transforms.augment.diffuse import DiffuseSliced
from bida.transforms.augment.slices import RandScanNoised
from bida.transforms.augment.thicken import ThickenSliced


class Recorder(ThickenSliced):
    """Keeps the geometries that it draws."""

    def draw_geometry(self, voxels):
        self.geometry = super().draw_geometry(voxels)
        return self.geometry


def pair(shape=(48, 40), seed=0):
    rng = np.random.default_rng(seed)
    clean = rng.uniform(-0.9, 0.9, shape).astype(np.float32)
    return torch.from_numpy(np.stack([clean + 0.05 * rng.standard_normal(shape).astype(np.float32), clean]))


def cases(count=60, **options):
    for seed in range(count):
        transform = Recorder("image", **options).set_random_state(seed=seed)
        transform.geometry = None
        yield seed, transform, transform({"image": pair(seed=seed), "planes": seed % 3})


def turned_back(item, axis):
    """Return image [H, W] and guide [4, H, W] as the slice was, of whose axes the thick one is turned to the first."""
    image, seen = item["image"][0], item["guide"]
    return (image.mT, seen.mT) if axis == 1 else (image, seen)


def test_the_target_has_the_slices_of_the_scan_and_the_rest_of_the_wanted_image():
    for seed, transform, item in cases(unguided=0.0, noisy=0.0, noiseless=0.0):
        scanned, clean = pair(seed=seed)
        A = SliceOperator.build(transform.geometry)
        axis = next(k for k in (0, 1) if scanned.shape[k] == transform.geometry.padded_voxels)
        y = A.forward(scanned, axis)
        grain = item["planes"] // (2 * len(PLANES)) == 0
        wanted = scanned if grain else clean
        image, seen = turned_back(item, axis)
        torch.testing.assert_close(A.forward(image, axis), y, rtol=0, atol=1e-5)
        null = (image - wanted) - A.pinv(A.forward(image - wanted, axis), axis)
        assert null.abs().max() < 1e-5
        expected = shown(y[None], transform.geometry, axis + 1)[:, 0].clamp(*GUIDE_RANGE)
        torch.testing.assert_close(seen, expected, rtol=0, atol=1e-6)


def test_acquired_slices_have_the_noise_of_the_slice_and_their_target_keeps_it():
    """sigma^2 |A_i|^2 from the slice and sigma^2 (1 - |A_i|^2) of their own: sigma^2, as in the slice itself."""
    clean = torch.full((1, 300, 120), 0.2)
    scanned = clean + 0.1 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    scanned[0, :, :40] = clean[0, :, :40] = -1  # extracted
    transform = Recorder("image", unguided=0.0, grain=0.0, noisy=1.0, noiseless=0.0, factors=(5, 5)).set_random_state(
        seed=0
    )
    item = transform({"image": torch.cat([scanned, clean]), "planes": 0})
    axis = next(k for k in (1, 2) if clean.shape[k] == transform.geometry.padded_voxels)
    A = SliceOperator.build(transform.geometry)
    y, averaged = A.forward(turned_back(item, axis - 1)[0][None], axis), A.forward(scanned, axis)
    inside = A.forward(clean, axis) > 0.19
    assert float(averaged[inside].std()) < 0.06
    assert float(y[inside].std()) == pytest.approx(0.1, rel=0.05)
    outside = A.forward(clean, axis) < -0.999
    assert (y[outside] + 1).abs().max() < 2e-3  # ripples of the profile, 1% at most, leak a little tissue


def test_a_share_of_the_clean_targets_is_all_of_the_denoised_slice():
    whole = 0
    for seed, transform, item in cases(unguided=0.0, grain=0.5, noiseless=0.5):
        _, clean = pair(seed=seed)
        axis = next(k for k in (0, 1) if clean.shape[k] == transform.geometry.padded_voxels)
        image, seen = turned_back(item, axis)
        same = bool((image - clean).abs().max() < 1e-4)
        assert not (same and item["planes"] < 2 * len(PLANES))  # grain
        whole += same
        if same:
            y = SliceOperator.build(transform.geometry).forward(clean, axis)
            expected = guide(y, transform.geometry, axis).clamp(*GUIDE_RANGE)
            torch.testing.assert_close(seen[0], expected, rtol=0, atol=1e-6)
    assert abs(whole / 60 - 0.25) < 0.17  # 3 standard errors


def test_without_a_guide_the_target_is_the_image_itself():
    for seed, _, item in cases(20, unguided=1.0):
        scanned, clean = pair(seed=seed)
        grain = item["planes"] < 2 * len(PLANES)
        assert torch.equal(item["image"][0], scanned if grain else clean)
        assert item["guide"].abs().max() == 0


def test_every_class_comes_up_in_its_share():
    found = [item["planes"] for _, _, item in cases(300, unguided=0.25, grain=0.5)]
    assert set(found) == set(range(CLASSES))
    guided = np.mean([label // 3 % 2 for label in found])
    clean = np.mean([label // 6 for label in found])
    assert abs(guided - 0.75) < 0.1 and abs(clean - 0.5) < 0.1  # 4 standard errors of 300 draws


def test_factors_and_thickness_stay_in_their_ranges():
    geometries = [t.geometry for _, t, _ in cases(80, unguided=0.0, factors=(2.0, 6.0), thickness=(0.5, 0.8))]
    factors = [g.factor for g in geometries]
    shares = np.array([g.thickness_mm / g.slice_spacing_mm for g in geometries])
    assert 2 <= min(factors) < 2.5 and 5 < max(factors) <= 6
    assert 0.3 < np.mean(shares == 1) < 0.7
    rest = shares[shares != 1]
    assert rest.min() >= 0.5 and rest.max() <= 0.8
    assert {g.profile for g in geometries} == {"slr", "gaussian", "box"}
    assert any(g.pad_before for g in geometries) and not all(g.pad_before for g in geometries)


def test_any_geometry_can_be_built_even_on_a_small_crop():
    for size in (16, 24, 96):
        transform = ThickenSliced("image")
        for seed in range(150):
            geometry = transform.set_random_state(seed=seed).draw_geometry(size)
            assert SliceOperator.build(geometry).matrix.shape == (geometry.slices, size)


def test_factors_below_one_are_refused():
    with pytest.raises(ValueError, match="factors must be a rising range from 1"):
        ThickenSliced("image", factors=(0.5, 2))


def test_the_guide_goes_behind_the_noised_slice_as_it_is():
    item = ThickenSliced("image", unguided=0.0).set_random_state(seed=0)({"image": pair(), "planes": 1, "index": 5})
    guided = item["guide"]
    image, noised = item["image"], DiffuseSliced("image").set_random_state(seed=1)(item)
    assert noised["image"].shape[0] == 9 and noised["label"].shape == noised["image"][:1].shape
    assert torch.equal(noised["image"][1:], guided)
    # v and z give back what the guide lacks: r = sqrt(ab') z - sqrt(1 - ab') v
    ab = relative_alpha_bar(cosine_alpha_bar()[noised["timesteps"]])
    r = ab.sqrt() * noised["image"][:1] - (1 - ab).sqrt() * noised["label"]
    torch.testing.assert_close(guided[:1] + SPREAD * r.float(), image, atol=1e-5, rtol=1e-5)


def test_scan_noise_is_that_of_a_magnitude_image():
    """Far above the noise it is Gaussian; in air its mean is sigma sqrt(pi / 2) (Gudbjartsson & Patz 1995)."""
    shape = (200, 200)
    image = torch.full((2, *shape), 0.6)
    image[:, :, 100:] = -1
    transform = RandScanNoised("image", sigma=0.1, bare=0.0, prob=1.0)
    levels = []
    for seed in range(5):
        out = transform.set_random_state(seed=seed)({"image": image})["image"]
        assert torch.equal(out[1], image[1])
        bright, air = (out[0, :, :100] - 0.6), (out[0, :, 100:] + 1)
        levels.append(float(bright.std()))
        assert float(air.mean()) == pytest.approx(levels[-1] * np.sqrt(np.pi / 2), rel=0.03)  # 20,000 voxels: 0.5%
    assert 0 < min(levels) < max(levels) <= 0.1 * 1.02
    bare = RandScanNoised("image", sigma=0.1, bare=1.0, prob=1.0).set_random_state(seed=3)({"image": image})["image"]
    assert (bare[0, :, 100:] == -1).all() and not torch.equal(bare[0, :, :100], image[0, :, :100])


@pytest.mark.parametrize("noiseless", [0.0, 1.0])
def test_a_known_noise_is_in_every_slice_told_and_not_in_the_target(noiseless):
    grey = torch.zeros(2, 64, 64)
    grey[0] += 0.1 * torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    given = {"unguided": 0.0, "grain": 0.0, "nominal": 1.0, "level": 0.1, "noiseless": noiseless}
    thick = ThickenSliced("image", factors=(4.0, 4.0), **given)
    spreads = []
    for seed in range(8):
        item = thick.set_random_state(seed=seed)({"image": grey, "planes": 0, "index": 0})
        assert torch.equal(item["image"], torch.zeros(1, 64, 64))
        assert torch.allclose(item["guide"][4] * NOISE_UNIT, torch.tensor(0.1))
        spreads.append(float(item["guide"][0][item["guide"][2] > 0.5].std()))
    assert np.mean(spreads) == pytest.approx(0.1, rel=0.25)


def test_the_mean_of_the_noise_is_diffused_at_the_highest_time():
    item = ThickenSliced("image", unguided=0.0).set_random_state(seed=0)({"image": pair(), "planes": 1, "index": 5})
    out = DiffuseSliced("image", highest=1.0).set_random_state(seed=1)(item)
    assert out["timesteps"] == 999 and float(out["image"][0].abs().max()) < 1e-2
    assert float(out["label"].std()) > 0.1
