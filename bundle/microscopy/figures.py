"""A picture of stacks: a column a method, the middle xz and yz slices as rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bida.drawing import png
from bida.eval.slices.isotropy import AXES, Isotropy
from bida.microscopy.load import IntensityLine
from bida.microscopy.stacks.stack import Stack

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMN_INCH, MARGIN_INCH = 2.4, 0.5

_COLOURS = {"z": "#D55E00", "y": "#0072B2", "x": "#009E73"}  # Okabe and Ito


def masked_montage(stacks: Mapping[str, NDArray], title: str = "") -> bytes:
    """Return a PNG of the first channel of stacks [C, Z, Y, X] of one shape, z downwards.

    One grey window, the `IntensityLine` of the first stack, serves all.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    first = next(iter(stacks.values()))
    line = IntensityLine.of(first)
    _, z, y, x = first.shape
    heights = [z / x, z / y]  # of the rows, in columns' widths
    size = COLUMN_INCH * len(stacks), COLUMN_INCH * sum(heights) + 2 * MARGIN_INCH
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, len(stacks), squeeze=False, height_ratios=heights)
    for column, (name, data) in enumerate(stacks.items()):
        for row, (plane, image) in enumerate({"xz": data[0, :, y // 2, :], "yz": data[0, :, :, x // 2]}.items()):
            panel = axes[row, column]
            panel.imshow(image, "gray", vmin=line.low[0], vmax=line.high[0], interpolation="nearest")
            panel.set(xticks=[], yticks=[], title=name if row == 0 else "", ylabel="" if column else plane)
    figure.suptitle(title)
    return png(figure)


def plot(stack: Stack, found: Mapping[str, Isotropy]) -> bytes:
    """Return the spectra of the three axes as PNG, a panel a channel."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(0.6 + 4.2 * len(found), 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (name, one) in zip(figure.subplots(1, len(found), squeeze=False)[0], found.items()):
        _panel(axes, one)
        answer = "yes" if one.isotropic else "no"
        axes.set_title(f"{name}: {answer}, mean {one.mean_db:.1f} dB, largest {one.largest_db:+.1f} dB", fontsize=9)
    figure.suptitle(Path(stack.path).name, fontsize=9)
    return png(figure)


def _panel(axes: Axes, one: Isotropy) -> None:
    for name, frequency, power in zip(AXES, one.frequency, one.power):
        shown = frequency > 0
        decibels = 10 * np.log10(np.maximum(power[shown], np.finfo(np.float64).tiny))
        axes.plot(frequency[shown], decibels, color=_COLOURS[name], label=name, linewidth=1.3)
    for edge in (one.octaves[-1].low, *(octave.high for octave in one.octaves)):
        axes.axvline(edge, color="#cccccc", linewidth=0.7, zorder=0)
    axes.set_xscale("log")
    axes.set_xlabel("cycles per µm (grey: octaves compared)", fontsize=8)
    axes.set_ylabel("power (dB)", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.legend(fontsize=8, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
