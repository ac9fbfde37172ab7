"""What is added between planes makes their spectra those of the acquired planes, and nothing else."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from bida.microscopy.inferer import MaskedSliceInferer
from bida.microscopy.texture import MOST, OWN, RING, filtered, spectrum, textured

SIDES = (96, 80)


def noise(count, seed, sides=SIDES):
    return torch.randn(count, *sides, generator=torch.Generator().manual_seed(seed))


def chance(seed=0):
    return torch.Generator().manual_seed(seed)


def smooth(planes):
    """Return planes without their finer half of frequencies."""
    kept = torch.fft.rfft2(planes)
    rows, columns = torch.fft.fftfreq(planes.shape[1])[:, None], torch.fft.rfftfreq(planes.shape[2])
    return torch.fft.irfft2(kept * (torch.hypot(rows, columns) < 0.25), s=planes.shape[1:])


def test_the_spectrum_is_that_of_what_is_there():
    flat = spectrum(3 * noise(20, 0))
    inner = flat[1:24]
    assert float(inner.std() / inner.mean()) < 0.1
    torch.testing.assert_close(flat, 9 * spectrum(noise(20, 0)), rtol=1e-5, atol=0)
    wave = torch.cos(2 * torch.pi * 0.26 * torch.arange(80.0)).expand(1, *SIDES)
    assert int(spectrum(wave + 100).argmax()) == int(0.26 / RING)


def test_a_filter_passes_the_frequencies_that_it_is_told():
    plane = noise(1, 1)[0]
    rings = 40
    torch.testing.assert_close(filtered(plane, torch.ones(rings)), plane, atol=1e-5, rtol=0)
    assert float(filtered(plane, torch.zeros(rings)).abs().max()) < 1e-6
    low, high = torch.zeros(rings), torch.zeros(rings)
    low[:12], high[12:] = 1, 1
    parts = filtered(plane, low), filtered(plane, high)
    torch.testing.assert_close(parts[0] + parts[1], plane, atol=1e-5, rtol=0)
    assert spectrum(parts[0][None])[14:].max() < 0.02 * spectrum(parts[0][None])[:10].mean()


def made(factor=4, count=6, seed=3):
    """Return acquired planes, a mean that lacks half of what it should have, a draw's deviation, and distances."""
    z = (count - 1) * factor + 1
    planes, mean = 10 * noise(count, seed), 7 * smooth(noise(z, seed + 1))
    deviation = 4 * noise(z, seed + 2)
    mean[::factor], deviation[::factor] = planes, 0
    index = np.arange(z) % factor
    return planes, mean, deviation, torch.from_numpy(np.minimum(index, factor - index).astype(float))


def test_missing_planes_get_the_spectrum_of_the_acquired_ones():
    planes, mean, deviation, distance = made()
    found = textured(mean, deviation, planes, distance, chance())
    assert torch.equal(found[::4], planes)
    wanted, before, after = spectrum(planes), spectrum(mean[distance > 0]), spectrum(found[distance > 0])
    assert float((before[2:23] / wanted[2:23] - 1).abs().mean()) > 0.5
    assert float((after[2:23] / wanted[2:23] - 1).abs().mean()) < 0.1
    added = textured(mean, deviation, planes, distance, chance(), 0) - mean
    for index in torch.nonzero(distance > 0).flatten().tolist():  # the deviation's own, not another pattern
        one = torch.stack([added[index].flatten(), deviation[index].flatten()])
        assert float(torch.corrcoef(one)[0, 1]) > 0.9


def streaked():
    """Return `made`, the deviation alike in all planes, as a network has it that takes planes for alike, and faint in
    half of each."""
    planes, mean, deviation, distance = made()
    deviation[distance > 0] = deviation[distance > 0][:1]
    deviation[..., :40] *= 0.1
    return planes, mean, deviation, distance


def test_a_share_of_the_power_that_is_added_is_noise():
    planes, mean, deviation, distance = streaked()
    missing = distance > 0
    drawn, found = (textured(mean, deviation, planes, distance, chance(), own) - mean for own in (0, OWN))
    own = found - math.sqrt(1 - OWN) * drawn
    assert float(found[missing].square().mean() / drawn[missing].square().mean()) == pytest.approx(1, abs=0.05)
    assert float(own[missing].square().mean() / found[missing].square().mean()) == pytest.approx(OWN, rel=0.1)
    assert torch.equal(textured(mean, deviation, planes, distance, chance()) - mean, found)
    assert not torch.equal(textured(mean, deviation, planes, distance, chance(1)) - mean, found)


def test_the_noise_of_a_plane_is_its_own_and_as_strong_as_its_texture_is_there():
    planes, mean, deviation, distance = streaked()
    own, drawn = (
        textured(mean, deviation, planes, distance, chance(), share)[distance > 0] - mean[distance > 0]
        for share in (1, 0)
    )
    for one, other in pairwise(own):
        pairs = torch.stack([part.flatten() for part in (one, other, drawn[0])])
        assert float(torch.corrcoef(pairs)[0, 1:].abs().max()) < 0.08  # 0.016 by chance
    strong, faint = (own[..., part].square().mean() for part in (slice(48, None), slice(32)))
    ratio = drawn[..., 48:].square().mean() / drawn[..., :32].square().mean()
    assert float((strong / faint).log()) == pytest.approx(math.log(ratio), abs=0.3)


@pytest.mark.parametrize("side", [16, 32])
def test_the_noise_of_a_single_small_plane_is_no_stronger_and_does_not_shift_it(side):
    planes, deviation = noise(2, 0, (side, side)), torch.zeros(3, side, side)
    deviation[1] = noise(1, 1, (side, side))[0]
    args = (torch.zeros_like(deviation), deviation, planes, torch.tensor([0.0, 1.0, 0.0]))
    drawn = textured(*args, chance(), 0)[1]
    own = torch.stack([textured(*args, chance(seed), 1)[1] for seed in range(40)])
    assert 0.5 * float(drawn.std()) < float(own.std(dim=(1, 2)).min())
    assert float(own.std(dim=(1, 2)).max()) < 1.5 * float(drawn.std())
    assert float(own.mean(dim=(1, 2)).abs().max()) < 0.2 * float(drawn.std())


def test_nothing_is_added_where_nothing_is_lacking_or_drawn():
    planes, mean, deviation, distance = made()
    assert torch.equal(textured(mean, torch.zeros_like(deviation), planes, distance, chance()), mean)
    rough = mean.clone()
    rough[distance > 0] = 20 * noise(int((distance > 0).sum()), 9)
    assert torch.equal(textured(rough, deviation, planes, distance, chance()), rough)


def test_a_faint_draw_is_amplified_so_far_only():
    planes, mean, deviation, distance = made()
    added = textured(mean, 1e-3 * deviation, planes, distance, chance()) - mean
    assert 0 < float(added.std()) <= 1.01 * MOST * 1e-3 * float(deviation.std())


@pytest.mark.parametrize("sides", [(5, 7), (33, 8)])
def test_small_planes_do(sides):
    planes, mean = noise(2, 0, sides), noise(3, 1, sides)
    found = textured(mean, noise(3, 2, sides), planes, torch.tensor([0.0, 1.0, 0.0]), chance())
    assert found.shape == mean.shape and bool(found.isfinite().all())


def test_a_fusion_of_that_name_is_known():
    assert MaskedSliceInferer(4, steps=2, fusion="textured").fusion == "textured"
