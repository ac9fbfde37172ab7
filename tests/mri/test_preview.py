"""The preview: geometry of what it shows, its scale bar, its grey window, and a whole file or none."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from bida.drawing import bar_length_mm, cut, focus
from bida.errors import ScanError, SettingsError
from bida.mri.preview import _figure, preview


def blob(shape, spacing, centre_mm, radius_mm=1.0):
    """A bright ball at a place in mm from the centre of the field of view."""
    axes = [(np.arange(n) - (n - 1) / 2) * s for n, s in zip(shape, spacing)]
    r, a, s = np.meshgrid(*axes, indexing="ij")
    d2 = (r - centre_mm[0]) ** 2 + (a - centre_mm[1]) ** 2 + (s - centre_mm[2]) ** 2
    return (100.0 * (d2 < radius_mm**2)).astype(np.float32)


FINE, THICK = (0.2, 0.2, 0.2), (0.2, 1.0, 0.2)


@pytest.fixture
def panels():
    centre = (1.0, -2.0, 0.6)
    fine = blob((30, 50, 26), FINE, centre)
    return {
        "thick slices": (3 * blob((30, 10, 26), THICK, centre), THICK),
        "cubic": (fine, FINE),
        "truth": (fine, FINE),
    }


def test_focus_finds_the_anatomy_on_any_grid():
    for shape, spacing in (((30, 50, 26), FINE), ((60, 20, 26), (0.1, 0.5, 0.2))):
        volume = blob(shape, spacing, (1.0, -2.0, 0.6), 1.5)
        expected = np.array([1.0, -2.0, 0.6]) / (np.array(shape) * spacing) + 0.5
        np.testing.assert_allclose(focus(volume), expected, atol=0.01)


@pytest.mark.parametrize("constant", [0.0, 7.0])
def test_focus_of_an_empty_volume_is_the_centre(constant):
    assert focus(np.full((4, 5, 6), constant)) == (0.5, 0.5, 0.5)


@pytest.mark.parametrize("plane, axis", [("sagittal", 0), ("coronal", 1), ("axial", 2)])
def test_cut_takes_the_nearest_slice_and_turns_the_later_axis_up(plane, axis):
    volume = np.random.default_rng(0).random((5, 7, 9))
    spacing = (0.4, 0.5, 0.6)
    index = 3
    position = (index - (volume.shape[axis] - 1) / 2 + 0.3) * spacing[axis]
    np.testing.assert_array_equal(cut(volume, spacing, plane, position), np.take(volume, index, axis).T)
    np.testing.assert_array_equal(cut(volume, spacing, plane, 1e3), np.take(volume, -1, axis).T)


@pytest.mark.parametrize("extent, expected", [(18.0, 2.0), (28.8, 5.0), (40.0, 10.0), (3.0, 0.5), (4.1, 1.0)])
def test_bar_is_round_and_at_most_a_quarter(extent, expected):
    assert bar_length_mm(extent) == pytest.approx(expected)


def test_a_millimetre_is_the_same_length_everywhere(panels):
    figure = _figure({name: (np.asarray(v), tuple(s)) for name, (v, s) in panels.items()}, {}, "")
    figure.canvas.draw()
    scales = []
    for axes in figure.axes:
        box = axes.get_window_extent()
        scales += [box.width / np.diff(axes.get_xlim())[0], box.height / np.diff(axes.get_ylim())[0]]
        assert axes.get_aspect() == 1
    assert max(scales) == pytest.approx(min(scales), rel=5e-3), scales
    for row, (width_mm, height_mm) in enumerate([(10.0, 10.0), (10.0, 5.2), (10.0, 5.2)]):
        for axes in figure.axes[3 * row : 3 * row + 3]:
            assert (np.ptp(axes.get_xlim()), np.ptp(axes.get_ylim())) == pytest.approx((width_mm, height_mm))
    images = [image for axes in figure.axes for image in axes.images]
    assert {image.get_clim() for image in images} == {(0.0, 100.0)}, "the window is the last panel's"
    assert {image.origin for image in images} == {"lower"}
    (bar,) = [line for axes in figure.axes for line in axes.lines if line.get_gid() == "scale"]
    (label,) = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert label == f"{np.ptp(bar.get_xdata()):g} mm"


def test_the_ball_lies_at_the_same_place_in_every_column(panels):
    figure = _figure({name: (np.asarray(v), tuple(s)) for name, (v, s) in panels.items()}, {}, "")
    grid = np.array(figure.axes).reshape(3, 3)
    for row, (across_mm, up_mm) in enumerate([(1.0, -2.0), (1.0, 0.6), (-2.0, 0.6)]):
        for axes in grid[row]:
            image = axes.images[0]
            left, right, bottom, top = image.get_extent()
            data = np.asarray(image.get_array())
            rows, columns = np.nonzero(data > 50)
            x = left + (columns.mean() + 0.5) / data.shape[1] * (right - left)
            y = bottom + (rows.mean() + 0.5) / data.shape[0] * (top - bottom)
            assert (x, y) == pytest.approx((across_mm, up_mm), abs=0.11)


def test_file_holds_the_columns_named_and_no_more(panels, tmp_path):
    preview(tmp_path / "a.png", panels, psnr={"cubic": 24.31}, title="mouse")
    del panels["truth"]
    preview(tmp_path / "b.png", panels)
    with Image.open(tmp_path / "a.png") as a, Image.open(tmp_path / "b.png") as b:
        assert a.format == b.format == "PNG"
        assert np.asarray(a).std() > 10 and np.asarray(b).std() > 10
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "b.png"], "nothing temporary may stay"


def test_titles_carry_psnr(panels):
    volumes = {name: (np.asarray(v), tuple(s)) for name, (v, s) in panels.items()}
    figure = _figure(volumes, {"cubic": 24.31}, "")
    assert [axes.get_title().strip() for axes in figure.axes[:3]] == ["thick slices", "cubic\n24.3 dB", "truth"]


def test_bad_requests_are_refused_and_leave_no_file(panels, tmp_path):
    with pytest.raises(SettingsError, match=r"at least one panel"):
        preview(tmp_path / "a.png", {})
    with pytest.raises(SettingsError, match=r"panel 'flat' must be \[R, A, S\]"):
        preview(tmp_path / "a.png", {"flat": (np.zeros((4, 4)), FINE)})
    with pytest.raises(SettingsError, match=r"psnr must name a panel .* got cubist"):
        preview(tmp_path / "a.png", panels, psnr={"cubist": 20.0})
    with pytest.raises(ScanError, match="must be writable"):
        preview(tmp_path / "missing" / "a.png", panels)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_matplotlib_is_imported_only_when_drawing():
    code = "import sys, bida.mri.preview; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
