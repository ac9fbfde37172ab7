"""Every format gives what the NIfTI of the same scan gives: voxels, places, and what its header says of the slices."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from conftest import MakeScan
from made_formats import WRITERS, itk
from numpy.typing import NDArray

from bida.errors import ScanError
from bida.io.scan import read_affine, read_scan


@pytest.fixture
def scan(make_scan: MakeScan) -> Path:
    rng = np.random.default_rng(0)
    return make_scan((14, 6, 11), codes="LSA", tilt_deg=8, values=lambda shape, _: rng.normal(100, 20, shape))


@pytest.mark.parametrize("kind", WRITERS)
def test_every_format_gives_what_nifti_gives(scan: Path, kind: str) -> None:
    expected = read_scan(scan)
    path = WRITERS[kind](scan.with_name("other"), expected.data, expected.affine)
    found = read_scan(path)
    # MINC keeps its axes as x, y, z in the file and nibabel gives them as z, y, x: the same voxels at the same places
    turn = nib.orientations.ornt_transform(*map(nib.orientations.io_orientation, (found.affine, expected.affine)))
    data = nib.orientations.apply_orientation(found.data, turn)
    affine = found.affine @ nib.orientations.inv_ornt_aff(turn, found.data.shape)
    np.testing.assert_allclose(data, expected.data, rtol=1e-6)
    np.testing.assert_allclose(affine, expected.affine, rtol=0, atol=1e-5)
    assert sorted(read_affine(path)[0]) == sorted(expected.data.shape)
    assert found.header is None


@pytest.mark.parametrize("kind", ["mgh", "mgz", "minc1", "minc2", "afni", "mif", "mif.gz", "nrrd packed", "mha packed"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.97])
def test_files_that_are_cut_are_one_line(scan: Path, kind: str, share: float) -> None:
    expected = read_scan(scan)
    path = WRITERS[kind](scan.with_name("other"), expected.data, expected.affine)
    voxels = path.with_suffix(".BRIK") if kind == "afni" else path
    content = voxels.read_bytes()
    voxels.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ScanError) as caught:
        read_scan(path)
    assert "\n" not in str(caught.value) and str(caught.value).startswith(str(path.parent))


@pytest.mark.parametrize("kind", ["mgz", "mif.gz", "nrrd packed", "mha packed"])
def test_one_flipped_bit_of_packed_voxels_is_found(scan: Path, kind: str) -> None:
    expected = read_scan(scan)
    path = WRITERS[kind](scan.with_name("other"), expected.data, expected.affine)
    whole, rng, found = path.read_bytes(), np.random.default_rng(1), 0
    places = rng.integers(len(whole) // 3, len(whole), 30)
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        try:
            read_scan(path)
        except ScanError as error:
            found += "copy it again" in str(error)
    assert found == len(places)


def test_detached_voxels_of_nrrd_and_metaimage_are_whole(scan: Path) -> None:
    expected = read_scan(scan)
    for suffix in (".nhdr", ".mhd"):
        path = itk(suffix, True)(scan.with_name("other"), expected.data, expected.affine)
        np.testing.assert_allclose(read_scan(path).data, expected.data, rtol=1e-6)
        voxels = next(file for file in path.parent.glob("other.*") if file.suffix in (".gz", ".zraw"))
        content = bytearray(voxels.read_bytes())
        content[len(content) // 2] ^= 4
        voxels.write_bytes(content)
        with pytest.raises(ScanError, match="copy it again"):
            read_scan(path)
        voxels.unlink()
        with pytest.raises(ScanError, match="must exist"):
            read_scan(path)


def nrrd(path: Path, data: NDArray, **fields: str) -> Path:
    given = {
        "type": "float", "dimension": "3", "space": "left-posterior-superior", "sizes": " ".join(map(str, data.shape)),
        "space directions": "(0.15,0,0) (0,0.15,0) (0,0,0.75)", "space origin": "(1,2,3)", "endian": "little",
        "encoding": "raw",
        **{name.replace("_", " "): text for name, text in fields.items()},
    }  # fmt: skip
    text = "".join(f"{name}: {value}\n" for name, value in given.items() if value)
    path.write_bytes(f"NRRD0005\n{text}\n".encode() + data.astype("<f4").ravel(order="F").tobytes())
    return path


VOXELS = np.random.default_rng(0).normal(size=(20, 18, 8))


def test_thicknesses_of_nrrd(tmp_path: Path) -> None:
    scan = read_scan(nrrd(tmp_path / "a.nrrd", VOXELS, thicknesses="nan nan 0.6"))
    assert (scan.sidecar, scan.warnings) == ({"SliceThickness": 0.6}, ())
    (tmp_path / "a.json").write_text('{"SliceThickness": 0.5}')
    assert read_scan(tmp_path / "a.nrrd").sidecar == {"SliceThickness": 0.5}


@pytest.mark.parametrize("unit, mm", [("mm", 1.0), ("um", 1e-3), ("cm", 10.0)])
def test_units_of_nrrd(tmp_path: Path, unit: str, mm: float) -> None:
    sizes = [size / mm for size in (0.15, 0.15, 0.75)]
    directions = f"({sizes[0]},0,0) (0,{sizes[1]},0) (0,0,{sizes[2]})"
    units = " ".join([f'"{unit}"'] * 3)
    origin = f"({1 / mm},0,0)"
    path = nrrd(tmp_path / "a.nrrd", VOXELS, space_directions=directions, space_units=units, space_origin=origin,
                thicknesses=f"nan nan {0.6 / mm}")  # fmt: skip
    scan = read_scan(path)
    np.testing.assert_allclose(scan.spacing_mm, (0.15, 0.15, 0.75), rtol=1e-9)
    assert scan.affine[0, 3] == pytest.approx(-1) and scan.sidecar["SliceThickness"] == pytest.approx(0.6)
    assert [*scan.warnings] == ([] if mm == 1 else [f"the header is in {unit}, converted to mm"])
    np.testing.assert_allclose(read_affine(path)[1], scan.affine)


def test_a_unit_that_is_unknown_is_refused(tmp_path: Path) -> None:
    path = nrrd(tmp_path / "a.nrrd", VOXELS, space_units='"furlong" "furlong" "furlong"')
    with pytest.raises(ScanError, match=r"a\.nrrd: lengths must be in one unit that is known .*furlong"):
        read_scan(path)


def test_a_missing_space_is_said(tmp_path: Path) -> None:
    path = nrrd(tmp_path / "a.nrrd", VOXELS, space="", space_directions="", space_origin="", spacings="0.15 0.15 0.75")
    scan = read_scan(path)
    np.testing.assert_allclose(scan.spacing_mm, (0.15, 0.15, 0.75))
    assert any("names no space" in note and "left and right are unknown" in note for note in scan.warnings)


@pytest.mark.parametrize("suffix", [".gipl", ".gipl.gz"])
def test_gipl_says_that_it_has_no_directions(scan: Path, suffix: str) -> None:
    expected = read_scan(scan)
    plain = itk(".gipl")(scan.with_name("other"), expected.data, np.diag([-0.15, -0.15, 0.75, 1]))
    path = plain if suffix == ".gipl" else plain.with_suffix(".gipl.gz")
    if suffix != ".gipl":
        path.write_bytes(gzip.compress(plain.read_bytes()))
    found = read_scan(path)
    np.testing.assert_allclose(found.data, expected.data, rtol=1e-6)
    np.testing.assert_allclose(found.spacing_mm, (0.15, 0.15, 0.75), rtol=1e-6)
    assert any("left and right are unknown" in note for note in found.warnings)


def test_analyze_says_its_doubt(make_scan: MakeScan, tmp_path: Path) -> None:
    scan = read_scan(make_scan(values=np.random.default_rng(0).integers(0, 2000, (20, 8, 18)), dtype=np.int16))
    nib.save(nib.AnalyzeImage(scan.data.astype(np.int16), scan.affine), tmp_path / "a.img")
    for name in ("a.img", "a.hdr"):
        found = read_scan(tmp_path / name)
        np.testing.assert_array_equal(found.data, scan.data)
        np.testing.assert_allclose(found.spacing_mm, scan.spacing_mm, rtol=1e-6)
        assert nib.aff2axcodes(found.affine) == ("L", "A", "S")
        assert any("does not say which side is left" in note for note in found.warnings)
        assert found.header is None
    header = bytearray((tmp_path / "a.hdr").read_bytes())
    header[84:88] = np.float32(0).tobytes()
    (tmp_path / "a.hdr").write_bytes(header)
    with pytest.raises(ScanError, match=r"voxel sizes must be above 0, got pixdim 0\.15 x 0 x 0\.15"):
        read_scan(tmp_path / "a.img")


def test_volumes_of_four_dimensions(scan: Path) -> None:
    expected = read_scan(scan)
    both = np.stack([expected.data, 2 * expected.data], axis=-1)
    path = scan.with_suffix(".mgz")
    nib.save(nib.MGHImage(both, expected.affine), path)
    with pytest.raises(ScanError, match=r"got 4 \(2 volumes\); give --volume 0\.\.1"):
        read_scan(path)
    np.testing.assert_array_equal(read_scan(path, 1).data, both[..., 1])
