"""One command: a stack's own minutes, the check on planes held back, and leaning on interpolation."""

import json
import os
from dataclasses import replace

import dask.array as da
import numpy as np
import pytest
import torch

from bida.cli import superres_masked
from bida.cli.parser import main
from bida.errors import SettingsError
from bida.io.files import sidecar_path
from bida.io.released import released_path
from bida.io.weights import read_weights, released_hash, sha256
from bida.microscopy import own
from bida.microscopy.evaluate import left_out, missing_scores
from bida.microscopy.inferer import MaskedSliceInferer
from bida.microscopy.isotropy import asked
from bida.microscopy.load import IntensityLine, Seen, load_stack
from bida.microscopy.own import (
    OwnTraining,
    held_planes,
    new_prior,
    taught,
    taught_shape,
    train_on_stack,
    training_planes,
)
from bida.microscopy.prior import MaskedPrior
from bida.microscopy.restore import interpolate_stack, restore_stack
from bida.microscopy.selfcheck import check_stack_prior, verdict
from bida.microscopy.settings import own_minutes
from bida.microscopy.stacks.stack import Stack, read_stack, write_stack


def stack(planes=9, channels=1, side=24, dtype=np.uint16):
    """Blocks of three pixels, which interpolation blurs."""
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 4000, (channels, planes, side // 3, side // 3))
    data = np.repeat(np.repeat(blocks, 3, axis=2), 3, axis=3).astype(dtype)
    return Stack(data, (4.0, 1.0, 1.0), ("a", "b")[:channels], "made.tif")


@pytest.fixture
def small(monkeypatch):
    """A network that starts at once."""
    monkeypatch.setattr(own, "WIDTH", 8)
    monkeypatch.setattr(own, "BLOCKS", 1)


@pytest.mark.parametrize(
    "planes, expected", [(2, []), (3, [1]), (8, [2, 6]), (16, [2, 6, 10, 14]), (100, [12, 37, 62, 87])]
)
def test_planes_are_held_back_evenly_and_most_teach(planes, expected):
    assert held_planes(planes) == expected


def test_planes_that_are_held_back_are_never_drawn(small):
    data = np.zeros((2, 8, 20, 20), np.float32) + np.arange(8)[None, :, None, None]
    data[:, :, ::2] += 0.25  # a plane of one value is not drawn either
    data[1, 3] = 3.0
    drawn = training_planes(replace(stack(), data=data, channels=("a", "b")), OwnTraining(1), new_prior("float32", 0))
    (first, free), (_, other) = drawn.slices["axial"]
    assert list(free) == [0, 1, 3, 4, 5, 7] and list(other) == [0, 1, 4, 5, 7] and first.shape == (8, 20, 20, 1)
    item = drawn[3]
    assert item["image"].shape == (4, 42, 42) and item["label"].shape == (2, 42, 42)


def test_a_network_that_has_learned_nothing_is_the_same_for_a_seed_and_leaves_chance_alone(small):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    networks = [new_prior("float32", seed).network.stem.weight for seed in (1, 1, 2)]
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(*networks[:2]) and not torch.equal(*networks[1:])


def test_what_cannot_be_trained_on_is_refused(small):
    prior = new_prior("float32", 0)
    with pytest.raises(SettingsError, match=r"made.tif: planes must have 16 x 16 pixels or more .* got 15 x 15"):
        training_planes(stack(side=15), OwnTraining(1), prior)
    with pytest.raises(SettingsError, match="must have a plane of more than one value beside those held back"):
        training_planes(replace(stack(), data=np.ones((1, 9, 24, 24), np.uint8)), OwnTraining(1), prior)
    with pytest.raises(SettingsError, match="must be of method guided, got msunet"):
        training_planes(stack(), OwnTraining(1), MaskedPrior("msunet", 1, (8,), 1))


def test_minutes_are_the_networks_default_or_what_is_asked():
    assert [own_minutes(model, None) for model in (None, "none", "a.pt")] == [10, 10, 0]
    assert own_minutes("a.pt", 3) == 3 and own_minutes(None, 0) == 0
    for model, minutes, message in (
        ("none", 0, "knows nothing"),
        (None, -1, "from 0 on, got -1"),
        (None, float("nan"), "nan"),
    ):
        with pytest.raises(SettingsError, match=message):
            own_minutes(model, minutes)


def test_a_run_that_was_cut_off_goes_on_and_another_stacks_is_refused(small, tmp_path):
    file, how = tmp_path / "run.ckpt", OwnTraining(0.001, batch_size=2)
    steps = train_on_stack(new_prior("float32", 0), stack(), how, checkpoint=file)
    again = train_on_stack(new_prior("float32", 0), stack(), how, checkpoint=file)
    assert steps == again > 0  # its time was over
    for changed, clip in ((stack(planes=8), None), (stack(), 90)):
        with pytest.raises(SettingsError, match=r"run\.ckpt: a run that is taken up must have the same stack"):
            train_on_stack(new_prior("float32", 0), changed, how, clip, file)


def mixture(share, noise=0.0):
    """A restoration that is so near to the truth, from interpolation, and so noisy."""
    rng, truth = np.random.default_rng(1), stack(channels=2, planes=16)
    planes = truth.data[:, held_planes(16)].astype(np.float32)
    sides = iter((planes.transpose(0, 2, 1, 3), planes.transpose(0, 3, 1, 2)))

    def restore(kept, factor):
        linear = interpolate_stack(kept, factor, "linear")
        x = next(sides)[:, : linear.data.shape[1]]
        data = linear.data + share * (x - linear.data)
        data[1] += noise * rng.standard_normal(data[1].shape)
        return replace(linear, data=data.astype(np.float32))

    return truth, restore


def test_the_check_finds_the_weight_that_least_squares_would():
    truth, restore = mixture(0.5)
    found = check_stack_prior(truth, 4.0, restore)
    assert found.planes == (2, 6, 10, 14) and found.factor == 4 and found.weights == [1.0, 1.0]
    for one in found.channels.values():  # half the error is a quarter of its square
        assert one.gain_db == pytest.approx(20 * np.log10(2), abs=1e-3) and one.better_db == one.gain_db
    assert verdict(found) == (
        "on this stack: 6.0 dB better than linear interpolation, the least of 2 channels, by 4 plane(s) held back, "
        "rows left out at 4x"
    )
    over = check_stack_prior(truth, 4.0, mixture(2.0)[1])
    assert over.weights == pytest.approx([0.5, 0.5], abs=1e-4)  # twice as far as the truth
    assert over.channels["a"].gain_db == pytest.approx(0, abs=1e-3) and over.channels["a"].better_db > 40


def test_a_channel_that_is_not_helped_leans_on_interpolation():
    truth, restore = mixture(0.5, noise=1e5)
    found = check_stack_prior(truth, 4.4, restore)
    assert found.weights == [1.0, 0.0] and found.channels["b"].gain_db < -20 and found.channels["b"].better_db == 0
    assert verdict(found).endswith("; no better in b, which leans on interpolation")
    assert (
        verdict(found, True)
        == f"{verdict(found)}. That is the mean; a draw is as rough as the planes, and further from the truth"
    )
    nothing = check_stack_prior(truth, 4.0, mixture(0.0)[1])
    assert nothing.weights == [0.0, 0.0] and "no better than linear interpolation (by 4 plane(s)" in verdict(nothing)
    assert check_stack_prior(stack(planes=2), 4.0, restore) is None and "too few" in verdict(None)
    assert check_stack_prior(stack(side=6), 6.0, restore) is None


def test_the_weight_draws_towards_interpolation_and_acquired_planes_stay(small):
    prior = new_prior("float32", 0)
    for parameter in prior.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    planes, inferer = stack(channels=2, dtype=np.float32), MaskedSliceInferer(4, tile=32, overlap=8)
    whole, half, none = (
        restore_stack(planes, prior, inferer, weights=weights).data for weights in (None, [0.25, 0.0], [0.0, 0.0])
    )
    linear = interpolate_stack(planes, 4, "linear").data
    np.testing.assert_allclose(half[0], linear[0] + 0.25 * (whole[0] - linear[0]), rtol=1e-5, atol=1e-2)
    np.testing.assert_allclose(half[1], linear[1], rtol=1e-6)
    assert np.array_equal(none, linear) and not np.allclose(whole, linear)
    assert np.array_equal(half[:, ::4], planes.data)


def test_isotropy_is_asked_of_all_channels_and_answered_once():
    rng = np.random.default_rng(0)
    data = rng.normal(size=(2, 24, 600, 40)).astype(np.float32)
    data[1] += 20 * rng.normal(size=(24, 1, 1))  # planes that differ in brightness
    found, told = asked(Stack(data, (1.0, 1.0, 1.0), ("a", "b"), "made.tif"))
    assert list(found) == ["a", "b"] and found["a"].isotropic
    assert told.startswith("isotropy: no, z differs from x and y by ") and "in b, the worst of 2 channels" in told
    assert "make them alike" in told
    data[1] = 100 + rng.normal(size=data[1].shape) + np.linspace(0, 30, 24)[:, None, None]
    data[1, 9:12] *= 0.5
    told = asked(Stack(data, (1.0, 1.0, 1.0), ("a", "b"), "made.tif"))[1]
    assert told.startswith("isotropy: no") and told.endswith("; brightness jumps at plane 9, 12, counted from 0")
    assert asked(Stack(data[:1], (1.0, 1.0, 1.0), ("a",), "made.tif"))[1].startswith("isotropy: yes, z differs")
    assert "cannot be told: every axis must have 16 voxels" in asked(stack(planes=9))[1]


def test_one_command_trains_checks_restores_and_keeps_what_it_learned(small, tmp_path, capsys):
    write_stack(tmp_path / "made.ome.tif", stack(channels=2))
    words = ["superres-masked", str(tmp_path / "made.ome.tif"), "--factor", "4", "--dtype", "float32", "--tile", "32",
             "--overlap", "8"]  # fmt: skip
    out, kept, again = tmp_path / "a.ome.tif", tmp_path / "a.ome.pt", tmp_path / "b.ome.tif"
    assert main([*words, str(out), "--model", "none", "--minutes", "0.003"]) == 0
    said = capsys.readouterr().out.splitlines()
    record = json.loads((tmp_path / "a.ome.json").read_text())
    assert said[0] == record["isotropy"] and said[-1] == record["verdict"] and "9 of 9 planes as acquired" in said[1]
    assert record["training"]["steps"] > 0 and record["training"]["held_back"] == [2, 6]
    assert record["weights_sha256"] == sha256(kept) and record["weights"] == "none"
    assert set(record["self_check"]["channels"]) == {"a", "b"}
    # planes have as little in common as pixels of two blocks, three apart: one more than the factor; so for the check
    assert record["settings"]["as_factor"] == record["self_check"]["factor"] == 5
    assert np.array_equal(read_stack(out).data[:, ::4], stack(channels=2).data)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.ome.json", "a.ome.pt", "a.ome.tif", "made.ome.tif"]

    # what is kept is what made the volume
    assert main([*words, str(again), "--model", str(kept)]) == 0
    assert np.array_equal(read_stack(again).data, read_stack(out).data)
    assert json.loads((tmp_path / "b.ome.json").read_text())["training"] is None
    # a draw has the mean's planes as far apart, and another texture
    assert record["settings"]["fusion"] == "final"
    drawn = tmp_path / "c.ome.tif"
    assert main([*words, str(drawn), "--model", str(kept), "--steps", "3", "--self-check", "off"]) == 0
    settings = json.loads((tmp_path / "c.ome.json").read_text())["settings"]
    assert (settings["fusion"], settings["as_factor"]) == ("textured", 5)
    assert np.array_equal(read_stack(drawn).data[:, ::4], stack(channels=2).data)
    assert not np.array_equal(read_stack(drawn).data, read_stack(out).data)
    for options, message in (
        (["--model", str(kept), "--eta", "0.5", "--overwrite"], "which has no use for it in one step, got 0.5"),
        (["--model", str(kept), "--minutes", "1", "--overwrite"], "must be a file of its own, not --model"),
        (["--model", "none"], "give --overwrite"),
        (["--as-factor", "3", "--overwrite"], "as_factor: must be at least the factor of 4, got 3"),
        (
            ["--as-factor", "5", "--steps", "3", "--fusion", "final", "--overwrite"],
            "which has no use for it in 3 steps, got 5",
        ),
    ):
        assert main([*words, str(out), *options]) == 2
        assert message in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".ome.tif", ".zarr"])
def test_a_stack_never_stands_beside_the_record_of_another(small, tmp_path, capsys, monkeypatch, suffix):
    write_stack(tmp_path / "made.ome.tif", stack())
    out, record = tmp_path / f"a{suffix}", sidecar_path(tmp_path / f"a{suffix}")
    words = ["superres-masked", str(tmp_path / "made.ome.tif"), str(out), "--factor", "2", "--dtype", "float32",
             "--self-check", "off", "--minutes", "0"]  # fmt: skip
    assert main(words) == 0
    before, told = read_stack(out).data, record.read_bytes()
    last = {"write_json": superres_masked, "replace": os}  # what is killed: before the record, before the stack
    replace = os.replace

    def killed(*given, **named):
        if {str(one) for one in given} & {str(out), str(record)}:
            raise KeyboardInterrupt
        return replace(*given, **named)

    for name, where in last.items():
        record.write_bytes(told)
        with monkeypatch.context() as patch:
            patch.setattr(where, name, killed)
            assert main([*words, "--factor", "4", "--overwrite"]) == 130
        assert not record.exists()
        assert np.array_equal(read_stack(out).data, before) == (name == "replace")
        capsys.readouterr()
        assert main(words) == 2
        assert f"{out}: output must not exist, it does, without a record" in capsys.readouterr().err
        assert main([*words, "--overwrite"]) == 0 and np.array_equal(read_stack(out).data, before)

    there = sorted(tmp_path.iterdir())
    out = tmp_path / f"b{suffix}"  # which nothing is in place of
    words[2], record = str(out), sidecar_path(out)
    with monkeypatch.context() as patch:
        patch.setattr(superres_masked, "write_json", killed)
        assert main(words) == 130
    assert sorted(tmp_path.iterdir()) == there and main(words) == 0


def test_the_network_that_is_shipped_is_the_recorded_one():
    path = released_path("masked.pt")
    prior = MaskedPrior.load(path)
    assert prior.weights_sha256 == released_hash("masked.pt")
    assert (prior.method, prior.image_channels, prior.prediction) == ("guided", 1, "v")
    assert path.stat().st_size < 25e6
    assert {value.dtype for value in read_weights(path).state.values() if value.is_floating_point()} == {torch.half}


@pytest.mark.slow
@pytest.mark.parametrize("factor, least_db", [(2, 0.1), (4, 0.5), (8, 0.3)])
def test_it_is_nearer_to_planes_that_it_has_not_seen_than_interpolation(shared_data, factor, least_db):
    """Electron microscopy, a window of the planes that it was not trained on."""
    truth = load_stack(f"{shared_data}/microscopy/fibsem-medulla/training1.ome.tif[170:203]")
    truth = replace(truth, data=truth.data[..., 60:156, 60:156])
    kept, cut = left_out(truth, factor)
    prior = MaskedPrior.load(released_path("masked.pt"))
    found = restore_stack(kept, prior, MaskedSliceInferer(factor)).data
    linear = interpolate_stack(kept, factor, "linear").data
    scores = [missing_scores(data, cut.data, factor)["psnr"] for data in (found, linear)]
    assert scores[0] > scores[1] + least_db


def test_a_large_stack_is_trained_on_by_its_middle(small, monkeypatch):
    one = stack(side=48, channels=2)
    assert taught_shape(one) == (48, 48) and np.array_equal(taught(one).data, one.data)
    monkeypatch.setattr(own, "TAUGHT", 2 * 9 * 20 * 20)
    lazy = replace(one, data=da.from_array(one.data, chunks=(1, 4, 16, 16)))
    assert taught_shape(lazy) == (20, 20)
    np.testing.assert_array_equal(taught(lazy).data, one.data[:, :, 14:34, 14:34])
    # on the scale of the whole
    line = IntensityLine.of(one.data)
    drawn = training_planes(taught(lazy), OwnTraining(1), new_prior("float32", 0), None, Seen.of(lazy))
    first = drawn.slices["axial"][0][0]
    np.testing.assert_array_equal(first[..., 0], line.forward(taught(lazy).data)[0])
