"""Every scan that cannot be used is refused in one line that names file, rule, value and cure."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from conftest import MakeScan, smooth_phantom
from dicom_files import write_series

from bida.errors import ScanError
from bida.io.files import check_output
from bida.io.nifti import write_volume
from bida.io.scan import read_affine, read_scan

AFFINE = np.diag([0.15, 0.75, 0.15, 1.0])
Maker = Callable[[Path, MakeScan], Path]


def refused(path: Path, pieces: tuple[str, ...], **options: float) -> None:
    with pytest.raises(ScanError) as caught:
        read_scan(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    for piece in (str(path), *pieces):
        assert piece in message, message


def save(path: Path, data: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    nib.save(nib.Nifti1Image(data, affine), path)
    return path


def missing(folder: Path, make_scan: MakeScan) -> Path:
    return folder / "nothing.nii.gz"


def text_file(folder: Path, make_scan: MakeScan) -> Path:
    (folder / "notes.txt").write_text("T2w of the third rat")
    return folder / "notes.txt"


def text_named_nifti(folder: Path, make_scan: MakeScan) -> Path:
    (folder / "notes.nii.gz").write_text("T2w of the third rat")
    return folder / "notes.nii.gz"


def text_named_nrrd(folder: Path, make_scan: MakeScan) -> Path:
    (folder / "notes.nrrd").write_text("T2w of the third rat")
    return folder / "notes.nrrd"


def empty_file(folder: Path, make_scan: MakeScan) -> Path:
    (folder / "empty.nii").write_bytes(b"")
    return folder / "empty.nii"


def truncated(name: str, share: float) -> Maker:
    def make(folder: Path, make_scan: MakeScan) -> Path:
        noise = np.random.default_rng(0).normal(size=(20, 8, 18))
        path = make_scan(values=noise, name=name)
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * share)])
        return path

    return make


def four_dimensions(folder: Path, make_scan: MakeScan) -> Path:
    return save(folder / "bold.nii.gz", np.random.default_rng(0).normal(size=(20, 8, 18, 5)).astype(np.float32))


def two_dimensions(folder: Path, make_scan: MakeScan) -> Path:
    return save(folder / "flat.nii", np.ones((20, 18), dtype=np.float32))


def complex_voxels(folder: Path, make_scan: MakeScan) -> Path:
    return save(folder / "kspace.nii", np.ones((20, 8, 18), dtype=np.complex64))


def colours(folder: Path, make_scan: MakeScan) -> Path:
    rgb = np.zeros((20, 8, 18), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    return save(folder / "rgb.nii", rgb)


def with_value(value: float) -> Maker:
    def make(folder: Path, make_scan: MakeScan) -> Path:
        data = np.random.default_rng(0).normal(size=(20, 8, 18)).astype(np.float64)
        data[3, 4, 5] = data[4, 0, 1] = value
        return save(folder / "holes.nii.gz", data)

    return make


def constant(folder: Path, make_scan: MakeScan) -> Path:
    return save(folder / "blank.nii.gz", np.full((20, 8, 18), 7, dtype=np.int16))


def two_slices(folder: Path, make_scan: MakeScan) -> Path:
    return make_scan(shape=(20, 2, 18))


def scaled(factor: float) -> Maker:
    def make(folder: Path, make_scan: MakeScan) -> Path:
        return make_scan((128, 20, 128), [size * factor for size in (0.125, 0.75, 0.125)])

    return make


def forms_apart(folder: Path, make_scan: MakeScan) -> Path:
    image = nib.load(make_scan())
    moved = image.affine.copy()
    moved[0, 3] += 0.3
    image.set_qform(moved, 1)
    nib.save(image, folder / "apart.nii.gz")
    return folder / "apart.nii.gz"


def flat_affine(folder: Path, make_scan: MakeScan) -> Path:
    image = nib.load(make_scan())
    image.set_qform(None, 0)
    image.header["srow_y"] = 0
    nib.Nifti1Image(image.get_fdata(dtype=np.float32), None, image.header).to_filename(folder / "flat.nii")
    return folder / "flat.nii"


def bad_sidecar(folder: Path, make_scan: MakeScan) -> Path:
    path = make_scan()
    path.with_name("scan.json").write_text("{SliceThickness: 1}")
    return path


def empty_folder(folder: Path, make_scan: MakeScan) -> Path:
    (folder / "series").mkdir()
    return folder / "series"


CASES: list[tuple[Maker, tuple[str, ...]]] = [
    (missing, ("must exist", "check the path")),
    (text_file, ("must be an image", ".nii.gz", "notes.txt", "convert")),
    (text_named_nifti, ("must be a NIfTI image", "copy it again")),
    (text_named_nrrd, ("must be a whole image", "check or copy it")),
    (empty_file, ("must be a NIfTI image", "copy it again")),
    (truncated("cut.nii.gz", 0.6), ("must be whole", "copy it again")),
    (truncated("cut.nii", 0.6), ("must be whole", "copy it again")),
    (four_dimensions, ("must have 3 dimensions, got 4 (5 volumes)", "--volume 0..4")),
    (two_dimensions, ("must have 3 dimensions", "(20, 18)")),
    (complex_voxels, ("must be real numbers, got complex", "magnitude")),
    (colours, ("must be real numbers", "convert")),
    (with_value(np.nan), ("must be finite, got 2 NaN or Inf", "(3, 4, 5)", "replace")),
    (with_value(-np.inf), ("must be finite, got 2 NaN or Inf", "(3, 4, 5)", "replace")),
    (with_value(1e300), ("must be finite", "(3, 4, 5)")),
    (constant, ("must have contrast, got 7 everywhere", "check the export")),
    (two_slices, ("at least 3 slices", "(20, 2, 18)")),
    (scaled(10), ("rodent", "1.25 x 7.5 x 1.25 mm", "--scale-header 10", "0.125 x 0.75 x 0.125 mm")),
    (scaled(20), ("rodent", "2.5 x 15 x 2.5 mm", "--scale-header 20")),
    (scaled(1000), ("rodent", "125 x 750 x 125 mm", "--scale-header 1000")),
    (scaled(0.1), ("rodent", "0.0125 x 0.075 x 0.0125 mm", "--scale-header 0.1")),
    (scaled(1e6), ("rodent", "correct the header")),
    (forms_apart, ("qform and sform must agree, got corners 2 voxels apart", "set the code of the wrong one to 0")),
    (flat_affine, ("must be invertible", "correct the header")),
    (empty_folder, ("it holds no file of either", "name an image file")),
]


@pytest.mark.parametrize(("make", "pieces"), CASES)
def test_refused_in_one_line(make: Maker, pieces: tuple[str, ...], tmp_path: Path, make_scan: MakeScan) -> None:
    refused(make(tmp_path, make_scan), pieces)


def test_bad_sidecar(tmp_path: Path, make_scan: MakeScan) -> None:
    with pytest.raises(ScanError, match=r"scan\.json: a sidecar must be JSON.*correct or remove it"):
        read_scan(bad_sidecar(tmp_path, make_scan))


@pytest.mark.parametrize("volume", [-1, 5])
def test_volume_out_of_range(volume: int, tmp_path: Path, make_scan: MakeScan) -> None:
    refused(four_dimensions(tmp_path, make_scan), ("--volume must be 0..4", str(volume)), volume=volume)


@pytest.mark.parametrize("factor", [0, -10, np.nan, np.inf])
def test_scale_header_out_of_range(factor: float, make_scan: MakeScan) -> None:
    refused(make_scan(), ("--scale-header must be a positive number", str(factor)), scale_header=factor)


def test_rounded_qform_is_no_disagreement(make_scan: MakeScan) -> None:
    path = make_scan(tilt_deg=13.7)
    np.testing.assert_allclose(read_scan(path).affine, nib.load(path).get_qform(), atol=1e-5)


def test_one_code_alone_is_no_disagreement(tmp_path: Path, make_scan: MakeScan) -> None:
    image = nib.load(forms_apart(tmp_path, make_scan))
    image.set_qform(image.get_qform(), 0)
    nib.save(image, tmp_path / "sform.nii.gz")
    np.testing.assert_array_equal(read_scan(tmp_path / "sform.nii.gz").affine, image.get_sform())


def test_output_rules(tmp_path: Path) -> None:
    (tmp_path / "there.nii.gz").write_bytes(b"")
    (tmp_path / "file").write_bytes(b"")
    cases = {
        "there.nii.gz": ("must not exist", "--overwrite"),
        "out.png": ("must end in .nii.gz or .nii", "'out.png'"),
        "gone/out.nii": ("must exist", "gone"),
        "file/out.nii": ("is not a folder",),
    }
    for name, pieces in cases.items():
        with pytest.raises(ScanError) as caught:
            check_output(tmp_path / name)
        for piece in (str(tmp_path / name), *pieces):
            assert piece in str(caught.value)
    assert check_output(tmp_path / "there.nii.gz", overwrite=True) == tmp_path / "there.nii.gz"


def test_unwritable_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # a superuser may write anywhere
    with pytest.raises(ScanError, match="its folder must be writable"):
        write_volume(tmp_path / "out.nii.gz", smooth_phantom((3, 3, 3), np.eye(4)), np.eye(4))
    assert not list(tmp_path.iterdir())


def test_volume_that_is_not_finite_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ScanError, match="must be finite"):
        write_volume(tmp_path / "out.nii.gz", np.full((3, 3, 3), np.nan), np.eye(4))
    assert not list(tmp_path.iterdir())


def test_flat_like_grid(tmp_path: Path, make_scan: MakeScan) -> None:
    with pytest.raises(
        ScanError, match=r"flat\.nii: a grid must have 3 dimensions, got shape \(20, 18\); give a volume"
    ):
        read_affine(two_dimensions(tmp_path, make_scan))


def test_folder_that_may_not_be_searched(make_scan: MakeScan, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_scan()

    def denied(self: Path, **options: bool) -> os.stat_result:  # a superuser may search anywhere
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "stat", denied)
    refused(path, ("must be within reach, got 'Permission denied'", "check the path"))


@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])  # ITK's Python reads the second alone
def test_colours_of_itk_formats(dtype: type, suffix: str, tmp_path: Path) -> None:
    import SimpleITK

    values = np.random.default_rng(0).integers(0, 255, (18, 8, 20, 3)).astype(dtype)
    path = tmp_path / f"rgb{suffix}"
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(values, isVector=True), str(path))
    refused(path, ("a voxel must hold one number, got several", "convert"))
    refused(path, ("a voxel must hold one number, got several", "convert"), volume=0)


def test_dicom_tag_that_is_no_number(tmp_path: Path) -> None:
    voxels = np.random.default_rng(0).integers(0, 500, (20, 18, 4))
    write_series(tmp_path / "series", voxels, np.diag([0.15, 0.2, 1.0, 1]), tags={"SliceThickness": ["0.8", "0.9"]})
    refused(tmp_path / "series", ("DICOM tag SliceThickness must be a number", "0.9", "correct it"))
