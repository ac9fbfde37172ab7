"""A picture of stacks: a column a method, the middle xz and yz slices as rows."""

from __future__ import annotations

from collections.abc import Mapping

from numpy.typing import NDArray

from bida.drawing import png
from bida.masked_data import IntensityLine

COLUMN_INCH, MARGIN_INCH = 2.4, 0.5


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
