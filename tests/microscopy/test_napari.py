"""The plugin of napari: what it does is tested without napari, what it shows where napari is."""

import json
from threading import Event

import numpy as np
import pytest
import yaml
from conftest import ROOT

from bida.cli.parser import main
from bida.errors import ScanError, SettingsError
from bida.microscopy.napari.job import Cancelled, Job, suggested_factor
from bida.microscopy.napari.layers import reader, stack_of, write_layer
from bida.microscopy.stacks.stack import Stack, read_stack, write_stack

MANIFEST = ROOT / "bundle" / "microscopy" / "napari" / "napari.yaml"
UM = ("micrometer",) * 3


def planes(channels=1, count=9, side=24):
    """Blocks of three pixels, which interpolation blurs."""
    blocks = np.random.default_rng(0).integers(0, 4000, (channels, count, side // 3, side // 3))
    data = np.repeat(np.repeat(blocks, 3, axis=2), 3, axis=3).astype(np.uint16)
    return Stack(data, (4.0, 0.5, 0.5), ("a", "b")[:channels], "made.tif")


@pytest.mark.parametrize("suffix", [".ome.tif", ".ome.zarr"])
def test_a_stack_is_read_as_layers_of_its_scale(tmp_path, suffix):
    path = str(tmp_path / f"two{suffix}")
    write_stack(path, planes(2))
    layers = reader(path)(path)
    assert [kind for *_, kind in layers] == ["image"] * 2
    for (data, told, _), name, volume in zip(layers, "ab", planes(2).data):
        assert np.array_equal(data, volume) and told["name"].endswith(f" {name}") and told["blending"] == "additive"
        assert told["scale"] == (4.0, 0.5, 0.5) and told["units"] == UM and told["axis_labels"] == ("z", "y", "x")


@pytest.mark.parametrize("path", ["scan.nii.gz", "picture.png", ["a.tif", "b.tif"]])
def test_what_is_no_stack_is_left_to_others(path):
    assert reader(path) is None


def test_a_layer_is_written_with_its_voxel_sizes(tmp_path):
    path = str(tmp_path / "out.ome.tif")
    told = {"name": "mine", "scale": (4e-3, 5e-4, 5e-4), "units": ("millimeter",) * 3}
    assert write_layer(path, planes().data[0], told) == [path]
    back = read_stack(path)
    assert back.spacing_um == (4.0, 0.5, 0.5) and back.channels == ("mine",)
    assert np.array_equal(back.data, planes().data)
    with pytest.raises(SettingsError, match=r"voxel sizes must be lengths, got 1 pixel, 1 pixel, 1 pixel; set"):
        write_layer(str(tmp_path / "b.ome.tif"), planes().data[0], {"name": "mine"})


def test_a_layer_in_pixels_of_levels_or_of_yes_and_no_is_taken():
    assert stack_of(planes().data[0], (8, 1, 1), ("pixel",) * 3, "a").spacing_um == (8.0, 1.0, 1.0)
    assert stack_of([planes().data[0], planes().data[0, ::2]], (8, 1, 1), UM, "a").data.shape == (1, 9, 24, 24)
    assert stack_of(planes().data[0] > 5, (8, 1, 1), UM, "a").data.dtype == np.uint8


@pytest.mark.parametrize(
    ("data", "rgb", "told"),
    [
        (np.zeros((4, 4)), False, r"one stack \[z, y, x\], got shape \(4, 4\)"),
        (np.zeros((4, 4, 3)), True, "got colours"),
    ],
)
def test_a_layer_that_is_no_stack(data, rgb, told):
    with pytest.raises(ScanError, match=told):
        stack_of(data, (1, 1, 1), UM, "a", rgb)


@pytest.mark.parametrize(
    ("spacing", "factor"), [((4, 1, 1), 4), ((1.0, 0.3, 0.4), 3.33), ((1, 1, 1), 2), ((1, 2, 2), 2)]
)
def test_the_factor_that_is_suggested(spacing, factor):
    assert suggested_factor(spacing) == factor


def test_a_job_is_what_the_command_does(tmp_path, capsys):
    told = []
    job = Job(planes(), 2, 0, lambda *step: told.append(step), Event())
    found = job.run()
    write_stack(tmp_path / "in.ome.tif", planes())
    words = ["superres-masked", str(tmp_path / "in.ome.tif"), str(tmp_path / "out.ome.tif"), "--factor", "2"]
    assert main([*words, "--minutes", "0"]) == 0
    expected = read_stack(tmp_path / "out.ome.tif")
    record = json.loads((tmp_path / "out.ome.json").read_text())
    assert np.array_equal(found.stack.data, expected.data) and found.stack.spacing_um == expected.spacing_um
    assert (found.verdict, found.isotropy) == (record["verdict"], record["isotropy"])
    assert not np.array_equal(found.stack.data[:, 1], found.stack.data[:, 0])
    assert [what for _, what in told][-2:] == ["restoring", "done"] and told[-1][0] == 1
    assert all(0 <= share <= 1 for share, _ in told)


@pytest.mark.slow
def test_a_job_is_cancelled_while_it_trains():
    told, cancelled = [], Event()

    def tell(share, what):
        told.append(what)
        if what.startswith("training"):
            cancelled.set()

    with pytest.raises(Cancelled):
        Job(planes(), 2, 60, tell, cancelled).run()
    assert sum(what.startswith("training on the stack: loss ") for what in told) == 1


@pytest.mark.parametrize("when", ["reading the network", "comparing with interpolation", "restoring"])
def test_a_job_is_cancelled_between_its_steps(when):
    told, cancelled = [], Event()

    def tell(share, what):
        told.append(what)
        if what == when:
            cancelled.set()

    with pytest.raises(Cancelled):
        Job(planes(), 2, 0, tell, cancelled).run()
    assert told[-1] == when


@pytest.mark.parametrize(
    ("stack", "factor", "minutes", "told"),
    [
        (planes(), 0.5, 0, "factor: must be a number >= 1, got 0.5"),
        (planes(), 2, -1, "--minutes: must be a number from 0 on, got -1"),
        (planes(count=1), 2, 0, "a stack must have at least 2 planes, got 1"),
    ],
)
def test_a_job_that_cannot_be(stack, factor, minutes, told):
    with pytest.raises(SettingsError, match=told):
        Job(stack, factor, minutes, print, Event())


def test_the_manifest_names_what_is_there():
    told = yaml.safe_load(MANIFEST.read_text())
    places = {one["id"]: one["python_name"] for one in told["contributions"]["commands"]}
    used = [one["command"] for kind in ("readers", "writers", "widgets") for one in told["contributions"][kind]]
    assert sorted(used) == sorted(places) and all(name.startswith(f"{told['name']}.") for name in places)
    for place in places.values():
        module, _, name = place.partition(":")
        text = (ROOT / "bundle" / f"{module.removeprefix('bida.').replace('.', '/')}.py").read_text()
        assert f"def {name}(" in text or f"class {name}(" in text


def test_the_manifest_is_valid():
    npe2 = pytest.importorskip("npe2")
    told = npe2.PluginManifest.from_file(MANIFEST)
    told.validate_imports()
    assert told.name == "bida-mri"


@pytest.fixture
def viewer(monkeypatch):
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    napari = pytest.importorskip("napari")
    npe2 = pytest.importorskip("npe2")
    manager = npe2.PluginManager.instance()
    if "bida-mri" not in manager:
        manager.register(npe2.PluginManifest.from_file(MANIFEST))
    pytest.importorskip("qtpy.QtWidgets", exc_type=ImportError)
    from qtpy.QtWidgets import QApplication

    app = QApplication.instance() or QApplication([])
    yield napari.components.ViewerModel()  # the viewer without its canvas, which needs OpenGL
    app.processEvents()


def wait(widget, seconds=120):
    """Let Qt work until the widget rests; return what it said."""
    import time

    from qtpy.QtWidgets import QApplication

    end = time.monotonic() + seconds
    said = []
    while not widget.run.enabled and time.monotonic() < end:
        QApplication.processEvents()
        said.append(widget.said.value)
        time.sleep(0.01)
    assert widget.run.enabled
    return said


@pytest.mark.slow
def test_napari_reads_a_result_and_the_widget_restores_it(viewer, tmp_path):
    from bida.microscopy.napari.widget import RestoreWidget

    path = tmp_path / "stack.ome.tif"
    write_stack(path, planes())
    (layer,) = viewer.open(str(path), plugin="bida-mri")
    assert tuple(layer.scale) == (4.0, 0.5, 0.5) and [str(unit) for unit in layer.units] == list(UM)
    widget = RestoreWidget(viewer)
    assert widget.layer.value is layer
    assert widget.factor.value == 8.0 and widget.minutes.value == 10.0
    widget.factor.value, widget.minutes.value = 2, 0.05
    widget.run.clicked.emit(True)
    assert not widget.run.enabled and widget.cancel.enabled
    assert any(said.startswith("training on the stack: loss ") for said in wait(widget))
    made = viewer.layers["stack 2x"]
    assert made.data.shape == (17, 24, 24) and tuple(made.scale) == (2.0, 0.5, 0.5)
    assert np.array_equal(made.data[::2], planes().data[0])
    assert widget.said.value.startswith("on this stack: ") and widget.bar.value == widget.bar.max
    assert not widget.cancel.enabled
    (saved,) = made.save(str(tmp_path / "out.ome.tif"), plugin="bida-mri")
    assert read_stack(saved).spacing_um == (2.0, 0.5, 0.5)


@pytest.mark.slow
def test_the_widget_is_cancelled_and_says_what_is_wrong(viewer):
    from bida.microscopy.napari.widget import RestoreWidget

    widget = RestoreWidget(viewer)
    widget.run.clicked.emit(True)
    assert widget.said.value == "open a stack first" and widget.run.enabled
    viewer.add_image(np.zeros((1, 20, 20)), name="one")
    widget.run.clicked.emit(True)
    assert widget.said.value.startswith("one: a stack must have at least 2 planes, got 1")
    viewer.layers.clear()
    viewer.add_image(planes().data[0], name="several", scale=(4, 1, 1))
    widget.minutes.value = 60
    widget.run.clicked.emit(True)
    widget.cancel.clicked.emit(True)
    wait(widget)
    assert widget.said.value == "cancelled" and [layer.name for layer in viewer.layers] == ["several"]
    assert widget.bar.value == 0
