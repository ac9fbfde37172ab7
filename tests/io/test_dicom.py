"""DICOM by its positions: where slices lie decides, every slice has its own slope, and what is no volume is refused."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from dicom_files import LPS, oblique, write_enhanced, write_series
from numpy.typing import NDArray

from bida.cli.parser import main
from bida.errors import ScanError
from bida.io.dicom import find_series
from bida.io.scan import Scan, read_affine, read_scan, volumes_of

SHAPE = (24, 20, 9)
VOXELS = np.random.default_rng(0).integers(1, 3000, SHAPE)
MARK = (17, 4, 6)  # the one voxel that is brighter than all
VOXELS[MARK] = 9000
AFFINE = oblique(SHAPE)


def place_of_mark(scan: Scan) -> NDArray[np.float64]:
    at = np.unravel_index(int(scan.data.argmax()), scan.data.shape)
    return scan.affine[:3] @ [*at, 1]


def at_its_place(scan: Scan, affine: NDArray[np.float64] = AFFINE) -> bool:
    return bool(np.abs(place_of_mark(scan) - affine[:3] @ [*MARK, 1]).max() < 1e-5)  # positions have six digits


def refused(path: Path, *pieces: str, **options: object) -> None:
    with pytest.raises(ScanError) as caught:
        read_scan(path, **options)  # type: ignore[arg-type]
    message = str(caught.value)
    assert "\n" not in message
    for piece in pieces:
        assert piece in message, message


def change(file: Path, **tags: object) -> None:
    """Write a file anew with other tags; None removes one."""
    import pydicom

    data = pydicom.dcmread(file)
    for name, value in tags.items():
        if value is None:
            delattr(data, name)
        else:
            setattr(data, name, value)
    data.save_as(file)


@pytest.mark.parametrize(
    "tags",
    [
        {"ImageType": ["ORIGINAL", "PRIMARY", "P", "ND"]},
        {"ImageType": ["ORIGINAL", "PRIMARY", "PHASE MAP", "P", "FFE"]},
        {"ImageType": ["ORIGINAL", "PRIMARY", "M"], "ComplexImageComponent": "IMAGINARY"},
    ],
)
def test_phases_beside_magnitudes_are_left_aside_and_alone_refused(tmp_path: Path, tags: dict) -> None:
    folder = tmp_path / "s"
    write_series(folder, VOXELS, AFFINE, tags={"ImageType": ["ORIGINAL", "PRIMARY", "M", "ND"]})
    write_series(folder, VOXELS // 2, AFFINE, first=100, tags=tags)
    assert at_its_place(read_scan(folder)) and len(volumes_of(folder).parts) == 1
    assert any(note.startswith("9 file(s) of ") for note in read_scan(folder).warnings)
    for number in range(1, 10):
        (folder / f"I{number:04d}.dcm").unlink()
    refused(folder, "slices must be magnitudes, got ", "in I0100.dcm; give the magnitudes' series")


@pytest.mark.parametrize("order", [range(9), range(8, -1, -1), [4, 0, 5, 1, 6, 2, 7, 3, 8]])
def test_positions_decide_the_order_whatever_files_are_called(tmp_path: Path, order: list[int]) -> None:
    write_series(tmp_path / "s", VOXELS, AFFINE, order=list(order))
    scan = read_scan(tmp_path / "s")
    assert at_its_place(scan)
    np.testing.assert_allclose(scan.spacing_mm, (0.2, 0.25, 0.8), atol=2e-6)
    np.testing.assert_array_equal(np.sort(scan.data.ravel()), np.sort(VOXELS.ravel()))
    assert (scan.sidecar, scan.warnings, scan.dtype) == ({"SliceThickness": 0.6}, (), np.dtype(np.int16))
    shape, affine = read_affine(tmp_path / "s")
    np.testing.assert_array_equal(affine, scan.affine)
    assert shape == SHAPE


@pytest.mark.parametrize("codes", ["LPS", "RAS", "SRA", "PIR", "AIL", "IRP"])
def test_any_orientation(tmp_path: Path, codes: str) -> None:
    affine = np.diag([0.0, 0, 0, 1])
    for k, code in enumerate(codes):
        axis, sign = next(
            (i, 1 if code == pair[1] else -1) for i, pair in enumerate(("LR", "PA", "IS")) if code in pair
        )
        affine[axis, k] = sign * (0.2, 0.25, 0.8)[k]
    affine[:3, 3] = 1, -2, 3
    write_series(tmp_path / "s", VOXELS, affine)
    assert at_its_place(read_scan(tmp_path / "s"), affine)


@pytest.mark.parametrize(
    ("says", "noted"), [(0.2, True), (0.6, True), (0, True), (1, True), (0.8, False), (-0.8, False)]
)
def test_a_spacing_tag_is_compared_and_not_used(tmp_path: Path, says: float, noted: bool) -> None:
    write_series(tmp_path / "s", VOXELS, AFFINE, tags={"SpacingBetweenSlices": says})
    scan = read_scan(tmp_path / "s")
    assert at_its_place(scan)
    assert [f"SpacingBetweenSlices is {says:g}" in note for note in scan.warnings] == [True] * (abs(says) != 0.8)


@pytest.mark.parametrize("says", ["0", None, "-1", ""])
def test_a_thickness_of_none_is_not_told(tmp_path: Path, says: str | None) -> None:
    write_series(tmp_path / "s", VOXELS, AFFINE, tags={"SliceThickness": says})
    assert read_scan(tmp_path / "s").sidecar == {}


def test_thicknesses_that_differ_are_noted_and_not_used(tmp_path: Path) -> None:
    write_series(tmp_path / "s", VOXELS, AFFINE, own=[{"SliceThickness": 0.5 + 0.05 * k} for k in range(9)])
    scan = read_scan(tmp_path / "s")
    assert scan.sidecar == {}
    assert "0.5 to 0.9 mm" in scan.warnings[0]


def test_every_slice_has_its_own_slope(tmp_path: Path) -> None:
    slopes = np.array([1.0, *(2.5e-4 * (1 + 0.1 * k) for k in range(8))])
    write_series(tmp_path / "s", VOXELS, AFFINE, slopes=list(slopes))
    data = read_scan(tmp_path / "s").data
    if (read_scan(tmp_path / "s").affine[:3, 2] @ AFFINE[:3, 2]) < 0:
        data = data[:, :, ::-1]
    np.testing.assert_allclose(data, VOXELS * slopes, rtol=1e-6)  # float32


def test_rounded_positions_are_even(tmp_path: Path) -> None:
    places = [[*(round(v, 2) for v in (LPS @ AFFINE)[:3] @ [0, 0, k, 1])] for k in range(9)]
    write_series(tmp_path / "s", VOXELS, AFFINE, own=[{"ImagePositionPatient": place} for place in places])
    assert np.abs(place_of_mark(read_scan(tmp_path / "s")) - AFFINE[:3] @ [*MARK, 1]).max() < 0.05 * 0.2


@pytest.mark.parametrize(("lost", "what"), [((4,), "1 slice is missing"), ((3, 4), "2 slices are missing")])
def test_a_missing_slice_is_refused_with_its_place(tmp_path: Path, lost: tuple[int, ...], what: str) -> None:
    files = write_series(tmp_path / "s", VOXELS, AFFINE)
    for k in lost:
        files[k].unlink()
    refused(tmp_path / "s", files[lost[0] - 1].name, files[lost[-1] + 1].name, what, "elsewhere 0.8 mm", "copy")


def test_uneven_steps_are_refused(tmp_path: Path) -> None:
    steps = np.array([0, 1, 2, 3, 4, 5.3, 6, 7, 8])
    places = [list(np.round((LPS @ AFFINE)[:3] @ [0, 0, k, 1], 6)) for k in steps]
    write_series(tmp_path / "s", VOXELS, AFFINE, own=[{"ImagePositionPatient": place} for place in places])
    refused(tmp_path / "s", "evenly spaced", "1.04 mm", "I0005.dcm", "I0006.dcm")


def test_slices_that_slide_sideways_are_refused(tmp_path: Path) -> None:
    sheared = AFFINE.copy()
    sheared[:3, 2] += 0.2 * AFFINE[:3, 0]
    write_series(tmp_path / "s", VOXELS, sheared)
    refused(tmp_path / "s", "one above the other")


def test_a_slice_stored_twice_is_refused(tmp_path: Path) -> None:
    files = write_series(tmp_path / "s", VOXELS, AFFINE)
    shutil.copy(files[3], tmp_path / "s" / "copy.dcm")
    refused(tmp_path / "s", "copy.dcm", "I0004.dcm", "remove one")
    change(tmp_path / "s" / "copy.dcm", SOPInstanceUID="1.2.3", InstanceNumber=99)
    refused(tmp_path / "s", "every place must have 1 slice", "copy.dcm", "I0004.dcm", "stored twice")


def test_one_of_several_echoes(tmp_path: Path) -> None:
    write_series(tmp_path / "s", VOXELS, AFFINE, tags={"EchoTime": 10})
    write_series(tmp_path / "s", VOXELS // 2, AFFINE, first=10, tags={"EchoTime": 60})
    refused(tmp_path / "s", "one echo, got 2 (10, 60 ms)", "--echo 1..2")
    refused(tmp_path / "s", "--echo must be 1..2, got 3", echo=3)
    assert [read_scan(tmp_path / "s", echo=n).data.max() for n in (1, 2)] == [9000, 4500]
    assert at_its_place(read_scan(tmp_path / "s", echo=2))


def test_one_of_several_volumes(tmp_path: Path) -> None:
    for k in range(3):
        write_series(tmp_path / "s", VOXELS // (k + 1), AFFINE, first=1 + 9 * k)
    refused(tmp_path / "s", "one volume, got 3", "--volume 0..2")
    refused(tmp_path / "s", "--volume must be 0..2, got 3", volume=3)
    assert [read_scan(tmp_path / "s", volume=n).data.max() for n in range(3)] == [9000, 4500, 3000]
    change(tmp_path / "s" / "I0019.dcm", InstanceNumber=1)
    refused(tmp_path / "s", "InstanceNumber each", "I0001.dcm", "I0019.dcm", volume=0)


def test_a_pilot_is_refused(tmp_path: Path) -> None:
    for k, axes in enumerate(([0, 1, 2], [1, 2, 0], [2, 0, 1])):
        turned = AFFINE.copy()
        turned[:3, :3] = AFFINE[:3, :3][:, axes]
        sizes = np.linalg.norm(turned[:3, :3], axis=0)
        turned[:3, :3] *= np.array([0.2, 0.25, 0.8]) / sizes
        write_series(tmp_path / "s", VOXELS[:, :, :3], turned, first=1 + 3 * k)
    refused(tmp_path / "s", "parallel, got 3 orientations", "I0004.dcm unlike I0001.dcm", "pilot")


def test_several_series_are_listed_and_one_is_chosen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "s"
    write_series(folder, VOXELS, AFFINE, series=3, first=1)
    write_series(folder, VOXELS // 2, AFFINE, series=12, first=30)
    (folder / "notes.txt").write_text("no DICOM")
    (folder / "DICOMDIR").write_bytes(b"")
    refused(folder, "one DICOM series, got 3 (T2w 3), 12 (T2w 12)", "--series NUMBER")
    refused(folder, "--series 4 must name one", series="4")
    assert read_scan(folder, series="12").data.max() == 4500
    assert read_scan(folder, series=find_series(folder)[0].uid).data.max() == 9000
    assert main(["info", str(folder)]) in (0, None)
    shown = capsys.readouterr().out
    assert "2 scans" in shown and "3  T2w 3  9 file(s)" in shown and "12  T2w 12  9 file(s)" in shown


def test_what_is_of_dicom_is_refused_elsewhere(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(VOXELS.astype(np.int16), AFFINE), tmp_path / "a.nii")
    for options in ({"series": "3"}, {"echo": 1}, {"position": "Head_Prone"}, {"subject": "biped"}):
        refused(tmp_path / "a.nii", f"--{next(iter(options))} is for DICOM", **options)


def test_single_files(tmp_path: Path) -> None:
    files = write_series(tmp_path / "s", VOXELS, AFFINE)
    refused(files[0], "several slices, got I0001.dcm alone", "folder of all slices")
    single = write_enhanced(tmp_path / "e" / "MRIm1", VOXELS, AFFINE)  # by content: without a suffix
    assert at_its_place(read_scan(single)) and at_its_place(read_scan(single.parent))


@pytest.mark.parametrize("frames", [range(9), range(8, -1, -1), [0, 5, 1, 6, 2, 7, 3, 8, 4]])
def test_frames_of_an_enhanced_file_are_ordered_by_positions(tmp_path: Path, frames: list[int]) -> None:
    slopes = 0.01 * (1 + np.arange(9))
    file = write_enhanced(tmp_path / "e.dcm", VOXELS, AFFINE, frames=list(frames), slopes=list(slopes[list(frames)]))
    scan = read_scan(file)
    data = scan.data if scan.affine[:3, 2] @ AFFINE[:3, 2] > 0 else scan.data[:, :, ::-1]
    np.testing.assert_allclose(data, VOXELS * slopes, rtol=1e-6)
    np.testing.assert_allclose(scan.spacing_mm, (0.2, 0.25, 0.8), atol=1e-6)
    assert scan.sidecar == {"SliceThickness": 0.6}


def test_an_enhanced_file_of_two_echoes(tmp_path: Path) -> None:
    both = np.concatenate([VOXELS, VOXELS // 2], axis=2)
    frames = [k for pair in zip(range(9), range(9)) for k in pair]  # slice 0 twice, slice 1 twice ...
    stored = both[:, :, [k + 9 * (at % 2) for at, k in enumerate(frames)]]
    file = write_enhanced(tmp_path / "e.dcm", stored, AFFINE, echoes=[(12.0, 36.0)[at % 2] for at in range(18)])
    _place(file, frames)
    refused(file, "got 2 (12, 36 ms)", "--echo 1..2")
    assert [read_scan(file, echo=n).data.max() for n in (1, 2)] == [9000, 4500]


def _place(file: Path, slices: list[int]) -> None:
    """Put the frames of an enhanced file at the places of slices."""
    import pydicom

    data = pydicom.dcmread(file)
    for group, k in zip(data.PerFrameFunctionalGroupsSequence, slices, strict=True):
        place = (LPS @ AFFINE)[:3] @ [0, 0, k, 1]
        group.PlanePositionSequence[0].ImagePositionPatient = [round(float(v), 8) for v in place]
    data.save_as(file)


@pytest.mark.parametrize(
    ("group", "tag"),
    [
        ("PlanePositionSequence", "ImagePositionPatient"),
        ("PlaneOrientationSequence", "ImageOrientationPatient"),
        ("PixelMeasuresSequence", "PixelSpacing"),
    ],
)
def test_an_enhanced_file_without_its_geometry_is_refused(tmp_path: Path, group: str, tag: str) -> None:
    file = write_enhanced(tmp_path / "e.dcm", VOXELS, AFFINE, without=[group])
    refused(file, str(file), f"({tag})", "frame 1 says none", "export it again")


def test_a_missing_or_a_repeated_frame_is_refused(tmp_path: Path) -> None:
    refused(write_enhanced(tmp_path / "a.dcm", VOXELS, AFFINE, frames=[0, 1, 2, 4, 5, 6, 7, 8]), "frame 3", "frame 4",
            "1 slice is missing")  # fmt: skip
    refused(write_enhanced(tmp_path / "b.dcm", VOXELS, AFFINE, frames=[0, 1, 2, 3, 3, 5, 6, 7, 8]), "must have 1 slice")
    refused(
        write_enhanced(tmp_path / "c.dcm", VOXELS, AFFINE, tags={"NumberOfFrames": 8}), "8 frames", "9 descriptions"
    )


@pytest.mark.parametrize("syntax", ["RLELossless", "JPEG2000Lossless", "JPEGLosslessSV1"])
@pytest.mark.parametrize("enhanced", [False, True])
def test_compressed_pixels(tmp_path: Path, syntax: str, enhanced: bool) -> None:
    slopes = [0.01 * (1 + k) for k in range(9)]
    if enhanced:
        files = [write_enhanced(tmp_path / "s" / "e.dcm", VOXELS, AFFINE, slopes=slopes)]
    else:
        files = write_series(tmp_path / "s", VOXELS, AFFINE, slopes=slopes)
    plain = read_scan(tmp_path / "s")
    for file in files:
        compress(file, syntax)
    packed = read_scan(tmp_path / "s")
    np.testing.assert_array_equal(packed.data, plain.data)
    np.testing.assert_array_equal(packed.affine, plain.affine)


def compress(file: Path, syntax: str) -> None:
    """Compress a file's pixels, a frame each: by pydicom where it can, else as GDCM does in SimpleITK."""
    import pydicom
    import SimpleITK
    from pydicom.encaps import encapsulate, generate_pixel_data_frame

    data = pydicom.dcmread(file)
    if syntax == "RLELossless":
        data.compress(pydicom.uid.RLELossless, generate_instance_uid=False)
        data.save_as(file)
        return
    frames = data.pixel_array.reshape(-1, data.Rows, data.Columns)
    packed = []
    for frame in frames:
        writer = SimpleITK.ImageFileWriter()
        writer.SetFileName(str(file.parent / "one.dcm"))
        writer.UseCompressionOn()
        writer.SetCompressor({"JPEG2000Lossless": "JPEG2000", "JPEGLosslessSV1": "JPEG"}[syntax])
        writer.Execute(SimpleITK.GetImageFromArray(frame[None]))
        one = pydicom.dcmread(file.parent / "one.dcm")
        assert one.file_meta.TransferSyntaxUID.is_compressed
        kind = one.file_meta.TransferSyntaxUID
        packed.append(next(generate_pixel_data_frame(one.PixelData, 1)))
        (file.parent / "one.dcm").unlink()
    data.file_meta.TransferSyntaxUID = kind
    data.PixelData = encapsulate(packed)
    data["PixelData"].is_undefined_length = True
    data.save_as(file)


def cut_pixels(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def cut_header(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:300])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def few_pixels(file: Path) -> None:
    change(file, PixelData=b"\0" * 100)


@pytest.mark.parametrize(
    ("damage", "pieces"),
    [
        (cut_pixels, ("copy it again",)),
        (cut_header, ("copy it again",)),
        (empty, ("must be a DICOM file", "copy it again")),
        (few_pixels, ("must be 960 bytes, got 100", "copy it again")),
        (lambda file: change(file, ImagePositionPatient=None), ("position", "says none")),
        (lambda file: change(file, PixelSpacing=[0, 0]), ("PixelSpacing must be above 0",)),
        (lambda file: change(file, ImageOrientationPatient=[1, 0, 0, 1, 0, 0]), ("orthogonal unit vectors",)),
        (lambda file: change(file, SamplesPerPixel=3), ("one number",)),
        (lambda file: change(file, ImageType=["ORIGINAL", "PRIMARY", "MOSAIC"]), ("mosaic", "dcm2niix")),
        (lambda file: change(file, Rows=10), ("one size", "24 x 10")),
    ],
)
@pytest.mark.parametrize("which", [0, 5])
def test_damaged_files_are_named(
    tmp_path: Path, damage: Callable[[Path], None], pieces: tuple[str, ...], which: int
) -> None:
    files = write_series(tmp_path / "s", VOXELS, AFFINE)
    damage(files[which])
    refused(tmp_path / "s", files[which].name, *pieces)


def test_a_folder_that_may_not_be_listed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(self: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", denied)
    refused(tmp_path, "must be readable, got 'Permission denied'", "rights")


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    refused(
        tmp_path, "must be a scanner's folder (DICOM or ParaVision), it holds no file of either", "name an image file"
    )


# [R, A, S] of a quadruped from DICOM's left, dorsal, cranial (PS3.3 C.7.6.2.1.1)
FOUR_LEGS = np.array([[-1.0, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1]])


def test_a_quadrupeds_axes(tmp_path: Path) -> None:
    write_series(tmp_path / "s", VOXELS, AFFINE, tags={"AnatomicalOrientationType": "QUADRUPED"})
    scan = read_scan(tmp_path / "s")
    assert at_its_place(scan, FOUR_LEGS @ LPS @ AFFINE)
    assert "rostral" in scan.warnings[0]
    assert at_its_place(read_scan(tmp_path / "s", subject="biped"))
    assert at_its_place(read_scan(tmp_path / "s", subject="quadruped"), FOUR_LEGS @ LPS @ AFFINE)


def test_an_animal_that_lay_otherwise_than_the_scanner_was_told(tmp_path: Path) -> None:
    write_series(tmp_path / "s", VOXELS, AFFINE, tags={"PatientPosition": "HFS"})
    # from its back onto its belly: half a turn about the bore, which is S of a biped
    assert at_its_place(read_scan(tmp_path / "s", position="Head_Prone"), np.diag([-1.0, -1, 1, 1]) @ AFFINE)
    # on its left side: its right side was up, which the scanner took for the belly, A
    turned = np.array([[0.0, 1, 0, 0], [-1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    assert at_its_place(read_scan(tmp_path / "s", position="Head_Left"), turned @ AFFINE)
    change(tmp_path / "s" / "I0003.dcm", PatientPosition="HFP")
    refused(tmp_path / "s", "--position", "got none", position="Head_Prone")


@pytest.mark.parametrize("quadruped", [False, True])
@pytest.mark.parametrize("enhanced", [False, True])
def test_what_dcm2niix_makes_lies_at_the_same_place(tmp_path: Path, quadruped: bool, enhanced: bool) -> None:
    found = importlib.util.find_spec("dcm2niix")
    if found is None or found.origin is None:
        pytest.skip("dcm2niix is not installed")
    tags = {"AnatomicalOrientationType": "QUADRUPED"} if quadruped else {}
    slopes = [0.5 + 0.125 * k for k in range(9)]
    if enhanced:
        write_enhanced(tmp_path / "s" / "e.dcm", VOXELS, AFFINE, slopes=slopes, tags=tags)
    else:
        write_series(tmp_path / "s", VOXELS, AFFINE, slopes=slopes, tags=tags)
    program = Path(found.origin).with_name("dcm2niix")
    command = [program, "-o", tmp_path, "-f", "made", "-z", "n", tmp_path / "s"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert (tmp_path / "made.nii").is_file(), run.stdout
    own, made = read_scan(tmp_path / "s"), read_scan(tmp_path / "made.nii")
    turn = FOUR_LEGS @ LPS if quadruped else np.eye(4)
    np.testing.assert_allclose(
        place_of_mark(own), (turn @ [*place_of_mark(made), 1])[:3], rtol=0, atol=1e-4
    )  # dcm2niix writes float32
    np.testing.assert_allclose(np.sort(own.data.ravel()), np.sort(made.data.ravel()), rtol=1e-5)
    assert [("Quadruped" in note) for note in made.warnings] == [True] * quadruped
    assert made.sidecar["SliceThickness"] == own.sidecar["SliceThickness"] == 0.6
