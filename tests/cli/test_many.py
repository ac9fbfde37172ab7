"""`bida superres` and `bida bids` on many scans: what goes where, what is told, with which exit code."""

from __future__ import annotations

import json
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from conftest import MakeScan

from bida.cli.parser import main

FAST = ["--no-n4", "--self-check", "off"]


@pytest.fixture
def scans(make_scan: MakeScan, tmp_path: Path) -> list[Path]:
    found = [make_scan(name=f"{name}.nii.gz") for name in ("a", "b")]
    (tmp_path / "c.nii.gz").write_text("no image")
    return [*found, tmp_path / "c.nii.gz"]


def test_a_folder_of_scans_and_one_that_fails(scans: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "out"
    assert main(["superres", str(tmp_path), "-o", str(out), "--report", *FAST]) == 1
    told = capsys.readouterr()
    assert told.out.splitlines()[-1] == f"3 scans: 2 done, 0 were there, 1 failed; see {out / 'index.html'}"
    assert re.search(rf"^failed: {re.escape(str(scans[2]))}: ", told.err, re.MULTILINE)
    names = {f"{name}_superres.{ending}" for name in "ab" for ending in ("nii.gz", "json", "html")}
    assert {path.name for path in out.iterdir()} == names | {"index.html"}
    scans[2].unlink()
    assert main(["superres", str(tmp_path), "-o", str(out), "--report", *FAST]) == 0
    assert "2 scans: 0 done, 2 were there, 0 failed" in capsys.readouterr().out


@pytest.mark.slow
def test_named_scans_and_json(scans: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    flags = ["-o", str(tmp_path / "out"), "--json", *FAST]
    assert main(["superres", str(scans[0]), str(scans[1]), *flags]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [(Path(one["scan"]).name, one["state"]) for one in told] == [("a.nii.gz", "done"), ("b.nii.gz", "done")]


def test_a_dry_run_does_nothing(scans: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["superres", str(tmp_path), "-o", str(tmp_path / "out"), "--dry-run"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a.nii", "b.nii", "c.nii"], "one file to write must be named, got b.nii and c.nii"),
        (["a.nii"], "one file to write must be named, got none"),
        (["a.nii", "b.nii", "-o", "c.nii"], "got b.nii and c.nii"),
        (["a.nii", "b.nii", "--workers", "2"], "--workers: is for many scans, got one; -o DIR takes many"),
        (["a.nii", "b.nii", "--json"], "--json: is for many scans"),
        (["a.nii", "-o", "out", "--preview", "x.png"], "--preview: is for one scan, got a folder of results, out"),
        (["-o", "out"], "a scan must be named, got none"),
        (["nowhere", "-o", "out"], "nowhere: must exist"),
        (["a.nii", "."], ".: must be a file to write, it is a folder; -o . writes a_superres.nii.gz"),
    ],
)
def test_what_does_not_go_together(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["superres", *words]) == 2
    assert message in capsys.readouterr().err


def test_one_scan_with_its_page(scans: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "one.nii.gz"
    assert main(["superres", str(scans[0]), str(out), "--report", *FAST]) == 0
    assert (tmp_path / "one.html").is_file()
    assert main(["superres", str(scans[0]), str(tmp_path / "two.nii.gz"), "--report", *FAST]) == 0
    (tmp_path / "two.nii.gz").unlink()
    (tmp_path / "two.json").unlink()
    assert main(["superres", str(scans[0]), str(tmp_path / "two.nii.gz"), "--report", *FAST]) == 2
    assert "two.html: output must not exist" in capsys.readouterr().err


def test_bids(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    pytest.importorskip("bids", reason="pybids is not installed")
    root, out = tmp_path / "raw", tmp_path / "out"
    folder = root / "sub-01" / "anat"
    folder.mkdir(parents=True)
    (root / "dataset_description.json").write_text(json.dumps({"Name": "Made", "BIDSVersion": "1.10.0"}))
    values = np.random.default_rng(0).uniform(10, 20, (20, 8, 18)).astype(np.float32)
    nib.save(nib.Nifti1Image(values, np.diag([0.15, 0.75, 0.15, 1])), folder / "sub-01_T2w.nii.gz")
    assert main(["bids", str(root), str(out), "group"]) == 2
    assert "results must be there, got none; run participant first" in capsys.readouterr().err
    (tmp_path / "filter.json").write_text(json.dumps({"t2w": {"suffix": "T2w"}}))
    filters = ["--bids-filter-file", str(tmp_path / "filter.json"), "--participant-label", "01"]
    assert main(["bids", str(root), str(out), "participant", *filters, *FAST]) == 0
    assert (out / "sub-01" / "anat" / "sub-01_desc-superres_T2w.nii.gz").is_file()
    assert main(["bids", str(root), str(out), "group"]) == 0
    assert (out / "desc-superres_scans.tsv").is_file() and (out / "index.html").is_file()
    assert main(["bids", str(root), str(out), "participant", "--participant-label", "07"]) == 2
    assert "must hold sub-07, it does not; there are sub-01" in capsys.readouterr().err
