"""A montage of one scan: thick slices, every method and the truth, with mask outlines and differences to the truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bida.drawing import GivenVolume, SizedVolume, bar_length_mm, cut, focus, grey_window, png, show_slice
from bida.errors import SettingsError
from bida.experiment.methods import TRUTH
from bida.physics.grid import AXES, NORMAL, PLANES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Image = NDArray[Any]

TRUTH_PANEL = TRUTH.upper()  # the title of the column that the others are compared with
OUTLINE, TRUTH_OUTLINE = "#E69F00", "#56B4E9"  # orange and sky blue of Okabe and Ito
DIFFERENCES = "RdBu_r"
COLUMN_INCH, LEFT_INCH, BOTTOM_INCH = 2.1, 0.9, 0.7
MARGIN_MM = 1.0  # around the masks


@dataclass(frozen=True)
class _Scene:
    """What is drawn, and what all panels share; positions in mm from the centre of the field of view."""

    volumes: Mapping[str, SizedVolume]
    masks: Mapping[str, NDArray[np.bool_]]
    truth: str
    box_mm: NDArray[np.float64]  # [3, 2], lowest and highest position on each axis
    middle_mm: NDArray[np.float64]  # [3], where the planes cut
    window: tuple[float, float]
    planes: list[str]

    def image(self, name: str, plane: str) -> Image:
        return cut(*self.volumes[name], plane, self.middle_mm[NORMAL[plane]])

    def compared(self) -> list[str]:
        """Return the panels that are on the truth's grid."""
        truth, truth_mm = self.volumes[self.truth]
        return [
            name
            for name, (volume, mm) in self.volumes.items()
            # headers hold voxel sizes to 7 digits
            if name != self.truth and volume.shape == truth.shape and np.allclose(mm, truth_mm, rtol=1e-4)
        ]

    def difference(self, name: str, plane: str) -> Image:
        """Return panel minus truth, in % of the grey window."""
        panel, truth = (self.image(which, plane).astype(np.float64) for which in (name, self.truth))
        return 100 * (panel - truth) / (self.window[1] - self.window[0])

    def pixel_mm(self, name: str, plane: str) -> tuple[float, float]:
        across, up = _in_plane(plane)
        return self.volumes[name][1][across], self.volumes[name][1][up]


def montage(
    panels: Mapping[str, GivenVolume],
    truth: str = TRUTH_PANEL,
    masks: Mapping[str, ArrayLike] | None = None,
    captions: Mapping[str, str] | None = None,
    title: str = "",
) -> bytes:
    """Return a PNG with a column a panel; for each plane a row of images and, under it, of differences to the truth.

    The planes cut the middle of the brain: of the truth's mask, else of the truth's brightness. The two that hold the
    through-plane axis, along which a panel's voxels are longest, come first. One grey window, from zero to the 99.7th
    percentile of the truth, and one symmetric colour scale, which ends at the 99.5th percentile of the differences
    shown, serve all panels; a millimetre has one length everywhere.

    Args:
        panels: Column title to ``(volume [R, A, S], voxel sizes in mm along R, A, S)``, left to right. The fields of
            view share their centre. Panels on the truth's grid have differences, others (thick slices) are shown alone.
        truth: The panel that the others are compared with.
        masks: Column title to a boolean mask on that panel's grid, drawn as an outline; the truth's in every column.
        captions: Column title to a line under it, such as its PSNR.
        title: Line over the picture.

    Raises:
        SettingsError: The truth, a mask or a caption belongs to no panel, a volume is not three-dimensional, or a mask
            has another shape than its volume.
    """
    volumes = {name: (np.asarray(volume), tuple(map(float, spacing))) for name, (volume, spacing) in panels.items()}
    outlines = {name: np.asarray(mask, dtype=bool) for name, mask in (masks or {}).items()}
    _check(volumes, {truth, *outlines, *(captions or {})}, outlines)
    return png(_draw(_scene(volumes, outlines, truth), captions or {}, title))


def _check(volumes: Mapping[str, SizedVolume], named: set[str], masks: Mapping[str, NDArray[np.bool_]]) -> None:
    for name in sorted(named - set(volumes)):
        raise SettingsError(f"montage: '{name}' must be one of the panels ({', '.join(volumes)}); rename it")
    for name, (volume, spacing) in volumes.items():
        if volume.ndim != 3 or len(spacing) != 3 or not min(spacing) > 0:
            raise SettingsError(
                f"montage: panel '{name}' must be [R, A, S] with 3 positive voxel sizes, got {volume.shape}, {spacing}"
            )
        if name in masks and masks[name].shape != volume.shape:
            raise SettingsError(
                f"montage: the mask of '{name}' must have its shape {volume.shape}, got {masks[name].shape}; resample"
            )


def _scene(volumes: Mapping[str, SizedVolume], masks: Mapping[str, NDArray[np.bool_]], truth: str) -> _Scene:
    reference, spacing = volumes[truth]
    window = grey_window(reference)
    corner = np.max([np.multiply(v.shape, s) / 2 for v, s in volumes.values()], axis=0)
    box, middle = np.stack([-corner, corner], axis=1), (np.array(focus(reference)) - 0.5) * reference.shape * spacing
    extents = [_extent_mm(mask, volumes[name][1]) for name, mask in masks.items() if mask.any()]
    if extents:
        lowest, highest = np.min(extents, axis=0)[:, 0] - MARGIN_MM, np.max(extents, axis=0)[:, 1] + MARGIN_MM
        box = np.stack([np.maximum(lowest, -corner), np.minimum(highest, corner)], axis=1)
    if truth in masks and masks[truth].any():
        middle = _extent_mm(masks[truth], spacing).mean(axis=1)
    through = max(range(3), key=lambda axis: max(s[axis] / min(s) for _, s in volumes.values()))
    planes = sorted(PLANES, key=lambda plane: NORMAL[plane] == through)
    return _Scene(volumes, masks, truth, box, middle, window, planes)


def _extent_mm(mask: NDArray[np.bool_], spacing_mm: tuple[float, ...]) -> NDArray[np.float64]:
    """Return the lowest and the highest position of a mask on each axis, [3, 2], mm from the centre."""
    index = np.argwhere(mask)
    ends = np.stack([index.min(axis=0) - 0.5, index.max(axis=0) + 0.5], axis=1)
    return (ends - (np.array(mask.shape)[:, None] - 1) / 2) * np.array(spacing_mm)[:, None]


def _in_plane(plane: str) -> tuple[int, int]:
    """Return the axes that go across and up in a plane's pictures."""
    across, up = (axis for axis in range(3) if axis != NORMAL[plane])
    return across, up


def _draw(scene: _Scene, captions: Mapping[str, str], title: str) -> Figure:
    differences = {(name, plane): scene.difference(name, plane) for name in scene.compared() for plane in scene.planes}
    shown = np.concatenate([np.abs(image).ravel() for image in differences.values()] or [np.ones(1)])
    limit = max(float(np.percentile(shown, 99.5)), 1.0)
    figure, grid = _frame(scene, title)
    for row, plane in enumerate(scene.planes):
        for name, above, below in zip(scene.volumes, grid[2 * row], grid[2 * row + 1]):
            show_slice(above, scene.image(name, plane), scene.pixel_mm(name, plane), scene.window)
            _outline(above, scene, scene.truth, plane, TRUTH_OUTLINE, "-" if name == scene.truth else "--")
            if name != scene.truth:
                _outline(above, scene, name, plane, OUTLINE, "-")
            if (name, plane) in differences:
                show_slice(below, differences[name, plane], scene.pixel_mm(name, plane), (-limit, limit))
                below.images[0].set_cmap(DIFFERENCES)
                below.set_facecolor(below.images[0].cmap(0.5))  # as outside the field of view there is no difference
                _outline(below, scene, scene.truth, plane, "#777777", "-")
            else:
                below.set_axis_off()
    _label(grid, scene, captions)
    _keys(figure, grid, scene, limit if differences else None)
    return figure


def _label(grid: NDArray[Any], scene: _Scene, captions: Mapping[str, str]) -> None:
    """Name columns and planes."""
    for axes, name in zip(grid[0], scene.volumes):
        axes.set_title(f"{name}\n{captions.get(name, '')}", fontsize=11)
    for plane, (above, *_) in zip(scene.planes, grid[::2]):
        across, up = _in_plane(plane)
        label = f"{plane}\n{AXES[across]} \u2192  {AXES[up]} \u2191"
        above.set_ylabel(label, fontsize=11, rotation=0, ha="right", va="center", labelpad=8)
    first = next(iter(scene.volumes))
    if scene.compared() and first not in scene.compared():
        for below, *_ in grid[1::2]:
            below.text(0.95, 0.5, f"minus {scene.truth}", transform=below.transAxes, ha="right", va="center")


def _frame(scene: _Scene, title: str) -> tuple[Figure, NDArray[Any]]:
    """Return a figure with two rows of axes for each plane, in which a millimetre has one length."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    size_mm = np.ptp(scene.box_mm, axis=1)
    column_mm = max(size_mm[_in_plane(plane)[0]] for plane in scene.planes)
    heights_mm = [size_mm[_in_plane(plane)[1]] for plane in scene.planes for _ in range(2)]
    columns, gap, top = len(scene.volumes), 0.03, 0.9 if title else 0.6
    inch_of_mm = COLUMN_INCH / column_mm
    width = LEFT_INCH + COLUMN_INCH * (columns + gap * (columns - 1)) + 0.05
    height = top + inch_of_mm * (sum(heights_mm) + gap * np.mean(heights_mm) * 5) + BOTTOM_INCH
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)  # the Agg canvas, whatever the caller's own backend is
    figure.suptitle(title, fontsize=13, y=1 - 0.1 / height, va="top")
    ratios = {"height_ratios": heights_mm, "wspace": gap, "hspace": gap}
    ends = {"left": LEFT_INCH / width, "right": 1 - 0.05 / width, "bottom": BOTTOM_INCH / height}
    grid = figure.subplots(6, columns, squeeze=False, gridspec_kw=ratios | ends | {"top": 1 - top / height})
    for row, axes in enumerate(grid):
        across, up = (scene.box_mm[axis].mean() for axis in _in_plane(scene.planes[row // 2]))
        for one in axes:
            one.set_xlim(across - column_mm / 2, across + column_mm / 2)
            one.set_ylim(up - heights_mm[row] / 2, up + heights_mm[row] / 2)
            one.set_autoscale_on(False)  # the pictures must not move the limits
    return figure, grid


def _outline(axes: Axes, scene: _Scene, owner: str, plane: str, colour: str, style: str) -> None:
    """Draw the outline of a panel's mask where the plane cuts it."""
    if owner not in scene.masks:
        return
    mask = cut(scene.masks[owner], scene.volumes[owner][1], plane, scene.middle_mm[NORMAL[plane]])
    if not mask.any():
        return
    image = np.pad(mask, 1).astype(np.float32)  # closes an outline that meets the border
    y, x = ((np.arange(n) - (n - 1) / 2) * mm for n, mm in zip(image.shape, scene.pixel_mm(owner, plane)[::-1]))
    axes.contour(x, y, image, [0.5], colors=[colour], linestyles=[style], linewidths=0.9)


def _keys(figure: Figure, grid: NDArray[Any], scene: _Scene, limit: float | None) -> None:
    """Add scale bar, legend of the outlines, and the one colour bar of the differences (none without a limit)."""
    from matplotlib.lines import Line2D
    from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar

    first, height = grid[0, 0], figure.get_figheight()
    bar_mm = bar_length_mm(np.ptp(first.get_xlim()))
    first.add_artist(
        AnchoredSizeBar(first.transData, bar_mm, f"{bar_mm:g} mm", "lower left", frameon=False, color="white")
    )
    if scene.masks:
        lines = [Line2D([], [], color=OUTLINE), Line2D([], [], color=TRUTH_OUTLINE, linestyle="--")]
        names = ["brain mask of the column", f"brain mask of {scene.truth}"]
        figure.legend(lines, names, loc="lower left", ncols=2, frameon=False, fontsize=9)
    if limit is not None:
        shown = next(axes.images[0] for axes in grid[1] if axes.images)
        axes = figure.add_axes((0.58, 0.42 / height, 0.38, 0.13 / height))
        figure.colorbar(shown, cax=axes, orientation="horizontal", extend="both")
        axes.set_xlabel(f"difference to {scene.truth}, % of the grey window", fontsize=9, labelpad=1)
        axes.tick_params(labelsize=8)
