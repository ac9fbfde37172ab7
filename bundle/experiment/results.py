"""Results of an evaluation as tidy rows: the CSV file, what the metrics mean, and the numbers of each cell.

A row is a mapping with the keys of `COLUMNS`: one number, of one method, for one animal at one factor.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from bida.errors import ScanError, SettingsError
from bida.io.files import atomic

COLUMNS = ("subject", "group", "factor", "method", "metric", "region", "value", "unit")
METHODS = {  # in the order shown
    "nearest": "every voxel takes the value of the nearest slice",
    "linear": "linear interpolation between slices",
    "cubic": "cubic B-spline interpolation between slices",
    "cubic+projection": "cubic, then corrected so that it gives the scan back when it is made thick again",
    "selfsr": "a network trained on nothing but the scan's own sharp directions",
    "eclare": "the published ECLARE, run as an external program",
    "bida-paper": "one draw of the priors as published: not shown the scan, Gaussian profile, no self-check",
    "bida-1": "one draw of bida",
    "bida": "two diffusion priors under the scan's own slice profile; the mean of several draws",
    "bida-bare": "bida without the self-check: the priors alone",
    "hr": "the isotropic scan itself: the truth, from which the thick slices were made",
}
TRUTH = "hr"

Row = Mapping[str, Any]


class Metric(NamedTuple):
    """How a metric is shown: name, unit, decimals, whether more is better (1), worse (-1) or neither (0), meaning."""

    label: str
    unit: str
    decimals: int
    better: int
    meaning: str


METRICS = {
    "psnr": Metric("PSNR", "dB", 2, 1, "how far voxels are from the truth on average; 1 dB more is 11% less error"),
    "ssim": Metric("SSIM", "", 3, 1, "likeness of local structure to the truth; 1 is equal"),
    "cdsc": Metric(
        "cDSC",
        "",
        4,
        1,
        "overlap (Dice) of the brain masks that one skull stripper draws on the method's volume and on the truth; "
        "1 is equal",
    ),
    "hd95": Metric("HD95", "mm", 2, -1, "distance between the surfaces of the same two masks, 95th percentile"),
    "dice_manual": Metric("Dice, data set's mask", "", 3, 1, "overlap of the brain mask with the data set's own"),
    "sharpness": Metric("Sharpness", "", 2, 0, "steepness of structure along an axis over the truth's; 1 is as sharp"),
    "stitching": Metric(
        "Stitching", "", 2, 0, "jumps from slice to slice over the truth's; above 1 is stitching, below 1 blur"
    ),
    "residual": Metric(
        "Residual",
        "of range",
        6,
        -1,
        "largest difference between the scan and the volume made thick again; 0 keeps what was measured",
    ),
    "seconds": Metric("Time", "s", 1, -1, "time of the method for one scan on this machine"),
    "structure_volume": Metric("Structure volume", "mm\u00b3", 3, 0, "from labels that registration carried over"),
    "structure_error": Metric("Volume error", "%", 1, 0, "of a structure, against the animal's own labels"),
    "structure_dice": Metric("Structure Dice", "", 3, 1, "overlap of a structure with the animal's own labels"),
    "structure_dice_hr": Metric("Structure Dice, HR", "", 3, 1, "the same against the labels carried onto the truth"),
}


class Cell(NamedTuple):
    """Whose numbers they are, over animals."""

    factor: float
    metric: str
    region: str
    method: str


Table = dict[Cell, dict[str, float]]


def write_results(path: str | Path, rows: Iterable[Row]) -> None:
    """Write rows as CSV with the columns `COLUMNS`, atomically; an empty value stands for NaN.

    Raises:
        SettingsError: A row lacks a column or has another one.
        ScanError: The file cannot be written.
    """
    with atomic(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for number, row in enumerate(rows, 1):
            if set(row) != set(COLUMNS):
                odd = ", ".join(sorted(set(row) ^ set(COLUMNS)))
                raise SettingsError(f"{path}: row {number} must have the columns {', '.join(COLUMNS)}; see {odd}")
            value, factor = float(row["value"]), float(row["factor"])
            shown = {**row, "value": "" if math.isnan(value) else repr(value), "factor": f"{factor:g}"}
            writer.writerow([shown[column] for column in COLUMNS])


def read_results(path: str | Path) -> list[dict[str, Any]]:
    """Read rows from the CSV of `write_results`; factor and value come as float.

    Raises:
        ScanError: The file cannot be read, its columns are others, or a factor or value is no number.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ()) != COLUMNS:
                raise ScanError(
                    f"{path}: columns must be {', '.join(COLUMNS)}, got {reader.fieldnames}; evaluate again"
                )
            return [_parsed(path, reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError) as error:
        raise ScanError(f"{path}: results must be readable, got '{error}'; evaluate again") from error


def _parsed(path: str | Path, line: int, row: Mapping[str, Any]) -> dict[str, Any]:
    if None in row or None in row.values():
        raise ScanError(f"{path}: a line must have {len(COLUMNS)} values, line {line} has not; evaluate again")
    try:
        return {**row, "factor": float(row["factor"]), "value": float(row["value"] or "nan")}
    except ValueError as error:
        raise ScanError(
            f"{path}: factor and value must be numbers, line {line} has '{error}'; evaluate again"
        ) from error


def tabulate(rows: Iterable[Row]) -> Table:
    """Return subject to value for every cell, in the order shown; values that are NaN or Inf are left out.

    Raises:
        SettingsError: Two rows give the same number.
    """
    rows = list(rows)
    table: Table = {}
    seen: set[tuple[Cell, str]] = set()
    for row in rows:
        cell = Cell(float(row["factor"]), str(row["metric"]), str(row["region"]), str(row["method"]))
        subject, value = str(row["subject"]), float(row["value"])
        if (cell, subject) in seen:
            raise SettingsError(f"results: each number must stand once, {subject} has two of {tuple(cell)}; remove one")
        seen.add((cell, subject))
        if math.isfinite(value):
            table.setdefault(cell, {})[subject] = value
    metrics, regions = (list(dict.fromkeys(getattr(cell, key) for cell in table)) for key in ("metric", "region"))
    metrics, methods = [*METRICS, *(name for name in metrics if name not in METRICS)], methods_of(rows)

    def place(cell: Cell) -> tuple[float, int, int, int]:
        return cell.factor, metrics.index(cell.metric), regions.index(cell.region), methods.index(cell.method)

    return {cell: dict(sorted(table[cell].items())) for cell in sorted(table, key=place)}


def methods_of(rows: Iterable[Row]) -> list[str]:
    """Return the methods of the rows: known ones in the order of `METHODS`, others after them, the truth last."""
    found = {str(row["method"]) for row in rows}
    known = [name for name in METHODS if name in found and name != TRUTH]
    return [*known, *sorted(found - METHODS.keys()), *({TRUTH} & found)]


def groups_of(rows: Iterable[Row]) -> dict[str, list[str]]:
    """Return group to its animals, both sorted; the group of animals without one is ''."""
    members: dict[str, set[str]] = {}
    for row in rows:
        members.setdefault(str(row["group"]), set()).add(str(row["subject"]))
    return {group: sorted(members[group]) for group in sorted(members)}


def metric_of(name: str) -> Metric:
    """Return how a metric is shown; one that is not in `METRICS` goes by its name."""
    return METRICS.get(name, Metric(name, "", 3, 0, ""))


def shown(metric: str, value: float | None) -> str:
    """Return a number as it is printed, with the decimals of its metric; a dash where there is none."""
    if value is None or math.isnan(value):
        return "\u2013"
    if metric == "residual":
        return f"{value:.1g}".replace("-", "\u2212")
    return f"{value:.{metric_of(metric).decimals}f}".replace("-", "\u2212")


def signed(value: float, decimals: int) -> str:
    """Return a number with its sign, a true minus sign before a negative one; zero has none."""
    text = f"{value:+.{decimals}f}"
    return text[1:] if not float(text) else text.replace("-", "\u2212")
