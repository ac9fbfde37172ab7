"""ParaVision studies: every frame's place and slope, the thickness, one volume of several, and the animal's axes."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from bruker_study import QUADRUPED, VERSIONS, Scan, array, write_study
from dicom_files import oblique
from numpy.typing import NDArray

from bida.cli.parser import main
from bida.errors import ScanError
from bida.io.scan import Scan as ReadScan
from bida.io.scan import read_affine, read_scan

pytest.importorskip("brukerapi")

SHAPE = (24, 20, 9)
VOXELS = np.random.default_rng(0).integers(1, 3000, SHAPE)
MARK = (17, 4, 6)  # the one voxel that is brighter than all, with any slope below
VOXELS[MARK] = 30000
AFFINE = oblique(SHAPE)  # slices 0.8 mm apart, 0.6 thick
SLOPES = 1e-3 * (1 + 0.1 * np.arange(9))[:, None]
BIPED = np.diag([-1.0, -1.0, 1.0])


def place_of_mark(scan: ReadScan) -> NDArray[np.float64]:
    at = np.unravel_index(int(scan.data.argmax()), scan.data.shape)
    return scan.affine[:3] @ [*at, 1]


def at_its_place(scan: ReadScan, affine: NDArray[np.float64] = AFFINE) -> bool:
    return bool(np.abs(place_of_mark(scan) - affine[:3] @ [*MARK, 1]).max() < 1e-6)


def upright(scan: ReadScan, affine: NDArray[np.float64] = AFFINE) -> NDArray[np.float32]:
    """Return the voxels with slices as `affine` has them."""
    return scan.data if scan.affine[:3, 2] @ affine[:3, 2] > 0 else scan.data[:, :, ::-1]


def refused(path: Path, *pieces: str, **options: Any) -> None:
    with pytest.raises(ScanError) as caught:
        read_scan(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    for piece in (str(path), *pieces):
        assert piece in message, message


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("gap", [0.0, 0.2, -0.3])
def test_places_slopes_and_thickness_of_an_oblique_package(tmp_path: Path, version: str, gap: float) -> None:
    study = write_study(tmp_path / "s", {5: Scan(VOXELS, AFFINE, thickness=0.8 - gap, slopes=SLOPES)}, version)
    scan = read_scan(study / "5")
    assert at_its_place(scan)
    np.testing.assert_allclose(scan.spacing_mm, (0.2, 0.25, 0.8), rtol=1e-9)
    np.testing.assert_allclose(upright(scan), VOXELS * SLOPES[:, 0], rtol=1e-6)  # float32
    assert scan.sidecar == {"SliceThickness": pytest.approx(0.8 - gap)}
    assert [("no kind of subject" in note) for note in scan.warnings] == [True] * version.startswith("5")
    for path in (study / "5" / "pdata" / "1", study / "5" / "pdata" / "1" / "2dseq", study):
        again = read_scan(path)
        np.testing.assert_array_equal(again.data, scan.data)
        np.testing.assert_array_equal(again.affine, scan.affine)
    np.testing.assert_array_equal(read_affine(study / "5")[1], scan.affine)


@pytest.mark.parametrize("turned", [False, True])
def test_slices_may_run_either_way(tmp_path: Path, turned: bool) -> None:
    affine = AFFINE.copy()
    if turned:  # against the third row of VisuCoreOrientation
        affine[:3, 3] += 8 * affine[:3, 2]
        affine[:3, 2] *= -1
    study = write_study(tmp_path / "s", {1: Scan(VOXELS, affine, slopes=SLOPES)})
    scan = read_scan(study)
    assert at_its_place(scan, affine)
    np.testing.assert_allclose(upright(scan, affine), VOXELS * SLOPES[:, 0], rtol=1e-6)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("three", [False, True])
@pytest.mark.parametrize("gap", [0.0, 0.2])
def test_brukerapi_says_the_same(tmp_path: Path, version: str, three: bool, gap: float) -> None:
    from brukerapi.dataset import Dataset

    shown = Scan(VOXELS, AFFINE, 0.8 - gap, slopes=None if three else SLOPES, three=three)
    study = write_study(tmp_path / "s", {1: shown}, version)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        other = Dataset(study / "1" / "pdata" / "1" / "2dseq")
    affine = np.eye(4)
    affine[:3] = QUADRUPED @ other.affine[:3]
    scan = read_scan(study)
    np.testing.assert_allclose(place_of_mark(scan), affine[:3] @ [*MARK, 1], rtol=0, atol=1e-9)
    np.testing.assert_allclose(upright(scan, affine), np.squeeze(other.data), rtol=1e-6)


@pytest.mark.parametrize("gap", [0.0, 0.2])
def test_brkraw_says_the_same_where_it_is_right(tmp_path: Path, gap: float) -> None:
    """It adds the gap to the distance of centres, and has one slope for all slices."""
    pytest.importorskip("brkraw")
    study = write_study(tmp_path / "s", {1: Scan(VOXELS, AFFINE, 0.8 - gap)})
    command = [
        sys.executable,
        "-m",
        "brkraw.cli.main",
        "convert",
        str(study),
        "-s",
        "1",
        "-o",
        str(tmp_path / "a.nii.gz"),
    ]
    home = {**os.environ, "HOME": str(tmp_path)}  # it leaves files there
    run = subprocess.run(command, capture_output=True, text=True, env=home)
    assert (tmp_path / "a.nii.gz").is_file(), run.stderr
    made, scan = read_scan(tmp_path / "a.nii.gz"), read_scan(study)
    apart = np.linalg.norm(place_of_mark(made) - place_of_mark(scan))
    assert apart == pytest.approx(gap * MARK[2], abs=1e-4)


@pytest.mark.parametrize("slices_first", [False, True])
@pytest.mark.parametrize("group", ["FG_ECHO", "FG_DIFFUSION", "FG_CYCLE"])
def test_one_of_several_volumes(tmp_path: Path, slices_first: bool, group: str) -> None:
    stored = np.stack([VOXELS, VOXELS // 2, VOXELS // 3], axis=-1)
    slopes = SLOPES * [[1, 2, 4]]
    study = write_study(
        tmp_path / "s", {1: Scan(stored, AFFINE, slopes=slopes, group=group, slices_first=slices_first)}
    )
    refused(study / "1", f"one volume, got 3 (3 {group})", "--volume 0..2")
    refused(study / "1", "--volume must be 0..2, got 3", volume=3)
    for volume in range(3):
        scan = read_scan(study / "1", volume=volume)
        assert at_its_place(scan)
        np.testing.assert_allclose(upright(scan), stored[..., volume] * slopes[:, volume], rtol=1e-6)


@pytest.mark.parametrize("version", VERSIONS)
def test_one_of_several_slice_packages(tmp_path: Path, version: str) -> None:
    other = np.eye(4)
    other[:3, :3] = AFFINE[:3, [1, 2, 0]] / [0.25, 0.8, 0.2] * [0.2, 0.25, 1.2]
    other[:3, 3] = 1, 2, 3
    stored = np.concatenate([VOXELS, VOXELS[:, :, 3:8]], axis=2)
    study = write_study(tmp_path / "s", {1: Scan(stored, AFFINE, packages=[(other, 9, 5)])}, version)
    refused(study, "one volume, got 2 (2 slice packages)", "--volume 0..1")
    assert at_its_place(read_scan(study, volume=0))
    second = read_scan(study, volume=1)
    assert second.data.shape == (24, 20, 5)
    np.testing.assert_allclose(second.spacing_mm, (0.2, 0.25, 1.2), rtol=1e-9)
    place = other[:3] @ [MARK[0], MARK[1], MARK[2] - 3, 1]
    np.testing.assert_allclose(place_of_mark(second), place, rtol=0, atol=1e-9)


def test_three_dimensions(tmp_path: Path) -> None:
    stored = np.stack([VOXELS, VOXELS // 2], axis=-1)
    study = write_study(tmp_path / "s", {1: Scan(stored, AFFINE, three=True)})
    scan = read_scan(study, volume=1)
    assert at_its_place(scan) and scan.data.max() == 15000
    assert scan.sidecar == {}  # VisuCoreFrameThickness is the slab's
    assert scan.dtype == np.dtype("<i2")  # no slope: integers stay
    # stored from the other end: the position is that of the first voxel of the last slice
    back = {"VisuCoreDiskSliceOrder": "disk_reverse_slice_order"}
    study = write_study(tmp_path / "t", {1: Scan(VOXELS[:, :, ::-1], AFFINE, three=True, change=back)})
    assert at_its_place(read_scan(study))


@pytest.mark.parametrize(("kind", "big"), [("i2", True), ("i4", False), ("i4", True), ("f4", False)])
def test_every_word_type(tmp_path: Path, kind: str, big: bool) -> None:
    study = write_study(tmp_path / "s", {1: Scan(VOXELS, AFFINE, kind=kind, big=big, offsets=0 * SLOPES + 7)})
    np.testing.assert_array_equal(upright(read_scan(study)), VOXELS + 7)


def test_frames_that_are_stored_with_their_axes_exchanged(tmp_path: Path) -> None:
    """As ParaVision writes them: VisuCoreSize before the exchange, the frame's bytes after it."""
    stored = np.stack([VOXELS[:, :, k].T.reshape(SHAPE[:2], order="F") for k in range(9)], axis=-1)
    study = write_study(tmp_path / "s", {1: Scan(stored, AFFINE, change={"VisuCoreTransposition": array([1] * 9)})})
    scan = read_scan(study)
    assert at_its_place(scan)
    np.testing.assert_array_equal(upright(scan), VOXELS)


def test_short_arrays_of_paravision_360(tmp_path: Path) -> None:
    change = {"VisuCoreDataSlope": "( 9 )\n@9*(0.5)", "VisuCoreDataOffs": "( 9 )\n@9*(1)"}
    study = write_study(tmp_path / "s", {1: Scan(VOXELS, AFFINE, change=change)}, "360.3.6")
    np.testing.assert_array_equal(upright(read_scan(study)), (VOXELS * 0.5 + 1).astype(np.float32))
    change = {"VisuCoreDataSlope": "( 9 )\n@999999999*(0.5)"}
    study = write_study(tmp_path / "t", {1: Scan(VOXELS, AFFINE, change=change)}, "360.3.6")
    refused(study, "visu_pars", "more than a million values")


def test_a_distance_that_disagrees_is_noted(tmp_path: Path) -> None:
    change = {"VisuCoreSlicePacksSliceDist": array([0.6])}
    scan = read_scan(write_study(tmp_path / "s", {1: Scan(VOXELS, AFFINE, change=change)}))
    assert at_its_place(scan)
    assert "VisuCoreSlicePacksSliceDist is 0.6 mm, but slices lie 0.8 mm apart" in scan.warnings[0]


# the mark in ParaVision's axes (left, back, head) is at these of an animal as told; how it lay indeed turns it
@pytest.mark.parametrize(
    ("told", "lay", "turn"),
    [
        ("Head_Prone", None, np.eye(3)),
        ("Head_Supine", None, np.eye(3)),
        ("Head_Supine", "Head_Prone", np.diag([-1.0, 1, -1])),  # half a turn about the bore, which is A
        ("Foot_Prone", "Head_Prone", np.diag([-1.0, -1, 1])),  # half a turn about the vertical, which is S
        ("Head_Supine", "Head_Supine", np.eye(3)),
    ],
)
def test_how_the_animal_lay(tmp_path: Path, told: str, lay: str | None, turn: NDArray[np.float64]) -> None:
    study = write_study(tmp_path / "s", {1: Scan(VOXELS, AFFINE)}, position=told)
    scan = read_scan(study, position=lay)
    np.testing.assert_allclose(place_of_mark(scan), turn @ AFFINE[:3] @ [*MARK, 1], rtol=0, atol=1e-9)
    assert [("--position" in note) for note in scan.warnings] == [True] * (lay is None and told != "Head_Prone")


@pytest.mark.parametrize("told", ["Head_Prone", "Head_Supine", "Head_Left", "Foot_Right"])
def test_pvraw_turns_an_animal_alike(tmp_path: Path, told: str) -> None:
    pvraw = pytest.importorskip("pvraw.app.tonifti")
    study = write_study(tmp_path / "s", {1: Scan(VOXELS, AFFINE)}, position=told)
    for lay in ("Head_Prone", "Head_Right", "Foot_Left"):
        made = pvraw.StudyToNifti(study).get_nifti1image(1, 1, subj_position=lay)
        scan = read_scan(study, position=lay)
        np.testing.assert_allclose(place_of_mark(scan), made.affine[:3] @ [*MARK, 1], rtol=0, atol=1e-5)


def test_whose_axes_they_are(tmp_path: Path) -> None:
    for name, subject in (("four", "Quadruped"), ("two", "Biped"), ("thing", "Phantom")):
        write_study(tmp_path / name, {1: Scan(VOXELS, AFFINE)}, subject=subject)
    upright_man = np.eye(4)
    upright_man[:3] = BIPED @ np.linalg.inv(QUADRUPED) @ AFFINE[:3]
    assert at_its_place(read_scan(tmp_path / "four")) and at_its_place(read_scan(tmp_path / "thing"))
    assert at_its_place(read_scan(tmp_path / "two"), upright_man)
    assert at_its_place(read_scan(tmp_path / "four", subject="biped"), upright_man)
    assert at_its_place(read_scan(tmp_path / "two", subject="quadruped"))
    assert "the study says biped" in read_scan(tmp_path / "two").warnings[0]
    assert "the study says Phantom kind of subject" in read_scan(tmp_path / "thing").warnings[0]
    assert read_scan(tmp_path / "four").warnings == ()


def test_a_study_is_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    two = np.stack([VOXELS, VOXELS], axis=-1)
    study = write_study(
        tmp_path / "s",
        {2: Scan(VOXELS, AFFINE, name="T2w"), 10: Scan(two, AFFINE, name="MSME"), 11: Scan(VOXELS, AFFINE, three=True)},
    )
    (study / "11" / "pdata" / "1" / "visu_pars").write_text("damaged")
    (study / "12").mkdir()  # a scan that was never reconstructed
    (study / "AdjResult").mkdir()
    assert main(["info", str(study)]) in (0, None)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split("  ")[1:] == ["2/pdata/1", "T2w", "24 x 20 x 9 voxels of 0.2 x 0.25 x 0.8 mm, 0.6 mm thick"]
    assert lines[2].endswith("MSME  24 x 20 x 9 voxels of 0.2 x 0.25 x 0.8 mm, 0.6 mm thick, 2 volumes")
    assert "11/pdata/1  cannot be read" in lines[3] and len(lines) == 4
    refused(study, "one scan must be named, got 2, 10, 11 in it", f"give {study / '2'}")


def test_without_brukerapi_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = write_study(tmp_path / "s", {1: Scan(VOXELS, AFFINE), 2: Scan(VOXELS, AFFINE)})
    monkeypatch.setitem(sys.modules, "brukerapi.jcampdx", None)
    refused(study / "1", "brukerapi", "pip install 'bida-mri[bruker]'")
    assert main(["info", str(study)]) == 2


def test_what_is_of_dicom_is_refused(tmp_path: Path) -> None:
    study = write_study(tmp_path / "s", {1: Scan(VOXELS, AFFINE)})
    refused(study, "--series is for DICOM", "name the scan's folder", series="1")
    refused(study, "--echo is for DICOM", "--volume", echo=1)


def with_visu(**change: str | None) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        write_study(folder / "s", {1: Scan(VOXELS, AFFINE, change=change)})

    return damage


def cut_pixels(folder: Path) -> None:
    with_visu()(folder)
    file = folder / "s" / "1" / "pdata" / "1" / "2dseq"
    file.write_bytes(file.read_bytes()[:-2])


def lost(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        with_visu()(folder)
        (folder / "s" / "1" / "pdata" / "1" / name).unlink()

    return damage


def uneven(folder: Path) -> None:
    at = [k + 0.4 * (k == 4) for k in range(9)]
    places = [np.linalg.inv(QUADRUPED) @ AFFINE[:3] @ [0, 0, k, 1] for k in at]
    with_visu(VisuCorePosition=array(places, 9, 3))(folder)


@pytest.mark.parametrize(
    ("damage", "pieces"),
    [
        (cut_pixels, ("2dseq", "must be 8640 bytes, got 8638", "copy")),
        (lost("visu_pars"), ("visu_pars: a reconstruction must have its parameters, got none",)),
        (lost("2dseq"), ("reconstructed",)),
        (uneven, ("evenly spaced", "frame 4")),
        (with_visu(VisuCoreUnits="( 2, 65 )\n<ppm> <mm>"), ("VisuCoreUnits must be mm, got mm, ppm",)),
        (with_visu(VisuCoreDimDesc="( 2 )\nspectroscopic spatial"), ("spatial", "spectroscopic")),
        (with_visu(VisuCoreDim="1"), ("2 or 3 spatial dimensions, got 1",)),
        (with_visu(VisuCoreWordType="_64BIT"), ("_64BIT",)),
        (with_visu(VisuCoreFrameCount="8"), ("must order the 8 frames",)),
        (with_visu(VisuCoreSize="( 2 )\n24 0"), ("VisuCoreSize must be whole numbers from 1 on",)),
        (with_visu(VisuCoreSize="( 2 )\n99999999999 99999999999"), ("bytes, got 8640",)),
        (with_visu(VisuCoreExtent="( 2 )\n4.8 nan"), ("VisuCoreExtent must be 2 finite",)),
        (with_visu(VisuCorePosition=None), ("VisuCorePosition must be 3 finite number(s) each, got none",)),
        (with_visu(VisuCorePosition="( 2, 3 )\n0 0 0 0 0 1"), ("VisuCorePosition must have a value for each of 9",)),
        (with_visu(VisuCoreOrientation="( 1, 9 )\n1 0 0 1 0 0 0 0 1"), ("orthogonal unit vectors",)),
        (with_visu(VisuFGOrderDesc="( 1 )\n(9, <FG_COMPLEX>, <>, 0, 2)"), ("real and imaginary",)),
        (with_visu(VisuCoreFrameType="PHASE_IMAGE"), ("MAGNITUDE_IMAGE, got PHASE_IMAGE",)),
        (with_visu(VisuFGOrderDesc="( 1 )\n(x, <FG_SLICE>"), ("VisuFGOrderDesc",)),
        (with_visu(VisuCoreSlicePacksSlices="( 1 )\n(0, 8)"), ("share out 9 slices",)),
    ],
)
def test_what_is_no_volume_is_refused(tmp_path: Path, damage: Callable[[Path], None], pieces: tuple[str, ...]) -> None:
    damage(tmp_path)
    refused(tmp_path / "s" / "1", *pieces)


def test_a_thick_slice_scan_of_a_study_is_planned(tmp_path: Path) -> None:
    from bida.physics.geometry import SliceGeometry
    from bida.transforms.load import LoadScan
    from bida.transforms.orient import OrientRAS
    from bida.transforms.plan import PlanScan

    straight = np.diag([0.2, 0.0, 0.0, 1.0])
    straight[2, 1], straight[1, 2] = -0.25, 0.8  # slices along A
    study = write_study(tmp_path / "s", {1: Scan(VOXELS, straight, slopes=SLOPES)})
    image = PlanScan()(OrientRAS().forward(LoadScan()(study / "1"))[0])
    geometry = SliceGeometry.from_json(image.meta["slice_geometry"])
    assert (geometry.axis, geometry.slices, image.meta["thickness_from"]) == (1, 9, "sidecar")
    assert (geometry.thickness_mm, geometry.slice_spacing_mm) == (pytest.approx(0.6), pytest.approx(0.8))
    assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
