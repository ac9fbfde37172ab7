import json
import subprocess
import sys
import time

import nibabel as nib
import numpy as np
import pytest

from bida.cli.parser import main, parser
from bida.io.weights import released_path, sha256

FAST = ["--no-n4"]


@pytest.fixture
def scan(make_scan):
    return str(make_scan())


def test_superres_writes_volume_record_uncertainty_and_picture(scan, tmp_path, capsys):
    out, std, png = tmp_path / "sr.nii.gz", tmp_path / "std.nii.gz", tmp_path / "sr.png"
    options = f"--samples 2 --steps 2 --uncertainty {std} --keep-draws --preview {png} --seed 7".split()
    assert main(["superres", scan, str(out), *FAST, *options]) == 0
    image = nib.load(out)
    assert image.shape == (20, 40, 18)
    assert image.get_data_dtype() == np.float32
    np.testing.assert_allclose(image.get_qform(), image.get_sform(), atol=1e-6)
    assert image.header.get_xyzt_units()[0] == "mm"
    assert nib.load(std).shape == image.shape
    assert nib.load(std).get_fdata().max() > 0
    assert png.read_bytes().startswith(b"\x89PNG")
    draws = [nib.load(tmp_path / f"sr_draw-{k}.nii.gz") for k in (1, 2)]
    values = np.stack([draw.get_fdata() for draw in draws])
    np.testing.assert_allclose(values.mean(axis=0), image.get_fdata(), rtol=1e-5)
    assert np.abs(values[0] - values[1]).max() > 0
    np.testing.assert_array_equal(draws[1].affine, image.affine)
    record = json.loads((tmp_path / "sr.json").read_text())
    assert record["settings"]["seed"] == 7
    assert record["settings"]["samples"] == 2
    assert (record["estimate"], record["steps"], record["samples"]) == ("draws", 2, 2)
    assert record["weights_sha256"] == sha256(released_path("model.pt"))
    assert record["slice_geometry"]["slices"] == 8
    assert record["slice_thickness_from"] == "assumed"
    assert "the slice thickness is not in the file" in str(record["warnings"])
    assert record["data_consistency"]["scan_residual"] < 1e-5
    assert set(record["seconds"]) == {"load_weights", "preprocess", "self_check", "sample", "postprocess"}
    assert {"bida", "torch", "monai"} <= set(record["versions"])
    printed = capsys.readouterr().out
    assert "20 x 40 x 18 voxels of 0.15 x 0.15 x 0.15 mm" in printed
    assert "it is the mean of 2 draws of 2 steps\n" in printed
    assert "made thick again it differs from the scan by" in printed
    check = record["self_check"]
    assert 0 <= check["weight"] <= check["weight_of_result"] <= 1 and check["plane"] == "coronal"
    assert record["verdict"] in printed and record["verdict"].startswith("on this scan: ")
    assert record["uncertainty_scale"] > 0


def test_the_mean_in_one_step_is_the_default(scan, tmp_path, capsys):
    for number, extra in enumerate(([], ["--steps", "1", "--seed", "3"])):
        assert main(["superres", scan, str(tmp_path / f"{number}.nii.gz"), *FAST, *extra]) == 0
        first, second, _ = capsys.readouterr().out.splitlines()  # nothing of what is so by default
        assert first.startswith(str(tmp_path / f"{number}.nii.gz")) and second.startswith("made thick again it differs")
        record = json.loads((tmp_path / f"{number}.json").read_text())
        assert (record["estimate"], record["steps"], record["samples"]) == ("mean", 1, 0)
    first, second = (nib.load(tmp_path / f"{number}.nii.gz").get_fdata() for number in range(2))
    np.testing.assert_array_equal(first, second)


def test_the_self_check_can_be_left_out(scan, tmp_path, capsys):
    paper = ["--preset", "paper", "--spacing", "inplane", "--steps", "2"]
    for number, extra in enumerate((["--self-check", "off"], paper)):
        assert main(["superres", scan, str(tmp_path / f"{number}.nii.gz"), *FAST, *extra]) == 0
        record = json.loads((tmp_path / f"{number}.json").read_text())
        assert record["self_check"] is None and "self-check" not in str(record["warnings"])
        assert "on the scan's own slices" not in capsys.readouterr().out
    assert record["settings"]["guided"] is False and record["settings"]["grain"] is True


def test_info_reports_the_self_check_on_request(scan, capsys):
    assert main(["info", scan]) == 0
    assert "self-check" not in capsys.readouterr().out
    assert main(["info", scan, "--self-check"]) == 0
    printed = capsys.readouterr().out
    assert "(4 coronal slices made thick in their plane)" in printed and "on this scan: " in printed


@pytest.mark.slow
def test_adapted_weights_can_be_used_and_say_so(tmp_path, make_scan, capsys, monkeypatch):
    def blocks(shape, affine):
        rng = np.random.default_rng(0)
        return 100 + 50 * np.kron(rng.standard_normal((10, shape[1], 9)), np.ones((2, 1, 2)))

    path, weights = str(make_scan(values=blocks)), tmp_path / "own.pt"
    arguments = ["--no-n4", "--device", "cpu"]
    assert main(["adapt", path, "-o", str(weights), "--minutes", "0.005", *arguments]) == 0
    assert f"use it with --model {weights}" in capsys.readouterr().out
    assert sorted(p.name for p in tmp_path.iterdir()) == ["own.pt", "scan.nii.gz"]  # no checkpoint is left
    assert main(["adapt", path, "-o", str(weights), *arguments]) == 2
    assert "output must not exist" in capsys.readouterr().err
    out = tmp_path / "sr.nii.gz"
    assert main(["superres", path, str(out), *FAST, "--model", str(weights), "--adapt", "0.005"]) == 0
    record = json.loads((tmp_path / "sr.json").read_text())
    assert record["weights_sha256"] == sha256(weights)
    assert record["adapted"]["steps"] >= 1 and record["adapted"]["scans"] == 1
    assert not list(tmp_path.glob("*.ckpt"))
    monkeypatch.setattr("bida.mri.settings.AUTO_MINUTES", 0.005)
    capsys.readouterr()
    assert main(["superres", path, str(tmp_path / "auto.nii.gz"), "--no-n4", "--device", "cpu", "--adapt", "auto"]) == 0
    record, said = json.loads((tmp_path / "auto.json").read_text()), capsys.readouterr().err
    out = (
        "were not adapted" in said or "adaptation was left out" in said
    )  # a line where it is, and none where it is not
    assert record["adapted"]["kept"] != out
    assert not list(tmp_path.glob("*.ckpt"))


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--samples", "1", "--uncertainty", "std.nii.gz"], "--uncertainty: a single draw has none, got --samples 1"),
        (["--keep-draws"], "--keep-draws: needs draws, got none; give --samples 4"),
        (["--steps", "8"], "steps: 8 is for draws, not for the mean: it is made in one step; give --samples 1"),
        (["--no-guided"], "guided: False is for draws, not for the mean: one step without the guide is no estimate"),
        (["--factor", "5", "--spacing", "0.2"], "--factor excludes --spacing"),
        (["--model", "nowhere.pt"], "nowhere.pt: weights must exist"),
        (["--profile", "nowhere.txt"], "nowhere.txt"),
        (["--device", "abacus"], "device: must be one that this machine has, got 'abacus'"),
        (["--samples", "-1"], "samples: must be at least 0, got -1"),
        (["--keep-dtype"], "--keep-dtype: the scan must hold integers"),
        (["--preview", "sr.jpg"], "sr.jpg: output must end in .png"),
        (["--samples", "2", "--uncertainty", "{out}"], "output must be a file of its own"),
        (["--seed", "-1"], "seed: must be at least 0, got -1"),
    ],
)
def test_bad_options_are_one_line_and_leave_nothing(scan, tmp_path, capsys, extra, message):
    out = tmp_path / "new" / "sr.nii.gz"
    out.parent.mkdir()
    assert main(["superres", scan, str(out), *FAST, *(text.format(out=out) for text in extra)]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("bida: error: ")
    assert message in error
    assert not list(out.parent.iterdir())


def test_a_folder_without_a_name_is_one_line(tmp_path, capsys):
    assert main(["superres", "/", str(tmp_path / "sr.nii.gz")]) == 2
    assert "bida: error: /" in capsys.readouterr().err


def test_existing_output_is_kept_without_overwrite(scan, tmp_path, capsys):
    out = tmp_path / "sr.nii.gz"
    out.write_bytes(b"mine")
    assert main(["superres", scan, str(out), *FAST]) == 2
    told = "output must not exist, it does, without a record of how it was made; it may be no result: name SCAN before"
    assert told in capsys.readouterr().err
    assert out.read_bytes() == b"mine"
    assert main(["superres", scan, str(out), *FAST, "--overwrite"]) == 0
    assert nib.load(out).shape == (20, 40, 18)


def test_the_scan_and_its_sidecar_are_never_overwritten(scan, tmp_path, capsys):
    before = (tmp_path / "scan.nii.gz").read_bytes()
    for name in ("scan.nii.gz", "scan.nii"):  # the second has the scan's sidecar
        assert main(["superres", scan, str(tmp_path / name), *FAST, "--overwrite"]) == 2
        assert "output must be a file of its own" in capsys.readouterr().err
    assert (tmp_path / "scan.nii.gz").read_bytes() == before
    (tmp_path / "sr.json").write_text("{}")
    assert main(["superres", scan, str(tmp_path / "sr.nii.gz"), *FAST]) == 2
    assert "sr.json: output must not exist" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes", "memory: the run"),
        (
            "Caught RuntimeError in DataLoader worker process 0.\nunable to write to file </torch_1_2_0>",
            "/dev/shm: must",
        ),
    ],
)
def test_out_of_memory_is_one_line(scan, tmp_path, capsys, monkeypatch, said, told):
    def fail(*_, **__):
        raise RuntimeError(said)

    monkeypatch.setattr("bida.mri.pipeline.restore", fail)
    assert main(["superres", scan, str(tmp_path / "sr.nii.gz")]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"bida: error: {told}") and error.count("\n") == 1


def test_integer_type_is_kept_when_asked(make_scan, tmp_path):
    path = make_scan(dtype=np.int16)
    out = tmp_path / "sr.nii.gz"
    assert main(["superres", str(path), str(out), *FAST, "--keep-dtype"]) == 0
    assert nib.load(out).get_data_dtype() == np.int16
    np.testing.assert_allclose(nib.load(out).get_fdata().mean(), nib.load(path).get_fdata().mean(), rtol=0.02)


def test_simulate_then_superres_like_the_truth(make_scan, tmp_path, capsys):
    truth = make_scan((20, 41, 18), (0.15, 0.15, 0.15), codes="LPS", name="truth.nii.gz")
    thick, out = tmp_path / "thick.nii.gz", tmp_path / "sr.nii.gz"
    assert main(["simulate", str(truth), str(thick), "--factor", "5", "--thickness", "0.6"]) == 0
    assert "9 slices of 0.6 mm every 0.75 mm along A, slr profile" in capsys.readouterr().out
    assert sorted(nib.load(thick).shape) == [9, 18, 20]
    sidecar = json.loads((tmp_path / "thick.json").read_text())
    assert sidecar["SliceThickness"] == pytest.approx(0.6)
    assert sidecar["SpacingBetweenSlices"] == pytest.approx(0.75)
    assert sidecar["hr_shape"] == [20, 41, 18]
    assert main(["superres", str(thick), str(out), "--like", str(truth), *FAST]) == 0
    assert nib.load(out).shape == nib.load(truth).shape
    np.testing.assert_allclose(nib.load(out).affine, nib.load(truth).affine, atol=1e-6)
    record = json.loads((tmp_path / "sr.json").read_text())
    assert record["slice_geometry"]["thickness_mm"] == pytest.approx(0.6)  # read from the sidecar


def test_info_says_what_would_be_done(make_scan, capsys):
    path = make_scan(units="unknown")
    assert main(["info", str(path), "--dtype", "float32"]) == 0
    printed = capsys.readouterr().out
    for text in ("through-plane axis  A; restored in axial and sagittal planes", "8, 0.75 mm apart, 0.75 mm thick",
                 "factor              5", "20 x 40 x 18 voxels of 0.15 x 0.15 x 0.15 mm", "slr (Shinnar-Le Roux)",
                 "about", "no unit of length, taken as mm"):  # fmt: skip
        assert text in printed


def test_help_answers_at_once():
    times = []
    for _ in range(3):
        start = time.perf_counter()
        run = subprocess.run([sys.executable, "-m", "bida", "--help"], capture_output=True, text=True, check=True)
        times.append(time.perf_counter() - start)
    assert "superres" in run.stdout
    assert min(times) < 0.5, times


def test_a_shell_completes_commands_options_and_files(tmp_path, capsys):
    pytest.importorskip("shtab", reason="shtab is not installed")
    assert main(["--print-completion", "bash"]) == 0
    (tmp_path / "script").write_text(capsys.readouterr().out, encoding="utf-8")
    (tmp_path / "mouse.nii.gz").touch()
    for words, expected in (
        ("bida superres-m", ["superres-masked"]),
        ("bida superres --thi", ["--thickness"]),
        ("bida superres mou", ["mouse.nii.gz"]),
        ("bida info --like mou", ["mouse.nii.gz"]),
    ):
        typed = f"COMP_WORDS=({words}); COMP_CWORD={len(words.split()) - 1}"
        ask = f"{typed}; _shtab_bida 2> errors; echo ${{COMPREPLY[@]}}"
        run = subprocess.run(["bash", "-c", f". ./script; {ask}"], capture_output=True, text=True, cwd=tmp_path)
        assert run.stdout.split() == expected, words


def test_completion_without_its_package_is_one_line(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["--print-completion", "zsh"]) == 2
    cure = "pip install 'bida-mri[completion]'"
    told = f"bida: error: --print-completion: shtab must be installed, it is not; {cure}\n"
    assert capsys.readouterr().err == told


def test_options_not_given_stay_away():
    top = {"command", "version", "print_completion"}
    many = {"report", "workers", "scheduler", "json", "dry_run"}
    own = {"combine", "out", "preset", "uncertainty", "keep_draws", "keep_dtype", "preview", "labels", "overwrite"}
    assert set(vars(parser().parse_args(["superres", "a", "b"]))) == {*top, "words", *own, *many}


def test_no_command_shows_help(capsys):
    assert main([]) == 2
    assert "superres" in capsys.readouterr().out


@pytest.mark.slow
def test_demo(tmp_path, capsys):
    assert main(["demo", "--output", str(tmp_path / "demo")]) == 0
    printed = capsys.readouterr().out
    cubic, ours = (float(part.split()[1]) for part in printed.split("truth: ")[1].split("\n")[0].split(", "))
    assert ours > cubic
    assert (tmp_path / "demo" / "demo.png").exists()


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--set", "epochz=3"], "--set: must name a value of the configuration, got epochz"),
        (["--set", "num_workers=2"], "--set: every value must have a use in the training, nothing refers to num_w"),
        (["--set", "epochs"], "--set: must be NAME=VALUE, got 'epochs'"),
        (["--set", "crop=[1"], "--set crop: value must be YAML"),
        (["--config", "none.yaml"], "none.yaml: a configuration must exist"),
    ],
)
def test_bad_training_options(tmp_path, capsys, extra, message):
    assert main(["train", str(tmp_path), "--output", str(tmp_path / "run"), *extra]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "value"),
    [("learning_rate=5e-4", 5e-4), ("epochs=3", 3), ("prediction=eps", "eps"), ("crop=[16, 16]", [16, 16])],
)
def test_overrides_are_numbers_where_they_look_like_numbers(text, value):
    from bida.training.run import override

    assert override(text) == (text.split("=")[0], value)


@pytest.mark.slow
def test_train_command(make_scan, tmp_path):
    folder = tmp_path / "data" / "sub-a" / "anat"
    folder.mkdir(parents=True)
    make_scan((20, 24, 18), (0.2, 0.2, 0.2), name="t.nii.gz").rename(folder / "sub-a_T2w.nii.gz")
    (tmp_path / "data" / "participants.tsv").write_text("participant_id\tsplit\nsub-a\ttrain\n")
    sets = ["epochs=1", "steps_per_epoch=2", "batch_size=2", "warmup=1", "crop=[16, 16]", "network#bare#channels=[64]",
            "network#bare#blocks=1", "network#guided#channels=32", "network#guided#blocks=1",
            "geometries=8", "dtype=float32", "validate#dataloader#geometries=2", "tuning_subjects=[]",
            "validate#animals#split=train"]  # fmt: skip
    flags = [part for text in sets for part in ("--set", text)]
    assert main(["train", str(tmp_path / "data"), "--output", str(tmp_path / "run"), *flags]) == 0
    assert (tmp_path / "run" / "model.pt").exists()
