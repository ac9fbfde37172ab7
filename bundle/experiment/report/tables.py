"""The tables of the report as plain rows of text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from bida.experiment.design import Condition
from bida.experiment.methods import TRUTH, label_of
from bida.experiment.metrics import quantities, quantity
from bida.experiment.results import DASH, Row, condition_of, conditions_of, shown, signed, tabulate

Summary = Mapping[str, Any]
Entry = Mapping[str, Any]

NO_GROUP = "without a group"


class Sheet(NamedTuple):
    """A table: line over it, titles of the columns, lines of a cell a column, how many columns, first, hold words."""

    caption: str
    head: Sequence[str]
    lines: Sequence[Sequence[str]]
    words: int = 1


def title(metric: str, region: str, unit: bool = False) -> str:
    """Return a metric's name with its region, as "PSNR, brain (dB)"."""
    known = quantity(metric)
    return known.label + (f", {region}" if region else "") + (f" ({known.unit})" if unit and known.unit else "")


def by_condition(
    cells: Sequence[Entry],
    conditions: Sequence[Condition],
    methods: Sequence[str],
    metrics: Iterable[str],
    who: str = "",
) -> list[Sheet]:
    """Return a table a condition: a line a method, mean ± SD of every metric and region, a dash for none."""
    wanted = list(metrics)
    columns = list(dict.fromkeys((c["metric"], c["region"]) for c in cells if c["metric"] in wanted))
    columns.sort(key=lambda column: wanted.index(column[0]))
    found = {(condition_of(c), c["metric"], c["region"], c["method"]): c for c in cells}
    n = max((cell["n"] for cell in cells), default=0)
    head = ["method", *(title(*column, unit=True) for column in columns)]
    spread = "mean \u00b1 standard deviation over animals" if n > 1 else "one animal"
    return [
        Sheet(
            f"{who}{condition}: {spread}",
            head,
            [_line(name, [found.get((condition, *column, name)) for column in columns], n) for name in methods],
        )
        for condition in (conditions if columns else ())
    ]


def _line(method: str, cells: Sequence[Entry | None], n: int) -> list[str]:
    """Return a method's line; where animals are missing it says how many there are, beside the name if it can."""
    most = max((cell["n"] for cell in cells if cell), default=n)
    name = label_of(method)
    line = [name if most == n else f"{name} (n = {most})"]
    for cell in cells:
        text = shown(cell["metric"], cell["mean"]) if cell else DASH
        text += f" \u00b1 {shown(cell['metric'], cell['sd'])}" if cell and cell["sd"] is not None else ""
        line.append(text + (f" (n = {cell['n']})" if cell and cell["n"] < most else ""))
    return line


def tests(comparisons: Sequence[Entry], first: bool) -> list[Sheet]:
    """Return a table a metric and region of those that are told first, or of the others: a line a comparison."""
    families: dict[tuple[str, str], list[Entry]] = {}
    for entry in comparisons:
        if quantity(entry["metric"]).first == first:
            families.setdefault((entry["metric"], entry["region"]), []).append(entry)
    return [_tests(entries, title(*family, unit=True)) for family, entries in families.items()]


def _tests(entries: Sequence[Entry], caption: str) -> Sheet:
    ours, decimals = label_of(entries[0]["reference"]), quantity(entries[0]["metric"]).decimals
    head = ["against", "factor", "pairs", "mean difference", "95% interval", f"{ours} larger on", "effect", "p"]
    lines = [
        [
            label_of(entry["method"]),
            str(condition_of(entry)),
            str(entry["n"]),
            signed(entry["mean_difference"], decimals),
            limits(entry["low"], entry["high"], decimals),
            f"{entry['above']} of {entry['n']}",
            signed(entry["effect"], 2),
            *(f"{entry[key]:.2g}" for key in ("p", "p_holm", "smallest_p")),
        ]
        for entry in entries
    ]
    return Sheet(caption, [*head, "p (Holm)", "smallest p"], lines)


def limits(low: float | None, high: float | None, decimals: int) -> str:
    """Return two ends in words, a dash where there are none."""
    return DASH if low is None or high is None else f"{signed(low, decimals)} to {signed(high, decimals)}"


def pooled(structures: Sequence[Entry]) -> list[Sheet]:
    """Return the agreement of all structures' volumes together, with the animals' own labels and with the truth's."""
    head = (
        "method",
        "factor",
        "volumes (animals)",
        "mean |error| (%)",
        "bias (%)",
        "limits of agreement (%)",
        "mean Dice",
    )
    words = {"labels": "the animals' own labels", TRUTH: "the labels carried onto the truth"}
    return [
        Sheet(
            f"All structures pooled, against {words[against]}",
            head,
            [_pooled(entry) for entry in structures if entry["against"] == against and not entry["structure"]],
        )
        for against in words
    ]


def _pooled(entry: Entry) -> list[str]:
    return [
        label_of(entry["method"]),
        str(condition_of(entry)),
        f"{entry['n']} ({entry['animals']})",
        f"{entry['absolute_percent']:.1f}",
        signed(entry["bias_percent"], 1),
        limits(entry["lower_percent"], entry["upper_percent"], 1),
        shown("structure_dice", entry["dice"]),
    ]


def each_structure(structures: Sequence[Entry], condition: Condition) -> Sheet:
    """Return the agreement of every structure's volumes with the animals' own labels, a column a method."""
    own = [e for e in structures if e["against"] == "labels" and e["structure"] and condition_of(e) == condition]
    methods = list(dict.fromkeys(entry["method"] for entry in own))
    found = {(entry["structure"], entry["method"]): entry for entry in own}
    lines = []
    for structure in dict.fromkeys(entry["structure"] for entry in own):
        line = [found.get((structure, method)) for method in methods]
        size = max((entry["animals"], entry["reference_mm3"]) for entry in line if entry)[1]
        lines.append([structure, f"{size:.3g}", *(_bias(entry) for entry in line)])
    caption = f"{condition}: bias (limits of agreement), %, against the animals' own labels"
    return Sheet(caption, ["structure", "mean size (mm\u00b3)", *map(label_of, methods)], lines)


def _bias(entry: Entry | None) -> str:
    if entry is None:
        return DASH
    ends = limits(entry["lower_percent"], entry["upper_percent"], 1)
    return signed(entry["bias_percent"], 1) + ("" if ends == DASH else f" ({ends})")


def others(summary: Summary, methods: Sequence[str]) -> list[Sheet]:
    """Return the tables of all metrics that are neither of the main table nor of structures."""
    metrics = dict.fromkeys(cell["metric"] for cell in summary["cells"] if not quantity(cell["metric"]).main)
    return by_condition(summary["cells"], conditions_of(summary["conditions"]), [*methods, TRUTH], metrics)


def groups(summary: Summary, methods: Sequence[str]) -> list[Sheet]:
    """Return the tables of the groups; the numbers of a single animal stand in its own table."""
    return [
        sheet
        for group, animals in summary["groups"].items()
        if len(animals) > 1
        for sheet in by_condition(
            [cell for cell in summary["group_cells"] if cell["group"] == group],
            conditions_of(summary["conditions"]),
            methods,
            [name for name, one in quantities().items() if one.compared],
            f"{group or NO_GROUP}, ",
        )
    ]


def animals(rows: Sequence[Row], summary: Summary, methods: Sequence[str]) -> list[Sheet]:
    """Return the numbers of each animal, a table a condition."""
    numbers = tabulate(rows)
    columns = list(dict.fromkeys((cell.metric, cell.region) for cell in numbers if quantity(cell.metric).main))
    values = {
        (condition_of(cell._asdict()), cell.method, subject, cell.metric, cell.region): value
        for cell, found in numbers.items()
        for subject, value in found.items()
    }
    head = ["animal", "method", *(title(*column, unit=True) for column in columns)]
    return [
        Sheet(
            str(condition),
            head,
            [
                [
                    subject,
                    label_of(method),
                    *(shown(m, values.get((condition, method, subject, m, region))) for m, region in columns),
                ]
                for subject in summary["subjects"]
                for method in methods
            ],
            words=2,
        )
        for condition in (conditions_of(summary["conditions"]) if columns else ())
    ]


def failed(failures: Sequence[Mapping[str, Any]]) -> Sheet:
    """Return what failed; a traceback is left to failures.json."""
    keys = [key for key in dict.fromkeys(key for failure in failures for key in failure) if key != "traceback"]
    return Sheet("", keys, [[str(failure.get(key, "")) for key in keys] for failure in failures], words=len(keys))
