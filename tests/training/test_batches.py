from dataclasses import replace

import numpy as np
import pytest
import torch
from monai.transforms import Compose, RandSpatialCropd, SpatialPadd
from scipy.ndimage import gaussian_filter

from bida.diffusion.prior import condition_class
from bida.errors import SettingsError
from bida.physics.grid import PLANES
from bida.physics.guide import MADE, NOISE_UNIT
from bida.training.bank import SliceBank
from bida.training.batches import ThickBatches, Variation, _Chance, joint_guide
from bida.training.dataset import SliceStacks
from bida.training.pixels import STEP, mirrored
from bida.transforms.augment.diffuse import DiffuseSliced
from bida.transforms.augment.slices import RandContrastd, RandLeftRightFlipd, RandSimilarityd
from bida.transforms.augment.thicken import ThickenSliced

STILL = Variation(
    moved=0.0, contrast=0.0, noisy=0.0, told=0.0, grain=0.0, noiseless=1.0, highest=0.0, second=0.0, lesions=0.0
)


def made_stacks(noise=0.0, transform=None):
    """Return two made animals' slices, smooth shapes on black: one serves all planes, one the sagittal alone."""
    rng = np.random.default_rng(0)
    found = []
    for shape in ((6, 70, 90), (5, 50, 80)):
        clean = gaussian_filter(rng.normal(size=shape), (0, 4, 4))
        clean = np.where(clean > 0, clean / clean.max() * 1.5, -1.0)
        pair = np.stack([clean + noise * rng.normal(size=shape), clean], axis=-1).astype(np.float32)
        found.append((pair.clip(-1, 2), np.arange(1, shape[0])))
    slices = {plane: [found[0]] for plane in PLANES}
    slices["sagittal"] = found
    weights = {plane: np.ones(1) for plane in PLANES} | {"sagittal": np.array([0.25, 0.75])}
    return SliceStacks(slices, transform or (lambda item: item), seed=3, weights=weights, length=10)


def chance_of(seed):
    return _Chance(np.random.SeedSequence(seed), torch.device("cpu"))


def batches(stacks=None, variation=STILL, **changes):
    return ThickBatches(SliceBank(stacks or made_stacks()), variation=variation, **{"geometries": 64, **changes})


def test_a_slice_is_drawn_as_often_as_from_the_stacks():
    stacks = made_stacks()
    bank, generator = SliceBank(stacks), torch.Generator().manual_seed(0)
    index, planes = bank.draw(30_000, generator)
    assert len(bank.sizes) == 5 + 4  # each slice is held once, whatever planes it serves
    for place in range(3):
        assert float((planes == place).float().mean()) == pytest.approx(1 / 3, abs=0.01)
    sagittal = index[planes == PLANES.index("sagittal")]
    assert float((sagittal >= 5).float().mean()) == pytest.approx(0.75, abs=0.02)
    assert set(index[planes == 0].tolist()) == set(range(5))


def test_windows_are_the_slices_and_mirrored_beyond_them():
    stacks = made_stacks()
    bank = SliceBank(stacks)
    pair = stacks.slices["axial"][0][0][1]  # the first useful slice
    index, corners = torch.tensor([0, 0]), torch.tensor([[10, 20], [-30, 60]])
    inside, outside = bank.windows(index, corners, (40, 50))
    assert np.abs(inside.numpy() - np.moveaxis(pair[10:50, 20:70], -1, 0)).max() <= STEP / 2 + 1e-6
    wide = np.pad(pair, ((30, 0), (0, 30), (0, 0)), mode="reflect")[:40, 60:110]
    assert np.abs(outside.numpy() - np.moveaxis(wide, -1, 0)).max() <= STEP / 2 + 1e-6
    assert bool((inside == -1).any())  # the exact background is exact
    far = mirrored(torch.arange(-40, 60), torch.tensor(7)).numpy()
    assert np.array_equal(far, np.pad(np.arange(7), (40, 53), mode="reflect"))


@pytest.mark.parametrize("kind", [pytest.param("clean", marks=pytest.mark.slow), "grain"])
def test_the_distribution_is_that_of_single_slices(kind):
    """Image, guide, target, class and time of whole batches, and of the transforms of one slice, have like moments."""
    chances = {"grain": float(kind == "grain"), "noiseless": 1.0}
    steps = [
        RandSimilarityd("image", prob=0.3),
        RandLeftRightFlipd("image"),
        RandContrastd("image", prob=0.5),
        SpatialPadd("image", (64, 64), mode="reflect"),
        RandSpatialCropd("image", (64, 64), random_size=False),
        ThickenSliced("image", unguided=0.2, noisy=0.0, **chances),
        DiffuseSliced("image"),
    ]
    single = made_stacks(0.05, Compose(steps))
    alone = [single[index] for index in range(300)]
    vary = replace(STILL, moved=0.3, contrast=0.5, unguided=0.2, **chances)
    together = batches(made_stacks(0.05), vary, batch_size=100, geometries=150)
    made = [together.batch(index) for index in range(8)]

    def moments(images, labels):
        parts = torch.cat([images, labels], dim=1).double()
        keep = [
            0,
            1,
            2,
            3,
            4,
            6,
            7,
            8,
            9,
        ]  # all but the noise that the network is told, which single slices know nothing of
        return torch.stack([parts.mean(dim=(0, 2, 3)), parts.square().mean(dim=(0, 2, 3)).sqrt()])[:, keep]

    expected = moments(torch.stack([torch.as_tensor(item["image"]) for item in alone]),
                       torch.stack([torch.as_tensor(item["label"]) for item in alone]))  # fmt: skip
    found = moments(torch.cat([batch["image"] for batch in made]), torch.cat([batch["label"] for batch in made]))
    torch.testing.assert_close(found, expected, atol=0.08, rtol=0.08)
    classes = torch.cat([batch["planes"] for batch in made])
    single_classes = torch.tensor([int(item["planes"]) for item in alone])
    assert set(classes.tolist()) == set(single_classes.tolist())
    for label in classes.unique():
        share = [float((one == label).float().mean()) for one in (classes, single_classes)]
        assert share[0] == pytest.approx(share[1], abs=0.06)
    times = torch.cat([batch["timesteps"] for batch in made]).double()
    assert float(times.mean()) == pytest.approx(500, abs=5)


def test_a_batch_is_a_function_of_seed_and_index():
    one, other = batches(seed=4, batch_size=4), batches(seed=4, batch_size=4)
    expected = one.batch(2)
    other.start = 2
    found = next(iter(other))
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert not torch.equal(one.batch(3)["image"], expected["image"])
    assert not torch.equal(batches(seed=5, batch_size=4).batch(2)["image"], expected["image"])
    second = batches(seed=4, batch_size=4, rank=1, world=2)
    assert torch.equal(next(iter(second))["image"], one.batch(1)["image"])
    assert len(list(batches(length=3, batch_size=2))) == 3


@pytest.mark.parametrize("rician", [0.0, 1.0])
def test_the_noise_is_as_much_as_is_told(rician):
    grey = np.full((3, 80, 80, 2), 1.0, dtype=np.float32)
    bank = SliceBank(SliceStacks({"axial": [(grey, np.arange(3))]}, lambda item: item))
    made = ThickBatches(bank, 60, variation=replace(STILL, noisy=1.0, noise=(0.1, 0.1), rician=rician), geometries=64)
    chance, (pair, _) = chance_of(0), made.crops(chance_of(0))
    kinds = torch.zeros(60, dtype=torch.bool)
    shown, y = made.shown(pair, ~kinds, kinds, torch.arange(60), chance)
    assert torch.allclose(shown[:, MADE.start + 1] * NOISE_UNIT, torch.tensor(0.1), atol=1e-6)
    slices = y[made.geometries.operator[:60].any(dim=2)]
    assert float((slices - 1).std()) == pytest.approx(0.1, rel=0.02)
    assert float(slices.mean()) == pytest.approx(1.0, abs=0.01)


def test_exact_background_stays_dark_in_extracted_brains():
    black = np.full((3, 80, 80, 2), -1.0, dtype=np.float32)
    stacks = SliceStacks({"axial": [(black, np.arange(3))]}, lambda item: item)
    vary = replace(STILL, noisy=1.0, noise=(0.1, 0.1), rician=1.0, masked=0.0)
    noisy = batches(stacks, vary, batch_size=40).batch(0)["image"][:, 1]
    assert float(noisy.mean()) == pytest.approx(-1 + 0.1 * np.sqrt(np.pi / 2), abs=0.01)  # Rayleigh
    still = batches(stacks, replace(vary, masked=1.0), batch_size=40).batch(0)["image"][:, 1]
    assert torch.allclose(still, torch.tensor(-1.0), atol=1e-5)


def test_the_mean_starts_from_no_noise():
    batch = batches(variation=replace(STILL, highest=1.0), batch_size=8).batch(0)
    assert set(batch["timesteps"].tolist()) == {999}
    assert float(batch["image"][:, 0].abs().max()) < 1e-2  # what is left of the signal
    assert float(batch["label"].std()) > 0.1


def test_turned_slices_are_scaled_and_stay_in_their_range():
    square = np.full((2, 120, 120, 2), -1.0, dtype=np.float32)
    square[:, 45:75, 45:75] = 1.0
    bank = SliceBank(SliceStacks({"axial": [(square, np.arange(2))]}, lambda item: item))
    for scale in (0.6, 1.6):
        vary = replace(STILL, moved=1.0, rotate=10.0, scale=(scale, scale))
        made = ThickBatches(bank, 16, variation=vary, geometries=4)
        corners = torch.full((16, 2), 28)
        turned = made.turned(torch.zeros(16, dtype=torch.int64), corners, chance_of(1))
        area = (turned[:, 0] > 0).float().sum(dim=(1, 2))
        assert torch.allclose(area, torch.tensor((30 * scale) ** 2), rtol=0.06)
        assert float(turned.min()) == -1 and float(turned.max()) == pytest.approx(1, abs=STEP)
        assert len(area.unique()) > 1  # by different angles


@pytest.mark.parametrize("crop", [(64, 32), (64,), (15, 15), (17, 17), (16, 16, 16)])
def test_a_crop_is_a_square_of_even_size(crop):
    with pytest.raises(SettingsError, match="crop: must be rows and columns, alike, even and at least 16, got"):
        batches(crop=crop)


def test_a_batch_is_not_empty():
    with pytest.raises(SettingsError, match="batch_size: must be at least 1, got 0; raise it"):
        batches(batch_size=0)


def test_a_crop_without_a_guide_has_its_class_and_no_guide():
    batch = batches(variation=replace(STILL, unguided=1.0), batch_size=6).batch(0)
    assert not batch["image"][:, 1:].any()
    assert set(batch["planes"].tolist()) <= {condition_class(plane, False, False) for plane in range(3)}


def test_a_second_scan_is_across_the_first_and_told():
    vary = replace(STILL, second=1.0, alike=0.0, noisy=1.0, noise=(0.01, 0.01), rician=0.0)
    made = batches(variation=vary, batch_size=30)
    chance = chance_of(3)
    pair, _ = made.crops(chance)
    none = torch.zeros(30, dtype=torch.bool)
    place = torch.arange(30)
    shown, _ = made.shown(pair, ~none, none, place, chance)
    lone, _ = replace_second(made, 0.0).shown(pair, ~none, none, place, chance_of(4))
    sharp = pair[:, 1]
    errors = [float((one[:, 0] - sharp).square().mean()) for one in (shown, lone)]
    assert errors[0] < 0.6 * errors[1]  # two scans tell far more than one
    assert bool((shown[:, MADE.start + 3] > 0).all()) and not bool(lone[:, MADE.start + 3].any())
    # the cosine of the second scan varies along the crop's other axis, that of the first along its own
    assert torch.equal(shown[:, 7, 0], shown[:, 7, 9]) and float(shown[:, 7].std(dim=2).min()) > 0.1
    assert not bool(lone[:, 7].any())


def replace_second(made, share):
    made.vary = replace(made.vary, second=share)
    return made


def test_the_guide_of_two_scans_agrees_with_both():
    made = batches()
    chance = chance_of(0)
    x = made.crops(chance)[0][:, 1]
    places = (torch.arange(16), torch.arange(16, 32))
    A, B = (made.geometries.operator[place] for place in places)
    found = joint_guide(made.geometries, places, (A @ x, B @ x.mT), torch.zeros(2, 16))
    assert float((A @ found - A @ x).abs().max()) < 5e-3 and float((B @ found.mT - B @ x.mT).abs().max()) < 5e-3


def test_lesions_are_discs_in_tissue_of_the_contrast_that_is_asked_for():
    grey = np.full((2, 80, 80, 2), -1.0, dtype=np.float32)
    grey[:, 20:60, 20:60] = 0.6
    bank = SliceBank(SliceStacks({"axial": [(grey, np.arange(2))]}, lambda item: item))
    vary = replace(STILL, lesions=0.5, radius=(3.0, 3.0), lesion=(0.25, 0.25))
    made = ThickBatches(bank, 400, variation=vary, geometries=4)
    chance = chance_of(0)
    plain, _ = replace_lesions(made, 0.0).crops(chance_of(0))
    sick = replace_lesions(made, 0.5).diseased(plain, chance)
    change = (sick - plain)[:, 1]
    assert not bool(change[plain[:, 1] < 0].any())  # air stays air
    assert 0.3 < float((change.abs().amax(dim=(1, 2)) > 0).float().mean()) < 0.5  # a few fall into air
    largest = change.abs().amax(dim=(1, 2))
    alone = largest[(largest > 0.35) & (largest < 0.45)]
    assert len(alone) > 100 and float(alone.median()) == pytest.approx(0.4, abs=1e-5)  # 0.25 of 1.6 above air
    assert torch.equal((sick - plain)[:, 0], change)  # as scanned and denoised alike


def replace_lesions(made, share):
    made.vary = replace(made.vary, lesions=share)
    return made
