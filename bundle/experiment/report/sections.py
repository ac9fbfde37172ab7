"""The report of an evaluation: one HTML file that needs nothing beside itself."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bida.experiment.methods import TRUTH, shown_as
from bida.experiment.metrics import METRICS, quantities, quantity
from bida.experiment.report.figures import box_plots
from bida.experiment.report.page import brief, bullets, code, definitions, heading, image, page, paragraph, table
from bida.experiment.report.tables import animals, by_factor, groups, others, statistics, structures, title
from bida.experiment.results import Row, tabulate
from bida.experiment.summary import finding
from bida.io.files import atomic

HIDDEN = ("traceback",)  # of a failure: failures.json has it

Summary = Mapping[str, Any]


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
    failed = [str(failure["method"]) for failure in failures if "method" in failure]
    methods = [name for name in dict.fromkeys((*summary["methods"], *failed)) if name != TRUTH]
    factors, main = summary["factors"], [name for name, one in quantities().items() if one.main]
    sections = [
        _brief(summary, failures),
        heading("Limits") + bullets(notes) if notes else "",
        _making(settings, command, methods, summary),
        heading("Results") + by_factor(summary["cells"], factors, methods, main),
        _boxes(rows, methods),
        _montages(montages),
        statistics(summary),
        structures(rows, summary),
        others(summary, methods),
        groups(summary, methods),
        animals(rows, summary, methods),
        _failures(failures),
    ]
    with atomic(path) as temporary:
        temporary.write_text(page("Thick-slice scans restored: an evaluation", sections), encoding="utf-8")


def _brief(summary: Summary, failures: Sequence[Mapping[str, Any]]) -> str:
    n, needed, level = summary["n"], summary["pairs_needed"], summary["level"]
    factors = " and ".join(f"{factor:g}\u00d7" for factor in summary["factors"])
    text = f"{n} animal{'s' * (n > 1)} ({', '.join(summary['subjects'])}); slices {factors} as thick as a voxel. "
    if n < needed:
        text += (
            f"With {n} pair{'s' * (n > 1)} the smallest p that the test can give is {summary['smallest_p']:.2g}, and "
            f"p < {level:g} needs {needed} pairs: what is said describes these animals; no significance is claimed."
        )
    lost = f"{len(failures)} part{'s' * (len(failures) > 1)} of the evaluation failed and left gaps: see Failures."
    said = bullets([*_findings(summary), *_volumes(summary)])
    return brief(paragraph(text) + said + paragraph(lost if failures else ""))


def _findings(summary: Summary) -> list[str]:
    """Return what the paper's two measures show against the main rivals, with the test's word where it has one."""
    entries = summary["comparisons"]
    inside = any((entry["metric"], entry["region"]) == ("psnr", "brain") for entry in entries)
    passed_over = ("psnr", "whole") if inside else None  # black background flatters every method
    found = []
    for entry in sorted(entries, key=lambda entry: (entry["metric"] != "psnr", entry["region"], entry["factor"])):
        place = entry["metric"], entry["region"]
        if quantity(entry["metric"]).first and shown_as(entry["method"]).main and place != passed_over:
            said = finding(entry) if entry["smallest_p"] >= entry["level"] else entry["claim"]
            found.append(f"{title(*place)}, {entry['factor']:g}\u00d7: {said}.")
    return found


def _volumes(summary: Summary) -> list[str]:
    found = []
    for factor in summary["factors"]:
        errors = [
            f"{entry['absolute_percent']:.1f}% {entry['method']}"
            for entry in summary["structures"]
            if (entry["against"], entry["structure"], entry["factor"]) == ("labels", "", factor)
        ]
        if errors:
            found.append(f"Volumes of structures, {factor:g}\u00d7: mean absolute error {', '.join(errors)}.")
    return found


def _making(settings: Mapping[str, Any], command: str, methods: Sequence[str], summary: Summary) -> str:
    facts = [(name, value if isinstance(value, str) else json.dumps(value)) for name, value in settings.items()]
    known = [(name, shown_as(name).meaning) for name in (*methods, TRUTH) if shown_as(name).meaning]
    measured = [name for name in quantities() if any(cell["metric"] == name for cell in summary["cells"])]
    measured += METRICS["volumes"].shows if summary["structures"] else []
    direction = {1: "; higher is better", -1: "; lower is better", 0: ""}
    metrics = [(m.label, m.meaning + direction[m.better]) for m in map(quantity, measured)]
    text = (
        "Isotropic scans were made thick by a scanner's slice profile. Every method restored them from these "
        "thick slices alone, and the result was compared with the isotropic scan."
    )
    return (
        heading("What was done")
        + paragraph(f"{text} This command repeats it:" if command else text)
        + (code(command) if command else "")
        + definitions(facts)
        + heading("Methods", 3)
        + definitions(known)
        + heading("What the numbers mean", 3)
        + definitions(metrics)
    )


def _boxes(rows: Sequence[Row], methods: Sequence[str]) -> str:
    pictures = dict.fromkeys((cell.metric, cell.region) for cell in tabulate(rows) if quantity(cell.metric).first)
    figures = [
        image(
            box_plots(rows, metric, region, methods),
            f"Box plots of {title(metric, region)} by method, a panel a factor",
            f"{title(metric, region)}. Boxes: median and quartiles; a marker an animal, joined by a line.",
        )
        for metric, region in pictures
    ]
    return heading("By method and factor") + "".join(figures) if figures else ""


def _montages(montages: Sequence[tuple[str, bytes]]) -> str:
    text = (
        "Middle of the brain; in a picture all panels share one grey window and one length scale. LR is shown as thick "
        "as it is. Under every row of images stands the method minus the truth, on one colour scale for all methods."
    )
    kind = "thick slices, methods and truth as columns, planes as rows, each with its difference to the truth"
    figures = [image(picture, f"Montage of {name}: {kind}", name) for name, picture in montages]
    return heading("What it looks like") + paragraph(text) + "".join(figures) if figures else ""


def _failures(failures: Sequence[Mapping[str, Any]]) -> str:
    keys = [key for key in dict.fromkeys(key for failure in failures for key in failure) if key not in HIDDEN]
    lines = [[str(failure.get(key, "")) for key in keys] for failure in failures]
    return heading("Failures") + table(keys, lines, "", len(keys)) if failures else ""
