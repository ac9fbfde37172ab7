import json
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
from conftest import ROOT
from monai.bundle import ConfigWorkflow
from monai.transforms import Compose

from bida import superres
from bida.diffusion.prior import CLASSES, PlanePrior
from bida.diffusion.resnet import NetworkPair, SliceResNet
from bida.diffusion.unet import SliceUNet
from bida.errors import FailuresError, ScanError, SettingsError, plain_errors
from bida.io.weights import save_weights
from bida.mri.inferer import BiplanarInferer

CONFIG = str(ROOT / "configs" / "inference.yaml")
FAST = {"n4": False}


def workflow(**overrides):
    made = ConfigWorkflow(CONFIG, workflow_type="infer", run_id="inference", logging_file=False, **overrides)
    made.initialize()
    return made


def test_standard_ids(make_scan, tmp_path):
    made = workflow(input=str(make_scan()), output_dir=str(tmp_path / "out"))
    assert made.check_properties() == []
    assert isinstance(made.inferer, BiplanarInferer)
    assert isinstance(made.preprocessing, Compose)
    assert isinstance(made.postprocessing, Compose)
    assert len(made.dataset) == 1
    assert made.evaluator.inferer is made.inferer


def test_bundle_gives_what_the_library_gives(make_scan, tmp_path):
    path = make_scan(codes="LPI")
    workflow(input=str(path), output_dir=str(tmp_path / "out"), **FAST).run()
    written = nib.load(tmp_path / "out" / "scan_superres.nii.gz")
    expected = superres(path, **FAST)
    np.testing.assert_allclose(written.affine, expected.affine, atol=1e-6)
    np.testing.assert_allclose(written.get_fdata(), expected.data, rtol=1e-5)
    record = json.loads((tmp_path / "out" / "scan_superres.json").read_text())
    assert expected.record["self_check"] is not None
    assert (record["estimate"], record["steps"], record["samples"]) == ("mean", 1, 0)
    for key in ("self_check", "weights_sha256", "slice_geometry", "warnings", "uncertainty_scale", "uncertainty_from"):
        assert record[key] == expected.record[key], key


def test_draws_are_had_in_the_bundle_too(make_scan, tmp_path):
    """`samples: 1` in a configuration gives what it gave when it was the default."""
    path = make_scan()
    draws = {"samples": 1, "steps": 2, "self_check": False, **FAST}
    workflow(input=str(path), output_dir=str(tmp_path / "out"), **draws).run()
    written = nib.load(tmp_path / "out" / "scan_superres.nii.gz").get_fdata()
    np.testing.assert_allclose(written, superres(path, **draws).data, rtol=1e-5)
    assert json.loads((tmp_path / "out" / "scan_superres.json").read_text())["estimate"] == "draws"


def test_own_weights_of_another_network_in_the_bundle_too(make_scan, tmp_path):
    pair = NetworkPair(SliceUNet(num_class_embeds=CLASSES, in_channels=2), SliceResNet(32, 3))
    save_weights(PlanePrior(pair, "x0", guided=True), tmp_path / "own.pt")
    made = workflow(input=str(make_scan()), output_dir=str(tmp_path / "out"), model=str(tmp_path / "own.pt"), **FAST)
    assert made.network_def.prediction == "x0"
    assert len(made.network_def.networks["shared"].guided.body) == 3


def test_like_gives_that_grid_in_the_bundle_too(make_scan, tmp_path):
    like = make_scan((20, 41, 18), (0.15, 0.15, 0.15), codes="LPS", name="truth.nii.gz")
    scan = make_scan((20, 9, 18), (0.15, 0.75, 0.15))
    workflow(input=str(scan), output_dir=str(tmp_path / "out"), like=str(like), **FAST).run()
    written, truth = nib.load(tmp_path / "out" / "scan_superres.nii.gz"), nib.load(like)
    assert written.shape == truth.shape
    np.testing.assert_allclose(written.affine, truth.affine, atol=1e-6)


def command(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-m", "monai.bundle", "run", *arguments], capture_output=True, text=True, cwd=cwd, timeout=300
    )


@pytest.mark.slow
@pytest.mark.parametrize("run_id", [["inference"], []])
def test_command_line_from_another_directory(make_scan, tmp_path, run_id):
    flags = ["--config_file", CONFIG, "--bundle_root", str(ROOT), "--input", str(make_scan())]
    run = command(*run_id, *flags, "--n4", "False", "--output_dir", str(tmp_path / "out"), cwd=tmp_path)
    assert run.returncode == 0, run.stderr[-2000:]
    assert nib.load(tmp_path / "out" / "scan_superres.nii.gz").shape == (20, 40, 18)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("nowhere.nii.gz", "must exist, nothing is there"),
        ("", "a scan must be named"),
        ("text.nii.gz", "must be a NIfTI image"),
    ],
)
def test_missing_input_fails(tmp_path, value, message):
    (tmp_path / "text.nii.gz").write_text("no image")
    run = command("inference", "--config_file", CONFIG, "--input", value, "--output_dir", str(tmp_path), cwd=tmp_path)
    assert run.returncode == 2
    line = next(line for line in run.stderr.splitlines() if line.startswith("bida: error: "))
    assert message in line and "Traceback" not in run.stderr
    assert "ERROR" not in run.stdout + run.stderr  # ignite's log of what is told once


def three_scans(make_scan, folder):
    """Return a folder of three scans, of which b is none."""
    scans = folder / "scans"
    scans.mkdir()
    for name in ("a", "c"):
        make_scan((12, 5, 10), name=f"{name}.nii.gz").rename(scans / f"{name}.nii.gz")
    (scans / "b.nii.gz").write_text("no image")
    return scans


def test_many_scans_of_which_one_is_bad_and_again(make_scan, tmp_path, capsys):
    """What becomes of each is told, the good ones are there, and a second run makes the new one alone."""
    scans, out = three_scans(make_scan, tmp_path), tmp_path / "out"
    (scans / "a_mask.nii.gz").write_text("a mask is passed over")
    given = {"input": str(scans), "output_dir": str(out), "self_check": False, **FAST}
    with pytest.raises(FailuresError, match=r"1 of 3 failed, the first because of '.*b\.nii\.gz: ") as raised:
        plain(workflow(**given).run)
    assert raised.value.exit_code == 1
    told = capsys.readouterr()
    assert told.out.splitlines()[-1] == f"3 scans: 2 done, 0 were there, 1 failed; see {out / 'index.html'}"
    assert f"failed: {scans / 'b.nii.gz'}: " in told.err
    expected = superres(scans / "c.nii.gz", self_check=False, **FAST)
    np.testing.assert_allclose(nib.load(out / "c_superres.nii.gz").get_fdata(), expected.data, rtol=1e-5)
    times = {name: (out / f"{name}_superres.nii.gz").stat().st_mtime_ns for name in "ac"}
    make_scan((12, 5, 10), name="b.nii.gz").rename(scans / "b.nii.gz")
    workflow(**given).run()
    assert capsys.readouterr().out.splitlines()[-1].startswith("3 scans: 1 done, 2 were there, 0 failed; see ")
    assert {name: (out / f"{name}_superres.nii.gz").stat().st_mtime_ns for name in "ac"} == times


@pytest.mark.slow
def test_many_scans_on_two_workers(make_scan, tmp_path, capsys):
    """Each is what one process makes of it, and a bad one is told."""
    scans, out = three_scans(make_scan, tmp_path), tmp_path / "out"
    given = {"input": str(scans), "output_dir": str(out), "self_check": False, "workers": 2, **FAST}
    with pytest.raises(FailuresError, match=r"1 of 3 failed, the first because of '.*b\.nii\.gz: "):
        plain(workflow(**given).run)
    assert capsys.readouterr().out.splitlines()[-1].startswith("3 scans: 2 done, 0 were there, 1 failed; see ")
    for name in ("a", "c"):
        expected = superres(scans / f"{name}.nii.gz", self_check=False, **FAST)
        np.testing.assert_allclose(nib.load(out / f"{name}_superres.nii.gz").get_fdata(), expected.data, rtol=1e-5)


@pytest.mark.parametrize(
    "workers, message",
    [(2, "--workers: is for many scans, got 2 for one"), (0, "--workers: must be at least 1, got 0")],
)
def test_workers_that_cannot_be(make_scan, tmp_path, workers, message):
    given = {"input": str(make_scan((12, 5, 10))), "output_dir": str(tmp_path), "workers": workers, **FAST}
    with pytest.raises(SettingsError, match=message):
        plain(workflow(**given).run)


def test_one_scan_is_kept_by_its_settings(make_scan, tmp_path, capsys):
    given = {"input": str(make_scan((12, 5, 10))), "output_dir": str(tmp_path), "self_check": False, **FAST}
    workflow(**given).run()
    line = f"{tmp_path / 'scan_superres.nii.gz'}: done, without a self-check"
    assert capsys.readouterr().out.splitlines()[-1] == line
    workflow(**given).run()
    assert capsys.readouterr().out.splitlines()[-1] == f"{line} (was there)"
    with pytest.raises(ScanError, match="is there, of another scan or made by other settings; give --overwrite"):
        plain(workflow(**given, seed=7).run)


def plain(run):
    """MONAI's parser wraps what goes wrong in errors of its own."""
    with plain_errors():
        run()
