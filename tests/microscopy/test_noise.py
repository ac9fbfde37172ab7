"""Noise that grows with the signal: found again where it was made, and taken out of planes by no more than it is."""

import json
from dataclasses import replace

import dask.array as da
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from bida.cli.parser import main
from bida.errors import SettingsError
from bida.io.weights import save_weights
from bida.microscopy import noise as module
from bida.microscopy.noise import FARTHEST, SignalNoise, brought_back, cleaned, estimate_noise, line_through, stabilised
from bida.microscopy.prior import MaskedPrior
from bida.microscopy.settings import MaskedSettings, told_noise
from bida.microscopy.stacks.stack import Stack, read_stack, write_stack

TOLERANCE = 0.15  # what is asked of the estimate


def signal(shape=(12, 96, 96), seed=0):
    """Smooth blobs from 0 to 1 with steps at their edges, on a background of 0."""
    made = gaussian_filter(np.random.default_rng(seed).normal(size=shape), (0, 4, 4))
    made = np.clip(made / made.max() + 0.1, 0, 1)
    return np.where(made > 0.5, 0.5 * made + 0.5, made)


def counted(photons, read, gain=1.0, zero=0.0, shape=(12, 96, 96)):
    """A detector's planes, [1, Z, Y, X], and the noise's (a, b): gain (photons + read noise) + zero."""
    rng, mean = np.random.default_rng(7), photons * signal(shape)
    planes = gain * (rng.poisson(mean) + rng.normal(0, read, shape)) + zero
    return planes[None], (gain, gain**2 * read**2 - gain * zero), gain * mean[None] + zero


@pytest.mark.parametrize(
    "photons, read, gain, zero", [(30, 2, 1, 0), (200, 8, 1, 0), (30, 2, 40, 100), (1000, 10, 1, 0)]
)
def test_noise_is_found_in_made_stacks(photons, read, gain, zero):
    planes, (a, b), _ = counted(photons, read, gain, zero)
    found = estimate_noise(planes[0])
    assert found is not None and found.white
    assert found.a == pytest.approx(a, rel=TOLERANCE)
    assert found.b == pytest.approx(b, rel=TOLERANCE)


def test_noise_that_does_not_grow_is_found_and_a_stack_without_any_has_none():
    flat = signal() * 1000
    found = estimate_noise(flat + np.random.default_rng(1).normal(0, 30, flat.shape))
    assert found is not None and found.b == pytest.approx(900, rel=TOLERANCE) and found.a == 0
    none = estimate_noise(flat)
    assert none is not None and not none.white  # what there is, is texture
    assert estimate_noise(np.ones((4, 64, 64))) == SignalNoise(0.0, 0.0)
    assert estimate_noise(np.random.default_rng(0).normal(size=(2, 20, 20))) is None
    assert estimate_noise(np.ones((4, 4, 64))) is None


def test_noise_that_may_be_texture_is_said_and_leaves_planes_as_they_are(tmp_path):
    noise = gaussian_filter(np.random.default_rng(1).normal(0, 30, (12, 96, 96)), (0, 0.7, 0.7))
    one = planes((signal() * 100 + noise)[None])
    with cleaned(one, "auto", tmp_path / "a.ome.tif") as (clean, done):
        assert clean is one and not done.noise[0].white and "if it is not texture" in done.describe()
    with cleaned(one, "0,100", tmp_path / "a.ome.tif") as (clean, done):
        assert done.changed[0] > 0.3


def test_parts_with_texture_do_not_lift_the_line():
    s = np.linspace(0, 10, 24)
    variances = 2 * s + 3
    variances[[4, 9, 15]] *= 6
    assert line_through(s, variances) == pytest.approx((2, 3), rel=0.1)


@pytest.mark.parametrize("noise", [SignalNoise(1.0, 4.0), SignalNoise(40.0, 6400.0 - 4000.0), SignalNoise(0.5, 100.0)])
def test_the_transform_makes_noise_alike_and_its_inverse_is_unbiased(noise):
    rng, photons = np.random.default_rng(0), np.repeat([[10.0], [30.0], [100.0]], 200_000, axis=1)
    read = np.sqrt(max(noise.b, 0) / noise.a**2)
    y = noise.a * (rng.poisson(photons) + rng.normal(0, read, photons.shape))
    even = stabilised(y, SignalNoise(noise.a, max(noise.b, 0)))
    np.testing.assert_allclose(even.std(axis=1), 1, atol=0.05)
    np.testing.assert_allclose(
        brought_back(even.mean(axis=1), SignalNoise(noise.a, max(noise.b, 0))), noise.a * photons[:, 0], rtol=0.01
    )


def planes(data, path="made"):
    return Stack(data, (4.0, 1.0, 1.0), tuple(f"channel {k}" for k in range(len(data))), path)


def rms(a, b):
    return float(np.sqrt(np.mean(np.square(a - b))))


@pytest.mark.parametrize("how", ["auto", "1,4", "0,9"])
def test_planes_are_nearer_to_the_truth_and_no_voxel_goes_farther_than_its_noise(tmp_path, how):
    noisy, _, truth = counted(30, 2)
    with cleaned(planes(noisy), how, tmp_path / "out.ome.tif") as (clean, done):
        assert rms(clean.data, truth) < 0.6 * rms(noisy, truth)
        assert done.how == ("estimated" if how == "auto" else "given")
        assert 0.5 < done.changed[0] < 1.5 and done.largest[0] <= FARTHEST + 1e-9
        assert abs(float(clean.data.mean() - noisy.mean())) < 0.05 * noisy.mean()
        record = json.loads(json.dumps(done.record()))
        assert record["planes_changed"] and record["channels"]["channel 0"]["largest_change_in_sigma"] <= FARTHEST
        assert "variance" in done.describe()


def test_a_channel_without_noise_stays_and_zero_is_nothing_at_all(tmp_path):
    noisy, _, _ = counted(30, 2)
    one = planes(np.concatenate([noisy, np.full_like(noisy, 7)]))
    with cleaned(one, "auto", tmp_path / "a.ome.tif") as (clean, done):
        assert np.array_equal(clean.data[1], one.data[1]) and not np.array_equal(clean.data[0], one.data[0])
        assert done.describe().endswith("channel 1 none, planes stay as acquired")
    with cleaned(one, "0,0", tmp_path / "a.ome.tif") as found:
        assert found[0] is one and found[1] is None
    small = planes(noisy[:, :2, :20, :20])
    with cleaned(small, "auto", tmp_path / "a.ome.tif") as (clean, done):
        assert clean is small and done.record()["channels"] == {"channel 0": None}
        assert "cannot be told" in done.describe() and not done.record()["planes_changed"]


def test_what_is_cleaned_does_not_depend_on_blocks_nor_on_tiles(tmp_path, monkeypatch):
    noisy, _, _ = counted(30, 2, shape=(5, 90, 110))
    one = planes(np.clip(np.rint(noisy), 0, None).astype(np.uint8))
    lazy = replace(one, data=da.from_array(one.data, chunks=(1, 2, 32, 50)))
    with (
        cleaned(one, "auto", tmp_path / "a.ome.tif") as (_, told),
        cleaned(lazy, "auto", tmp_path / "b.tif") as (_, again),
    ):
        assert told == again
    results = []
    for tile in (40, 512):
        monkeypatch.setattr(module, "TILE", tile)
        with cleaned(one, "1,4", tmp_path / "a.ome.tif") as (first, told):
            pass
        with cleaned(lazy, "1,4", tmp_path / "a.ome.zarr") as (second, again):
            assert len(list(tmp_path.iterdir())) == 1  # beside the output
            assert np.array_equal(np.asarray(second.data), first.data) and told == again
        results.append(first.data)
        assert 2.5 < told.largest[0] <= FARTHEST
        assert first.data.dtype == np.uint8 and not list(tmp_path.iterdir())
    assert np.abs(results[0].astype(int) - results[1]).max() <= 1  # sums of other lengths round otherwise


@pytest.mark.parametrize("text", ["1", "a,b", "-1,3", "0,-1", "1,inf", "nan,0", "", "1,2,3"])
def test_noise_that_cannot_be_is_refused(text):
    with pytest.raises(SettingsError, match=r"noise: must be auto, or A,B with A at least 0, and B where A is 0, got"):
        MaskedSettings(noise=text)


def test_noise_is_told_in_two_numbers():
    assert told_noise("auto") is None and told_noise("2.5,-300") == (2.5, -300.0)
    assert told_noise(MaskedSettings().noise) == (0.0, 0.0)


def test_the_command_keeps_planes_exactly_unless_it_is_told(tmp_path, capsys):
    made = MaskedPrior("guided", 1, (8,), 1).eval()
    save_weights(made, tmp_path / "net.pt")
    noisy, _, _ = counted(200, 4, shape=(6, 48, 48))
    data = np.clip(np.rint(noisy), 0, None).astype(np.uint16)
    write_stack(tmp_path / "in.ome.tif", planes(data))
    words = ["--model", str(tmp_path / "net.pt"), "--factor", "2", "--dtype", "float32"]
    results = {}
    for name, more in (
        ("default", []),
        ("none", ["--noise", "0,0"]),
        ("told", ["--noise", "1,16"]),
        ("auto", ["--noise", "auto"]),
    ):
        out = tmp_path / f"{name}.ome.zarr"
        assert main(["superres-masked", str(tmp_path / "in.ome.tif"), str(out), *words, *more]) == 0
        results[name] = (
            read_stack(out).data,
            json.loads((tmp_path / f"{name}.ome.json").read_text()),
            capsys.readouterr().out,
        )
    (first, record, said), (second, _, _) = results["default"], results["none"]
    assert np.array_equal(first, second) and np.array_equal(first[:, ::2], data)
    assert record["noise"] is None and "6 of 6 planes as acquired" in said
    for name, how in (("told", "given"), ("auto", "estimated")):
        result, record, said = results[name]
        assert not np.array_equal(result[:, ::2], data) and record["noise"]["how"] == how
        with cleaned(planes(data), record["settings"]["noise"], tmp_path / "x.tif") as (clean, _):
            assert np.array_equal(result[:, ::2], clean.data)
        assert f"noise, {how}: channel 0 variance" in said and "6 of 6 planes cleaned of noise" in said
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
