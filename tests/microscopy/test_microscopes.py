"""Files of microscopes: CZI, LIF and ND2 at bioio's border, IMS as Imaris writes it."""

import sys
from types import ModuleType, SimpleNamespace

import dask.array as da
import h5py
import numpy as np
import pytest

from bida.errors import ScanError, SettingsError
from bida.microscopy.stacks.paths import check_stack
from bida.microscopy.stacks.stack import open_stack, read_stack

SPACING = (2.0, 0.5, 0.25)
DATA = np.arange(2 * 3 * 4 * 5, dtype=np.uint16).reshape(2, 3, 4, 5)


def imaris(path, unit="um", data=DATA, times=1):
    """Write an IMS file: attributes are arrays of single characters, data are padded to whole chunks."""
    c, z, y, x = data.shape
    with h5py.File(path, "w") as file:
        about = file.create_group("DataSetInfo/Image").attrs
        words = {"X": x, "Y": y, "Z": z, "Unit": unit}
        for axis, (size, count) in enumerate(zip(SPACING[::-1], (x, y, z))):
            words |= {f"ExtMin{axis}": 10.0, f"ExtMax{axis}": 10.0 + size * count}
        for name, value in words.items():
            about[name] = np.array(list(str(value)), dtype="S1")
        for channel in range(c):
            file.create_group(f"DataSetInfo/Channel {channel}").attrs["Name"] = np.array(list(f"dye {channel}"), "S1")
            for time in range(times):
                padded = np.pad(data[channel], ((0, 1), (0, 4), (0, 3)))
                name = f"DataSet/ResolutionLevel 0/TimePoint {time}/Channel {channel}/Data"
                file.create_dataset(name, data=padded, chunks=(2, 3, 4), compression="gzip")


@pytest.mark.parametrize("unit, factor", [("um", 1.0), ("mm", 1000.0)])
def test_imaris_is_read_without_its_padding(tmp_path, unit, factor):
    imaris(tmp_path / "a.ims", unit)
    found = read_stack(tmp_path / "a.ims")
    np.testing.assert_array_equal(found.data, DATA)
    assert found.spacing_um == tuple(factor * size for size in SPACING) and found.channels == ("dye 0", "dye 1")
    lazy = open_stack(tmp_path / "a.ims")
    assert isinstance(lazy.data, da.Array)
    np.testing.assert_array_equal(lazy.data[:, 1:], DATA[:, 1:])


def test_channels_beyond_nine_stay_in_order(tmp_path):
    data = np.arange(12, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 3, 4), np.uint8)
    imaris(tmp_path / "a.ims", data=data)
    assert read_stack(tmp_path / "a.ims").data[:, 0, 0, 0].tolist() == list(range(12))


def test_what_is_no_stack_of_imaris_is_one_line(tmp_path):
    imaris(tmp_path / "times.ims", times=2)
    with pytest.raises(ScanError, match=r"times\.ims: a stack must be one volume of channels, got 2 time points"):
        read_stack(tmp_path / "times.ims")
    whole = (tmp_path / "times.ims").read_bytes()
    (tmp_path / "torn.ims").write_bytes(whole[: len(whole) // 2])
    with h5py.File(tmp_path / "other.ims", "w") as file:
        file.create_dataset("something", data=DATA)
    for name in ("torn", "other"):
        with pytest.raises(ScanError, match=rf"{name}\.ims: must be a whole file") as told:
            read_stack(tmp_path / f"{name}.ims")
        assert "\n" not in str(told.value)
    with pytest.raises(ScanError, match="nothing is there"):
        read_stack(tmp_path / "none.ims")


class FakeImage:
    """What bioio tells of a file of two scenes."""

    scenes = ("overview", "tissue")
    channel_names = ("GFP", "DAPI")
    dims = SimpleNamespace(order="TCZYX")

    def __init__(self, path, reader):
        self.scene, self.reader = None, reader
        self.physical_pixel_sizes = SPACING
        if path.read_bytes() == b"torn":
            raise RuntimeError("no\nsuch segment")

    def set_scene(self, scene):
        self.scene = scene

    @property
    def dask_data(self):
        return da.from_array(DATA[None] + self.scene, chunks=(1, 1, 1, 4, 5))


@pytest.fixture
def bioio(monkeypatch):
    for name in ("bioio", "bioio_czi", "bioio_lif", "bioio_nd2"):
        module = ModuleType(name)
        module.BioImage, module.Reader = FakeImage, object
        monkeypatch.setitem(sys.modules, name, module)


@pytest.mark.parametrize("name", ["a.czi", "a.lif", "A.ND2"])
def test_a_scene_is_named_by_its_number(tmp_path, bioio, name):
    path = tmp_path / name
    path.write_bytes(b"")
    found = read_stack(f"{path}[1]")
    np.testing.assert_array_equal(found.data, DATA + 1)
    assert (found.spacing_um, found.channels) == (SPACING, ("GFP", "DAPI"))
    check_stack(f"{path}[1][0:2]")
    with pytest.raises(SettingsError, match=r"one of its 2 images must be named, got none; .* of 0 overview, 1 tissue"):
        read_stack(path)
    with pytest.raises(SettingsError, match="must be one of 2, counted from 0, got 2"):
        read_stack(f"{path}[2]")


def test_a_damaged_file_is_one_line(tmp_path, bioio):
    (tmp_path / "a.czi").write_bytes(b"torn")
    with pytest.raises(ScanError, match=r"a\.czi: must be a whole file that can be read, got 'RuntimeError no such"):
        read_stack(tmp_path / "a.czi")


@pytest.mark.parametrize("name, extra", [("a.czi", "czi"), ("a.lif", "microscopes"), ("a.nd2", "microscopes")])
def test_a_reader_that_is_not_installed_is_named(tmp_path, monkeypatch, name, extra):
    monkeypatch.setitem(sys.modules, "bioio", None)
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(ScanError, match=rf"not installed; pip install 'bida-mri\[{extra}\]'"):
        read_stack(tmp_path / name)


def test_czi_that_zeiss_library_wrote(tmp_path):
    czi = pytest.importorskip("pylibCZIrw.czi")
    pytest.importorskip("bioio_czi")
    with czi.create_czi(str(tmp_path / "a.czi")) as file:
        for c, z in np.ndindex(2, 3):
            file.write(data=np.ascontiguousarray(DATA[c, z, ..., None]), plane={"C": c, "Z": z, "T": 0})
        z, y, x = (size * 1e-6 for size in SPACING)
        file.write_metadata("a", channel_names={0: "GFP", 1: "DAPI"}, scale_x=x, scale_y=y, scale_z=z)
    found = read_stack(tmp_path / "a.czi")
    np.testing.assert_array_equal(found.data, DATA)
    assert (found.spacing_um, found.channels) == (SPACING, ("GFP", "DAPI"))
