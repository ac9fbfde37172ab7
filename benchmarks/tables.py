"""Write the figures of docs/ into the pages of this repository, between markers named for the tables: no arguments.

    python benchmarks/tables.py

The files are those that `benchmarks/figures.py` makes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from page_tables import of_benchmarks

from bida.experiment.methods import METHODS, TRUTH, label_of
from bida.experiment.report.tables import limits
from bida.experiment.results import Condition, condition_of, conditions_of, read_results
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
    ("cdsc", "builtin", 3, "cDSC"),
    ("bricks", "", 2, "brick index"),
    ("cpu_seconds", "", 0, "CPU seconds"),
)
OF_SECOND_STRIPPER = (("cdsc", "seg4", 3, "cDSC, seg4"), ("hd95", "seg4", 2, "HD95, mm"))
BESIDE = ("nearest", "cubic", "selfsr", "bida")  # what a method of others is shown with
LARGE_MM3 = 2.0  # of structures whose bias is judged: of smaller ones a voxel is a share
PAGES = ("README.md", "models/MODEL_CARD.md", "docs/results.md", "docs/prior.md", "docs/several.md", "docs/speed.md")


def write_pages(root: Path) -> None:
    """Write the tables into every page of a checkout that has their markers."""
    content = contents(root / "docs")
    for file in (root / page for page in PAGES):
        text = file.read_text(encoding="utf-8")
        for name in content:
            if MARKERS[0].format(name=name) in text:
                text = replaced(file, text, name, content[name])
        file.write_text(text, encoding="utf-8")


def contents(docs: Path) -> dict[str, str]:
    """Return what goes between the markers of each name, of the files in docs."""
    mice, heads, structures = (
        summarise(read_results(docs / "evaluation" / f"{name}.csv")) for name in ("results", "heads", "volumes")
    )
    second = docs / "evaluation" / "heads_seg4.csv"
    published = docs / "evaluation" / "eclare.csv"
    return {
        "evaluation": tables(mice),
        "heads": tables(heads, OF_HEADS),
        **({"second": tables(summarise(read_results(second)), OF_SECOND_STRIPPER)} if second.exists() else {}),
        **(
            {"eclare": beside(read_results(docs / "evaluation" / "results.csv"), read_results(published))}
            if published.exists()
            else {}
        ),
        "volumes": volumes(structures),
        "short": short(mice, heads),
        **of_benchmarks(docs),
    }


def beside(mice: list[dict], others: list[dict]) -> str:
    """Return a table of rows of other methods, and of `BESIDE` on the same animals and conditions."""
    own = {(row["subject"], condition_of(row)) for row in others}
    same = [row for row in mice if row["method"] in BESIDE and (row["subject"], condition_of(row)) in own]
    rows = same + [row for row in others if row["method"] != TRUTH]
    return tables(summarise(rows), [column for column in COLUMNS if column[0] not in ("hd95", "cdsc")])


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
    animals, names = summary["n"], ", ".join(summary["subjects"])
    lines += [
        f"{animals} animals ({names}), mean ± standard deviation." if animals > 1 else f"One animal ({names}).",
        "",
    ]
    return "\n".join(lines)


def volumes(summary: dict) -> str:
    """Return errors and bias of structure volumes against those on the truth: a row a method, columns a factor."""
    bias = structure_bias(summary)
    found = {
        (entry["method"], condition_of(entry)): entry
        for entry in summary["structures"]
        if entry["against"] == TRUTH and not entry["structure"]
    }
    conditions = conditions_of(summary["conditions"])
    heads = [f"{condition}: {what}" for condition in conditions for what in ("single errors", "bias")]
    lines = ["| | " + " | ".join(heads) + " |", "| --- |" + " --- |" * len(heads)]
    for method in dict.fromkeys(name for name, _ in found):
        cells = []
        for condition in conditions:
            cell = found.get((method, condition))
            cells += ["", ""] if cell is None else [error(cell), f"{bias[method, condition]:.2f}%"]
        lines.append(f"| {label_of(method)} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def structure_bias(summary: dict) -> dict[tuple[str, Condition], float]:
    """Return the mean of |bias| over structures above `LARGE_MM3`, %, by method and condition."""
    found = dict[tuple[str, Condition], list[float]]()
    for entry in summary["structures"]:
        if entry["against"] == TRUTH and entry["structure"] and entry["reference_mm3"] > LARGE_MM3:
            found.setdefault((entry["method"], condition_of(entry)), []).append(abs(entry["bias_percent"]))
    return {key: sum(values) / len(values) for key, values in found.items()}


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
    write_pages(Path(__file__).resolve().parent.parent)
