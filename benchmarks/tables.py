"""Write the figures of an evaluation into Markdown files, between the markers evaluation and volumes, as it has them.

bida evaluate --data DATA/mouse-rtg4510 --out evaluation --jobs 2
python benchmarks/tables.py evaluation/results.csv models/MODEL_CARD.md docs/results.md

Figures of heads go between the markers heads, of the CSV files of several data sets, one after the other, and the few
of both that a newcomer sees between the markers short, of the mice's results and the heads':

python benchmarks/tables.py --heads rminc/results.csv sigma/results.csv -- docs/results.md
python benchmarks/tables.py --short docs/evaluation/results.csv docs/evaluation/heads.csv -- README.md
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from bida.experiment.methods import METHODS, TRUTH, label_of
from bida.experiment.report.tables import limits
from bida.experiment.results import condition_of, conditions_of, read_results
from bida.experiment.summary import summarise

MARKERS = "<!-- {name}: begin -->\n", "<!-- {name}: end -->"
COLUMNS = (  # metric, region, decimals, heading
    ("psnr", "whole", 2, "PSNR, dB"),
    ("psnr", "brain", 2, "PSNR in the brain, dB"),
    ("ssim", "whole", 3, "SSIM"),
    ("cdsc", "builtin", 4, "cDSC"),
    ("hd95", "builtin", 2, "HD95, mm"),
    ("sharpness", "A", 2, "sharpness through-plane"),
    ("bricks", "", 2, "brick index"),
    ("cpu_seconds", "", 0, "CPU seconds"),
)
OF_HEADS = (
    ("psnr", "tissue", 2, "PSNR in tissue, dB"),
    ("ssim", "tissue", 3, "SSIM in tissue"),
    ("bricks", "", 2, "brick index"),
    ("cpu_seconds", "", 0, "CPU seconds"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="?", help="results.csv of bida evaluate")
    parser.add_argument("files", type=Path, nargs="+", help="Markdown files with the markers")
    parser.add_argument("--heads", type=Path, nargs="+", help="results.csv of each data set of heads, instead")
    parser.add_argument("--short", type=Path, nargs=2, help="results.csv of mice and of heads, instead")
    arguments = parser.parse_args()
    files = list(filter(None, (arguments.results, *arguments.files)))
    if arguments.heads:
        content = {
            "heads": tables(summarise([row for file in arguments.heads for row in read_results(file)]), OF_HEADS)
        }
    elif arguments.short:
        content = {"short": short(*(summarise(read_results(file)) for file in arguments.short))}
    elif arguments.results is None:
        parser.error("results: a results.csv must be named, or --heads or --short")
    else:
        files.remove(arguments.results)
        content = of_mice(summarise(read_results(arguments.results)))
    for file in files:
        text = file.read_text(encoding="utf-8")
        asked = [name for name in content if MARKERS[0].format(name=name) in text] or list(content)
        for name in asked:
            text = replaced(file, text, name, content[name])
        file.write_text(text, encoding="utf-8")


def of_mice(summary: dict) -> dict[str, str]:
    """Return what goes between the markers of an evaluation's figures, by their names."""
    content = {}
    if any(cell["metric"] == "psnr" for cell in summary["cells"]):
        content["evaluation"] = tables(summary)
    if summary["structures"]:
        content["volumes"] = volumes(summary)
    return content


def short(mice: dict, heads: dict) -> str:
    """Return PSNR by cubic interpolation and by the mean, of mice in the brain and of heads in tissue: a row each."""
    lines = ["| PSNR, dB | cubic | `bida` | gain |", "| --- | --- | --- | --- |"]
    for label, summary, region in (("mouse brains", mice, "brain"), ("heads, mouse and rat", heads, "tissue")):
        found = {
            (condition_of(cell), cell["method"]): cell["mean"]
            for cell in summary["cells"]
            if (cell["metric"], cell["region"]) == ("psnr", region)
        }
        for condition in conditions_of(summary["conditions"]):
            cubic, mean = found[condition, "cubic"], found[condition, "bida"]
            lines.append(f"| {label}, {condition} | {cubic:.2f} | {mean:.2f} | {mean - cubic:+.2f} |")
    return "\n".join([*lines, ""])


def replaced(file: Path, text: str, name: str, content: str) -> str:
    """Return a file's text with other content between the markers of a name."""
    begin, end = (marker.format(name=name) for marker in MARKERS)
    before, found, rest = text.partition(begin)
    if not found or end not in rest:
        raise SystemExit(f"{file}: must hold {begin.strip()} and {end}, it does not; add them")
    return f"{before}{begin}{content}{end}{rest.partition(end)[2]}"


def tables(summary: dict, columns: Sequence[tuple[str, str, int, str]] = COLUMNS) -> str:
    """Return a table for each factor and SNR: a row a method, mean and standard deviation over animals."""
    cells = {(condition_of(c), c["metric"], c["region"], c["method"]): c for c in summary["cells"]}
    shown = {(c["metric"], c["region"]) for c in summary["cells"]}
    columns = [column for column in columns if column[:2] in shown]
    lines = []
    for condition in conditions_of(summary["conditions"]):
        lines += [f"| {condition} | " + " | ".join(heading for *_, heading in columns) + " |"]
        lines += ["| --- |" + " --- |" * len(columns)]
        for method in (name for name in METHODS if name in summary["methods"]):
            entries = [
                "" if cell is None else entry(cell["mean"], cell["sd"], decimals)
                for metric, region, decimals, _ in columns
                for cell in [cells.get((condition, metric, region, method))]
            ]
            if any(entries):  # not every method was run on every condition
                lines.append(f"| {label_of(method)} | " + " | ".join(entries) + " |")
        lines.append("")
    lines += [f"{summary['n']} animals ({', '.join(summary['subjects'])}), mean ± standard deviation.", ""]
    return "\n".join(lines)


def volumes(summary: dict) -> str:
    """Return the errors of structure volumes against those on the truth: a row a method, a column a factor."""
    found = {
        (entry["method"], condition_of(entry)): entry
        for entry in summary["structures"]
        if entry["against"] == TRUTH and not entry["structure"]
    }
    conditions = conditions_of(summary["conditions"])
    lines = ["| | " + " | ".join(map(str, conditions)) + " |"]
    lines += ["| --- |" + " --- |" * len(conditions)]
    for method in dict.fromkeys(name for name, _ in found):
        cells = [found.get((method, condition)) for condition in conditions]
        lines.append(
            f"| {label_of(method)} | " + " | ".join("" if cell is None else error(cell) for cell in cells) + " |"
        )
    return "\n".join([*lines, ""])


def error(cell: dict) -> str:
    """Return mean absolute error and limits of agreement, which one structure of one animal does not have."""
    text = f"{cell['absolute_percent']:.1f}%"
    return (
        text if cell["lower_percent"] is None else f"{text} ({limits(cell['lower_percent'], cell['upper_percent'], 1)})"
    )


def entry(mean: float, sd: float | None, decimals: int) -> str:
    """Return mean and standard deviation, which one animal does not have."""
    return f"{mean:.{decimals}f}" + ("" if sd is None else f" ± {sd:.{decimals}f}")


if __name__ == "__main__":
    main()
