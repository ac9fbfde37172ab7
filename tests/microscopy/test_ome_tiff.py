import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tifffile

from bida.errors import ScanError, SettingsError
from bida.microscopy.stacks.axes import to_czyx, to_um
from bida.microscopy.stacks.stack import Stack, check_voxel_type, read_stack, write_stack

SPACING = (2.5, 0.65, 0.325)


def numbers(shape, dtype="uint16"):
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


@pytest.mark.parametrize("unit, factor", [("µm", 1), ("nm", 1000), ("mm", 1e-3), ("Å", 1e4), (None, 1)])
@pytest.mark.parametrize("axes", ["CZYX", "ZCYX", "TCZYX"])
def test_ome_sizes_in_any_unit_and_axes_in_any_order(tmp_path, unit, factor, axes):
    full = numbers((1, 2, 3, 4, 5))
    data = full.transpose(["TCZYX".index(axis) for axis in axes]) if "T" in axes else full[0]
    data = data.swapaxes(0, 1) if axes == "ZCYX" else data
    metadata = {"axes": axes, "Channel": {"Name": ["1e3", "b"]}}  # a name that looks like a number stays a name
    for axis, size in zip("ZYX", SPACING):
        metadata |= {f"PhysicalSize{axis}": size * factor} | ({f"PhysicalSize{axis}Unit": unit} if unit else {})
    tifffile.imwrite(tmp_path / "a.ome.tif", data, photometric="minisblack", metadata=metadata)
    found = read_stack(tmp_path / "a.ome.tif")
    np.testing.assert_array_equal(found.data, full[0])
    assert found.spacing_um == pytest.approx(SPACING, rel=1e-12) and found.channels == ("1e3", "b")


@pytest.mark.parametrize("unit", ["um", "micron", "\\u00B5m"])
def test_imagej_sizes(tmp_path, unit):
    tifffile.imwrite(
        tmp_path / "a.tif",
        numbers((3, 2, 4, 5)),
        imagej=True,
        resolution=(1 / 0.325, 1 / 0.65),
        metadata={"axes": "ZCYX", "spacing": 2.5, "unit": unit},
    )
    found = read_stack(tmp_path / "a.tif")
    assert found.spacing_um == pytest.approx(SPACING, rel=1e-5)  # the tag is a fraction of 32-bit integers
    np.testing.assert_array_equal(found.data, numbers((3, 2, 4, 5)).swapaxes(0, 1))
    assert found.channels == ("channel 0", "channel 1")


def test_imagej_names_units_of_y_and_z_that_are_others(tmp_path):
    """As ImageJ's properties write them: x in um, y in nm, z in mm."""
    data, path = numbers((3, 4, 5)), tmp_path / "a.tif"
    metadata = {"axes": "ZYX", "spacing": 0.0025, "unit": "um", "yunit": "nm", "zunit": "mm"}
    tifffile.imwrite(path, data, imagej=True, resolution=(1 / 0.325, 1 / 650), metadata=metadata)
    assert read_stack(path).spacing_um == pytest.approx(SPACING, rel=1e-5)


@pytest.mark.parametrize("suffix", [".btf", ".tf8", ".tf2", ".ome.btf"])
def test_files_beyond_four_gigabytes_have_names_of_their_own(tmp_path, suffix):
    written = Stack(numbers((2, 3, 4, 5)), SPACING, ("a", "b"))
    write_stack(tmp_path / f"a{suffix}", written)
    with tifffile.TiffFile(tmp_path / f"a{suffix}") as file:
        assert file.is_bigtiff and file.is_ome
    found = read_stack(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(found.data, written.data)
    assert (found.spacing_um, found.channels) == (SPACING, ("a", "b"))


PACKED = [("zstd", "uint16"), ("lzw", "uint16"), ("jpeg", "uint8"), ("jpegxr", "uint16"), ("jpeg2000", "uint16")]


@pytest.mark.parametrize("packing, dtype", PACKED)
def test_what_microscopes_pack_is_read_and_damage_is_one_line(tmp_path, packing, dtype):
    rows = np.add.outer(np.arange(3) * 20, np.add.outer(np.arange(48), 2 * np.arange(32))).astype(dtype)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, rows, compression=packing, tile=(16, 16), photometric="minisblack", metadata={"axes": "ZYX"})
    error = np.abs(read_stack(path, SPACING).data[0].astype(float) - rows)
    assert error.max() <= (4 if packing == "jpeg" else 0)
    whole = path.read_bytes()
    with tifffile.TiffFile(path) as file:
        first, length = file.pages[1].dataoffsets[0], file.pages[1].databytecounts[0]
    path.write_bytes(whole[:first] + b"\x55" * length + whole[first + length :])
    with pytest.raises(ScanError, match=r"a\.tif: .*; (look at the file|copy it again, with all its files)$") as told:
        read_stack(path, SPACING)
    assert "\n" not in str(told.value)


def test_a_decoder_that_is_missing_is_one_line(tmp_path, monkeypatch):
    def lost(*given, **more):
        raise ModuleNotFoundError("No module named 'compression'")  # tifffile, for Zstandard without imagecodecs

    tifffile.imwrite(tmp_path / "a.tif", numbers((3, 4, 5)), photometric="minisblack", metadata={"axes": "ZYX"})
    monkeypatch.setattr(tifffile.TiffPageSeries, "asarray", lost)
    with pytest.raises(ScanError, match=r"got 'No module named 'compression''; install imagecodecs$"):
        read_stack(tmp_path / "a.tif", SPACING)


def test_yes_and_no_are_one_and_zero(tmp_path):
    data = numbers((3, 4, 8)) % 3 == 0
    tifffile.imwrite(tmp_path / "a.tif", data, photometric="minisblack")
    found = read_stack(tmp_path / "a.tif", SPACING)
    assert found.data.dtype == np.uint8
    np.testing.assert_array_equal(found.data[0], data)


def test_imagej_pixels_are_no_length(tmp_path):
    metadata = {"axes": "ZYX", "spacing": 2.5, "unit": "pixel"}
    tifffile.imwrite(tmp_path / "a.tif", numbers((3, 4, 5)), imagej=True, metadata=metadata)
    with pytest.raises(SettingsError, match="the file says none"):
        read_stack(tmp_path / "a.tif")


def test_resolution_tags_know_nothing_of_z(tmp_path):
    data = numbers((3, 4, 5))
    tifffile.imwrite(
        tmp_path / "a.tif",
        data,
        resolution=(1e4, 5e3),
        resolutionunit="CENTIMETER",
        metadata=None,
        photometric="minisblack",
    )
    with pytest.raises(SettingsError, match=r"the file says y = 2, x = 1; give --voxel-um Z Y X"):
        read_stack(tmp_path / "a.tif")
    found = read_stack(tmp_path / "a.tif", SPACING)
    np.testing.assert_array_equal(found.data[0], data)  # pages are z


def planes(folder, names=("z10.tif", "z2.tif", "z1.tif"), shape=(4, 5)):
    folder.mkdir(exist_ok=True)
    for value, name in enumerate(names):
        tifffile.imwrite(folder / name, np.full(shape, value, "uint16"), metadata=None, photometric="minisblack")


def test_a_folder_or_glob_of_planes_in_natural_order(tmp_path):
    planes(tmp_path / "s")
    (tmp_path / "s" / "notes.txt").write_text("no plane")
    for path in (tmp_path / "s", f"{tmp_path}/s/z*.tif"):
        found = read_stack(path, SPACING)
        assert found.data.shape == (1, 3, 4, 5) and found.data[0, :, 0, 0].tolist() == [2, 1, 0]
    assert read_stack(f"{tmp_path}/s/z?.tif", SPACING).data.shape[1] == 2


def test_a_series_has_one_shape_and_single_planes(tmp_path):
    planes(tmp_path / "s")
    planes(tmp_path / "s", ["z3.tif"], (4, 6))
    with pytest.raises(ScanError, match=r"z3\.tif: the planes of a series must be alike"):
        read_stack(tmp_path / "s", SPACING)
    planes(tmp_path / "t", ["a.tif"], (3, 4, 5))
    with pytest.raises(ScanError, match="one plane, got 3"):
        read_stack(tmp_path / "t", SPACING)
    (tmp_path / "u").mkdir()
    with pytest.raises(ScanError, match="must hold TIFF files"):
        read_stack(tmp_path / "u")


def test_a_series_has_one_voxel_size(tmp_path):
    for name, size in (("a.tif", 1e4), ("b.tif", 2e4)):
        tifffile.imwrite(tmp_path / name, numbers((4, 5)), resolution=(size, size), resolutionunit="CENTIMETER")
    with pytest.raises(ScanError, match="one voxel size, they differ; give --voxel-um Z Y X"):
        read_stack(tmp_path)
    assert read_stack(tmp_path, SPACING).spacing_um == SPACING


def test_colours_and_images_of_several_shapes_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "rgb.tif", np.zeros((4, 5, 3), "uint8"), photometric="rgb")
    with pytest.raises(ScanError, match="3 colour samples"):
        read_stack(tmp_path / "rgb.tif", SPACING)
    with tifffile.TiffWriter(tmp_path / "mixed.tif") as file:
        for shape in ((4, 5), (6, 7)):
            file.write(numbers(shape), metadata=None)
    with pytest.raises(ScanError, match="one image of one shape, got 2"):
        read_stack(tmp_path / "mixed.tif", SPACING)


def test_planes_that_are_missing_are_no_zeros(tmp_path):
    """OME-XML that promises six planes over a file of three, as where a file of a set was lost."""
    tifffile.imwrite(tmp_path / "a.ome.tif", numbers((3, 4, 5)), metadata={"axes": "ZYX"})
    damaged = (tmp_path / "a.ome.tif").read_bytes()
    damaged = damaged.replace(b'SizeZ="3"', b'SizeZ="6"').replace(b'PlaneCount="3"', b'PlaneCount="6"')
    (tmp_path / "a.ome.tif").write_bytes(damaged)
    with pytest.raises(ScanError, match="a TIFF must be whole"):
        read_stack(tmp_path / "a.ome.tif", SPACING)


def test_times_are_refused_but_where_they_are_planes(tmp_path):
    tifffile.imwrite(tmp_path / "a.ome.tif", numbers((6, 3, 4, 5)), metadata={"axes": "TZYX"})
    with pytest.raises(ScanError, match="6 time points; save one of them, or give --frames-are-z"):
        read_stack(tmp_path / "a.ome.tif", SPACING)
    with pytest.raises(ScanError, match="time points and no planes, got axes 'TZYX'; leave --frames-are-z out"):
        read_stack(tmp_path / "a.ome.tif", SPACING, frames_are_z=True)
    metadata = {"axes": "TYX", "spacing": 2.5, "unit": "um", "finterval": 0.1}
    tifffile.imwrite(tmp_path / "b.tif", numbers((6, 4, 5)), imagej=True, resolution=(2, 2), metadata=metadata)
    found = read_stack(tmp_path / "b.tif", frames_are_z=True)
    np.testing.assert_array_equal(found.data[0], numbers((6, 4, 5)))
    assert found.spacing_um == (2.5, 0.5, 0.5)
    tifffile.imwrite(tmp_path / "c.ome.tif", numbers((3, 4, 5)), metadata={"axes": "ZYX"})
    with pytest.raises(ScanError, match="no planes, got axes 'ZYX'"):
        read_stack(tmp_path / "c.ome.tif", SPACING, frames_are_z=True)
    with pytest.raises(SettingsError, match="frames are z in a file of its own"):
        read_stack(tmp_path, SPACING, frames_are_z=True)


@pytest.mark.parametrize(
    "axes, shape, expected",
    [
        ("YX", (4, 5), (1, 1, 4, 5)),
        ("XYZ", (5, 4, 3), (1, 3, 4, 5)),
        ("QYX", (3, 4, 5), (1, 3, 4, 5)),
        ("TZCYXS", (1, 3, 2, 4, 5, 1), (2, 3, 4, 5)),
        ("CYX", (2, 4, 5), (2, 1, 4, 5)),
        ("ZYX", (3, 1, 1), (1, 3, 1, 1)),
    ],
)
def test_axes_find_their_place(axes, shape, expected):
    data = numbers(shape)
    found = to_czyx(data, axes, "a")
    assert found.shape == expected
    place = tuple((3, 2, 1, 4)["CZYX".index(name)] % size if name in "CZYX" else 0 for name, size in zip(axes, shape))
    where = dict(zip(axes, place))
    z = where.get("Z", where.get("Q", 0))
    assert found[where.get("C", 0), z, where["Y"], where["X"]] == data[place]


@pytest.mark.parametrize(
    "axes, shape", [("QQYX", (2, 3, 4, 5)), ("HZYX", (2, 3, 4, 5)), ("ZX", (3, 4)), ("ZYX", (0, 4, 5))]
)
def test_axes_without_a_place(axes, shape):
    with pytest.raises(ScanError):
        to_czyx(np.zeros(shape), axes, "a")


def test_units():
    assert to_um(0.65, "MICROMETER") == 0.65 and to_um(0.00065, "mm") == 0.65
    assert to_um(1, "pixel") is to_um(1, None) is to_um(0, "um") is to_um(np.nan, "um") is to_um(None, "um") is None


@pytest.mark.parametrize("content", [b"", b"II*", b"no tiff at all"])
def test_a_stump_of_a_file_is_one_line(tmp_path, content):
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(ScanError, match=r"a\.tif: must be a TIFF that can be read, got '.*'; look at the file$"):
        read_stack(tmp_path / "a.tif", (1, 1, 1))


@pytest.mark.parametrize("shape", [(3, 8, 9), (16, 8, 9)])
def test_three_axes_without_names_are_asked_for(tmp_path, shape):
    """tifffile calls the first of three axes channels where it is not told, whatever stands in it."""
    tifffile.imwrite(tmp_path / "a.tif", numbers(shape), imagej=True, metadata={"spacing": 2.5, "unit": "um"})
    with pytest.raises(ScanError, match=rf"planes or channels, got {shape[0]} channels of one plane, .*save it"):
        read_stack(tmp_path / "a.tif", SPACING)
    tifffile.imwrite(tmp_path / "b.tif", numbers(shape), imagej=True, metadata={"axes": "ZYX", "unit": "um"})
    assert read_stack(tmp_path / "b.tif", SPACING).data.shape == (1, *shape)
    (tmp_path / "series").mkdir()
    for name in ("z1.tif", "z2.tif"):
        tifffile.imwrite(tmp_path / "series" / name, numbers((2, 8, 9)), imagej=True)
    assert read_stack(tmp_path / "series", SPACING).data.shape == (2, 2, 8, 9)


JAR = Path(os.environ.get("IMAGEJ_JAR", "/usr/share/java/ij.jar"))  # where Debian's libij-java has it
SHOW = """
import ij.*; import ij.io.*; import ij.measure.*; import java.io.File;
public class Show { public static void main(String[] a) {
  ImagePlus p = new Opener().openTiff(new File(a[0]).getParent() + "/", new File(a[0]).getName());
  Calibration c = p.getCalibration(); p.setPosition(p.getNChannels(), 2, 1);
  System.out.println(c.pixelWidth + " " + c.pixelHeight + " " + c.pixelDepth + " " + c.getZUnit() + " "
    + p.getNChannels() + " " + p.getNSlices() + " " + p.getNFrames() + " " + p.getProcessor().getf(3, 1));
}}
"""


def written_for_imagej(tmp_path, name="a.tif"):
    data = numbers((2, 3, 4, 5)).astype(np.uint16)
    write_stack(tmp_path / name, Stack(data, (2.0, 0.65, 0.5), ("one", "two")))
    return tmp_path / name, data


def test_a_tif_tells_imagej_where_planes_and_channels_lie(tmp_path):
    path, data = written_for_imagej(tmp_path)
    with tifffile.TiffFile(path) as file:
        lines = dict(line.split("=", 1) for line in file.pages.first.description.splitlines())
        first = file.pages.first
        assert lines["ImageJ"] and float(lines["spacing"]) == 2 and lines["unit"] == "um"
        names = ("images", "channels", "slices", "hyperstack", "mode")
        assert [lines[name] for name in names] == ["6", "2", "3", "true", "composite"]
        assert first.tags["XResolution"].value[0] / first.tags["XResolution"].value[1] == pytest.approx(2, 1e-9)
        assert first.tags["YResolution"].value[0] / first.tags["YResolution"].value[1] == pytest.approx(1 / 0.65, 1e-9)
        # channels go fastest, whatever a description says: ImageJ has no other order
        assert np.array_equal(file.pages[1].asarray(), data[1, 0]) and np.array_equal(
            file.pages[2].asarray(), data[0, 1]
        )
    assert read_stack(path).channels == ("one", "two")


@pytest.mark.slow
@pytest.mark.skipif(not JAR.is_file() or shutil.which("java") is None, reason="needs Java and ImageJ (IMAGEJ_JAR)")
def test_imagej_itself_reads_it(tmp_path):
    path, data = written_for_imagej(tmp_path)
    (tmp_path / "Show.java").write_text(SHOW)
    words = ["java", "-Djava.awt.headless=true", "-cp", str(JAR), str(tmp_path / "Show.java")]
    shown = subprocess.run([*words, str(path)], capture_output=True, text=True, check=True).stdout.split()
    assert [float(size) for size in shown[:3]] == pytest.approx([0.5, 0.65, 2.0], 1e-9)
    assert shown[3] in ("µm", "um", "?m") and shown[4:7] == ["2", "3", "1"]
    assert float(shown[7]) == data[1, 1, 1, 3]


@pytest.mark.parametrize(
    ("shape", "dtype", "told"),
    [
        (
            (1, 3, 4, 5),
            "int16",
            "must be one of uint8, uint16, float32, got int16; name it .ome.tif",
        ),
        ((2, 1, 4, 5), "uint8", "ImageJ's TIFF of channels must hold planes, got 1; name it .ome.tif"),
    ],
)
def test_what_imagej_cannot_hold_is_refused(tmp_path, shape, dtype, told):
    with pytest.raises(ScanError, match=told):
        write_stack(tmp_path / "a.tif", Stack(numbers(shape).astype(dtype), (1, 1, 1), ("a", "b")[: shape[0]]))
    assert list(tmp_path.iterdir()) == []


def test_a_tif_beyond_4_gb_is_refused_before_any_work():
    check_voxel_type("a.tif", np.dtype("uint16"), 2**31 - 2**24)
    check_voxel_type("a.ome.tif", np.dtype("uint16"), 2**31)
    with pytest.raises(ScanError, match=r"must hold less than 4 GB, got 4\.3 GB; name it \.ome\.tif"):
        check_voxel_type("a.tif", np.dtype("uint16"), 2**31)


def test_labels_of_planes_are_no_names_of_channels(tmp_path):
    labels = [f"plane {i}" for i in range(3)]
    metadata = {"axes": "ZYX", "unit": "um", "spacing": 2.0, "Labels": labels}
    tifffile.imwrite(tmp_path / "a.tif", numbers((3, 4, 5)), imagej=True, resolution=(1, 1), metadata=metadata)
    assert read_stack(tmp_path / "a.tif").channels == ("channel 0",)
