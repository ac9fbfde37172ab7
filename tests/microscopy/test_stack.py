import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import ome_zarr.writer
import pytest
import tifffile
import zarr

from bida.errors import ScanError, SettingsError
from bida.microscopy.stacks.paths import check_stack_output
from bida.microscopy.stacks.stack import Stack, read_stack, write_stack

SPACING = (2.5, 0.65, 0.325)  # z, y, x, um
ENDINGS = ["ome.tif", "tif", "tiff", "ome.zarr", "zarr", "nii", "nii.gz"]


def numbers(shape=(2, 3, 4, 5), dtype="uint16"):
    """No two voxels alike, so that no permutation of axes goes unseen."""
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


def stack(shape=(2, 3, 4, 5), dtype="uint16"):
    return Stack(numbers(shape, dtype), SPACING, ("lipid & protein", "DNA")[: shape[0]], "made")


def same(first, second):
    np.testing.assert_array_equal(first.data, second.data)
    assert first.data.dtype == second.data.dtype
    assert (first.spacing_um, first.channels) == (second.spacing_um, second.channels)


ALL = [((2, 3, 4, 5), "uint16"), ((1, 3, 4, 5), "uint8"), ((2, 3, 4, 5), "float32"), ((1, 1, 4, 5), "uint16")]
NOT_IMAGEJ = [((2, 1, 4, 5), "float32"), ((1, 1, 4, 5), "int16")]


@pytest.mark.parametrize(
    "shape, dtype, ending",
    [
        (*kind, ending)
        for ending in ENDINGS
        for kind in [*ALL, *([] if ending in ("tif", "tiff") else NOT_IMAGEJ)]
        if kind[0][1] > 1 or ending not in ("tif", "tiff")
    ],
)
def test_what_is_written_is_read_back(tmp_path, shape, dtype, ending):
    one, path = stack(shape, dtype), tmp_path / f"stack.{ending}"
    write_stack(path, one)
    same(read_stack(path), one)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("ending", ["ome.tif", "zarr", "nii.gz"])
def test_big_endian_numbers_and_views_survive(tmp_path, ending):
    data = numbers(dtype=">u2")[:, :, ::-1]
    write_stack(tmp_path / f"a.{ending}", Stack(data, SPACING, ("a", "b")))
    np.testing.assert_array_equal(read_stack(tmp_path / f"a.{ending}").data, data)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_three_channels_are_no_colours(tmp_path, channels):
    one = Stack(numbers((channels, 2, 4, 5), "uint8"), SPACING, tuple("abcd"[:channels]))
    write_stack(tmp_path / "a.ome.tif", one)
    same(read_stack(tmp_path / "a.ome.tif"), one)


def test_options_go_before_the_file(tmp_path):
    write_stack(tmp_path / "a.ome.tif", stack())
    found = read_stack(tmp_path / "a.ome.tif", (3, 2, 1), ["x", "y"])
    assert (found.spacing_um, found.channels) == ((3.0, 2.0, 1.0), ("x", "y"))


@pytest.mark.parametrize("ending", ["ome.tif", "zarr", "nii.gz"])
def test_nothing_is_replaced_unless_asked(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    write_stack(path, stack())
    other = replace(stack(), data=numbers() + 7)
    with pytest.raises(ScanError, match="output must not exist"):
        write_stack(path, other)
    same(read_stack(path), stack())
    write_stack(path, other, overwrite=True)
    same(read_stack(path), other)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("name", ["mouse.1.ome.zarr", "mouse.1.zarr"])
def test_a_zarr_image_has_its_own_name(tmp_path, name):
    write_stack(tmp_path / name, stack())
    attributes = json.loads((tmp_path / name / "zarr.json").read_text())["attributes"]
    assert attributes["ome"]["multiscales"][0]["name"] == "mouse.1"


def test_a_folder_that_is_no_zarr_is_never_replaced(tmp_path):
    (tmp_path / "thesis.zarr").mkdir()
    (tmp_path / "thesis.zarr" / "text").write_text("years of work")
    with pytest.raises(ScanError, match="only a zarr group may be replaced"):
        write_stack(tmp_path / "thesis.zarr", stack(), overwrite=True)
    assert (tmp_path / "thesis.zarr" / "text").read_text() == "years of work"


@pytest.mark.parametrize("ending", ["ome.tif", "zarr", "nii.gz"])
def test_a_write_that_fails_leaves_what_was_there(tmp_path, ending, monkeypatch):
    path = tmp_path / f"a.{ending}"
    write_stack(path, stack())

    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tifffile, "imwrite", full)
    monkeypatch.setattr(nib, "save", full)
    monkeypatch.setattr(ome_zarr.writer, "write_image", full)
    with pytest.raises(ScanError, match="No space left"):
        write_stack(path, replace(stack(), data=numbers() + 7), overwrite=True)
    same(read_stack(path), stack())
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_other_endings_are_refused(tmp_path):
    with pytest.raises(ScanError, match="must end in"):
        check_stack_output(tmp_path / "a.png")
    with pytest.raises(ScanError, match="folder must exist"):
        check_stack_output(tmp_path / "none" / "a.zarr")


@pytest.mark.parametrize("ending, dtype", [("ome.tif", "float16"), ("ome.tif", "int64"), ("nii", "float16")])
def test_types_that_a_format_lacks_are_refused(tmp_path, ending, dtype):
    with pytest.raises(ScanError, match=dtype):
        write_stack(tmp_path / f"a.{ending}", stack(dtype=dtype))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "data, message",
    [
        (numbers().astype(complex), "integers or real numbers, got complex128"),
        (numbers() > 3, "got bool"),
        (np.full((2, 3, 4, 5), np.nan), "must be finite"),
        (np.full((2, 3, 4, 5), -np.inf, "float32"), "must be finite"),
        (np.zeros((2, 0, 4, 5)), "hold voxels"),
        (np.zeros((3, 4, 5)), r"must be \[C, Z, Y, X\]"),
        (np.zeros((1, 3, 4, 5)), "every channel needs a name"),
    ],
)
def test_what_is_no_stack(data, message):
    with pytest.raises(ScanError, match=message):
        Stack(data, SPACING, ("a", "b"))


@pytest.mark.parametrize("spacing", [(1, 1), (1, 1, 0), (1, 1, -2), (1, 1, np.nan)])
def test_voxel_sizes_are_three_positive_numbers(spacing):
    with pytest.raises(SettingsError, match="three positive numbers"):
        Stack(numbers(), spacing, ("a", "b"))


@pytest.mark.parametrize("ending", ["tif", "nii", "nii.gz"])
def test_damaged_files_are_one_line(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    path.write_bytes(b"no image at all")
    with pytest.raises(ScanError, match="can be read"):
        read_stack(path)
    write_stack(path, stack((2, 9, 40, 50)), overwrite=True)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ScanError):
        read_stack(path)


def test_what_is_not_there(tmp_path):
    for name in ("none.tif", "none.zarr", "none"):
        with pytest.raises(ScanError, match="nothing is there"):
            read_stack(tmp_path / name)
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(ScanError, match="must end in"):
        read_stack(tmp_path / "a.png")


# NIfTI


@pytest.mark.parametrize("unit, factor", [("mm", 1000.0), ("micron", 1.0), ("meter", 1e6)])
def test_the_third_axis_of_nifti_is_z(tmp_path, unit, factor):
    data = numbers((5, 4, 3))  # x, y, z
    image = nib.Nifti1Image(data, np.diag([0.325 / factor, 0.65 / factor, 2.5 / factor, 1]))
    image.header.set_xyzt_units(unit)
    nib.save(image, tmp_path / "a.nii")
    found = read_stack(tmp_path / "a.nii")
    assert found.spacing_um == SPACING and found.data.shape == (1, 3, 4, 5)
    assert found.data[0, 2, 1, 3] == data[3, 1, 2]


def test_nifti_without_a_unit_needs_the_option(tmp_path):
    image = nib.Nifti1Image(numbers((5, 4, 3)), np.eye(4))
    image.header.set_xyzt_units("unknown")
    nib.save(image, tmp_path / "a.nii")
    with pytest.raises(SettingsError, match="the file says none; give --voxel-um Z Y X"):
        read_stack(tmp_path / "a.nii")
    assert read_stack(tmp_path / "a.nii", SPACING).spacing_um == SPACING


def test_scaled_nifti_voxels_are_scaled(tmp_path):
    image = nib.Nifti1Image(numbers((5, 4, 3), "int16"), np.eye(4))
    image.header.set_slope_inter(0.5, 3)
    image.header.set_xyzt_units("mm")
    nib.save(image, tmp_path / "a.nii")
    found = read_stack(tmp_path / "a.nii").data
    np.testing.assert_array_equal(found[0].T, nib.load(tmp_path / "a.nii").get_fdata())


def test_nifti_is_right_for_other_software(tmp_path):
    write_stack(tmp_path / "a.nii", stack())
    image = nib.load(tmp_path / "a.nii")
    assert image.shape == (5, 4, 3, 1, 2) and image.header.get_xyzt_units()[0] == "mm"
    np.testing.assert_allclose(nib.affines.voxel_sizes(image.affine), np.array(SPACING[::-1]) / 1000, rtol=1e-6)


def test_a_run_of_times_is_refused(tmp_path):
    image = nib.Nifti1Image(np.zeros((5, 4, 3, 6), "uint8"), np.eye(4))
    image.header.set_xyzt_units("mm")
    nib.save(image, tmp_path / "a.nii")
    with pytest.raises(ScanError, match="got 6 time points"):
        read_stack(tmp_path / "a.nii")


# OME-Zarr


def ngff(path, version, *, axes="tczyx", scale=(1, 1, 2500, 650, 325), unit="nanometer", image_scale=None):
    """Write two levels by hand, as the specification lays them out."""
    group = zarr.open_group(path, mode="w", zarr_format=2 if version == "0.4" else 3)
    full = numbers((1, 2, 3, 4, 5)[-len(axes) :])
    for name, level in (("0", full), ("1", full[..., ::2, ::2])):
        group.create_array(name, shape=level.shape, dtype=level.dtype)[...] = level
    kinds = {"t": "time", "c": "channel"}
    described = [{"name": a, "type": kinds.get(a, "space"), **({"unit": unit} if a in "zyx" else {})} for a in axes]
    levels = [
        {"path": str(i), "coordinateTransformations": [{"type": "scale", "scale": list(scale)}]} for i in range(2)
    ]
    image = {"axes": described, "datasets": levels}
    if image_scale:
        image["coordinateTransformations"] = [{"type": "scale", "scale": image_scale}]
    channels = {"channels": [{"label": "lipid & protein"}, {"label": "DNA"}]}
    if version == "0.4":
        group.attrs.update({"multiscales": [{"version": version, **image}], "omero": channels})
    else:
        group.attrs["ome"] = {"version": version, "multiscales": [image], "omero": channels}
    return full


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ngff_is_read_at_its_highest_resolution(tmp_path, version):
    full = ngff(tmp_path / "a.zarr", version)
    found = read_stack(tmp_path / "a.zarr")
    np.testing.assert_array_equal(found.data, full[0])
    assert (found.spacing_um, found.channels) == (SPACING, ("lipid & protein", "DNA"))


def test_the_scale_of_the_whole_image_counts(tmp_path):
    ngff(tmp_path / "a.zarr", "0.5", image_scale=[1, 1, 2, 2, 2])
    assert read_stack(tmp_path / "a.zarr").spacing_um == (5.0, 1.3, 0.65)


def test_ngff_without_units_needs_the_option(tmp_path):
    ngff(tmp_path / "a.zarr", "0.4", unit="pixel")
    with pytest.raises(SettingsError, match="--voxel-um"):
        read_stack(tmp_path / "a.zarr")


def test_what_is_no_ngff_image(tmp_path):
    zarr.open_group(tmp_path / "plate.zarr", mode="w").attrs["bioformats2raw.layout"] = 3
    with pytest.raises(ScanError, match="name the image in it"):
        read_stack(tmp_path / "plate.zarr")
    ngff(tmp_path / "new.zarr", "0.9")
    with pytest.raises(ScanError, match=r"got 0\.9"):
        read_stack(tmp_path / "new.zarr")
    ngff(tmp_path / "torn.zarr", "0.5")
    (tmp_path / "torn.zarr" / "0" / "zarr.json").unlink()
    with pytest.raises(ScanError, match=r"torn\.zarr: must be a whole OME-Zarr"):
        read_stack(tmp_path / "torn.zarr")


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_field_of_view_of_a_plate_is_named_by_its_path(tmp_path, version):
    plate = zarr.open_group(tmp_path / "plate.zarr", mode="w", zarr_format=2 if version == "0.4" else 3)
    well = plate.create_group("A/1")
    full = ngff(tmp_path / "plate.zarr" / "A" / "1" / "0", version)
    described = {"plate": {"version": version, "wells": [{"path": "A/1", "rowIndex": 0, "columnIndex": 0}]}}
    plate.attrs.update(described if version == "0.4" else {"ome": {"version": version, **described}})
    images = {"well": {"version": version, "images": [{"path": "0"}]}}
    well.attrs.update(images if version == "0.4" else {"ome": {"version": version, **images}})
    np.testing.assert_array_equal(read_stack(tmp_path / "plate.zarr" / "A" / "1" / "0").data, full[0])
    with pytest.raises(ScanError, match=r"a plate of 1 well\(s\); name a field of view in it, as .*plate\.zarr/A/1/0"):
        read_stack(tmp_path / "plate.zarr")
    with pytest.raises(ScanError, match=r"a well of 1 field\(s\) of view; name one, as .*A/1/0"):
        read_stack(tmp_path / "plate.zarr" / "A" / "1")


def sharded(path):
    """Write an image of four chunks in one shard file."""
    group, full = zarr.open_group(path, mode="w", zarr_format=3), numbers((1, 4, 8, 8))
    array = group.create_array("0", shape=full.shape, dtype=full.dtype, chunks=(1, 4, 4, 4), shards=(1, 4, 8, 8))
    array[...] = full
    scale = [{"type": "scale", "scale": [1.0, *SPACING]}]
    axes = [{"name": "c", "type": "channel"}, *({"name": a, "type": "space", "unit": "micrometer"} for a in "zyx")]
    image = {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]}
    group.attrs["ome"] = {"version": "0.5", "multiscales": [image]}
    return full


def test_shards_are_read_and_a_truncated_one_is_one_line(tmp_path):
    full = sharded(tmp_path / "a.zarr")
    found = read_stack(tmp_path / "a.zarr")
    np.testing.assert_array_equal(found.data, full)
    assert found.spacing_um == SPACING
    (shard,) = (file for file in (tmp_path / "a.zarr" / "0").rglob("*") if file.is_file() and file.name != "zarr.json")
    shard.write_bytes(shard.read_bytes()[:-20])
    with pytest.raises(ScanError, match=r"a\.zarr: must be a whole OME-Zarr") as told:
        read_stack(tmp_path / "a.zarr")
    assert "\n" not in str(told.value)


def test_a_truncated_chunk_is_one_line(tmp_path):
    write_stack(tmp_path / "a.zarr", stack())
    chunk = next(file for file in (tmp_path / "a.zarr").rglob("c/*/*/*/*") if file.is_file())
    chunk.write_bytes(chunk.read_bytes()[: chunk.stat().st_size // 2])
    with pytest.raises(ScanError, match=r"a\.zarr: must be a whole OME-Zarr") as told:
        read_stack(tmp_path / "a.zarr")
    assert "\n" not in str(told.value)


def test_levels_of_a_pyramid_are_means_and_say_their_sizes(tmp_path):
    one = Stack(np.random.default_rng(0).integers(0, 60000, (2, 3, 130, 70)).astype(np.uint16), SPACING, ("a", "b"))
    write_stack(tmp_path / "a.zarr", one)
    group = zarr.open_group(tmp_path / "a.zarr", mode="r")
    levels = group.attrs["ome"]["multiscales"][0]["datasets"]
    shapes = [group[level["path"]].shape for level in levels]
    assert shapes == [(2, 3, 130, 70), (2, 3, 65, 35), (2, 3, 32, 35)]
    means = one.data.reshape(2, 3, 65, 2, 35, 2).mean(axis=(3, 5))
    assert np.abs(group[levels[1]["path"]][...] - means).max() <= 1  # of whole numbers
    z, y, x = SPACING
    assert levels[1]["coordinateTransformations"][0]["scale"] == [1.0, z, 2 * y, 2 * x]


def test_what_is_written_is_read_by_another_library(tmp_path):
    ngff_zarr = pytest.importorskip("ngff_zarr")
    one = Stack(numbers((2, 3, 70, 80)), SPACING, ("a", "b"))
    write_stack(tmp_path / "a.ome.zarr", one)
    (image, *coarser) = ngff_zarr.from_ngff_zarr(str(tmp_path / "a.ome.zarr")).images
    np.testing.assert_array_equal(np.asarray(image.data), one.data)
    assert image.dims == ("c", "z", "y", "x") and [image.scale[a] for a in "zyx"] == list(SPACING) and coarser


def test_what_is_written_follows_the_specification(tmp_path):
    write_stack(tmp_path / "a.zarr", stack())
    described = json.loads((tmp_path / "a.zarr" / "zarr.json").read_text())["attributes"]["ome"]
    assert described["version"] == "0.5"
    (image,) = described["multiscales"]
    assert [axis["name"] for axis in image["axes"]] == list("czyx")
    scale, shift = image["datasets"][0]["coordinateTransformations"]
    assert scale == {"type": "scale", "scale": [1.0, *SPACING]} and not any(shift["translation"])
    assert all(channel.keys() >= {"color", "window"} for channel in described["omero"]["channels"])


@pytest.mark.parametrize(
    "name, shape, spacing",
    [
        ("xbrain-microct/cube1", (1, 200, 200, 200), (0.65, 0.65, 0.65)),
        ("cellfinder-2ch/crop_x000-255", (2, 30, 384, 256), (5, 2, 2)),
    ],
)
def test_real_stacks(shared_data, name, shape, spacing):
    path = shared_data / "microscopy" / f"{name}.ome.tif"
    if not path.is_file():
        pytest.skip(f"{path} is absent")
    found = read_stack(path)
    assert found.data.shape == shape and found.spacing_um == spacing
    pages = tifffile.imread(path).reshape(shape[1], shape[0], *shape[2:])  # ZCYX on disk
    np.testing.assert_array_equal(found.data[:, 7], pages[7])
