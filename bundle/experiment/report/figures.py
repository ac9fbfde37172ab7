"""Charts of an evaluation as PNG: box plots by method, and the agreement of structure volumes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bida.drawing import _figure, png
from bida.errors import SettingsError
from bida.eval.structures import agreement
from bida.experiment.design import Condition
from bida.experiment.methods import label_of, shown_as
from bida.experiment.metrics import quantity
from bida.experiment.results import Row, condition_of, conditions_of, methods_of, signed, tabulate
from bida.experiment.summary import structure_pairs

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKERS = "osD^vP*X"  # one an animal, while there are so few


def box_plots(rows: Sequence[Row], metric: str, region: str, methods: Sequence[str] | None = None) -> bytes:
    """Return box plots of one metric by method, with every animal's point on top.

    A column a factor, a row an SNR and set of scans.

    Args:
        rows: See ``bida.experiment.results.COLUMNS``.
        metric: Such as ``psnr``.
        region: Such as ``brain``.
        methods: Columns, left to right; one without numbers stays as a gap. By default the methods that have this
            metric.

    Raises:
        SettingsError: No row has this metric and region.
    """
    return png(_box_figure(rows, metric, region, methods))


def _box_figure(rows: Sequence[Row], metric: str, region: str, methods: Sequence[str] | None) -> Figure:
    picked = [row for row in rows if row["metric"] == metric and row["region"] == region]
    table = tabulate(picked)
    if not table:
        raise SettingsError(f"box_plots: needs rows of {metric} {region}".rstrip() + ", got none")
    names = list(methods or methods_of(picked))
    found = {(condition_of(cell._asdict()), cell.method): values for cell, values in table.items()}
    factors = sorted({cell.factor for cell in table})
    ordered = sorted({condition for condition, _ in found}, key=lambda condition: condition.order[1:])
    lines = dict.fromkeys((condition.snr, condition.scans) for condition in ordered)
    subjects = sorted({subject for values in table.values() for subject in values})
    figure = _figure(0.9 + len(factors) * (0.55 * len(names) + 0.6), 3.4 * len(lines))
    grid = figure.subplots(len(lines), len(factors), squeeze=False, sharey=True)
    described = quantity(metric)
    where = f", {region}" if region else ""
    for row, (snr, scans) in zip(grid, lines):
        for axes, factor in zip(row, factors):
            condition = Condition(factor, snr, scans)
            _boxes(axes, names, [found.get((condition, name), {}) for name in names], subjects)
            axes.set_title(str(condition), fontsize=10, fontweight="bold")
        row[0].set_ylabel(f"{described.label}{where}" + (f" ({described.unit})" if described.unit else ""), fontsize=9)
    if 1 < len(subjects) <= len(MARKERS):
        grid[0, -1].legend(fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0), handletextpad=0.2)
    return figure


def _boxes(axes: Axes, names: Sequence[str], values: Sequence[Mapping[str, float]], subjects: Sequence[str]) -> None:
    places = range(len(names))
    drawn = [(place, list(found.values())) for place, found in zip(places, values) if found]
    boxes = axes.boxplot(
        [numbers for _, numbers in drawn],
        positions=[place for place, _ in drawn],
        widths=0.6,
        showfliers=False,  # every animal is drawn as a point
        patch_artist=True,
        medianprops={"color": "black", "linewidth": 1.4},
    )
    for patch, (place, _) in zip(boxes["boxes"], drawn):
        colour = shown_as(names[place]).colour
        patch.set(facecolor=colour, alpha=0.45, edgecolor=colour)
    few = len(subjects) <= len(MARKERS)
    for index, subject in enumerate(subjects):
        numbers = [found.get(subject, math.nan) for found in values]
        offset = 0.3 * ((index + 0.5) / len(subjects) - 0.5)  # points side by side, not one over the other
        marker = MARKERS[index] if few else "o"
        size = 4.5 if few else 3.0
        (line,) = axes.plot(np.add(places, offset), numbers, color="#00000055", linewidth=0.6, label=subject)
        line.set(marker=marker, markersize=size, markerfacecolor="white", markeredgecolor="black", markeredgewidth=0.7)
    gap: dict[str, Any] = {"rotation": 90, "color": "#777777", "ha": "center", "va": "center", "fontsize": 8}
    for place, found in zip(places, values):
        if not found:
            axes.text(place, 0.5, "no result", transform=axes.get_xaxis_transform(), **gap)
    few_of = [f" (n = {len(found)})" if 0 < len(found) < len(subjects) else "" for found in values]
    labels = [label_of(name) + text for name, text in zip(names, few_of)]
    axes.set_xticks(places, labels, rotation=35, ha="right", rotation_mode="anchor", fontsize=8)
    axes.set_xlim(-0.6, len(names) - 0.4)
    axes.tick_params(axis="y", labelsize=8)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def bland_altman(rows: Sequence[Row]) -> bytes:
    """Return the error of structure volumes against the animals' own labels, over structure size, as PNG.

    A column a method, a row a factor, SNR and set of scans. A point is one structure of one animal; the lines are the
    bias and the 95% limits of agreement of all of them, in % of the animal's own volume.

    Raises:
        SettingsError: No row has the volume and error of a structure.

    Source: Bland and Altman, Lancet 327(8476):307-310, 1986, over the reference as Krouwer, Stat. Med. 27, 2008, does.
    """
    return png(_bland_altman_figure(rows))


def _bland_altman_figure(rows: Sequence[Row]) -> Figure:
    pairs = structure_pairs(tabulate(rows))
    if not pairs:
        raise SettingsError("bland_altman: needs rows of structure_volume and structure_error, got none")
    found: dict[tuple[Condition, str], list[tuple[str, float, float]]] = {}
    for cell, some in pairs.items():
        found.setdefault((condition_of(cell._asdict()), cell.method), []).extend(some)
    conditions = conditions_of(cell._asdict() for cell in pairs)
    names = [name for name in methods_of(rows) if name in {method for _, method in found}]
    figure = _figure(0.8 + 1.65 * len(names), 0.7 + 1.9 * len(conditions))
    grid = figure.subplots(len(conditions), len(names), squeeze=False, sharex=True, sharey=True)
    for row, condition in zip(grid, conditions):
        for axes, name in zip(row, names):
            _agreement(axes, found.get((condition, name), []), shown_as(name).colour)
        row[0].set_ylabel(f"{condition}\nvolume error (%)", fontsize=8)
    for axes, name in zip(grid[0], names):
        axes.set_title(label_of(name), fontsize=9)
    figure.supxlabel("volume of the structure in the animal's own labels (mm\u00b3)", fontsize=8)
    return figure


def _agreement(axes: Axes, points: Sequence[tuple[str, float, float]], colour: str) -> None:
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)
    axes.axhline(0, color="#bbbbbb", linewidth=0.8)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    if not points:
        axes.text(0.5, 0.5, "no result", transform=axes.transAxes, color="#777777", ha="center", fontsize=8)
        return
    reference = np.array([own for _, _, own in points])
    percent = 100 * (np.array([volume for _, volume, _ in points]) / reference - 1)
    axes.plot(reference, percent, "o", markersize=2.5, color=colour, alpha=0.5, markeredgewidth=0)
    agreed = agreement(percent, np.zeros_like(percent))
    for height, style in ((agreed.bias, "-"), (agreed.lower, "--"), (agreed.upper, "--")):
        if math.isfinite(height):
            axes.axhline(height, color="black", linewidth=1.0, linestyle=style)
    text = signed(agreed.bias, 1)
    text += f" ({signed(agreed.lower, 1)} to {signed(agreed.upper, 1)})" if math.isfinite(agreed.sd) else ""
    axes.text(0.98, 0.02, text, transform=axes.transAxes, ha="right", va="bottom", fontsize=7)
