"""Results name themselves in their header, and none is taken for a scan."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import pytest
from conftest import MakeScan

from bida.cli.parser import main
from bida.errors import ScanError
from bida.io.bids import is_result
from bida.io.nifti import source_header, write_volume
from bida.io.own_results import check_scan, description
from bida.mri.settings import Settings
from bida.provenance import own_version
from bida.transforms.load import LoadScan

FAST = ["--no-n4", "--self-check", "off"]


def test_the_header_says_it_and_what_is_made_of_a_result_does_not(make_scan: MakeScan, tmp_path: Path) -> None:
    scan, result, thick = make_scan(), tmp_path / "fine.nii.gz", tmp_path / "thick.nii.gz"
    image = nib.load(scan)
    write_volume(result, image.get_fdata(), image.affine, source_header(scan), says=description())
    said = bytes(nib.load(result).header["descrip"]).rstrip(b"\0").decode()
    assert said == f"bida {own_version()} super-resolution" and len(said) <= 79
    line = rf"^{result}: must be a scan, got a result of super-resolution \(its header says '{said}'\); give the scan"
    with pytest.raises(ScanError, match=line.replace("+", r"\+")):
        LoadScan.of(Settings())(result)
    with pytest.raises(ScanError, match="its header says"):
        LoadScan.of(Settings())(nib.load(result))
    assert is_result(result) and not is_result(scan)
    assert LoadScan()(result).data.shape[0] == 1  # where results are read
    write_volume(thick, image.get_fdata(), image.affine, source_header(result))
    check_scan(thick)
    LoadScan.of(Settings())(thick)


def test_a_record_beside_it_says_it_too(make_scan: MakeScan, tmp_path: Path) -> None:
    scan = make_scan()
    told = {"weights_sha256": "0", "slice_geometry": None, "estimate": "mean", "source": "thick.nii"}
    (tmp_path / "scan.json").write_text(json.dumps(told))
    with pytest.raises(ScanError, match=r"\(the record beside it says so\); give the scan that it is from, thick\.nii"):
        LoadScan.of(Settings())(scan)


def test_superres_marks_its_files_and_takes_none_of_them(
    make_scan: MakeScan, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out, std = tmp_path / "out.nii.gz", tmp_path / "std.nii.gz"
    page = tmp_path / "out.html"
    page.write_text('<meta name="generator" content="bida">')
    scan = make_scan((12, 5, 10))
    assert main(["superres", str(scan), str(out), "--uncertainty", str(std), *FAST]) == 0
    assert bytes(nib.load(std).header["descrip"]).startswith(f"bida {own_version()} uncertainty".encode())
    capsys.readouterr()
    for made in (out, std):
        assert main(["superres", str(made), str(tmp_path / "again.nii.gz"), *FAST]) == 2
        assert f"bida: error: {made}: must be a scan, got a result" in capsys.readouterr().err
    assert not page.exists(), "it was of the result before"
