"""Every volume of a file of several, as one result."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from bruker_study import Scan as Bruker
from bruker_study import write_study
from conftest import MakeScan
from dicom_files import oblique, write_series
from monai.bundle import ConfigParser

from bida import superres
from bida.cli.parser import main
from bida.errors import OutOfMemoryError, ScanError, SettingsError
from bida.io.scan import read_scan
from bida.mri.series import record_of
from bida.mri.settings import Settings

FAST = {"n4": False, "device": "cpu", "self_check": False}
WORDS = ["--no-n4", "--device", "cpu", "--self-check", "off"]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def series(make_scan: MakeScan) -> Path:
    """A file of three volumes, 1.5 s apart from 0.25 s on, that differ by a factor."""
    image = nib.load(make_scan((12, 5, 10), codes="LSA", tilt_deg=6))
    data = np.stack([image.get_fdata() * (k + 1) for k in range(3)], axis=-1)
    made = nib.Nifti1Image(np.rint(data).astype(np.int16), image.affine, image.header)
    made.set_data_dtype(np.int16)
    made.header.set_xyzt_units("mm", "sec")
    made.header["pixdim"][4], made.header["toffset"] = 1.5, 0.25
    path = Path(image.get_filename()).with_name("epi.nii.gz")
    nib.save(made, path)
    path.with_name("epi.json").write_text(json.dumps({"RepetitionTime": 1.5, "SliceThickness": 0.7}))
    return path


def test_every_volume_is_as_it_is_by_itself(series: Path, tmp_path: Path) -> None:
    result = superres(series, volume="all", **FAST)
    assert result.data.shape[3] == 3 and result.std is not None and result.std.shape == result.data.shape
    for number in range(3):
        single = superres(series, volume=number, **FAST)
        np.testing.assert_array_equal(result.data[..., number], single.data)
        np.testing.assert_array_equal(result.std[..., number], single.std)
        np.testing.assert_array_equal(result.affine, single.affine)
        own = result.record["volumes"][number]
        assert own["volume"] == number and own["data_consistency"] == single.record["data_consistency"]
        assert own["noise"] == single.record["noise"]
    assert result.record["settings"]["volume"] == "all"
    worst = max(one["data_consistency"]["scan_residual"] for one in result.record["volumes"])
    assert result.record["data_consistency"]["scan_residual"] == worst
    assert pickle.loads(pickle.dumps(result)).residual(result.data) == result.residual(result.data)


@pytest.mark.parametrize("words", [[], ["--keep-dtype"]])
def test_the_command_keeps_the_axis_of_time(series: Path, tmp_path: Path, capsys, words: list[str]) -> None:
    before = series.with_name("epi.json").read_bytes()
    out = tmp_path / "out" / "all.nii.gz"
    out.parent.mkdir()
    spread = out.with_name("spread.nii.gz")
    line = ["superres", str(series), str(out), "--volume", "all", "--uncertainty", str(spread), *WORDS, *words]
    assert main(line) in (0, None)
    assert str(out) in capsys.readouterr().out
    expected = superres(series, volume="all", **FAST)
    for file, data in ((out, expected.data), (spread, expected.std)):
        image = nib.load(file)
        assert image.shape == data.shape
        assert image.header["pixdim"][4] == 1.5 and image.header["toffset"] == 0.25
        assert image.header.get_xyzt_units() == ("mm", "sec")
        np.testing.assert_allclose(image.affine, expected.affine, atol=1e-5)
        np.testing.assert_allclose(image.get_fdata(), data, atol=0.5 if words and file == out else 1e-6)
    assert nib.load(out).get_data_dtype() == (np.int16 if words else np.float32)
    record = json.loads(out.with_name("all.json").read_text())
    assert [one["volume"] for one in record["volumes"]] == [0, 1, 2]
    assert series.with_name("epi.json").read_bytes() == before
    assert sorted(file.name for file in out.parent.iterdir()) == ["all.json", "all.nii.gz", "spread.nii.gz"]


@pytest.fixture
def volumes() -> tuple[np.ndarray, np.ndarray]:
    """Voxels [X, Y, Z, 2], smooth, and their affine."""
    x, y, z = np.meshgrid(*(np.linspace(0, 3, size) for size in (12, 10, 5)), indexing="ij")
    one = 400 + 200 * np.sin(2 * x) * np.cos(y) + 80 * z
    return np.stack([one, 2 * one], axis=-1).astype(np.int16), oblique((12, 10, 5))


def paravision(folder: Path, voxels: np.ndarray, affine: np.ndarray) -> Path:
    pytest.importorskip("brukerapi")
    scan = Bruker(voxels, affine, group="FG_CYCLE", change={"VisuAcqScanTime": "5000"})
    return write_study(folder / "study", {3: scan}) / "3"


def dicom_of_times(folder: Path, voxels: np.ndarray, affine: np.ndarray) -> Path:
    for k in range(2):
        tags = {"TemporalPositionIdentifier": k + 1, "TemporalResolution": 2500}
        write_series(folder / "times", voxels[..., k], affine, first=1 + 5 * k, tags=tags)
    return folder / "times"


def dicom_of_echoes(folder: Path, voxels: np.ndarray, affine: np.ndarray) -> Path:
    for k in range(2):
        write_series(folder / "echoes", voxels[..., k], affine, first=1 + 5 * k, tags={"EchoTime": 10 * (k + 1)})
    return folder / "echoes"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("write", "one", "step_s"),
    [(paravision, "volume", 2.5), (dicom_of_times, "volume", 2.5), (dicom_of_echoes, "echo", None)],
)
def test_every_volume_of_a_scanner_s_folder(volumes, tmp_path: Path, capsys, write, one: str, step_s) -> None:
    path, out = write(tmp_path, *volumes), tmp_path / "all.nii"
    assert main(["superres", str(path), str(out), "--volume", "all", *WORDS]) in (0, None), capsys.readouterr().err
    image, record = nib.load(out), json.loads(out.with_suffix(".json").read_text())
    for k in range(2):
        single = superres(path, **{one: k + (one == "echo")}, **FAST)
        np.testing.assert_array_equal(image.get_fdata(dtype=np.float32)[..., k], single.data)
        np.testing.assert_allclose(image.affine, single.affine, atol=1e-5)
        assert record["volumes"][k]["data_consistency"] == single.record["data_consistency"]
    assert record["settings"]["volume"] == "all" and record["settings"]["echo"] is None
    if step_s is None:
        assert [volume["what"] for volume in record["volumes"]] == ["echo 1 (10 ms)", "echo 2 (20 ms)"]
        assert image.header.get_xyzt_units() == ("mm", "unknown") and "volumes_apart_s" not in record
    else:
        assert image.header["pixdim"][4] == step_s == record["volumes_apart_s"]
        assert image.header.get_xyzt_units() == ("mm", "sec")


def test_info_tells_what_volumes_there_are(volumes, tmp_path: Path, capsys) -> None:
    path = dicom_of_echoes(tmp_path, *volumes)
    assert main(["info", str(path), "--volume", "all", "--no-n4", "--device", "cpu"]) in (0, None)
    assert "volumes             2 (echo 1 (10 ms), echo 2 (20 ms)); what is told here is of the first" in (
        capsys.readouterr().out
    )


@pytest.mark.slow
def test_a_folder_of_series_and_others(volumes, series: Path, make_scan: MakeScan, tmp_path: Path, capsys) -> None:
    times, single = dicom_of_times(tmp_path, *volumes), make_scan((12, 5, 10))
    words = [str(series), str(times), str(single), "-o", str(tmp_path / "out"), "--volume", "all", *WORDS]
    assert main(["superres", *words]) == 0, capsys.readouterr()
    shapes = {"epi": (3,), "times": (2,), "scan": ()}
    for name, rest in shapes.items():
        assert nib.load(tmp_path / "out" / f"{name}_superres.nii.gz").shape[3:] == rest
    assert "cannot be read" not in (tmp_path / "out" / "index.html").read_text()
    assert main(["superres", *words]) == 0
    assert "3 were there" in capsys.readouterr().out
    assert main(["superres", *words, "--report"]) == 2
    assert "--report: is for one volume, got --volume all; leave it out" in capsys.readouterr().err


def test_a_file_of_one_volume_is_a_volume(make_scan: MakeScan) -> None:
    path = make_scan((12, 5, 10))
    np.testing.assert_array_equal(superres(path, volume="all", **FAST).data, superres(path, **FAST).data)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--keep-draws", "--samples", "2"], "--keep-draws: is for one volume, got --volume all; leave it out"),
        (["--preview", "a.png"], "--preview: is for one volume, got --volume all; leave it out"),
        (["--report"], "--report: is for one volume, got --volume all; leave it out"),
        (["--adapt", "1"], "--adapt: is for one volume, got --volume all; adapt to one of them by bida adapt"),
        (["--labels"], "--volume must be one volume here, got all; give a number from 0"),
        (["--volume", "3"], "--volume must be 0..2, got 3"),
        (["--volume", "1.5"], "volume: must be a whole number or all, got 1.5"),
        (["--volume", "every"], "must be all or a number, got 'every'"),
    ],
)
def test_what_is_for_one_volume_is_one_line(series: Path, tmp_path: Path, capsys, words: list[str], said: str) -> None:
    given = [] if "--labels" in words else WORDS
    try:
        code = main(["superres", str(series), str(tmp_path / "new.nii.gz"), "--volume", "all", *given, *words])
    except SystemExit as stopped:
        code = stopped.code
    assert code == 2 and said in capsys.readouterr().err
    assert not (tmp_path / "new.nii.gz").exists()


def test_other_doors_take_one_volume(series: Path) -> None:
    with pytest.raises(ScanError, match=r"epi\.nii\.gz: --volume must be one volume here, got all"):
        read_scan(series, "all")
    with pytest.raises(SettingsError, match="--combine: is for one volume of each scan, got --volume all"):
        superres([series, series.with_name("other.nii.gz")], volume="all", **FAST)
    assert Settings(volume=np.float64(2)).volume == 2


def test_the_verdict_is_that_of_the_volume_that_gains_least() -> None:
    same = {"slices": None, "noise": None, "warnings": [], "settings": {"volume": 0}}
    records = [
        {**same, "data_consistency": {"scan_residual": residual}, "seconds": {"sample": 1.5},
         "verdict": f"gains {gain}", "self_check": {"better_db": gain}}
        for gain, residual in ((2.0, 0.1), (0.5, 0.3), (1.0, None))
    ]  # fmt: skip
    record = record_of(records[:2], Settings(volume="all"))
    assert record["verdict"] == "volume 1, which gains least: gains 0.5"
    assert (record["data_consistency"], record["seconds"]) == ({"scan_residual": 0.3}, {"sample": 3.0})
    assert record_of(records, Settings(volume="all"))["data_consistency"] == {"scan_residual": None}


def test_volumes_that_do_not_fit_are_told_after_the_first(series: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bida.mri.series.available_bytes", lambda: 1000)
    with pytest.raises(OutOfMemoryError, match=r"epi\.nii\.gz: 3 volumes need about .* GB free; give"):
        superres(series, volume="all", **FAST)


@pytest.mark.slow
def test_the_bundle_restores_every_volume(series: Path, tmp_path: Path) -> None:
    config = ConfigParser()
    config.read_config(ROOT / "configs" / "inference.yaml")
    given = {"input": str(series), "output_dir": str(tmp_path / "out"), "volume": "all", "n4": "false"}
    config.update({**given, "self_check": "false", "device_name": "cpu"})
    config.get_parsed_content("inference")
    image = nib.load(tmp_path / "out" / "epi_superres.nii.gz")
    np.testing.assert_array_equal(image.get_fdata(dtype=np.float32), superres(series, volume="all", **FAST).data)
    assert image.header["pixdim"][4] == 1.5
