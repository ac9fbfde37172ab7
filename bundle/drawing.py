"""Figures as PNG, slices in their true proportions, grey windows and scale bars."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bida.physics.grid import NORMAL

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 110
GivenVolume = tuple[ArrayLike, Sequence[float]]  # [R, A, S] and its voxel sizes, mm, as callers have them
SizedVolume = tuple[NDArray[Any], tuple[float, ...]]  # the same, checked


def png(figure: Figure, dpi: int = DPI) -> bytes:
    """Return a figure as PNG on white."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=dpi, facecolor="white", pil_kwargs={"optimize": True})
    return drawn.getvalue()


def _figure(width_inch: float, height_inch: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_inch, height_inch), layout="constrained")
    FigureCanvasAgg(figure)  # the Agg canvas, whatever the caller's own backend is
    return figure


def show_slice(axes: Axes, image: NDArray[Any], pixel_mm: tuple[float, float], window: tuple[float, float]) -> None:
    """Show a slice [rows, columns] about the centre of its axes, in mm; ``pixel_mm`` is (across, up)."""
    right, top = image.shape[1] * pixel_mm[0] / 2, image.shape[0] * pixel_mm[1] / 2
    extent = (-right, right, -top, top)
    # nearest: a thick slice should look as thick as it is
    axes.imshow(image, "gray", vmin=window[0], vmax=window[1], origin="lower", interpolation="nearest", extent=extent)
    axes.set(xticks=[], yticks=[], facecolor="black")
    axes.spines[:].set_visible(False)


def bar_length_mm(extent_mm: float) -> float:
    """Return a round scale bar (1, 2 or 5 times a power of ten), the longest within a quarter of ``extent_mm``."""
    power = 10.0 ** math.floor(math.log10(extent_mm / 4))
    return max(step * power for step in (1, 2, 5) if step * power <= extent_mm / 4)


def cut(volume: NDArray[Any], spacing_mm: Sequence[float], plane: str, position_mm: float) -> NDArray[Any]:
    """Return the slice of a plane nearest to a position.

    Args:
        volume: [R, A, S].
        spacing_mm: Voxel sizes along R, A, S in mm.
        plane: A name in ``bida.physics.grid.PLANES``.
        position_mm: Along the plane's normal, from the centre of the field of view, which the panels share.

    Returns:
        Array [rows, columns], the lower row first: the later of the two axes in RAS order goes up.
    """
    axis = NORMAL[plane]
    index = round(position_mm / spacing_mm[axis] + (volume.shape[axis] - 1) / 2)
    return np.take(volume, min(max(index, 0), volume.shape[axis] - 1), axis=axis).T


def focus(volume: NDArray[Any]) -> tuple[float, float, float]:
    """Return where the anatomy is: the centre of the brightness as a fraction of the field of view along R, A, S."""
    above = np.clip(volume - np.median(volume), 0, None).astype(np.float64)
    if not above.sum() > 0:
        return 0.5, 0.5, 0.5
    marginals = (above.sum(axis=tuple(other for other in range(3) if other != axis)) for axis in range(3))
    r, a, s = (float((np.arange(m.size) + 0.5) @ m / m.sum() / m.size) for m in marginals)
    return r, a, s


def grey_window(volume: NDArray[Any]) -> tuple[float, float]:
    """Return the intensities that are shown black and white: zero, in a magnitude image, and the 99.7th percentile."""
    low = 0.0 if np.median(volume) >= 0 else float(np.percentile(volume, 0.5))
    return low, max(float(np.percentile(volume, 99.7)), low + 1e-6)
