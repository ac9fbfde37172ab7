"""The tables of the report, with the words that go with them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bida.experiment.methods import TRUTH
from bida.experiment.metrics import quantities, quantity
from bida.experiment.report.figures import bland_altman
from bida.experiment.report.page import bullets, folded, heading, image, paragraph, table
from bida.experiment.results import DASH, Row, shown, signed, tabulate

Summary = Mapping[str, Any]
Entry = Mapping[str, Any]


def title(metric: str, region: str, unit: bool = False) -> str:
    """Return a metric's name with its region, as "PSNR, brain (dB)"."""
    known = quantity(metric)
    return known.label + (f", {region}" if region else "") + (f" ({known.unit})" if unit and known.unit else "")


def by_factor(
    cells: Sequence[Entry], factors: Sequence[float], methods: Sequence[str], metrics: Iterable[str], who: str = ""
) -> str:
    """Return a table a factor: a line a method, mean ± SD of every metric and region, a dash where there is none."""
    wanted = list(metrics)
    columns = list(dict.fromkeys((c["metric"], c["region"]) for c in cells if c["metric"] in wanted))
    columns.sort(key=lambda column: wanted.index(column[0]))
    found = {(c["factor"], c["metric"], c["region"], c["method"]): c for c in cells}
    n = max((cell["n"] for cell in cells), default=0)
    head = ["method", *(title(*column, unit=True) for column in columns)]
    spread = "mean \u00b1 standard deviation over animals" if n > 1 else "one animal"
    text = ""
    for factor in factors if columns else ():
        lines = [_line(name, [found.get((factor, *column, name)) for column in columns], n) for name in methods]
        text += table(head, lines, f"{who}{factor:g}\u00d7: {spread}")
    return text


def _line(method: str, cells: Sequence[Entry | None], n: int) -> list[str]:
    """Return a method's line; where animals are missing it says how many there are, beside the name if it can."""
    most = max((cell["n"] for cell in cells if cell), default=n)
    line = [method if most == n else f"{method} (n = {most})"]
    for cell in cells:
        text = shown(cell["metric"], cell["mean"]) if cell else DASH
        text += f" \u00b1 {shown(cell['metric'], cell['sd'])}" if cell and cell["sd"] is not None else ""
        line.append(text + (f" (n = {cell['n']})" if cell and cell["n"] < most else ""))
    return line


def claim(entry: Entry) -> str:
    """Return the claim of a comparison, after what it is about."""
    return f"{title(entry['metric'], entry['region'])}, {entry['factor']:g}\u00d7: {entry['claim']}."


def statistics(summary: Summary) -> str:
    """Return the section of the tests."""
    ours, entries = summary["reference"], summary["comparisons"]
    if not entries:
        return heading("Statistics") + paragraph(f"{ours} was compared with no other method.")
    text = (
        f"Wilcoxon's signed-rank test, two-sided, {ours} against each method on the same animals; p after Holm's "
        f"correction over {summary['family']}. The difference is {ours} minus the other method, with the 95% bootstrap "
        "interval of its mean over animals, which few animals make too narrow. Effect: matched-pairs rank-biserial "
        f"correlation, 1 where {ours} has the larger value on every animal, \u22121 where on none."
    )
    told = {
        first: "".join(
            _tests([e for e in entries if (e["metric"], e["region"]) == family], title(*family, unit=True))
            for family in dict.fromkeys((e["metric"], e["region"]) for e in entries)
            if quantity(family[0]).first == first
        )
        for first in (True, False)
    }
    return (
        heading("Statistics")
        + paragraph(text)
        + told[True]
        + folded("The other measures", told[False])
        + folded("Every comparison in words", bullets(claim(entry) for entry in entries))
    )


def _tests(entries: Sequence[Entry], caption: str) -> str:
    ours = entries[0]["reference"] if entries else ""
    head = ["against", "factor", "pairs", "mean difference", "95% interval", f"{ours} larger on", "effect", "p"]
    decimals = quantity(entries[0]["metric"]).decimals if entries else 0
    lines = [
        [
            entry["method"],
            f"{entry['factor']:g}\u00d7",
            str(entry["n"]),
            signed(entry["mean_difference"], decimals),
            limits(entry["low"], entry["high"], decimals),
            f"{entry['above']} of {entry['n']}",
            signed(entry["effect"], 2),
            *(f"{entry[key]:.2g}" for key in ("p", "p_holm", "smallest_p")),
        ]
        for entry in entries
    ]
    return table([*head, "p (Holm)", "smallest p"], lines, caption)


def limits(low: float | None, high: float | None, decimals: int) -> str:
    """Return two ends in words, a dash where there are none."""
    return DASH if low is None or high is None else f"{signed(low, decimals)} to {signed(high, decimals)}"


def structures(rows: Sequence[Row], summary: Summary) -> str:
    """Return the section of structure volumes, nothing where none was measured."""
    entries = summary["structures"]
    if not entries:
        return ""
    text = (
        "Labels of other animals were carried onto each volume by registration and fused. Bias is the mean volume "
        "error; the limits of agreement hold about 95% of single errors; hr shows what the carrying itself costs, on "
        "the truth. Structures of one animal are not independent, so that the pooled limits are a description."
    )
    head = [
        "method",
        "factor",
        "volumes (animals)",
        "mean |error| (%)",
        "bias (%)",
        "limits of agreement (%)",
        "mean Dice",
    ]
    words = {"labels": "the animals' own labels", TRUTH: "the labels carried onto the truth"}
    pooled = "".join(
        table(
            head,
            [_pooled(entry) for entry in entries if entry["against"] == against and not entry["structure"]],
            f"All structures pooled, against {words[against]}",
        )
        for against in words
    )
    figure = ""
    if any(entry["against"] == "labels" for entry in entries):
        seen = "Volume error over structure size, a column a method, a row a factor"
        figure = image(
            bland_altman(rows),
            seen,
            f"{seen}. A point is a structure of an animal; the lines and numbers are bias and 95% limits of agreement.",
        )
    each = "".join(_each_structure(entries, factor) for factor in summary["factors"])
    return heading("Volumes of structures") + paragraph(text) + pooled + figure + folded("Every structure", each)


def _pooled(entry: Entry) -> list[str]:
    return [
        entry["method"],
        f"{entry['factor']:g}\u00d7",
        f"{entry['n']} ({entry['animals']})",
        f"{entry['absolute_percent']:.1f}",
        signed(entry["bias_percent"], 1),
        limits(entry["lower_percent"], entry["upper_percent"], 1),
        shown("structure_dice", entry["dice"]),
    ]


def _each_structure(entries: Sequence[Entry], factor: float) -> str:
    own = [e for e in entries if e["against"] == "labels" and e["structure"] and e["factor"] == factor]
    methods = list(dict.fromkeys(entry["method"] for entry in own))
    found = {(entry["structure"], entry["method"]): entry for entry in own}
    lines = []
    for structure in dict.fromkeys(entry["structure"] for entry in own):
        line = [found.get((structure, method)) for method in methods]
        size = max((entry["animals"], entry["reference_mm3"]) for entry in line if entry)[1]
        lines.append([structure, f"{size:.3g}", *(_bias(entry) for entry in line)])
    caption = f"{factor:g}\u00d7: bias (limits of agreement), %, against the animals' own labels"
    return table(["structure", "mean size (mm\u00b3)", *methods], lines, caption)


def _bias(entry: Entry | None) -> str:
    if entry is None:
        return DASH
    ends = limits(entry["lower_percent"], entry["upper_percent"], 1)
    return signed(entry["bias_percent"], 1) + ("" if ends == DASH else f" ({ends})")


def others(summary: Summary, methods: Sequence[str]) -> str:
    """Return the section of all metrics that are neither of the main table nor of structures."""
    metrics = dict.fromkeys(cell["metric"] for cell in summary["cells"] if not quantity(cell["metric"]).main)
    text = by_factor(summary["cells"], summary["factors"], [*methods, TRUTH], metrics)
    return heading("Sharpness and other measures") + text if text else ""


def groups(summary: Summary, methods: Sequence[str]) -> str:
    """Return the section of the groups, nothing where all animals are of one."""
    members = summary["groups"]
    if len(members) < 2:
        return ""
    text = "".join(
        by_factor(
            [cell for cell in summary["group_cells"] if cell["group"] == group],
            summary["factors"],
            methods,
            [name for name, one in quantities().items() if one.compared],
            f"{group or 'without a group'}, ",
        )
        for group, animals in members.items()
        if len(animals) > 1  # the numbers of a single animal stand in its own table
    )
    said = "; ".join(f"{group or 'without a group'}: {', '.join(animals)}" for group, animals in members.items())
    note = "Groups are described, not tested. One of a single animal is found under Every animal."
    return heading("By group") + paragraph(f"{said}. {note}") + folded("Tables of the groups", text)


def animals(rows: Sequence[Row], summary: Summary, methods: Sequence[str]) -> str:
    """Return the section of the numbers of each animal."""
    numbers = tabulate(rows)
    columns = list(dict.fromkeys((cell.metric, cell.region) for cell in numbers if quantity(cell.metric).main))
    values = {
        (cell.factor, cell.method, subject, cell.metric, cell.region): value
        for cell, found in numbers.items()
        for subject, value in found.items()
    }
    head = ["animal", "method", *(title(*column, unit=True) for column in columns)]
    text = ""
    for factor in summary["factors"] if columns else ():
        lines = [
            [subject, method, *(shown(m, values.get((factor, method, subject, m, region))) for m, region in columns)]
            for subject in summary["subjects"]
            for method in methods
        ]
        text += table(head, lines, f"{factor:g}\u00d7", text_columns=2)
    return heading("Every animal") + folded("Tables of the animals", text) if text else ""
