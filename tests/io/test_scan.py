"""Reading scans of every format, and writing volumes whole or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from conftest import MakeScan, grid_affine
from dicom_files import write_series

from bida.errors import ScanError
from bida.io.files import write_json
from bida.io.nifti import write_volume
from bida.io.scan import read_affine, read_scan, read_sidecar
from bida.io.voxel_sizes import is_plausible, likely_factors


def test_nifti_gives_data_affine_type_and_sidecar(make_scan: MakeScan) -> None:
    path = make_scan(codes="LPI", tilt_deg=12, dtype=np.int16)
    path.with_name("scan.json").write_text(json.dumps({"SliceThickness": 0.6}))
    scan = read_scan(path)
    image = nib.load(path)
    assert scan.data.dtype == np.float32
    np.testing.assert_array_equal(scan.data, image.get_fdata())
    np.testing.assert_allclose(scan.affine, image.affine, rtol=0, atol=1e-12)
    np.testing.assert_allclose(scan.spacing_mm, (0.15, 0.75, 0.15), rtol=1e-6)
    assert (scan.dtype, scan.sidecar, scan.warnings) == (np.dtype(np.int16), {"SliceThickness": 0.6}, ())


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_itk_formats_agree_with_the_nifti_they_came_from(make_scan: MakeScan, suffix: str) -> None:
    import SimpleITK

    path = make_scan(codes="PIR", tilt_deg=9)
    other = path.with_name("other" + suffix)
    SimpleITK.WriteImage(SimpleITK.ReadImage(str(path)), str(other))
    expected, got = read_scan(path), read_scan(other)
    np.testing.assert_array_equal(got.data, expected.data)
    np.testing.assert_allclose(got.affine, expected.affine, rtol=0, atol=1e-5)  # NIfTI rounds to float32
    assert read_affine(other)[0] == expected.data.shape


def test_scale_header_divides_dicom_tags_and_no_json_sidecar(tmp_path: Path) -> None:
    voxels = np.random.default_rng(0).integers(0, 500, (20, 18, 6))
    write_series(tmp_path / "series", voxels, np.diag([1.5, 2.0, 10.0, 1]), tags={"SliceThickness": "8"})
    scan = read_scan(tmp_path / "series", scale_header=10)
    np.testing.assert_allclose(scan.spacing_mm, (0.15, 0.2, 1.0), rtol=1e-6)
    assert scan.sidecar == {"SliceThickness": pytest.approx(0.8)}
    (tmp_path / "series.json").write_text(json.dumps({"SliceThickness": 0.7}))  # mm, whatever the header's scale
    scan = read_scan(tmp_path / "series", scale_header=10)
    assert scan.sidecar["SliceThickness"] == 0.7


def test_folder_without_a_name_has_the_sidecar_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    voxels = np.random.default_rng(0).integers(0, 500, (20, 18, 6))
    write_series(tmp_path / "series", voxels, np.diag([0.15, 0.2, 1.0, 1]))
    (tmp_path / "series.json").write_text(json.dumps({"SliceThickness": 0.7}))
    monkeypatch.chdir(tmp_path / "series")
    assert read_scan(".").sidecar["SliceThickness"] == 0.7
    (tmp_path / "series" / "raw").mkdir()
    monkeypatch.chdir(tmp_path / "series" / "raw")
    assert read_sidecar("..") == {"SliceThickness": 0.7}
    assert read_sidecar("/") == {}


def test_volume_of_a_4d_file(tmp_path: Path) -> None:
    data = np.random.default_rng(0).normal(size=(20, 8, 18, 3)).astype(np.float32)
    nib.save(nib.Nifti1Image(data, np.diag([0.15, 0.75, 0.15, 1])), tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(read_scan(tmp_path / "a.nii.gz", volume=2).data, data[..., 2])
    nib.save(nib.Nifti1Image(data[..., :1, None], np.diag([0.15, 0.75, 0.15, 1])), tmp_path / "b.nii.gz")
    np.testing.assert_array_equal(read_scan(tmp_path / "b.nii.gz").data, data[..., 0])


def test_micrometres_become_mm_and_unknown_units_are_noted(make_scan: MakeScan) -> None:
    scan = read_scan(make_scan(spacing_mm=(150, 750, 150), units="micron", name="um.nii"))
    np.testing.assert_allclose(scan.spacing_mm, (0.15, 0.75, 0.15), rtol=1e-6)
    assert "micrometres" in scan.warnings[0]
    scan = read_scan(make_scan(units="unknown"))
    np.testing.assert_allclose(scan.spacing_mm, (0.15, 0.75, 0.15), rtol=1e-6)
    assert "no unit" in scan.warnings[0]


def test_scale_header_divides_voxel_sizes_and_origin(make_scan: MakeScan) -> None:
    path = make_scan(spacing_mm=(1.5, 7.5, 1.5), tilt_deg=5)
    scan = read_scan(path, scale_header=10)
    np.testing.assert_allclose(scan.affine[:3], nib.load(path).affine[:3] / 10, rtol=1e-12)


@pytest.mark.parametrize(
    ("spacing_mm", "shape"),
    [
        ((0.125, 0.125, 0.75), (128, 128, 20)),
        ((0.1125, 1.0, 0.1125), (256, 24, 256)),
        ((0.15, 0.15, 0.15), (112, 128, 80)),
        ((0.25, 0.25, 1.0), (80, 80, 16)),
        ((0.04, 0.04, 0.04), (442, 286, 214)),
    ],
)
@pytest.mark.parametrize("factor", [10, 20, 1000, 0.1])
def test_scaled_headers_are_refused_and_their_factor_offered(
    spacing_mm: tuple[float, ...], shape: tuple[int, ...], factor: float
) -> None:
    scaled = [size * factor for size in spacing_mm]
    assert is_plausible(spacing_mm, shape)
    if is_plausible(scaled, shape):  # 0.25 mm x 0.1 is a voxel size that exists: no rule can tell
        assert min(scaled) >= 0.02
        return
    assert factor in likely_factors(scaled, shape)


@pytest.mark.parametrize("factor", [10, 20])
def test_the_usual_scaling_is_named_first(factor: float) -> None:
    assert likely_factors([size * factor for size in (0.125, 0.125, 0.75)], (128, 128, 20))[0] == factor


@pytest.mark.parametrize(("tilt_deg", "shear"), [(0, 0), (17, 0), (17, 0.1)])
def test_written_geometry(tmp_path: Path, tilt_deg: float, shear: float) -> None:
    shape, affine = grid_affine((20, 40, 18), (0.15, 0.15, 0.15), "LSP", tilt_deg, shear)
    data = np.random.default_rng(0).normal(size=shape)
    write_volume(tmp_path / "out.nii.gz", data, affine)
    image = nib.load(tmp_path / "out.nii.gz")
    np.testing.assert_array_equal(np.asarray(image.dataobj), data.astype(np.float32))
    np.testing.assert_allclose(image.affine, affine, rtol=0, atol=1e-6)
    assert image.header.get_xyzt_units()[0] == "mm"
    assert image.get_data_dtype() == np.float32
    sform, qform = image.get_sform(coded=True), image.get_qform(coded=True)
    assert sform[1] == 1
    np.testing.assert_allclose(image.header.get_zooms(), np.linalg.norm(affine[:3, :3], axis=0), rtol=1e-6)
    if shear:
        assert qform == (None, 0)
    else:
        assert qform[1] == sform[1]
        np.testing.assert_allclose(qform[0], sform[0], rtol=0, atol=1e-5)  # float32 quaternion


def test_source_code_and_description_are_kept(make_scan: MakeScan, tmp_path: Path) -> None:
    header = nib.load(make_scan(sform_code=3, qform_code=3)).header
    header["descrip"] = b"Bruker"
    write_volume(tmp_path / "out.nii", np.eye(3)[None] + np.zeros((3, 3, 3)), np.eye(4), header_like=header)
    out = nib.load(tmp_path / "out.nii").header
    assert (int(out["sform_code"]), int(out["qform_code"]), out["descrip"].item()) == (3, 3, b"Bruker")


def test_integer_output_rounds_clips_and_keeps_the_scans_scaling(tmp_path: Path) -> None:
    source = nib.Nifti1Image(np.arange(90, dtype=np.uint8).reshape(6, 5, 3), np.diag([0.15, 0.15, 0.75, 1]))
    source.header.set_slope_inter(0.5, 10)
    source.to_filename(tmp_path / "source.nii.gz")
    scan = read_scan(tmp_path / "source.nii.gz")
    np.testing.assert_array_equal(scan.data, np.arange(90).reshape(6, 5, 3) * 0.5 + 10)

    values = np.array([9.0, 10.0, 10.26, 11.0, 100.0, 500.0] * 9, dtype=np.float64).reshape(6, 3, 3)
    write_volume(tmp_path / "out.nii.gz", values, np.eye(4), header_like=scan.header, dtype=scan.dtype)
    image = nib.load(tmp_path / "out.nii.gz")
    assert (image.get_data_dtype(), image.dataobj.slope, image.dataobj.inter) == (np.uint8, 0.5, 10)
    expected = np.clip(np.rint((values - 10) / 0.5), 0, 255) * 0.5 + 10  # what 8 bits can say
    np.testing.assert_array_equal(image.get_fdata(), expected)

    write_volume(tmp_path / "float.nii.gz", values, np.eye(4), header_like=scan.header)
    np.testing.assert_array_equal(nib.load(tmp_path / "float.nii.gz").get_fdata(), values.astype(np.float32))
    write_volume(tmp_path / "plain.nii.gz", values, np.eye(4), dtype=np.int16)
    np.testing.assert_array_equal(nib.load(tmp_path / "plain.nii.gz").get_fdata(), np.rint(values))


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out.nii.gz"
    write_volume(path, np.zeros((3, 3, 3)), np.eye(4))
    before = path.read_bytes()

    def full_disk(image: nib.Nifti1Image, name: Path) -> None:
        Path(name).write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(nib, "save", full_disk)
    with pytest.raises(ScanError, match="No space left on device"):
        write_volume(path, np.ones((3, 3, 3)), np.eye(4), overwrite=True)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["out.nii.gz"]


def test_written_files_have_the_usual_mode_and_the_same_bytes(tmp_path: Path) -> None:
    data = np.random.default_rng(0).normal(size=(8, 9, 10))
    for name in ("a.nii.gz", "b.nii.gz"):
        write_volume(tmp_path / name, data, np.eye(4))
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
    umask = os.umask(0)
    os.umask(umask)
    assert (tmp_path / "a.nii.gz").stat().st_mode & 0o777 == 0o666 & ~umask


def test_json_sidecar(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": 1, "a": [1.5, "x"]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"b": 1, "a": [1.5, "x"]}
    with pytest.raises(ScanError, match="--overwrite"):
        write_json(tmp_path / "a.json", {})


def test_real_rat_has_its_slices_along_axis_1(shared_data: Path) -> None:
    scan = read_scan(shared_data / "rat-nirodents/sub-15/anat/sub-15_T2w.nii.gz")
    assert scan.data.shape == (256, 24, 256)
    np.testing.assert_allclose(scan.spacing_mm, (0.1125, 1.0, 0.1125), rtol=1e-6)
    assert (nib.aff2axcodes(scan.affine), scan.warnings) == (("R", "A", "S"), ())
