"""The report of an evaluation: one HTML file that needs nothing beside itself, `report.html.j2` filled in."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, StrictUndefined

from bida.experiment.design import CLEAN, ONE, snr_text
from bida.experiment.methods import TRUTH, label_of, shown_as
from bida.experiment.metrics import METRICS, quantities, quantity
from bida.experiment.report.figures import bland_altman, box_plots
from bida.experiment.report.tables import (
    NO_GROUP,
    Entry,
    Summary,
    animals,
    by_condition,
    each_structure,
    failed,
    groups,
    others,
    pooled,
    tests,
    title,
)
from bida.experiment.results import Row, condition_of, conditions_of, tabulate
from bida.experiment.summary import finding
from bida.io.files import atomic

TEMPLATE = "report.html.j2"
DIRECTION = {1: "; higher is better", -1: "; lower is better", 0: ""}


class Picture(NamedTuple):
    """A PNG in base64, what it shows for who cannot see it, and the line under it."""

    png: str
    shows: str
    caption: str


def write_report(
    path: str | Path,
    rows: Sequence[Row],
    summary: Summary,
    montages: Sequence[tuple[str, bytes]],
    settings: Mapping[str, Any],
    command: str,
    failures: Sequence[Mapping[str, Any]],
    notes: Sequence[str],
) -> None:
    """Write the report of an evaluation as one HTML file, without scripts and without anything to load, atomically.

    Args:
        path: HTML file to write.
        rows: See ``bida.experiment.results.COLUMNS``.
        summary: What ``bida.experiment.summary.summarise`` returns for these rows.
        montages: (title, PNG) of each, in the order shown.
        settings: Name to value of what was used: data, versions, hash of the weights, and so on.
        command: The command that repeats the evaluation; empty where there is none.
        failures: What failed: ``subject``, ``error`` and whatever else names it; a ``traceback`` is not shown. A
            ``method`` named here keeps its place in tables and figures, with a gap for its numbers.
        notes: Limits that the reader must know, a sentence or more each.

    Raises:
        SettingsError: Two rows give the same number.
        ScanError: The file cannot be written.
    """
    lost = [str(failure["method"]) for failure in failures if "method" in failure]
    methods = [name for name in dict.fromkeys((*summary["methods"], *lost)) if name != TRUTH]
    cells, structures, comparisons = summary["cells"], summary["structures"], summary["comparisons"]
    conditions = conditions_of(summary["conditions"])
    text = template().render(
        summary=summary,
        truth=TRUTH,
        ours=label_of(summary["reference"]),
        factors=[f"{factor:g}\u00d7" for factor in summary["factors"]],
        noise=[snr_text(snr) for snr in dict.fromkeys(one.snr for one in conditions) if snr != CLEAN],
        clean=any(one.snr == CLEAN for one in conditions),
        scans=[scans for scans in dict.fromkeys(one.scans for one in conditions) if scans != ONE],
        said=[*_findings(comparisons), *_volumes(summary)],
        notes=notes,
        command=command,
        settings=[(name, one if isinstance(one, str) else json.dumps(one)) for name, one in settings.items()],
        methods=[_meaning(name) for name in (*methods, TRUTH) if shown_as(name).meaning],
        quantities=[(one.label, one.meaning + DIRECTION[one.better]) for one in map(quantity, _measured(summary))],
        results=by_condition(cells, conditions, methods, [name for name, one in quantities().items() if one.main]),
        boxes=_boxes(rows, methods),
        montages=_montages(montages),
        first_tests=tests(comparisons, first=True),
        other_tests=tests(comparisons, first=False),
        claims=[f"{title(e['metric'], e['region'])}, {condition_of(e)}: {e['claim']}." for e in comparisons],
        pooled=pooled(structures) if structures else [],
        agreement=_agreement(rows) if any(entry["against"] == "labels" for entry in structures) else None,
        structures=[each_structure(structures, condition) for condition in conditions],
        others=others(summary, methods),
        groups=_groups(summary["groups"]),
        group_tables=groups(summary, methods),
        animals=animals(rows, summary, methods),
        failures=failed(failures),
    )
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def template() -> Any:
    """Return the page with gaps; whatever is put into them is escaped, and one that is left empty is an error."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(files(__package__).joinpath(TEMPLATE).read_text(encoding="utf-8"))


def _findings(comparisons: Sequence[Entry]) -> list[str]:
    """Return what the paper's two measures show against the main rivals, with the test's word where it has one."""
    inside = any(entry["metric"] == "psnr" and entry["region"] in ("brain", "tissue") for entry in comparisons)
    passed_over = ("psnr", "whole") if inside else None  # black background flatters every method
    found = []
    for entry in sorted(
        comparisons, key=lambda entry: (entry["metric"] != "psnr", entry["region"], condition_of(entry).order)
    ):
        place = entry["metric"], entry["region"]
        if quantity(entry["metric"]).first and shown_as(entry["method"]).main and place != passed_over:
            said = finding(entry) if entry["smallest_p"] >= entry["level"] else entry["claim"]
            found.append(f"{title(*place)}, {condition_of(entry)}: {said}.")
    return found


def _volumes(summary: Summary) -> list[str]:
    found = []
    for condition in conditions_of(summary["conditions"]):
        errors = [
            f"{entry['absolute_percent']:.1f}% {label_of(entry['method'])}"
            for entry in summary["structures"]
            if (entry["against"], entry["structure"], condition_of(entry)) == ("labels", "", condition)
        ]
        if errors:
            found.append(f"Volumes of structures, {condition}: mean absolute error {', '.join(errors)}.")
    return found


def _groups(groups: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the animals of each group, nothing where no group has a name."""
    return [f"{group or NO_GROUP}: {', '.join(members)}" for group, members in groups.items() if any(groups)]


def _meaning(name: str) -> tuple[str, str]:
    """Return what a method is called, and what it is, with its name in --methods where that is another."""
    label = label_of(name)
    return label, shown_as(name).meaning + ("" if label == name else f" (--methods {name})")


def _measured(summary: Summary) -> list[str]:
    """Return the names of the numbers that there are, those of structures last."""
    there = {cell["metric"] for cell in summary["cells"]}
    return [name for name in quantities() if name in there] + [*METRICS["volumes"].shows] * bool(summary["structures"])


def _picture(png: bytes, shows: str, caption: str) -> Picture:
    return Picture(base64.b64encode(png).decode("ascii"), shows, caption)


def _boxes(rows: Sequence[Row], methods: Sequence[str]) -> list[Picture]:
    return [
        _picture(
            box_plots(rows, metric, region, methods),
            f"Box plots of {title(metric, region)} by method, a column a factor, a row an SNR and set of scans",
            f"{title(metric, region)}. Boxes: median and quartiles; a marker an animal, joined by a line.",
        )
        for metric, region in dict.fromkeys((c.metric, c.region) for c in tabulate(rows) if quantity(c.metric).first)
    ]


def _montages(montages: Sequence[tuple[str, bytes]]) -> list[Picture]:
    kind = "thick slices, methods and truth as columns, planes as rows, each with its difference to the truth"
    return [_picture(png, f"Montage of {name}: {kind}", name) for name, png in montages]


def _agreement(rows: Sequence[Row]) -> Picture:
    shows = "Volume error over structure size, a column a method, a row a factor, SNR and set of scans"
    lines = "A point is a structure of an animal; the lines and numbers are bias and 95% limits of agreement."
    return _picture(bland_altman(rows), shows, f"{shows}. {lines}")
