"""The command `bida strip`: the mask and its record, one line that tells the volume, and what it refuses."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bida.cli.parser import main
from bida.mri.strip import edges_of

SIZES_MM = (0.2, 0.5, 0.25)
SHAPE = (30, 16, 28)


def brain() -> np.ndarray:
    lines = [(np.arange(n) - (n - 1) / 2) * size for n, size in zip(SHAPE, SIZES_MM)]
    x, y, z = np.meshgrid(*lines, indexing="ij")
    return (x / 2) ** 2 + (y / 3) ** 2 + (z / 1.5) ** 2 < 1


def save(path: Path, values: np.ndarray) -> Path:
    image = nib.Nifti1Image(values, np.diag([-SIZES_MM[0], SIZES_MM[1], SIZES_MM[2], 1.0]))
    image.header.set_xyzt_units("mm")
    image.header.set_slope_inter(0.5, 0)
    nib.save(image, path)
    return path


@pytest.fixture
def scan(tmp_path):
    """Return a brain-extracted scan whose voxels are scaled on disk."""
    noise = np.random.default_rng(0).uniform(80, 120, SHAPE)
    return save(tmp_path / "scan.nii.gz", (brain() * noise).astype(np.float32))


def test_the_mask_lies_on_the_scans_grid_and_the_line_tells_its_volume(scan, tmp_path, capsys):
    mask = tmp_path / "mask.nii.gz"
    assert main(["strip", str(scan), str(mask), "--stripper", "threshold"]) == 0
    found = nib.load(mask)
    values = np.asarray(found.dataobj)
    np.testing.assert_array_equal(values, brain())
    assert found.get_data_dtype() == np.uint8 and found.header.get_slope_inter() in ((None, None), (1, 0))
    np.testing.assert_allclose(found.affine, nib.load(scan).affine, atol=1e-6)
    volume = brain().sum() * np.prod(SIZES_MM)
    told = capsys.readouterr()
    assert told.out.startswith(f"{mask}: brain of {volume:.1f} mm3, by threshold") and told.out.count("\n") == 1
    record = json.loads((tmp_path / "mask.json").read_text())
    assert record["volume_mm3"] == pytest.approx(volume, abs=1e-3)
    assert record["stripper"] == "threshold" and record["source"] == str(scan)


def test_other_formats_are_read(scan, tmp_path):
    image = nib.load(scan)
    nib.save(nib.MGHImage(np.asarray(image.dataobj, dtype=np.float32), image.affine), tmp_path / "scan.mgz")
    assert main(["strip", str(tmp_path / "scan.mgz"), str(tmp_path / "mask.nii"), "--stripper", "threshold"]) == 0
    np.testing.assert_array_equal(np.asarray(nib.load(tmp_path / "mask.nii").dataobj), brain())


def test_a_program_from_outside_finds_the_brain(scan, tmp_path):
    code = (
        "import sys, nibabel as nib, numpy as np; i = nib.load(sys.argv[1]); "
        "nib.save(nib.Nifti1Image((np.asarray(i.dataobj) > 10).astype(np.uint8), i.affine), sys.argv[2])"
    )
    program = tmp_path / "program.py"
    program.write_text(code)
    command = f"command:{sys.executable} {program} {{in}} {{out}}"
    assert main(["strip", str(scan), str(tmp_path / "mask.nii"), "--stripper", command]) == 0
    np.testing.assert_array_equal(np.asarray(nib.load(tmp_path / "mask.nii").dataobj), brain())


@pytest.mark.parametrize(
    "options, message",
    [
        (["--stripper", "nobody"], "stripper must be one of builtin"),
        (["--stripper", "threshold", "--device", "cpu"], "--device: must be for the stripper builtin"),
        (["--stripper", "seg4"], "on the command line name the stripper 'seg4:WEIGHTS'"),
        (["--volume", "all"], "--volume must be one volume here"),
    ],
)
def test_what_cannot_be_is_one_line(scan, tmp_path, capsys, options, message):
    assert main(["strip", str(scan), str(tmp_path / "mask.nii"), *options]) == 2
    told = capsys.readouterr().err.splitlines()
    assert message in told[-1] and told[-1].startswith("bida: error: ")
    assert not (tmp_path / "mask.nii").exists()


def test_files_are_replaced_only_when_asked(scan, tmp_path, capsys):
    words = ["strip", str(scan), str(tmp_path / "mask.nii"), "--stripper", "threshold"]
    assert main(words) == 0
    assert main(words) == 2 and "output must not exist" in capsys.readouterr().err
    assert main([*words, "--overwrite"]) == 0
    assert main(["strip", str(scan), str(scan), "--stripper", "threshold", "--overwrite"]) == 2


def test_terms_of_weights_are_shown_before_they_are_used(scan, tmp_path, capsys):
    other = tmp_path / "other.whl"
    other.write_bytes(b"none")
    assert main(["strip", str(scan), str(tmp_path / "mask.nii"), "--stripper", f"seg4:{other}"]) == 2
    told = capsys.readouterr().err.splitlines()
    assert any("BSD 2-clause" in line for line in told[:-1])
    assert f"{other}: must be the wheel of seg-for-4modalities" in told[-1]


def test_faces_that_the_brain_reaches_are_named_by_their_side():
    mask = np.zeros((4, 5, 6), bool)
    mask[0, 1:4, 1:5] = True
    assert edges_of(mask, np.eye(4)) == ("L",)
    assert edges_of(mask, np.diag([-1.0, 1, 1, 1])) == ("R",)
    swapped = np.eye(4)[[1, 0, 2, 3]]  # the first axis of the file runs to the front
    assert edges_of(mask, swapped) == ("P",)
