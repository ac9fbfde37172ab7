"""Stacks restored in their own numbers, by every method, and scored on the planes left out."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from bida import device
from bida.cli.parser import main
from bida.cpu_speed import Speed
from bida.errors import ScanError, SettingsError
from bida.io.kept import Kept
from bida.io.weights import save_weights, sha256
from bida.microscopy import evaluate as evaluation
from bida.microscopy import load
from bida.microscopy.evaluate import MaskedExperiment, evaluate_masked, left_out, missing_scores
from bida.microscopy.grid import StackGrid
from bida.microscopy.inferer import MaskedSliceInferer
from bida.microscopy.prior import MaskedPrior
from bida.microscopy.restore import MaskedSettings, fitting_factor, inferer_of, interpolate_stack, restore_stack
from bida.microscopy.stacks.stack import Stack, read_stack


def stack(dtype=np.uint16, m=5, channels=1, seed=0):
    data = np.random.default_rng(seed).integers(0, 4000, (channels, m, 12, 13)).astype(dtype)
    return Stack(data, (6.0, 2.0, 2.0), ("a", "b")[:channels], "made.tif")


def large():
    data = np.random.default_rng(1).integers(0, 4000, (1, 13, 52, 50)).astype(np.uint16)
    return Stack(data, (2.0, 2.0, 2.0), ("a",), "made.tif")


@pytest.fixture(autouse=True)
def made(monkeypatch, tmp_path):
    """Put the file that a stack is said to come from where the tests run."""
    (tmp_path / "made.tif").touch()
    monkeypatch.chdir(tmp_path)


def prior(method="diffusion", channels=1):
    torch.manual_seed(3)
    network = MaskedPrior(method, channels, (8, 16), 1)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return network.eval()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32, np.float64])
@pytest.mark.parametrize("method", ["diffusion", "msunet", "e2e"])
def test_acquired_planes_keep_their_bits(method, dtype):
    planes = stack(dtype, channels=2)
    if dtype is np.float64:  # more digits than the network's arithmetic holds
        planes = replace(planes, data=planes.data + 1e-9)
    found = restore_stack(planes, prior(method, 2), MaskedSliceInferer(4, steps=2, tile=32, overlap=8))
    assert found.data.dtype == dtype and found.data.shape == (2, 17, 12, 13)
    assert np.array_equal(found.data[:, ::4], planes.data)
    assert found.spacing_um == (1.5, 2.0, 2.0)


def test_the_line_is_undone():
    """A stack whose network says 0 everywhere has the middle of its percentiles between the planes."""
    network = prior("msunet")
    for parameter in network.network.out.parameters():
        torch.nn.init.zeros_(parameter)
    planes = stack(np.float32)
    found = restore_stack(planes, network, MaskedSliceInferer(2, tile=32, overlap=8))
    low, high = np.percentile(planes.data, load.PERCENTILES)
    np.testing.assert_allclose(found.data[:, 1::2], (low + high) / 2, rtol=1e-5)


def test_a_network_that_was_trained_on_clipped_planes_sees_them_clipped_and_they_come_back_unclipped():
    inferer = MaskedSliceInferer(2.5, steps=2, tile=32, overlap=8)
    planes = stack(channels=2)
    limits = np.percentile(planes.data, 90, axis=(1, 2, 3)).astype(np.uint16)[:, None, None, None]
    expected = restore_stack(replace(planes, data=np.minimum(planes.data, limits)), prior(channels=2), inferer)
    found = restore_stack(planes, prior(channels=2), inferer, clip_percentile=90)
    between = np.arange(11) % 5 != 0
    assert np.array_equal(found.data[:, between], expected.data[:, between])
    assert np.array_equal(found.data[:, ::5], planes.data[:, ::2])
    assert not np.array_equal(found.data, restore_stack(planes, prior(channels=2), inferer).data)


@pytest.mark.parametrize("m, factor", [(5, 2), (5, 2.5), (4, 2.5), (5, 3)])
@pytest.mark.parametrize("method", ["nearest", "linear", "cubic"])
def test_interpolation(method, m, factor):
    planes = stack(np.float64, m)
    found, grid = interpolate_stack(planes, factor, method), StackGrid(m, factor)
    assert np.array_equal(found.data[:, grid.rows], planes.data[:, grid.on_grid])
    z = np.arange(grid.voxels) / factor
    column = planes.data[0, :, 3, 4]
    if method == "linear":
        np.testing.assert_allclose(found.data[0, :, 3, 4], np.interp(z, np.arange(m), column), rtol=1e-9)
    if method == "nearest":
        off_middle = np.abs(z % 1 - 0.5) > 1e-9
        np.testing.assert_allclose(found.data[0, off_middle, 3, 4], column[np.round(z[off_middle]).astype(int)])
    ramp = replace(planes, data=np.broadcast_to(np.arange(float(m))[None, :, None, None], (1, m, 4, 4)).copy())
    if method != "nearest":
        inside = (z >= 1) & (z <= 2) if method == "cubic" else z >= 0  # splines end flat
        ramped = interpolate_stack(ramp, factor, method).data[0, inside, 2, 2]
        np.testing.assert_allclose(ramped, z[inside], atol=0.05 if method == "cubic" else 1e-9)


def test_factor_or_spacing():
    assert MaskedSettings(spacing_um=2.4).factor_for(stack()) == pytest.approx(2.5)
    assert MaskedSettings(factor=3).factor_for(stack()) == 3
    assert MaskedSettings().factor_for(replace(stack(), spacing_um=(6.0, 2.0, 2.4))) == 3  # isotropic voxels
    with pytest.raises(SettingsError, match=r"must be farther apart than pixels .* got 2 and 2 um; give --factor"):
        MaskedSettings().factor_for(large())
    for settings, message in [
        (MaskedSettings(factor=2, spacing_um=3.0), "factor: it or the spacing must be given, not both, got 2 and 3"),
        (MaskedSettings(spacing_um=7.0), "at most that of the planes, 6 um, got 7"),
    ]:
        with pytest.raises(SettingsError, match=message):
            settings.factor_for(stack())


def test_scores_count_missing_planes_alone():
    truth = np.random.default_rng(0).uniform(0, 100, (1, 13, 14, 15))
    low, high = np.percentile(truth, load.PERCENTILES)
    result = truth + 0.0
    result[:, np.arange(13) % 4 != 0] += 5
    result[:, ::4] += 50  # an error that must not count
    found = missing_scores(result, truth, 4)
    assert found["psnr"] == pytest.approx(20 * np.log10((high - low) / 5), abs=1e-4)
    assert 0 < found["ssim"] < 1


def test_left_out_planes():
    kept, cut = left_out(stack(m=12), 4)
    assert kept.data.shape[1] == 3 and cut.data.shape[1] == 9 and kept.spacing_um == (24.0, 2.0, 2.0)
    with pytest.raises(SettingsError, match="more than 12 planes for factor 12, got 12"):
        left_out(stack(m=12), 12)


@pytest.mark.slow
def test_weights_are_loaded_once_a_run(monkeypatch, tmp_path):
    loaded, real = [], MaskedPrior.load
    monkeypatch.setattr(
        MaskedPrior, "load", staticmethod(lambda path, dtype: loaded.append(str(path)) or real(path, dtype))
    )
    monkeypatch.setattr(load, "read_stack", lambda path, voxel_um, **more: large())
    files = {method: str(tmp_path / f"{method}.pt") for method in ("msunet", "e2e")}
    for method, file in files.items():
        save_weights(prior(method), file)
    methods = [f"msunet={files['msunet']}", f"again={files['msunet']}", f"e2e={files['e2e']}"]
    words = ["evaluate-masked", "made.tif", "--out", str(tmp_path / "out"), "--no-panel", "--crops", "4"]
    options = ["--factors", "2", "4", "--tile", "32", "--overlap", "8", "--dtype", "float32"]
    assert main([*words, *options, "--methods", "linear", *methods]) == 0
    assert sorted(loaded) == sorted(files.values())


def test_evaluation_writes_a_table_and_pictures(monkeypatch, tmp_path):
    monkeypatch.setattr(load, "read_stack", lambda path, voxel_um, **more: stack(m=17))
    weights = {}
    for method in ("diffusion", "e2e"):
        weights[method] = tmp_path / f"{method}.pt"
        save_weights(prior(method), weights[method])
    methods = ["linear", *(f"{name}={path}" for name, path in weights.items())]
    settings = MaskedSettings(steps=2, tile=32, overlap=8, dtype="float32")
    experiment = MaskedExperiment("made.tif", str(tmp_path / "out"), (4, 8), methods, settings=settings, panel=False)
    told = []
    text = evaluate_masked(experiment, lambda *done: told.append(done))
    # two planes by two steps, and by two and three doublings
    counts = [total for done, total in told if done == total]
    assert counts == [4, 4, 4, 6]
    record = json.loads((tmp_path / "out" / "masked.json").read_text())
    assert record["networks"]["e2e"] == {"method": "e2e", "sha256": sha256(weights["e2e"]), "fusion": "final"}
    assert (record["truth"], record["factors"], record["settings"]["steps"]) == ("made.tif", [4, 8], 2)
    assert (record["dtype"], record["dtype_choice"], record["shape_czyx"]) == ("float32", "as asked", [1, 17, 12, 13])
    with (tmp_path / "out" / "masked.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {(row["factor"], row["method"], row["plane"], row["metric"]) for row in rows} == {
        (factor, method, "3D", metric)
        for factor in ("4", "8")
        for method in ("linear", "diffusion", "e2e")
        for metric in ("psnr", "ssim", "seconds")
    }
    assert all(np.isfinite(float(row["value"])) for row in rows) and "diffusion" in text
    for factor in (4, 8):
        assert (tmp_path / "out" / f"masked_{factor}x.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ScanError, match=r"masked\.csv: output must not exist, it does; .*--overwrite"):
        evaluate_masked(experiment)


def test_sizes_that_are_given_reach_the_reader(monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(load, "read_stack", lambda path, voxel_um, **more: seen.append(voxel_um) or stack(m=17))
    words = [
        "evaluate-masked",
        "made.tif",
        "--out",
        str(tmp_path),
        "--methods",
        "linear",
        "--factors",
        "4",
        "--no-panel",
    ]
    assert main([*words, "--voxel-um", "4", "2", "2"]) == 0
    assert seen == [[4.0, 2.0, 2.0]]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"factors": [1]}, "factors: must be integers from 2 on"),
        ({"methods": ["sinc"]}, "methods: must be nearest, linear, cubic or NAME=FILE"),
        ({"methods": ["linear=a.pt"]}, "methods: must be nearest"),
        ({"methods": ["a=b.pt", "a=c.pt"]}, "every name must be used once"),
        ({"methods": ["truth=a.pt"]}, "none be truth"),
        ({"factors": [4, 5], "crops": 10}, "must divide the 48 rows of the crops, got 5"),
        ({"inception_weights": "net.pt"}, "must be given together, got net.pt and None"),
        ({"inception_sha256": "0" * 64}, "must be given together, got None and 0000"),
    ],
)
def test_an_experiment_that_cannot_be_is_refused(options, message):
    with pytest.raises(SettingsError, match=message):
        MaskedExperiment("made.tif", "out", **options)


def test_superres_masked_writes_a_stack_and_its_record(monkeypatch, tmp_path, capsys):
    written = {}
    monkeypatch.setattr(load, "open_stack", lambda path, voxel_um, **more: stack())
    monkeypatch.setattr(
        "bida.microscopy.stacks.stack.write_stack",
        lambda path, result, overwrite, old_record=None: written.update({path: result}),
    )
    save_weights(prior(), tmp_path / "model.pt")
    out = tmp_path / "fine.tif"
    command = ["superres-masked", "made.tif", str(out), "--model", str(tmp_path / "model.pt"), "--spacing", "2.4"]
    assert main([*command, "--steps", "2", "--tile", "48", "--overlap", "8", "--dtype", "float32"]) == 0
    found = written[out]
    assert found.data.shape == (1, 11, 12, 13) and np.array_equal(found.data[:, ::5], stack().data[:, ::2])
    record = json.loads((tmp_path / "fine.json").read_text())
    assert record["settings"]["factor"] == pytest.approx(2.5) and record["settings"]["steps"] == 2
    assert (record["planes"], record["planes_on_grid"], record["method"]) == (5, 3, "diffusion")
    assert record["weights_sha256"] and "3 of 5 planes as acquired" in capsys.readouterr().out
    assert (record["dtype"], record["dtype_choice"], record["warnings"]) == ("float32", "as asked", [])
    assert record["clip_percentile"] is None
    assert main(command) == 2 and "give --overwrite" in capsys.readouterr().err
    again = [*command, "--steps", "1", "--dtype", "float32", "--overwrite", "--clip-percentile"]
    assert main([*again, "90"]) == 0 and not np.array_equal(written[out].data, found.data)
    assert np.array_equal(written[out].data[:, ::5], stack().data[:, ::2])
    assert json.loads((tmp_path / "fine.json").read_text())["clip_percentile"] == 90
    assert main([*again, "0"]) == 2 and "clip_percentile: must be above 0" in capsys.readouterr().err


def test_the_record_says_how_the_dtype_was_chosen(monkeypatch, tmp_path, capsys):
    found = Kept(Speed(4.0, 4.0), kept=False, problem="the measurement could not be kept")
    monkeypatch.setattr(device, "bfloat16_speed", lambda: found)
    monkeypatch.setattr(load, "open_stack", lambda path, voxel_um, **more: stack())
    monkeypatch.setattr(
        "bida.microscopy.stacks.stack.write_stack", lambda path, result, overwrite, old_record=None: None
    )
    save_weights(prior(), tmp_path / "model.pt")
    words = ["made.tif", str(tmp_path / "fine.tif"), "--model", str(tmp_path / "model.pt"), "--factor", "2"]
    assert main(["superres-masked", *words, "--steps", "1", "--device", "cpu"]) == 0
    record = json.loads((tmp_path / "fine.json").read_text())
    assert record["dtype"] == "bfloat16" and record["dtype_choice"].startswith("measured: bfloat16 runs at")
    assert record["warnings"] == [found.problem] and f"bida: note: {found.problem}" in capsys.readouterr().err


def test_evaluation_says_its_warnings_before_the_work(monkeypatch, tmp_path, capsys):
    found = Kept(Speed(0.1, 0.1), kept=False, problem="the measurement could not be kept")
    monkeypatch.setattr(device, "bfloat16_speed", lambda: found)
    monkeypatch.setattr(load, "read_stack", lambda path, voxel_um, **more: stack(m=13))
    monkeypatch.setattr(evaluation, "restore_stack", lambda *arguments: pytest.fail(capsys.readouterr().err))
    save_weights(prior(), tmp_path / "model.pt")
    words = ["made.tif", "--out", str(tmp_path), "--factors", "2", "--no-panel", "--methods"]
    assert main(["evaluate-masked", *words, "linear"]) == 0 and "note" not in capsys.readouterr().err
    with pytest.raises(pytest.fail.Exception, match=f"bida: note: {found.problem}"):
        main(["evaluate-masked", *words, f"net={tmp_path / 'model.pt'}", "--device", "cpu", "--overwrite"])
    assert json.loads((tmp_path / "masked.json").read_text())["warnings"] == [found.problem]


def test_a_type_of_voxel_that_cannot_be_written_is_refused_before_the_work(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(load, "open_stack", lambda path, voxel_um, **more: stack(np.float16))
    for name in ("fine.tif", "fine.nii.gz"):
        words = ["made.tif", str(tmp_path / name), "--model", "made.tif", "--factor", "2"]
        assert main(["superres-masked", *words]) == 2
        assert f"{name}: " in (error := capsys.readouterr().err) and "float16" in error, error


def test_some_planes_of_a_stack_are_restored(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(load, "open_stack", lambda path, voxel_um, **more: stack())
    save_weights(prior("e2e"), tmp_path / "e2e.pt")
    out = tmp_path / "fine.ome.tif"
    words = ["made.tif[1:4]", str(out), "--model", str(tmp_path / "e2e.pt"), "--factor", "2", "--dtype", "float32"]
    assert main(["superres-masked", *words]) == 0
    assert np.array_equal(read_stack(out).data[:, ::2], stack().data[:, 1:4])
    assert main(["superres-masked", f"{out}[0:3]", *words[1:], "--overwrite"]) == 2
    assert "output must be a file of its own" in capsys.readouterr().err


@pytest.mark.parametrize(
    "methods, options, refused",
    [
        (["linear"], ["--steps", "4"], "--steps: must not be given where no method uses it, got 4 with no network"),
        (["linear"], ["--blur"], "--blur: must not be given"),
        (["linear"], ["--batch-size", "4"], "--batch-size: must not be given"),
        (["linear"], ["--seed", "1"], "--seed: must not be given"),
        (["e2e", "msunet"], ["--eta", "0.5"], "got 0.5 with networks of e2e and msunet alone; leave it out"),
        (["e2e"], ["--seed", "1"], "--seed: must not be given"),
        (["e2e", "diffusion"], ["--steps", "1", "--eta", "0.5", "--seed", "1", "--tile", "64"], None),
        (["e2e", "msunet"], ["--seed", "1", "--batch-size", "4", "--dtype", "float32"], None),
        (["e2e"], ["--seed", "1", "--crops", "4"], None),
    ],
)
def test_an_option_that_no_method_uses_is_refused(monkeypatch, tmp_path, capsys, methods, options, refused):
    monkeypatch.setattr("bida.microscopy.evaluate.evaluate_masked", lambda *experiment: "ran")
    for method in ("diffusion", "msunet", "e2e"):
        save_weights(prior(method), tmp_path / f"{method}.pt")
    named = [name if name == "linear" else f"{name}={tmp_path / name}.pt" for name in methods]
    words = ["evaluate-masked", "made.tif", "--out", str(tmp_path), "--no-panel", "--methods", *named, *options]
    assert main(words) == (2 if refused else 0)
    printed = capsys.readouterr()
    assert (refused or "ran") in printed.err + printed.out


def test_options_that_a_method_has_no_use_for_are_refused_and_not_recorded(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(load, "open_stack", lambda path, voxel_um, **more: stack())
    monkeypatch.setattr(
        "bida.microscopy.stacks.stack.write_stack", lambda path, result, overwrite, old_record=None: None
    )
    save_weights(prior("e2e"), tmp_path / "e2e.pt")
    command = [
        "superres-masked",
        "made.tif",
        str(tmp_path / "fine.tif"),
        "--model",
        str(tmp_path / "e2e.pt"),
        "--factor",
        "4",
    ]
    for option in ("--steps", "--eta", "--seed"):
        assert main([*command, option, "1"]) == 2
        assert f"{option}: must not be given for" in capsys.readouterr().err
    assert main([*command, "--tile", "48", "--overlap", "8", "--dtype", "float32"]) == 0
    settings = json.loads((tmp_path / "fine.json").read_text())["settings"]
    assert settings["factor"] == 4 and not settings.keys() & {"steps", "eta", "seed"}


@pytest.mark.parametrize(
    "method, given, found",
    [
        ("guided", {}, "final"),
        ("guided", {"steps": 16}, "textured"),
        ("guided", {"steps": 16, "fusion": "final"}, "final"),
        ("guided", {"steps": 16, "fusion": "single-xz"}, "single-xz"),
        ("diffusion", {}, "final"),
        ("diffusion", {"steps": 16}, "final"),
        ("msunet", {}, "final"),
    ],
)
def test_draws_by_guided_weights_are_textured_and_build_on_the_mean(method, given, found):
    settings = MaskedSettings(**given)
    network = MaskedPrior(method, 1, (16,), 2) if method == "guided" else prior(method)
    assert inferer_of(settings, network, 2).fusion == found
    stack = Stack(np.random.default_rng(0).normal(size=(1, 4, 32, 32)), (2.0, 1.0, 1.0), ("a",), "made")
    mean = method == "guided" and (found == "textured" or not given)
    assert (fitting_factor(stack, network, settings, 2) >= 3) == mean
