"""Write the figures of an evaluation into Markdown files, between the markers of each.

bida evaluate --data DATA/mouse-rtg4510 --out evaluation --jobs 2
python benchmarks/tables.py evaluation/results.csv README.md models/MODEL_CARD.md
"""

from __future__ import annotations

import argparse
from pathlib import Path

from bida.summary import summarise
from bida.tables import METHODS, read_results

BEGIN, END = "<!-- evaluation: begin -->", "<!-- evaluation: end -->"
COLUMNS = (  # metric, region, decimals, heading
    ("psnr", "whole", 2, "PSNR, dB"),
    ("psnr", "brain", 2, "PSNR in the brain, dB"),
    ("ssim", "whole", 3, "SSIM"),
    ("cdsc", "builtin", 3, "cDSC"),
    ("hd95", "builtin", 2, "HD95, mm"),
    ("sharpness", "A", 2, "sharpness through-plane"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="results.csv of bida evaluate")
    parser.add_argument("files", type=Path, nargs="+", help="Markdown files with the markers")
    arguments = parser.parse_args()
    text = tables(summarise(read_results(arguments.results)))
    for file in arguments.files:
        before, found, rest = file.read_text(encoding="utf-8").partition(BEGIN)
        if not found or END not in rest:
            raise SystemExit(f"{file}: must hold {BEGIN} and {END}, it does not; add them")
        file.write_text(f"{before}{BEGIN}\n{text}{END}{rest.partition(END)[2]}", encoding="utf-8")


def tables(summary: dict) -> str:
    """Return a table for each factor: a row a method, mean and standard deviation over animals."""
    cells = {(c["factor"], c["metric"], c["region"], c["method"]): c for c in summary["cells"]}
    lines = []
    for factor in summary["factors"]:
        lines += [f"| {factor:g}x | " + " | ".join(heading for *_, heading in COLUMNS) + " |"]
        lines += ["| --- |" + " --- |" * len(COLUMNS)]
        for method in (name for name in METHODS if name in summary["methods"] and name != "hr"):
            entries = [
                "" if cell is None else entry(cell["mean"], cell["sd"], decimals)
                for metric, region, decimals, _ in COLUMNS
                for cell in [cells.get((factor, metric, region, method))]
            ]
            lines.append(f"| `{method}` | " + " | ".join(entries) + " |")
        lines.append("")
    lines += [f"{summary['n']} animals ({', '.join(summary['subjects'])}), mean ± standard deviation.", ""]
    return "\n".join(lines)


def entry(mean: float, sd: float | None, decimals: int) -> str:
    """Return mean and standard deviation, which one animal does not have."""
    return f"{mean:.{decimals}f}" + ("" if sd is None else f" ± {sd:.{decimals}f}")


if __name__ == "__main__":
    main()
