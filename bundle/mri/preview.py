"""One picture of a run: thick slices, cubic, result and truth as columns, the three planes as rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bida.drawing import GivenVolume, SizedVolume, bar_length_mm, cut, focus, grey_window, show_slice
from bida.errors import SettingsError
from bida.io.files import atomic
from bida.mri.settings import Settings
from bida.physics.grid import AXES, NORMAL, PLANES, spacing_of
from bida.physics.interpolation import resample

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEFT_INCH = 0.9  # room for the rows' names
WIDTH_INCH = 13.0  # of the picture; the height follows from the anatomy's proportions


def preview(
    path: str | Path,
    panels: Mapping[str, GivenVolume],
    *,
    psnr: Mapping[str, float] | None = None,
    title: str = "",
) -> None:
    """Write a PNG with a column for each panel and a row for each plane, in true proportions and one grey window.

    The three positions, and the grey window, from zero to the 99.7th percentile, come from the last panel: the result,
    or the truth where there is one.

    Args:
        path: PNG to write; written under a temporary name and moved into place.
        panels: Column title to ``(volume [R, A, S], voxel sizes in mm along R, A, S)``, left to right. The fields of
            view share their centre.
        psnr: Column title to PSNR in dB, added to the column's title.
        title: Line over the picture.

    Raises:
        SettingsError: No panel, a volume that is not three-dimensional, or a PSNR of no panel.
        ScanError: The folder cannot be written.
    """
    volumes = {name: (np.asarray(volume), tuple(map(float, spacing))) for name, (volume, spacing) in panels.items()}
    if not volumes:
        raise SettingsError(f"{path}: a preview needs at least one panel, got none")
    for name, (volume, spacing) in volumes.items():
        if volume.ndim != 3 or len(spacing) != 3 or not min(spacing) > 0:
            raise SettingsError(
                f"{path}: panel '{name}' must be [R, A, S] with 3 positive voxel sizes, got {volume.shape}, {spacing}"
            )
    unknown = set(psnr or {}) - set(volumes)
    if unknown:
        raise SettingsError(f"{path}: psnr must name a panel ({', '.join(volumes)}), got {', '.join(sorted(unknown))}")
    figure = _figure(volumes, psnr or {}, title)
    with atomic(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120, facecolor="black")


def _figure(volumes: Mapping[str, SizedVolume], psnr: Mapping[str, float], title: str) -> Figure:
    """Lay the panels out; one millimetre has one length all over the picture."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    last, last_spacing = list(volumes.values())[-1]
    position = (np.array(focus(last)) - 0.5) * last.shape * last_spacing
    extent = np.max([np.multiply(volume.shape, spacing) for volume, spacing in volumes.values()], axis=0)
    window = grey_window(last)
    width, heights = max(extent[:2]), [extent[1], extent[2], extent[2]]  # mm, of a column and of each row
    height = sum(heights) * (WIDTH_INCH - LEFT_INCH) / len(volumes) / width + 1.1
    figure = Figure(figsize=(WIDTH_INCH, height))
    FigureCanvasAgg(figure)  # the Agg canvas, whatever the caller's own backend is
    ratios = {"height_ratios": heights, "wspace": 0.03, "hspace": 0.03, "left": LEFT_INCH / WIDTH_INCH, "right": 0.995}
    margins = {"bottom": 0.05 / height, "top": 1 - (0.95 if title else 0.65) / height}
    grid = figure.subplots(3, len(volumes), squeeze=False, gridspec_kw=ratios | margins)
    figure.suptitle(title, color="white", fontsize=14, y=1 - 0.12 / height, va="top")
    for row, plane in enumerate(PLANES):
        across, up = (axis for axis in range(3) if axis != NORMAL[plane])
        for axes, (volume, spacing) in zip(grid[row], volumes.values()):
            show_slice(
                axes, cut(volume, spacing, plane, position[NORMAL[plane]]), (spacing[across], spacing[up]), window
            )
            axes.set_xlim(-width / 2, width / 2)
            axes.set_ylim(-heights[row] / 2, heights[row] / 2)
        label = f"{plane}\n{AXES[across]} \u2192  {AXES[up]} \u2191"
        grid[row, 0].set_ylabel(label, color="white", fontsize=11, rotation=0, ha="right", va="center")
    for axes, name in zip(grid[0], volumes):
        decibel = f"{psnr[name]:.1f} dB" if name in psnr else ""
        axes.set_title(f"{name}\n{decibel}", color="white", fontsize=12)
    _scale_bar(grid[0, 0], bar_length_mm(width), width, heights[0])
    return figure


def _scale_bar(axes: Axes, length_mm: float, width_mm: float, height_mm: float) -> None:
    """Draw a bar of ``length_mm`` with its length in the lower left corner."""
    left, bottom = -0.47 * width_mm, -0.46 * height_mm
    axes.plot(
        [left, left + length_mm], [bottom, bottom], color="white", linewidth=3, solid_capstyle="butt", gid="scale"
    )
    axes.text(left + length_mm / 2, bottom + 0.02 * height_mm, f"{length_mm:g} mm", color="white", ha="center")


def restoration_panels(scan: str | Path, settings: Settings) -> tuple[GivenVolume, GivenVolume]:
    """Return a scan as it is, and interpolated by cubic B-splines on the grid of its restoration."""
    from bida.transforms.base import target_grids
    from bida.transforms.load import LoadScan
    from bida.transforms.plan import PlanScan
    from bida.transforms.way import Way

    image, _ = Way(LoadScan.of(settings), PlanScan(settings)).there(scan)
    grids, spacing = target_grids(image), spacing_of(image.affine)
    thick = image.numpy()
    fine = resample(thick, spacing, grids).astype(np.float32)
    return (thick, spacing), (fine, (grids[0].spacing_mm, grids[1].spacing_mm, grids[2].spacing_mm))
