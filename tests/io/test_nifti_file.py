"""NIfTI that lies: opened by its content, read to its end, and refused where its header says what can't be."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from conftest import MakeScan

from bida.errors import ScanError
from bida.io.nifti import source_header
from bida.io.scan import read_affine, read_scan
from bida.physics.plan import PlanOptions, plan_scan


def refusal(path: Path, **options: int) -> str:
    with pytest.raises(ScanError) as caught:
        read_scan(path, **options)
    message = str(caught.value)
    assert "\n" not in message and message.startswith(str(path))
    return message


def edited(path: Path, floats: dict[int, float], name: str = "edited.nii") -> Path:
    """Write a plain copy of a scan, with other numbers at these offsets of its header."""
    raw = bytearray(gzip.decompress(path.read_bytes()))
    for offset, value in floats.items():
        raw[offset : offset + 4] = np.float32(value).tobytes()
    path.with_name(name).write_bytes(raw)
    return path.with_name(name)


PIXDIM_Y, PIXDIM_Z, QFAC, QUATERN_B = 84, 88, 76, 256


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_slice_spacing_of_zero_is_refused_where_no_sform_gives_it(make_scan: MakeScan, value: float) -> None:
    path = edited(make_scan(sform_code=0), {PIXDIM_Y: value})
    message = refusal(path)
    assert "voxel sizes must be above 0, got 0 in pixdim[2]" in message
    assert "SpacingBetweenSlices" in message and "correct the header" in message
    with pytest.raises(ScanError, match="above 0"):
        read_affine(path)


def test_slice_spacing_of_zero_comes_from_the_sidecar(make_scan: MakeScan) -> None:
    whole = make_scan(sform_code=0, codes="LSA", tilt_deg=10)
    image = nib.load(whole)
    axis = int(np.argmax(image.header.get_zooms()))
    path = edited(whole, {PIXDIM_Y - 4 + 4 * axis: 0.0})
    path.with_suffix(".json").write_text(json.dumps({"SpacingBetweenSlices": 0.75}))
    scan = read_scan(path)
    np.testing.assert_allclose(scan.affine, image.affine, atol=1e-6)
    assert any("slice spacing is 0; 0.75 mm are taken from the sidecar" in note for note in scan.warnings)
    np.testing.assert_allclose(read_affine(path)[1], image.affine, atol=1e-6)


def test_two_sizes_of_zero_are_never_guessed(make_scan: MakeScan) -> None:
    path = edited(make_scan(sform_code=0), {PIXDIM_Y: 0.0, PIXDIM_Z: 0.0})
    path.with_suffix(".json").write_text(json.dumps({"SpacingBetweenSlices": 0.75}))
    assert "pixdim[2] and pixdim[3]" in refusal(path)


def test_sform_stands_in_for_a_size_of_zero_and_the_note_has_what_is_written(make_scan: MakeScan) -> None:
    whole = make_scan(tilt_deg=10)  # with a qform of the same size, which the 0 spoils
    scan = read_scan(edited(whole, {PIXDIM_Y: 0.0}))
    np.testing.assert_array_equal(scan.affine, nib.load(whole).get_sform())
    assert any(note.startswith("pixdim (0.15 x 0 x 0.15) disagrees") for note in scan.warnings)


@pytest.mark.parametrize("code", ["qform_code", "sform_code"])
def test_negative_size_loses_its_sign_with_a_note(make_scan: MakeScan, code: str, caplog) -> None:
    whole = make_scan(**{code: 0})
    scan = read_scan(edited(whole, {PIXDIM_Y: -0.75}))
    np.testing.assert_allclose(scan.affine, nib.load(whole).affine, atol=1e-6)
    assert sum("negative" in note for note in scan.warnings) == 1
    assert not caplog.records  # of nibabel


def test_qfac_of_zero_counts_as_one(make_scan: MakeScan) -> None:
    whole = make_scan(sform_code=0, tilt_deg=5)
    np.testing.assert_allclose(read_scan(edited(whole, {QFAC: 0.0})).affine, nib.load(whole).affine, atol=1e-6)


@pytest.mark.parametrize("sform_code", [0, 1])
def test_quaternion_that_cannot_be_says_so(make_scan: MakeScan, sform_code: int) -> None:
    path = edited(make_scan(sform_code=sform_code), {QUATERN_B: 1.7})
    message = refusal(path)
    assert "quaternion must be no longer than 1, got (1.7, 0, 0), 1.7 long" in message and "qform_code to 0" in message


def test_quaternion_without_a_code_is_not_looked_at(make_scan: MakeScan) -> None:
    whole = make_scan(qform_code=0)
    np.testing.assert_array_equal(read_scan(edited(whole, {QUATERN_B: 1.7})).affine, nib.load(whole).get_sform())


@pytest.mark.parametrize("shape", [(20, 18, 1, 8), (20, 1, 18, 8)])
def test_slices_along_the_fourth_axis_are_no_volumes(tmp_path: Path, shape: tuple[int, ...]) -> None:
    image = nib.Nifti1Image(
        np.random.default_rng(0).normal(size=shape).astype(np.float32), np.diag([0.15, 0.15, 0.75, 1])
    )
    nib.save(image, tmp_path / "stack.nii.gz")
    for options in ({}, {"volume": 0}):
        message = refusal(tmp_path / "stack.nii.gz", **options)
        assert "slices must lie along the first three axes" in message and "8 volumes of one slice" in message


def test_files_are_opened_by_their_content(make_scan: MakeScan) -> None:
    packed = make_scan(dtype=np.int16)
    expected, folder = read_scan(packed), packed.parent
    plain = edited(packed, {}, "plain.nii")
    copies = {
        "plain_named_packed.nii.gz": plain, "packed_named_plain.nii": packed, "CAPITALS.NII.GZ": packed,
        "PLAIN.NII": plain, "rat 1.2 T2.nii.gz": packed, "scan.nii.bz2": packed, "without": packed,
    }  # fmt: skip
    for name, source in copies.items():
        shutil.copy(source, folder / name)
        found = read_scan(folder / name)
        np.testing.assert_array_equal(found.data, expected.data, err_msg=name)
        np.testing.assert_array_equal(found.affine, expected.affine)
        header = source_header(folder / name)
        assert header is not None and header.get_slope_inter() == (1.0, 0.0), name
        assert read_affine(folder / name)[0] == expected.data.shape


def test_sidecars_stand_beside_names_in_capitals(make_scan: MakeScan) -> None:
    path = make_scan()
    shutil.copy(path, path.with_name("SCAN.NII.GZ"))
    path.with_name("SCAN.json").write_text('{"SliceThickness": 0.6}')
    assert read_scan(path.with_name("SCAN.NII.GZ")).sidecar == {"SliceThickness": 0.6}


def test_one_flipped_bit_is_found(make_scan: MakeScan) -> None:
    """gzip's checksum stands behind the last voxel: every bit of the packed voxels counts."""
    path = make_scan(values=np.random.default_rng(0).normal(size=(20, 8, 18)))
    whole, rng = path.read_bytes(), np.random.default_rng(1)
    assert len(whole) > 9000
    for place in rng.integers(400, len(whole), 40):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        assert "copy it again" in refusal(path)


def test_size_that_the_header_promises(make_scan: MakeScan) -> None:
    path = edited(make_scan(), {}, "cut.nii")
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-1])
    assert f"its header says {size} bytes, got {size - 1}" in refusal(path)


def test_pair_without_its_image(make_scan: MakeScan) -> None:
    path = make_scan()
    nib.save(nib.Nifti1Pair.from_image(nib.load(path)), path.with_name("pair.img"))
    np.testing.assert_array_equal(read_scan(path.with_name("pair.hdr")).data, read_scan(path).data)
    np.testing.assert_array_equal(read_scan(path.with_name("pair.img")).data, read_scan(path).data)
    path.with_name("pair.img").unlink()
    with pytest.raises(ScanError, match=r"pair\.img: must exist"):
        read_scan(path.with_name("pair.hdr"))


@pytest.mark.parametrize("spacing", [(0.25, 0.25, 0.25), (0.3, 0.25, 0.3)])
def test_thick_slices_that_overlap_are_not_called_isotropic(spacing: tuple[float, float, float]) -> None:
    affine = np.diag([*spacing, 1.0])
    with pytest.raises(ScanError, match=r"give --axis") as caught:
        plan_scan((40, 40, 40), affine, PlanOptions(), sidecar={"SliceThickness": 0.5})
    assert "no super-resolution" not in str(caught.value)
    plan = plan_scan((40, 40, 40), affine, PlanOptions(axis="A", spacing=0.125), sidecar={"SliceThickness": 0.5})
    assert (plan.geometry.thickness_mm, plan.geometry.slice_spacing_mm, plan.geometry.axis) == (0.5, 0.25, 1)


@pytest.mark.parametrize("value", [0.5, "0.5", [0.5], [0.5] * 8])
def test_thickness_in_a_sidecar_that_means_one_number(value: object) -> None:
    plan = plan_scan((40, 8, 40), np.diag([0.2, 0.8, 0.2, 1.0]), sidecar={"SliceThickness": value})
    assert plan.geometry.thickness_mm == 0.5


@pytest.mark.parametrize(
    ("value", "words"),
    [(500, "micrometres"), (0.0005, "metres"), (0.05, "cm"), (float("nan"), "nan"), ([0.5, 0.6], r"\[0.5, 0.6\]"),
     ("", "''"),
     (True, "True"), ({}, "{}"), ([], r"\[\]")],
)  # fmt: skip
def test_thickness_in_a_sidecar_that_does_not(value: object, words: str) -> None:
    with pytest.raises(ScanError, match=f"SliceThickness|slice thickness.*{words}") as caught:
        plan_scan((40, 8, 40), np.diag([0.2, 0.8, 0.2, 1.0]), sidecar={"SliceThickness": value}, name="a.nii")
    assert "\n" not in str(caught.value) and "correct" in str(caught.value)
    assert words.replace("\\", "") in str(caught.value)


def test_sidecars_are_inherited_down_to_the_image(make_scan: MakeScan) -> None:
    folder = make_scan().parent
    anat = folder / "study" / "sub-01" / "ses-1" / "anat"
    anat.mkdir(parents=True)
    path = anat / "sub-01_ses-1_run-2_T2w.nii.gz"
    shutil.copy(folder / "scan.nii.gz", path)
    written = {
        folder / "T2w.json": {"SliceThickness": 9},  # above the data set
        folder / "study" / "T2w.json": {"SliceThickness": 0.5, "EchoTime": 1},
        folder / "study" / "run-2_T2w.json": {"EchoTime": 2, "Manufacturer": "X"},
        folder / "study" / "T1w.json": {"SliceThickness": 7},
        folder / "study" / "run-1_T2w.json": {"SliceThickness": 8},
        folder / "study" / "sub-01" / "sub-01_T2w.json": {"EchoTime": 3},
        path.with_name("sub-01_ses-1_run-2_T2w.json"): {"RepetitionTime": 4, "Manufacturer": None},
    }
    for file, content in written.items():
        file.write_text(json.dumps(content))
    assert read_scan(path).sidecar == {"RepetitionTime": 4}  # no data set without its description
    (folder / "study" / "dataset_description.json").write_text("{}")
    assert read_scan(path).sidecar == {"SliceThickness": 0.5, "EchoTime": 3, "RepetitionTime": 4}


def test_null_in_a_sidecar_is_as_not_given(make_scan: MakeScan) -> None:
    path = make_scan()
    path.with_name("scan.json").write_text('{"SliceThickness": null, "EchoTime": 1}')
    assert read_scan(path).sidecar == {"EchoTime": 1}


@pytest.mark.parametrize(("name", "offset"), [("qform_code", 252), ("sform_code", 254)])
def test_codes_that_there_are_not(make_scan: MakeScan, name: str, offset: int) -> None:
    path = edited(make_scan(), {})
    raw = bytearray(path.read_bytes())
    raw[offset : offset + 2] = np.int16(-31487).tobytes()
    path.write_bytes(raw)
    assert f"{name} must be from 0 to 5, got -31487" in refusal(path)
