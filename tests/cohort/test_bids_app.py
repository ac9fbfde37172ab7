"""A BIDS data set as jobs, its results as a derivative: names, sidecars, what is passed over, the validator's word."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

pytest.importorskip("bids", reason="pybids is not installed")

from bida.cli.parser import main
from bida.cohort import queue
from bida.cohort.bids_app import Wanted, check_derivative, describe, jobs_of, open_layout, thick_scans, write_table
from bida.cohort.index import results_in
from bida.cohort.job import DONE, KEPT
from bida.errors import SettingsError
from bida.mri.settings import Settings

FAST = Settings(n4=False, self_check=False)
THICK, FINE = (0.15, 0.75, 0.15), (0.15, 0.15, 0.15)
SCANS = {
    "sub-01/ses-1/anat/sub-01_ses-1_acq-cor_T2w": THICK,
    "sub-01/ses-1/anat/sub-01_ses-1_acq-ax_T2w": (0.15, 0.15, 0.75),
    "sub-01/ses-2/anat/sub-01_ses-2_T2w": THICK,
    "sub-02/ses-1/anat/sub-02_ses-1_T1w": THICK,
    "sub-02/ses-1/anat/sub-02_ses-1_T2w": FINE,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "raw"
    for name, spacing in SCANS.items():
        shape = [round(3 / size) for size in spacing]
        values = np.random.default_rng(0).uniform(10, 20, shape).astype(np.float32)
        image = nib.Nifti1Image(values, np.diag([*spacing, 1]))
        image.header.set_xyzt_units("mm")
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        nib.save(image, root / f"{name}.nii.gz")
    (root / "dataset_description.json").write_text(json.dumps({"Name": "Made mice", "BIDSVersion": "1.10.0"}))
    (root / "README.md").write_text("Scans of noise, made for tests.")
    (root / "T2w.json").write_text(json.dumps({"EchoTime": 0.03, "SliceThickness": 0.6, "MagneticFieldStrength": 9.4}))
    (root / "sub-01" / "ses-1" / "anat" / "sub-01_ses-1_acq-cor_T2w.json").write_text(json.dumps({"EchoTime": 0.04}))
    return root


def names(jobs: list, out: Path) -> list[str]:
    return [str(Path(job.output).relative_to(out)) for job in jobs]


def test_thick_scans_are_found_and_named(folder: Path, tmp_path: Path) -> None:
    layout, out = open_layout(folder), tmp_path / "out"
    images, passed = thick_scans(layout, Wanted())
    assert len(images) == 4 and len(passed) == 1
    assert "sub-02_ses-1_T2w.nii.gz: passed over, its voxels are isotropic (0.15 x 0.15 x 0.15 mm)" in passed[0]
    assert names(jobs_of(layout, images, out, FAST, combine=False), out) == [
        "sub-01/ses-1/anat/sub-01_ses-1_acq-ax_desc-superres_T2w.nii.gz",
        "sub-01/ses-1/anat/sub-01_ses-1_acq-cor_desc-superres_T2w.nii.gz",
        "sub-01/ses-2/anat/sub-01_ses-2_desc-superres_T2w.nii.gz",
        "sub-02/ses-1/anat/sub-02_ses-1_desc-superres_T1w.nii.gz",
    ]
    together = jobs_of(layout, images, out, FAST, combine=True)
    assert names(together, out)[0] == "sub-01/ses-1/anat/sub-01_ses-1_desc-superres_T2w.nii.gz"
    assert [len(job.scans) for job in together] == [2, 1, 1]


@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        (Wanted(participants=("sub-01",)), 3),
        (Wanted(participants=("01",), sessions=("ses-2",)), 1),
        (Wanted(suffixes=("T1w",)), 1),
        (Wanted(filters={"acquisition": "cor"}), 1),
    ],
)
def test_filters(folder: Path, wanted: Wanted, count: int) -> None:
    assert len(thick_scans(open_layout(folder), wanted)[0]) == count


def test_what_is_not_there_is_one_line(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="must hold sub-09, it does not; there are sub-01, sub-02"):
        thick_scans(open_layout(folder), Wanted(participants=("09",)))
    with pytest.raises(SettingsError, match="at least one scan must have thick slices, none has; 1 are passed over"):
        thick_scans(open_layout(folder), Wanted(participants=("02",), suffixes=("T2w",)))
    with pytest.raises(SettingsError, match=r"--suffix: must be one of .*, got T2; there are T1w, T2w$"):
        thick_scans(open_layout(folder), Wanted(suffixes=("T2",)))
    with pytest.raises(SettingsError, match=r"must hold dataset_description\.json"):
        open_layout(tmp_path)
    with pytest.raises(SettingsError, match="results must be there, got none; run participant first"):
        write_table(tmp_path)


def test_sidecars_keep_what_the_scan_said_and_inherited(folder: Path, tmp_path: Path) -> None:
    layout, out = open_layout(folder), tmp_path / "out"
    images, _ = thick_scans(layout, Wanted(participants=("01",), sessions=("1",)))
    describe(out, folder, FAST)
    apart = jobs_of(layout, images, out, FAST, combine=False)
    assert [one.state for one in queue.run(apart)] == [DONE, DONE]
    told = [json.loads(Path(job.output.replace(".nii.gz", ".json")).read_text()) for job in apart]
    assert [one["EchoTime"] for one in told] == [0.03, 0.04]
    assert all(one["MagneticFieldStrength"] == 9.4 and "SliceThickness" not in one for one in told)
    assert told[1]["Sources"] == ["bids:raw:sub-01/ses-1/anat/sub-01_ses-1_acq-cor_T2w.nii.gz"]
    assert [one["slice_geometry"]["thickness_mm"] for one in told] == [pytest.approx(0.6)] * 2
    assert [one.state for one in queue.run(apart)] == [KEPT, KEPT]
    (joined,) = jobs_of(layout, images, out, FAST, combine=True)
    assert "EchoTime" not in joined.fields and len(joined.fields["Sources"]) == 2
    assert len(results_in(out)) == 2
    table = write_table(out).read_text().splitlines()
    assert table[0].startswith("filename\tverdict\tbetter_db") and len(table) == 3


@pytest.mark.slow
def test_every_volume_of_a_diffusion_scan_keeps_time_and_tables(folder: Path, tmp_path: Path, capsys) -> None:
    out, place = tmp_path / "out", folder / "sub-02" / "ses-1" / "dwi"
    place.mkdir()
    values = np.random.default_rng(0).uniform(10, 20, (16, 5, 16, 2)).astype(np.float32)
    image = nib.Nifti1Image(values, np.diag([0.2, 0.8, 0.2, 1]))
    image.header.set_xyzt_units("mm", "sec")
    image.header["pixdim"][4] = 2.5
    nib.save(image, place / "sub-02_ses-1_dwi.nii.gz")
    (place / "sub-02_ses-1_dwi.bval").write_text("0 1000\n")
    (folder / "dwi.bvec").write_text("0 1\n0 0\n0 0\n")  # inherited
    (folder / "dwi.json").write_text(json.dumps({"RepetitionTime": 2.5, "SliceTiming": [0, 1, 2]}))
    (tmp_path / "filter.json").write_text(json.dumps({"datatype": "dwi"}))
    words = ["bids", str(folder), str(out), "participant", "--bids-filter-file", str(tmp_path / "filter.json")]
    words += ["--no-n4", "--self-check", "off", "--device", "cpu"]
    assert main([*words, "--volume", "all"]) == 0, capsys.readouterr().err
    result = out / "sub-02" / "ses-1" / "dwi" / "sub-02_ses-1_desc-superres_dwi.nii.gz"
    made = nib.load(result)
    assert made.shape[3] == 2 and made.header["pixdim"][4] == 2.5 and made.header.get_xyzt_units() == ("mm", "sec")
    record = json.loads(result.with_name("sub-02_ses-1_desc-superres_dwi.json").read_text())
    assert record["RepetitionTime"] == 2.5 and record["SkullStripped"] is False and "SliceTiming" not in record
    assert result.with_name("sub-02_ses-1_desc-superres_dwi.bval").read_text() == "0 1000\n"
    assert result.with_name("sub-02_ses-1_desc-superres_dwi.bvec").read_text() == "0 1\n0 0\n0 0\n"
    assert "sub-02_ses-1_desc-superres_dwi" in write_table(out).read_text()
    assert main([*words, "--volume", "1", "--overwrite"]) == 0, capsys.readouterr().err
    assert nib.load(result).ndim == 3
    assert not result.with_name("sub-02_ses-1_desc-superres_dwi.bval").exists()
    for word in ("--combine", "--report"):
        assert main([*words, "--volume", "all", word]) == 2
        assert f"{word}: is for one volume, got --volume all; leave it out" in capsys.readouterr().err


def test_a_data_set_is_never_made_a_derivative(folder: Path, tmp_path: Path) -> None:
    before = (folder / "dataset_description.json").read_text()
    with pytest.raises(SettingsError, match="OUT_DIR must be another folder than BIDS_DIR"):
        check_derivative(folder, folder)
    other = tmp_path / "other"
    other.mkdir()
    (other / "dataset_description.json").write_text("{}")
    with pytest.raises(SettingsError, match="OUT_DIR must be new or one of bida's"):
        check_derivative(other, folder)
    out = tmp_path / "out"
    describe(out, folder, FAST)
    (out / "README.md").write_text("mine")
    describe(out, folder, FAST)
    check_derivative(out, folder)
    assert (out / "README.md").read_text() == "mine"
    assert (folder / "dataset_description.json").read_text() == before


def test_phases_masks_and_copies_are_not_scans_of_one_volume(folder: Path, tmp_path: Path) -> None:
    anat = folder / "sub-01" / "ses-2" / "anat"
    for name in ("part-phase_T2w", "desc-brain_mask", "T1map"):
        (anat / f"sub-01_ses-2_{name}.nii.gz").write_bytes((anat / "sub-01_ses-2_T2w.nii.gz").read_bytes())
    layout = open_layout(folder)
    images, passed = thick_scans(layout, Wanted(participants=("01",), sessions=("2",)))
    assert [Path(one.path).name for one in images] == ["sub-01_ses-2_T2w.nii.gz"]
    assert len(passed) == 3 and all("passed over, it is no magnitude image" in line for line in passed)
    (anat / "sub-01_ses-2_desc-x_T2w.nii.gz").write_bytes((anat / "sub-01_ses-2_T2w.nii.gz").read_bytes())
    layout = open_layout(folder)
    images, _ = thick_scans(layout, Wanted(participants=("01",), sessions=("2",)))
    with pytest.raises(SettingsError, match="results must have names of their own"):
        jobs_of(layout, images, tmp_path / "out", FAST, combine=False)


def test_a_broken_scan_takes_no_other_with_it(folder: Path, tmp_path: Path) -> None:
    (folder / "sub-02" / "ses-1" / "anat" / "sub-02_ses-1_T1w.nii.gz").write_bytes(b"no image")
    layout = open_layout(folder)
    images, _ = thick_scans(layout, Wanted())
    states = [one.state for one in queue.run(jobs_of(layout, images, tmp_path / "out", FAST, combine=False))]
    assert sorted(states) == ["done", "done", "done", "failed"]


@pytest.mark.slow
def test_the_validator_has_no_errors(folder: Path, tmp_path: Path) -> None:
    program = shutil.which("bids-validator-deno")
    if program is None:
        pytest.skip("bids-validator-deno is not installed")
    layout, out = open_layout(folder), tmp_path / "out"
    images, _ = thick_scans(layout, Wanted())
    describe(out, folder, FAST)
    assert {one.state for one in queue.run(jobs_of(layout, images, out, FAST, combine=False))} == {DONE}
    write_table(out)
    for place in (folder, out):
        done = subprocess.run([program, "--json", place], capture_output=True, text=True, timeout=300)
        issues = json.loads(done.stdout)["issues"]["issues"]
        assert [one for one in issues if one["severity"] == "error"] == [], place
