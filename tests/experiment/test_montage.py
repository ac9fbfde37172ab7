"""The montage: one grey window, one scale of differences, true proportions, outlines where the masks are."""

import io

import numpy as np
import pytest
from PIL import Image

from bida.errors import SettingsError
from bida.experiment.report.montage import OUTLINE, TRUTH_OUTLINE, _check, _draw, _scene, montage

MM = 0.2
SHAPE = (40, 50, 30)
CENTRE_MM = np.array([1.0, -1.6, 0.4])


def distance_mm(shape, spacing):
    axes = [(np.arange(n) - (n - 1) / 2) * s for n, s in zip(shape, spacing)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    return np.linalg.norm(grid - CENTRE_MM, axis=-1)


def thick(axis):
    """A ball's panel that is five times as thick along an axis."""
    shape = [n // 5 if k == axis else n for k, n in enumerate(SHAPE)]
    spacing = tuple(5 * MM if k == axis else MM for k in range(3))
    return 100.0 * (distance_mm(shape, spacing) < 2), spacing


FINE = (MM, MM, MM)
TRUTH = 100.0 * (distance_mm(SHAPE, FINE) < 2)
NOISE = np.random.default_rng(0).normal(0, 5, SHAPE)
ROUNDED = (MM * (1 + 1e-6),) * 3  # voxel sizes as another header may hold the same ones
PANELS = {"LR": thick(1), "cubic": (TRUTH + 4 * NOISE, FINE), "bida": (TRUTH + NOISE, ROUNDED), "HR": (TRUTH, FINE)}
MASKS = {"HR": distance_mm(SHAPE, FINE) < 2, "bida": distance_mm(SHAPE, FINE) < 2.5}


def draw(panels=PANELS, masks=MASKS, captions=None, title=""):
    volumes = {name: (np.asarray(volume), tuple(map(float, mm))) for name, (volume, mm) in panels.items()}
    _check(volumes, set(), masks)
    figure = _draw(_scene(volumes, masks, "HR"), captions or {}, title)
    return figure, np.array(figure.axes[: 6 * len(panels)]).reshape(6, len(panels))


@pytest.fixture(scope="module")
def drawn():
    return draw(captions={"bida": "24.3 dB"}, title="mouse")


def test_all_differences_share_one_symmetric_scale_and_the_colour_bar(drawn):
    figure, grid = drawn
    differences = [axes.images[0] for row in grid[1::2] for axes in row if axes.images]
    assert len(differences) == 6, "two methods in three planes; neither thick slices nor the truth"
    (scale,) = {image.get_clim() for image in differences}
    assert scale[0] == -scale[1] < 0
    shown = np.concatenate([np.abs(np.asarray(image.get_array())).ravel() for image in differences])
    assert scale[1] == pytest.approx(np.percentile(shown, 99.5))
    assert len({image.get_cmap().name for image in differences}) == 1
    bar = figure.axes[-1]
    assert bar.get_xlim() == pytest.approx(scale)
    assert "difference to HR" in bar.get_xlabel()


def test_differences_are_panel_minus_truth_in_percent_of_the_window():
    panels = {"LR": thick(1), "up": (TRUTH + 10, FINE), "down": (TRUTH - 20, FINE), "HR": (TRUTH, FINE)}
    _, grid = draw(panels, {})
    for row in grid[1::2]:
        np.testing.assert_allclose(row[1].images[0].get_array(), 10.0)  # the window is 0 to 100
        np.testing.assert_allclose(row[2].images[0].get_array(), -20.0)
        assert row[1].images[0].get_clim() == (-20.0, 20.0)


def test_all_images_share_the_grey_window_of_the_truth(drawn):
    _, grid = drawn
    images = [axes.images[0] for row in grid[::2] for axes in row]
    assert len(images) == 12
    assert {image.get_clim() for image in images} == {(0.0, np.percentile(TRUTH, 99.7))}


def test_a_millimetre_has_one_length_everywhere(drawn):
    figure, grid = drawn
    figure.draw_without_rendering()
    width, height = figure.get_size_inches()
    lengths = set()
    for axes in grid.ravel():
        box = axes.get_position()
        lengths.add(round(box.width * width / np.ptp(axes.get_xlim()), 3))
        lengths.add(round(box.height * height / np.ptp(axes.get_ylim()), 3))
    assert max(lengths) - min(lengths) <= 0.005 * max(lengths), lengths


@pytest.mark.parametrize("axis, last", [(0, "sagittal"), (1, "coronal"), (2, "axial")])
def test_planes_that_hold_the_through_plane_axis_come_first(axis, last):
    _, grid = draw(PANELS | {"LR": thick(axis)}, {})
    assert grid[4, 0].get_ylabel().startswith(last)


@pytest.mark.parametrize("name, colour, radius_mm", [("HR", TRUTH_OUTLINE, 2.0), ("bida", OUTLINE, 2.5)])
def test_outlines_lie_on_the_masks(drawn, name, colour, radius_mm):
    from matplotlib.colors import to_rgba

    _, grid = drawn
    column = list(PANELS).index(name)
    for row, (across, up) in ((0, (0, 1)), (2, (1, 2)), (4, (0, 2))):
        lines = [c for c in grid[row, column].collections if np.allclose(c.get_edgecolor()[0], to_rgba(colour))]
        points = np.concatenate([path.vertices for line in lines for path in line.get_paths()])
        far = np.linalg.norm(points - CENTRE_MM[[across, up]], axis=1)
        # the plane misses the centre by up to half a voxel, and the outline a sphere's surface by up to one
        assert np.abs(far - radius_mm).max() < 1.5 * MM, f"{far.min():.2f} to {far.max():.2f} mm"


def test_outline_of_the_truth_is_in_every_column(drawn):
    _, grid = drawn
    assert [[len(axes.collections) for axes in row] for row in grid[::2]] == [[1, 1, 2, 1]] * 3


def test_planes_cut_the_middle_of_the_mask_not_of_the_brightness():
    bright = TRUTH.copy()
    bright[-4:, -4:, -4:] = 9000.0
    scene = _scene({"HR": (bright, FINE)}, {"HR": MASKS["HR"]}, "HR")
    np.testing.assert_allclose(scene.middle_mm, CENTRE_MM, atol=MM / 2 + 1e-9)


def test_an_empty_mask_is_drawn_as_no_outline():
    _, grid = draw(masks={"HR": np.zeros(SHAPE, dtype=bool)})
    assert not any(axes.collections for axes in grid.ravel())


def test_titles_carry_captions(drawn):
    figure, grid = drawn
    assert [axes.get_title().strip() for axes in grid[0]] == ["LR", "cubic", "bida\n24.3 dB", "HR"]
    assert figure.get_suptitle() == "mouse"


def test_montage_is_a_picture_with_colours():
    picture = montage(PANELS, masks=MASKS)
    assert len(picture) < 800_000, "six of them must fit in a page"
    with Image.open(io.BytesIO(picture)) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    assert pixels[..., 0].std() > 10 and np.abs(pixels[..., 0] - pixels[..., 2]).max() > 100


def test_the_truth_alone_is_drawn():
    assert montage({"HR": (TRUTH, FINE)}).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "more, message",
    [
        ({"truth": "gold"}, r"'gold' must be one of the panels \(LR, cubic, bida, HR\)"),
        ({"masks": {"cubist": MASKS["HR"]}}, "'cubist' must be one of the panels"),
        ({"captions": {"cubist": "20 dB"}}, "'cubist' must be one of the panels"),
        ({"masks": {"LR": MASKS["HR"]}}, "the mask of 'LR' must have its shape"),
        ({"panels": PANELS | {"flat": (np.zeros((4, 4)), FINE)}}, r"panel 'flat' must be \[R, A, S\]"),
    ],
)
def test_bad_requests_are_refused(more, message):
    with pytest.raises(SettingsError, match=message):
        montage(**({"panels": PANELS} | more))
