"""Results of an evaluation as tidy rows: the CSV file, and the numbers of each cell.

A row is a mapping with the keys of `COLUMNS`: one number, of one method, for one animal at one factor and noise level,
from one set of scans. Tables without the column `scans` are read as of single scans; those of 0.1, without the column
`snr` either, as of slices without noise, under the methods' present names.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from bida.errors import ScanError, SettingsError
from bida.experiment.design import CLEAN, ONE, Condition, scans_order, snr_of, snr_text
from bida.experiment.methods import METHODS, OLD_NAMES, TRUTH
from bida.experiment.metrics import quantities, quantity
from bida.io.files import atomic

COLUMNS = ("subject", "group", "factor", "snr", "scans", "method", "metric", "region", "value", "unit")
SINGLE_COLUMNS = tuple(name for name in COLUMNS if name != "scans")
OLD_COLUMNS = tuple(name for name in SINGLE_COLUMNS if name != "snr")
DASH = "\u2013"  # where there is no number
Row = Mapping[str, Any]


class Cell(NamedTuple):
    """Whose numbers they are, over animals."""

    factor: float
    metric: str
    region: str
    method: str
    snr: float = CLEAN
    scans: str = ONE


def condition_of(entry: Mapping[str, Any]) -> Condition:
    """Return the condition of a row, or of an entry of the summary, where None stands for no noise."""
    return Condition(float(entry["factor"]), CLEAN if entry["snr"] is None else float(entry["snr"]), entry["scans"])


def conditions_of(entries: Iterable[Mapping[str, Any]]) -> list[Condition]:
    """Return the conditions of rows, or of entries of the summary, in the order shown."""
    return sorted({condition_of(entry) for entry in entries}, key=lambda condition: condition.order)


Table = dict[Cell, dict[str, float]]


def write_results(path: str | Path, rows: Iterable[Row]) -> None:
    """Write rows as CSV with the columns `COLUMNS`, atomically; an empty value stands for NaN.

    Raises:
        SettingsError: A row lacks a column or has another one.
        ScanError: The file cannot be written.
    """
    rows = list(rows)
    for number, row in enumerate(rows, 1):
        if set(row) != set(COLUMNS):
            odd = ", ".join(sorted(set(row) ^ set(COLUMNS)))
            raise SettingsError(f"{path}: row {number} must have the columns {', '.join(COLUMNS)}; see {odd}")
    frame = pd.DataFrame(rows, columns=list(COLUMNS)).astype({"value": float})
    frame["factor"] = [f"{float(factor):g}" for factor in frame["factor"]]
    frame["snr"] = [snr_text(float(snr)) for snr in frame["snr"]]
    with atomic(path) as temporary:
        frame.to_csv(temporary, index=False, lineterminator="\n")


def read_results(path: str | Path) -> list[dict[str, Any]]:
    """Read rows from the CSV of `write_results`, or of before; factor, SNR (`CLEAN` for no noise), value come as float.

    Raises:
        ScanError: The file cannot be read, its columns are others, or a factor, SNR or value is no number.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ()) not in (COLUMNS, SINGLE_COLUMNS, OLD_COLUMNS):
                raise ScanError(
                    f"{path}: columns must be {', '.join(COLUMNS)}, got {reader.fieldnames}; evaluate again"
                )
            return [_parsed(path, reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ScanError(f"{path}: results must be readable, got '{error}'; evaluate again") from error


def _parsed(path: str | Path, line: int, row: Mapping[str, Any]) -> dict[str, Any]:
    if None in row or None in row.values():
        raise ScanError(f"{path}: a line must have a value a column, line {line} has not; evaluate again")
    found: dict[str, Any] = {"scans": ONE, **row}
    if "snr" not in row:
        found |= {"snr": "", "method": OLD_NAMES.get(row["method"], row["method"])}
    try:
        numbers = {"factor": float(row["factor"]), "snr": snr_of(found["snr"]), "value": float(row["value"] or "nan")}
    except ValueError as error:
        raise ScanError(
            f"{path}: factor, snr and value must be numbers, line {line} has '{error}'; evaluate again"
        ) from error
    return {name: {**found, **numbers}[name] for name in COLUMNS}


def tabulate(rows: Iterable[Row]) -> Table:
    """Return subject to value for every cell, in the order shown; values that are NaN or Inf are left out.

    Raises:
        SettingsError: Two rows give the same number.
    """
    rows, cell = list(rows), list(Cell._fields)
    frame = pd.DataFrame(rows, columns=list(COLUMNS)).astype({"factor": float, "snr": float, "value": float})
    for row in frame[frame.duplicated([*cell, "subject"])].itertuples():
        told = row.factor, snr_text(row.snr), row.scans, row.metric, row.region, row.method
        raise SettingsError(f"results: each number must stand once, {row.subject} has two of {told}; remove one")
    frame = frame[np.isfinite(frame["value"])]
    orders = {"metric": [*quantities(), *frame["metric"]], "region": frame["region"], "method": methods_of(rows)}
    orders["scans"] = sorted(frame["scans"], key=scans_order)
    for column, values in orders.items():
        frame[column] = pd.Categorical(frame[column], list(dict.fromkeys(values)))
    # from the cleanest to the noisiest; infinity is a group of its own, as NaN would not be
    by = dict.fromkeys(("factor", "snr", "scans", "metric", "region", "method", "subject"), True) | {"snr": False}
    groups = frame.sort_values(list(by), ascending=list(by.values())).groupby(cell, sort=False, observed=True)
    return {Cell(*key): dict(zip(group["subject"], group["value"])) for key, group in groups}


def methods_of(rows: Iterable[Row]) -> list[str]:
    """Return the methods of the rows: known ones in the order of `METHODS`, others after them, the truth last."""
    found = {str(row["method"]) for row in rows}
    known = [name for name in METHODS if name in found]
    return [*known, *sorted(found - METHODS.keys() - {TRUTH}), *({TRUTH} & found)]


def groups_of(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Return group to its animals, both sorted; the group of animals without one is ''."""
    groups = pd.DataFrame(rows, columns=list(COLUMNS)).groupby("group")["subject"]
    return {str(group): sorted(members.unique()) for group, members in groups}


def shown(metric: str, value: float | None) -> str:
    """Return a number as it is printed, as its metric wants it; a dash where there is none."""
    return DASH if value is None or math.isnan(value) else quantity(metric).text(value)


def signed(value: float, decimals: int) -> str:
    """Return a number with its sign, a true minus sign before a negative one; zero has none."""
    text = f"{value:+.{decimals}f}"
    return text[1:] if not float(text) else text.replace("-", "\u2212")
