"""Every volume of a scan of several, whatever wrote it: which there are, what chooses each, what each is, and when."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from bruker_study import Scan, write_study
from dicom_files import oblique, write_enhanced, write_series
from numpy.typing import NDArray

from bida.errors import ScanError
from bida.io.scan import read_scan, volumes_of
from bida.io.volumes import Volumes

SHAPE, COUNT = (10, 8, 5), 3
AFFINE = oblique(SHAPE)
VOXELS = np.random.default_rng(0).integers(1, 900, (*SHAPE, COUNT))
# of each of the slices of three volumes, the number that its file has: volume after volume, or all volumes of a slice
ORDERS = {
    "volumes": lambda k, v: 1 + k + SHAPE[2] * v,
    "slices": lambda k, v: 1 + v + COUNT * k,
}


def series(folder: Path, own: Any, order: str = "volumes", first: str = "volumes") -> Path:
    """Write a series of three volumes; `own` gives the tags of a slice of one, `first` which files come first."""
    for volume in range(COUNT):
        named = [ORDERS[first](k, volume) for k in range(SHAPE[2])]
        numbers = [ORDERS[order](k, volume) for k in range(SHAPE[2])]
        tags = [{**own(k, volume), "InstanceNumber": number} for k, number in enumerate(numbers)]
        write_series(folder, VOXELS[..., volume], AFFINE, first=0, order=named, own=tags)
    return folder


def every(path: Path, **own: Any) -> tuple[NDArray[np.float32], Volumes]:
    """Return [X, Y, Z, T] of all volumes, each read as a run reads it, with slices as `AFFINE` has them."""
    found = volumes_of(path, **own)
    scans = [read_scan(path, **{**own, **one.choice}) for one in found.parts]
    for scan in scans:
        np.testing.assert_allclose(scan.affine, scans[0].affine, atol=1e-6)
    data = np.stack([scan.data for scan in scans], axis=-1)
    return (data if scans[0].affine[:3, 2] @ AFFINE[:3, 2] > 0 else data[:, :, ::-1]), found


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("first", ORDERS)
def test_times_of_a_dicom_series_are_in_order_whatever_its_numbers(tmp_path: Path, order: str, first: str) -> None:
    def own(k: int, v: int) -> dict[str, Any]:
        return {"TemporalPositionIdentifier": v + 1, "AcquisitionTime": f"2359{58 + 2.5 * v:09.6f}"}

    def past_midnight(k: int, v: int) -> dict[str, Any]:
        time = ["235958.100000", "000000.600000", "000003.100000"][v]
        return {"TemporalPositionIdentifier": v + 1, "AcquisitionTime": time}

    data, found = every(series(tmp_path / "s", past_midnight, order, first))
    np.testing.assert_array_equal(data, VOXELS)
    assert found.step_s == pytest.approx(2.5)
    header = found.header()
    assert header is not None and header["pixdim"][4] == 2.5 and header.get_xyzt_units() == ("mm", "sec")


def test_a_temporal_position_counts_before_a_number(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    numbers = [[3, 1, 2], [1, 2, 3], [2, 3, 1], [1, 3, 2], [3, 2, 1]]  # of each slice's volumes, in no order
    for volume in range(COUNT):
        tags = [
            {
                "TemporalPositionIdentifier": volume + 1,
                "TemporalResolution": 1500,
                "InstanceNumber": 3 * k + rank[volume],
            }
            for k, rank in enumerate(numbers)
        ]
        order = [3 * k + ranks[volume] for k, ranks in enumerate(numbers)]
        write_series(folder, VOXELS[..., volume], AFFINE, first=0, order=order, own=tags)
    data, found = every(folder)
    np.testing.assert_array_equal(data, VOXELS)
    assert found.step_s == 1.5


@pytest.mark.parametrize("order", ORDERS)
def test_echoes_of_a_dicom_series_are_volumes_the_shortest_first(tmp_path: Path, order: str) -> None:
    path = series(tmp_path / "s", lambda k, v: {"EchoTime": [30, 10, 20][v]}, order)
    data, found = every(path)
    np.testing.assert_array_equal(data, VOXELS[..., [1, 2, 0]])
    assert [one.name for one in found.parts] == ["echo 1 (10 ms)", "echo 2 (20 ms)", "echo 3 (30 ms)"]
    assert found.step_s is None and found.header() is None
    np.testing.assert_array_equal(every(path, echo=3)[0], VOXELS[..., [0]])


def test_repeated_echoes_are_volumes_echo_after_echo(tmp_path: Path) -> None:
    for v, (time, moment) in enumerate([(20, 1), (10, 2), (10, 1)]):
        own = [{"EchoTime": time, "TemporalPositionIdentifier": moment}] * SHAPE[2]
        write_series(tmp_path / "s", VOXELS[..., v], AFFINE, first=1 + v * SHAPE[2], own=own)
    own = [{"EchoTime": 20, "TemporalPositionIdentifier": 2}] * SHAPE[2]
    write_series(tmp_path / "s", 3 * VOXELS[..., 0], AFFINE, first=1 + 3 * SHAPE[2], own=own)
    data, found = every(tmp_path / "s")
    np.testing.assert_array_equal(data[..., :2], VOXELS[..., [2, 1]])
    np.testing.assert_array_equal(data[..., 2:], np.stack([VOXELS[..., 0], 3 * VOXELS[..., 0]], axis=-1))
    assert [(one.echo, one.number) for one in found.parts] == [(1, 0), (1, 1), (2, 0), (2, 1)]


@pytest.mark.parametrize("order", ORDERS)
def test_b_values_of_a_dicom_series_are_volumes(tmp_path: Path, order: str) -> None:
    data, found = every(series(tmp_path / "s", lambda k, v: {"DiffusionBValue": 500.0 * v}, order))
    np.testing.assert_array_equal(data, VOXELS)
    assert [one.name for one in found.parts] == ["b 0", "b 500", "b 1000"]
    assert found.step_s is None


def test_volumes_that_mix_b_values_are_one_line(tmp_path: Path) -> None:
    path = series(tmp_path / "s", lambda k, v: {"DiffusionBValue": 500.0 * ((v + (k == 2)) % COUNT)})
    for read in (volumes_of, lambda one: read_scan(one, 1)):
        with pytest.raises(ScanError, match=r"slices of volume 0, .* must have one b-value, got 0, 500 in .*; copy"):
            read(path)


@pytest.mark.parametrize(
    ("tags", "told"),
    [
        (lambda k, v: {"AcquisitionTime": ["100000", "100002", "100009"][v]}, None),  # not evenly
        (lambda k, v: {"AcquisitionTime": "100000"}, None),
        (lambda k, v: {"AcquisitionTime": "noon"}, None),
        (lambda k, v: {}, None),
        (lambda k, v: {"AcquisitionTime": f"1000{2 * v:02d}.{k}"}, 2.0),
        (lambda k, v: {"AcquisitionDateTime": f"202401012359{50 + 3 * v}.5+0100"}, 3.0),
        (lambda k, v: {"TemporalResolution": 700}, 0.7),
    ],
)
def test_the_step_of_time_is_told_or_left_open(tmp_path: Path, tags: Any, told: float | None) -> None:
    found = volumes_of(series(tmp_path / "s", tags))
    assert found.step_s == (told if told is None else pytest.approx(told))


@pytest.mark.parametrize("order", ["volumes", "slices"])
@pytest.mark.parametrize("kind", ["echoes", "b", "times"])
def test_frames_of_an_enhanced_file_are_volumes(tmp_path: Path, order: str, kind: str) -> None:
    import pydicom
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence as Items

    at = [(k, v) for v in range(COUNT) for k in range(SHAPE[2])]
    at = at if order == "volumes" else sorted(at)
    flat = VOXELS.reshape(*SHAPE[:2], -1)  # slice k of volume v is frame COUNT * k + v
    file = write_enhanced(tmp_path / "e.dcm", flat, AFFINE, frames=[COUNT * k + v for k, v in at])
    data = pydicom.dcmread(file)
    lps = np.diag([-1.0, -1, 1, 1]) @ AFFINE
    for item, (k, v) in zip(data.PerFrameFunctionalGroupsSequence, at, strict=True):
        item.PlanePositionSequence[0].ImagePositionPatient = [float(x) for x in lps[:3] @ [0, 0, k, 1]]
        own = Dataset()
        if kind == "echoes":
            own.EffectiveEchoTime, item.MREchoSequence = 10.0 * (v + 1), Items([own])
        elif kind == "b":
            own.DiffusionBValue, item.MRDiffusionSequence = 500.0 * v, Items([own])
        else:
            item.FrameContentSequence[0].TemporalPositionIndex = v + 1
            item.FrameContentSequence[0].FrameAcquisitionDateTime = f"2024010110000{2 * v}.0"
    data.save_as(file)
    read, found = every(file)
    np.testing.assert_array_equal(read, VOXELS)
    names = {"echoes": ["echo 1 (10 ms)", "echo 2 (20 ms)", "echo 3 (30 ms)"], "b": ["b 0", "b 500", "b 1000"]}
    assert [one.name for one in found.parts] == names.get(kind, [""] * COUNT)
    assert found.step_s == (2.0 if kind == "times" else None)


@pytest.mark.parametrize("slices_first", [True, False])
@pytest.mark.parametrize("group", ["FG_ECHO", "FG_CYCLE", "FG_DIFFUSION"])
def test_frame_groups_of_a_paravision_scan_are_volumes(tmp_path: Path, group: str, slices_first: bool) -> None:
    pytest.importorskip("brukerapi")
    change = {"VisuAcqScanTime": "6000"}
    scan = Scan(VOXELS, AFFINE, group=group, slices_first=slices_first, change=change)
    data, found = every(write_study(tmp_path / "s", {5: scan}) / "5")
    np.testing.assert_array_equal(data, VOXELS)
    assert [one.name for one in found.parts] == [f"{group} {number}" for number in (1, 2, 3)]
    assert found.step_s == (2.0 if group == "FG_CYCLE" else None)


def test_slice_packages_are_no_one_file(tmp_path: Path) -> None:
    pytest.importorskip("brukerapi")
    turned = AFFINE @ np.array([[0.0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
    scan = Scan(np.repeat(VOXELS[..., 0], 2, axis=2), AFFINE, packages=[(turned, 5, 5)])
    path = write_study(tmp_path / "s", {5: scan}) / "5"
    with pytest.raises(ScanError, match=r"one grid to be one file, got volume 1 \(slice package 2\) elsewhere"):
        volumes_of(path)


def test_other_formats_of_four_axes_have_their_volumes(tmp_path: Path) -> None:
    import SimpleITK

    affine = np.diag([0.2, 0.25, 0.8, 1])
    nib.save(nib.Nifti1Image(VOXELS.astype(np.int16), affine), tmp_path / "a.nii.gz")
    nib.save(nib.MGHImage(VOXELS.astype(np.int32), affine), tmp_path / "a.mgz")
    image = SimpleITK.GetImageFromArray(VOXELS.astype(np.int16).T, isVector=False)
    image.SetSpacing((0.2, 0.25, 0.8, 1.0))
    SimpleITK.WriteImage(image, str(tmp_path / "a.nrrd"))
    for name in ("a.nii.gz", "a.mgz", "a.nrrd"):
        found = volumes_of(tmp_path / name)
        assert len(found.parts) == COUNT, name
        for number, one in enumerate(found.parts):
            np.testing.assert_array_equal(read_scan(tmp_path / name, **one.choice).data, VOXELS[..., number])


@pytest.mark.parametrize("count", [3, 10])
def test_directions_as_vectors_are_one_line(tmp_path: Path, count: int) -> None:
    import SimpleITK

    image = SimpleITK.GetImageFromArray(np.ones((5, 8, 10, count), np.int32), isVector=True)
    SimpleITK.WriteImage(image, str(tmp_path / "dwi.nrrd"))
    for read in (volumes_of, read_scan):
        with pytest.raises(ScanError, match=r"dwi\.nrrd: a voxel must hold one number, got several"):
            read(tmp_path / "dwi.nrrd")


def test_a_file_that_changed_is_read_again(tmp_path: Path) -> None:
    path = series(tmp_path / "s", lambda k, v: {"TemporalResolution": 700})
    assert volumes_of(path).step_s == 0.7
    series(path, lambda k, v: {"TemporalResolution": 1700})
    assert volumes_of(path).step_s == 1.7
    for file in sorted(path.iterdir())[2 * SHAPE[2] :]:
        file.unlink()
    assert len(volumes_of(path).parts) == 2
