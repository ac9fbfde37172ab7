"""The summary of an evaluation: numbers over animals, paired comparisons, agreement of volumes, claims worded by N."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import count
from typing import Any

import numpy as np

from bida.errors import SettingsError
from bida.eval.statistics import bootstrap_interval, compare, holm, smallest_p
from bida.eval.structures import agreement
from bida.experiment.design import Condition
from bida.experiment.methods import TRUTH, label_of, reference_of
from bida.experiment.metrics import quantity
from bida.experiment.results import (
    Cell,
    Row,
    Table,
    condition_of,
    conditions_of,
    groups_of,
    methods_of,
    signed,
    tabulate,
)

Pair = tuple[str, float, float]  # animal, volume, reference volume, mm^3
FAMILY = "every other method at every factor, noise level and set of scans, for one metric in one region"


def summarise(rows: Sequence[Row], reference: str | None = None, level: float = 0.001) -> dict[str, Any]:
    """Return what the rows show, as JSON can hold it: a number that does not exist is None.

    Args:
        rows: See `COLUMNS`.
        reference: The method that every other one is compared with, paired by animal; bida's where None.
        level: Of significance, after Holm's correction over the `FAMILY`.

    Returns:
        ``cells`` (mean, SD, median, range, bootstrap interval of the mean for each factor, metric, region, method,
        SNR, which is None for slices without noise, and set of scans),
        ``group_cells`` (the same for each group where there are several), ``comparisons``, ``structures`` (bias and
        95% limits of agreement of their volumes, mean Dice), and what they rest on.

    Raises:
        SettingsError: There is no row, two rows give the same number, or the level is not between 0 and 1.
    """
    if not rows:
        raise SettingsError("results: a summary needs at least one row, got none")
    if not 0 < level < 1:
        raise SettingsError(f"level: must be between 0 and 1, got {level:g}")
    table, groups, methods = tabulate(rows), groups_of(rows), methods_of(rows)
    reference = reference or reference_of([name for name in methods if name != TRUTH] or methods)
    subjects = sorted({subject for members in groups.values() for subject in members})
    needed = next(n for n in count(1) if smallest_p(n) < level)
    summary = {
        "reference": reference,
        "level": level,
        "family": FAMILY,
        "subjects": subjects,
        "n": len(subjects),
        "smallest_p": smallest_p(len(subjects)),
        "pairs_needed": needed,
        "groups": groups,
        "factors": sorted({float(row["factor"]) for row in rows}),
        "conditions": [condition._asdict() for condition in conditions_of(rows)],
        "methods": methods,
        "cells": [
            cell._asdict() | describe(list(values.values()))
            for cell, values in table.items()
            if not cell.metric.startswith("structure_")
        ],
        "group_cells": _group_cells(table, groups) if len(groups) > 1 else [],
        "comparisons": _comparisons(table, reference, level),
        "structures": _structures(table),
    }
    return _without_nan(summary)


def describe(values: Sequence[float]) -> dict[str, float | int]:
    """Return n, mean, sd (n - 1 as divisor), median, min, max and 95% bootstrap interval of the mean; NaN for none."""
    low, high = bootstrap_interval(values)
    return {
        "n": len(values),
        "mean": float(np.mean(values)),
        "sd": float(np.std(values, ddof=1)) if len(values) > 1 else math.nan,
        "median": float(np.median(values)),
        "min": float(min(values)),
        "max": float(max(values)),
        "low": low,
        "high": high,
    }


def _group_cells(table: Table, groups: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    found = []
    for cell, values in table.items():
        for group, members in groups.items():
            inside = [values[subject] for subject in members if subject in values]
            if inside and not cell.metric.startswith("structure_"):
                found.append({"group": group, **cell._asdict(), **describe(inside)})
    return found


def _comparisons(table: Table, reference: str, level: float) -> list[dict[str, Any]]:
    """Compare the reference with every other method; p corrected within a metric and region."""
    found = []
    for cell, values in table.items():
        ours = table.get(cell._replace(method=reference), {})
        pairs = sorted(ours.keys() & values.keys())
        if not quantity(cell.metric).compared or cell.method in (reference, TRUTH) or not pairs:
            continue
        a, b = [ours[subject] for subject in pairs], [values[subject] for subject in pairs]
        difference = np.subtract(a, b)
        extremes = {"smallest": float(difference.min()), "largest": float(difference.max())}
        signs = {"above": int((difference > 0).sum()), "below": int((difference < 0).sum())}
        tested = asdict(compare(a, b))
        tested["interval"] = tested.pop("level")
        found.append({**cell._asdict(), "reference": reference, "level": level, **tested, **extremes, **signs})
    size = Counter((entry["metric"], entry["region"]) for entry in found)
    for metric, region in size:
        family = [entry for entry in found if (entry["metric"], entry["region"]) == (metric, region)]
        ps = [entry["p"] for entry in family]
        for index, (entry, p) in enumerate(zip(family, holm(ps))):
            best = holm([*ps[:index], entry["smallest_p"], *ps[index + 1 :]])[index]
            entry |= {"p_holm": p, "smallest_p_holm": best, "family_size": len(family)}
            entry["claim"] = worded(entry)
    return found


def worded(entry: Mapping[str, Any]) -> str:
    """Return what a comparison of the summary shows as a sentence that claims no more than its N allows."""
    return f"{finding(entry)}; {verdict(entry)}"


def finding(entry: Mapping[str, Any]) -> str:
    """Return on how many animals the reference is above or below the other method, and by how much."""
    n, metric, ours, theirs = (
        entry["n"],
        quantity(entry["metric"]),
        *map(label_of, (entry["reference"], entry["method"])),
    )
    counts = {"above": entry["above"], "below": entry["below"], "equal to": n - entry["above"] - entry["below"]}
    first, *others = sorted((word for word, times in counts.items() if times), key=lambda word: -counts[word])
    text = f"{ours} {first} {theirs} on {counts[first]} of {n} animal{'s' * (n > 1)}"
    text += "".join(f", {word.removesuffix(' to')} on {counts[word]}" for word in others)
    ends = dict.fromkeys(signed(entry[key], metric.decimals) for key in ("smallest", "largest"))
    unit = f" {metric.unit}" if metric.unit else ""
    return f"{text} ({' to '.join(ends)}{unit}{'; lower is better' if metric.better < 0 else ''})"


def verdict(entry: Mapping[str, Any]) -> str:
    """Return what the test says, or that so few pairs let it say nothing."""
    n, level, size = entry["n"], entry["level"], entry["family_size"]
    correction, smallest = "", entry["smallest_p"]
    if smallest < level:
        correction, smallest = f" after Holm's correction over {size} comparisons", entry["smallest_p_holm"]
    if not smallest < level:
        reach = f"cannot reach p < {level:g}{correction} (smallest possible {smallest:.2g})"
        return f"{n} pair{'s' * (n > 1)} {reach}, so no significance is claimed"
    significant = "significant" if entry["p_holm"] < level else "not significant"
    return f"p = {entry['p_holm']:.2g}{correction}: {significant} at {level:g}"


def _own_volumes(table: Table) -> dict[tuple[str, str], float]:
    """Return (subject, structure) to the volume of the animal's own labels, mm^3: v / (1 + error / 100)."""
    own = {}
    for cell, errors in table.items():
        if cell.metric == "structure_error":
            volumes = table.get(cell._replace(metric="structure_volume"), {})
            for subject in errors.keys() & volumes.keys():
                if volumes[subject] > 0:  # a structure that was not found at all tells nothing of its true size
                    own[subject, cell.region] = volumes[subject] / (1 + errors[subject] / 100)
    return own


def structure_pairs(table: Table, against: str = "labels") -> dict[Cell, list[Pair]]:
    """Return, for every cell of structure volumes, (subject, volume, reference volume) in mm^3.

    A structure that a method lost altogether has no row of its volume and counts as 0: leaving it out would favour
    the method.

    Args:
        table: See ``bida.experiment.results.tabulate``.
        against: ``labels``, the animal's own, or `TRUTH`, the volume measured on the truth. A structure that the
            reference lacks has no pair.
    """
    own = _own_volumes(table) if against == "labels" else {}
    measured = _measured(table)
    regions = list(dict.fromkeys(cell.region for cell in table if cell.metric == "structure_volume"))
    found = {}
    for (condition, method), subjects in measured.items():
        if against == method == TRUTH:
            continue
        for region in regions:
            cell = Cell(condition.factor, "structure_volume", region, method, condition.snr, condition.scans)
            truth = table.get(cell._replace(method=TRUTH), {})
            reference = truth if against == TRUTH else {s: own.get((s, region), 0.0) for s in subjects}
            volumes = table.get(cell, {})
            pairs = [(s, volumes.get(s, 0.0), reference[s]) for s in subjects if reference.get(s, 0.0) > 0]
            if pairs:
                found[cell] = pairs
    return found


def _measured(table: Table) -> dict[tuple[Condition, str], list[str]]:
    """Return (condition, method) to the animals in which it measured any structure."""
    found: dict[tuple[Condition, str], set[str]] = {}
    for cell, volumes in table.items():
        if cell.metric == "structure_volume":
            found.setdefault((condition_of(cell._asdict()), cell.method), set()).update(volumes)
    return {key: sorted(subjects) for key, subjects in found.items()}


def _structures(table: Table) -> list[dict[str, Any]]:
    """Return bias, limits of agreement and Dice of every structure and, as structure '', of all of them pooled."""
    found = []
    for against, dice in (("labels", "structure_dice"), (TRUTH, "structure_dice_hr")):
        pooled: dict[Cell, tuple[list[Pair], list[float]]] = {}
        for cell, pairs in structure_pairs(table, against).items():
            overlaps = list(table.get(cell._replace(metric=dice), {}).values())
            found.append(_agreement(against, cell, pairs, overlaps))
            all_pairs, all_overlaps = pooled.setdefault(cell._replace(region=""), ([], []))
            all_pairs += pairs
            all_overlaps += overlaps
        found += [_agreement(against, cell, pairs, overlaps) for cell, (pairs, overlaps) in pooled.items()]
    return found


def _agreement(against: str, cell: Cell, pairs: Sequence[Pair], overlaps: Sequence[float]) -> dict[str, Any]:
    test, reference = (np.array([pair[i] for pair in pairs], dtype=np.float64) for i in (1, 2))
    percent = 100 * (test / reference - 1)
    size, share = agreement(test, reference), agreement(percent, np.zeros_like(percent))
    return {
        "against": against,
        "factor": cell.factor,
        "snr": cell.snr,
        "scans": cell.scans,
        "method": cell.method,
        "structure": cell.region,
        "n": size.n,
        "animals": len({subject for subject, _, _ in pairs}),
        "reference_mm3": float(reference.mean()),
        "bias_mm3": size.bias,
        "lower_mm3": size.lower,
        "upper_mm3": size.upper,
        "bias_percent": share.bias,
        "lower_percent": share.lower,
        "upper_percent": share.upper,
        "absolute_percent": float(np.abs(percent).mean()),
        "dice": float(np.mean(overlaps)) if overlaps else math.nan,
    }


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
