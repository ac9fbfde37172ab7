"""Every format gives what the NIfTI of the same scan gives: voxels, places, and what its header says of the slices."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from conftest import MakeScan
from numpy.typing import NDArray
from scipy.io import netcdf_file

from bida.errors import ScanError
from bida.io.scan import read_affine, read_scan

Write = Callable[[Path, NDArray, NDArray], Path]


def mgh(path: Path, data: NDArray, affine: NDArray) -> Path:
    nib.save(nib.MGHImage(data, affine), path.with_suffix(".mgh"))
    return path.with_suffix(".mgh")


def mgz(path: Path, data: NDArray, affine: NDArray) -> Path:
    nib.save(nib.MGHImage(data, affine), path.with_suffix(".mgz"))
    return path.with_suffix(".mgz")


def minc1(path: Path, data: NDArray, affine: NDArray) -> Path:
    """Write netCDF as MINC 1: the axes of the file are z, y, x; starts lie along their own directions."""
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    directions = affine[:3, :3] / sizes
    starts = np.linalg.solve(directions, affine[:3, 3])
    with netcdf_file(path.with_suffix(".mnc"), "w") as file:
        for k, name in reversed(list(enumerate(("xspace", "yspace", "zspace")))):
            file.createDimension(name, data.shape[k])
            axis = file.createVariable(name, "i", ())
            axis.step, axis.start = float(sizes[k]), float(starts[k])
            axis.direction_cosines, axis.spacing = directions[:, k], b"regular__"
        image = file.createVariable("image", "f", ("zspace", "yspace", "xspace"))
        image[:] = data.transpose(2, 1, 0).astype(np.float32)
        image.signtype, image.valid_range = b"signed__", np.array([data.min(), data.max()], np.float64)
        for name, value in (("image-max", data.max()), ("image-min", data.min())):
            file.createVariable(name, "d", ()).data[...] = float(value)
    return path.with_suffix(".mnc")


def minc2(path: Path, data: NDArray, affine: NDArray) -> Path:
    """Write HDF5 as MINC 2."""
    h5py = pytest.importorskip("h5py")
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    directions = affine[:3, :3] / sizes
    starts = np.linalg.solve(directions, affine[:3, 3])
    with h5py.File(path.with_suffix(".mnc"), "w") as file:
        for k, name in enumerate(("xspace", "yspace", "zspace")):
            axis = file.create_dataset(f"minc-2.0/dimensions/{name}", data=0)
            axis.attrs.update(length=data.shape[k], step=sizes[k], start=starts[k], direction_cosines=directions[:, k])
            axis.attrs["spacing"] = np.bytes_("regular__")
        values = data.transpose(2, 1, 0).astype(np.float32)
        image = file.create_dataset("minc-2.0/image/0/image", data=values, compression="gzip", chunks=values.shape)
        image.attrs["dimorder"] = np.bytes_("zspace,yspace,xspace")
        image.attrs["valid_range"] = np.array([data.min(), data.max()], np.float64)
        file.create_dataset("minc-2.0/image/0/image-max", data=float(data.max()))
        file.create_dataset("minc-2.0/image/0/image-min", data=float(data.min()))
    return path.with_suffix(".mnc")


def afni(path: Path, data: NDArray, affine: NDArray) -> Path:
    """Write HEAD and BRIK: the header's matrix is in DICOM's LPS."""
    matrix = (np.diag([-1, -1, 1, 1]) @ affine)[:3].ravel()
    attributes = [
        ("integer", "DATASET_RANK", [3, 1]), ("integer", "DATASET_DIMENSIONS", [*data.shape, 0, 0]),
        ("integer", "BRICK_TYPES", [3]), ("float", "BRICK_FLOAT_FACS", [0.0]),
        ("string", "BYTEORDER_STRING", "'LSB_FIRST~"),
        ("integer", "SCENE_DATA", [0, 11, 1]), ("string", "TYPESTRING", "'3DIM_HEAD_ANAT~"),
        ("string", "TEMPLATE_SPACE", "'ORIG~"),
        ("integer", "ORIENT_SPECIFIC", [0, 3, 4]), ("float", "DELTA", np.linalg.norm(affine[:3, :3], axis=0)),
        ("float", "ORIGIN", [0.0, 0.0, 0.0]), ("float", "IJK_TO_DICOM_REAL", matrix),
    ]  # fmt: skip
    text = ""
    for kind, name, value in attributes:
        shown = value if isinstance(value, str) else " " + " ".join(f"{number:.9g}" for number in value)
        count = len(value) - 1 if isinstance(value, str) else len(value)
        text += f"\ntype = {kind}-attribute\nname = {name}\ncount = {count}\n{shown}\n"
    head = path.with_name("scan+orig.HEAD")
    head.write_text(text)
    path.with_name("scan+orig.BRIK").write_bytes(data.astype("<f4").ravel(order="F").tobytes())
    return head


def mif(layout: str, datatype: str = "Float32LE", scaling: str = "") -> Write:
    def write(path: Path, data: NDArray, affine: NDArray) -> Path:
        words = layout.split(",")
        order = np.argsort([int(word.lstrip("+-")) for word in words])
        stored = np.flip(data, [k for k, word in enumerate(words) if word.startswith("-")]).transpose(order)
        if scaling:
            offset, scale = map(float, scaling.split(","))
            stored = (stored.astype(np.float64) - offset) / scale
        sizes = np.linalg.norm(affine[:3, :3], axis=0)
        rows = np.hstack([affine[:3, :3] / sizes, affine[:3, 3:]])
        lines = [
            "mrtrix image", f"dim: {','.join(map(str, data.shape))}", f"vox: {','.join(map(str, sizes))}",
            f"layout: {layout}", f"datatype: {datatype}", *(f"transform: {','.join(map(str, row))}" for row in rows),
            "comments: a: b", *([f"scaling: {scaling}"] if scaling else []),
        ]  # fmt: skip
        kind = {"Float32LE": "<f4", "Float64BE": ">f8"}[datatype]
        voxels = stored.astype(kind).ravel(order="F").tobytes()
        head = "\n".join(lines)
        start = len(head) + 20
        content = f"{head}\nfile: . {start}\nEND\n".encode().ljust(start, b"\0") + voxels
        path.with_suffix(".mif").write_bytes(content)
        return path.with_suffix(".mif")

    return write


def mif_gz(path: Path, data: NDArray, affine: NDArray) -> Path:
    plain = mif("-0,+2,-1")(path, data, affine)
    plain.with_suffix(".mif.gz").write_bytes(gzip.compress(plain.read_bytes()))
    return plain.with_suffix(".mif.gz")


def itk(suffix: str, packed: bool = False) -> Write:
    def write(path: Path, data: NDArray, affine: NDArray) -> Path:
        import SimpleITK

        image = SimpleITK.GetImageFromArray(data.T)
        lps = np.diag([-1.0, -1, 1]) @ affine[:3]
        sizes = np.linalg.norm(lps[:, :3], axis=0)
        image.SetSpacing([float(size) for size in sizes])
        image.SetOrigin([float(x) for x in lps[:, 3]])
        image.SetDirection([float(x) for x in (lps[:, :3] / sizes).ravel()])
        SimpleITK.WriteImage(image, str(path.with_suffix(suffix)), packed)
        return path.with_suffix(suffix)

    return write


WRITERS: dict[str, Write] = {
    "mgh": mgh, "mgz": mgz, "minc1": minc1, "minc2": minc2, "afni": afni, "mif": mif("+0,+1,+2"),
    "mif turned": mif("-2,+0,-1"),
    "mif big": mif("+1,-2,-0", "Float64BE"), "mif scaled": mif("+0,-1,+2", scaling="20,0.5"), "mif.gz": mif_gz,
    "nrrd": itk(".nrrd"), "nrrd packed": itk(".nrrd", True), "mha packed": itk(".mha", True), "nhdr": itk(".nhdr"),
}  # fmt: skip


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
