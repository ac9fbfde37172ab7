"""Random acquisition: averages stay, chance follows the seed, image and label are cut alike."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bida.transforms.augment.heads import RandFieldOfViewd, RandSurfaceCoild, RandThickSlicesd, thicken


@pytest.mark.parametrize("axis", [1, 2, 3])
@pytest.mark.parametrize("size, shift", [(2, 0), (3, 1), (5, 4)])
def test_thick_slices_average_and_interpolate(axis, size, shift):
    volume = torch.rand(1, 20, 21, 22, generator=torch.Generator().manual_seed(0))
    line = volume.movedim(axis, -1).numpy().astype(np.float64)
    n = line.shape[-1]
    padded = np.concatenate([np.repeat(line[..., :1], shift, -1), line], axis=-1)
    starts = range(0, padded.shape[-1], size)
    means = np.stack([padded[..., i : i + size].mean(-1) for i in starts], -1)
    centres = np.array([i + (size - 1) / 2 for i in starts]) - shift
    expected = np.apply_along_axis(lambda row: np.interp(np.arange(n), centres, row), -1, means)
    found = thicken(volume, axis, size, shift).movedim(axis, -1).numpy()
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_a_constant_stays_constant():
    assert torch.allclose(thicken(torch.full((1, 10, 11, 12), 3.0), 2, 4, 3), torch.tensor(3.0))


def test_probability_zero_changes_nothing():
    data = {"image": torch.rand(1, 12, 12, 12), "label": torch.ones(1, 12, 12, 12)}
    for transform in (
        RandThickSlicesd("image", prob=0),
        RandSurfaceCoild("image", 0.2, prob=0),
        RandFieldOfViewd(["image", "label"], prob=0),
    ):
        assert torch.equal(transform(data)["image"], data["image"])


def test_the_same_seed_gives_the_same():
    data = {"image": torch.rand(1, 24, 24, 24)}
    for transform in (RandThickSlicesd("image", prob=1), RandSurfaceCoild("image", 0.2, prob=1)):
        first = transform.set_random_state(3)(data)["image"]
        again = transform.set_random_state(3)(data)["image"]
        assert torch.equal(first, again) and not torch.equal(first, data["image"])


def test_the_coil_only_darkens_and_is_brightest_near_it():
    transform = RandSurfaceCoild("image", 0.2, (2.0, 3.0), prob=1).set_random_state(0)
    fall = transform({"image": torch.ones(1, 30, 30, 30)})["image"][0]
    assert float(fall.min()) > 0 and float(fall.max()) <= 1
    assert fall[15, 15, -1] > fall[15, 15, 0]


def test_image_and_label_are_cut_alike_to_a_box():
    ones = torch.ones(1, 30, 31, 32)
    transform = RandFieldOfViewd(["image", "label"], 0.3, prob=1)
    for seed in range(5):
        out = transform.set_random_state(seed)({"image": ones, "label": ones})
        assert torch.equal(out["image"], out["label"])
        inside = torch.nonzero(out["image"][0])
        low, high = inside.min(0).values, inside.max(0).values + 1
        assert out["image"].sum() == (high - low).prod(), "what stays must be a whole box"
        assert ((high - low) / torch.tensor([30, 31, 32]) >= 0.4 - 0.04).all()


@pytest.mark.parametrize("make", [lambda: RandThickSlicesd("image", largest=1), lambda: RandFieldOfViewd("image", 0.5)])
def test_impossible_parameters_are_refused(make):
    with pytest.raises(ValueError, match="must be"):
        make()
