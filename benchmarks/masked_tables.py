"""The tables of docs/microscopy.md: the shipped network for stacks on planes that it has not seen.

    python benchmarks/masked_tables.py docs/microscopy.csv docs/microscopy.md [--data DATA]

With `--data`, the folder of the microscopy data sets, `bida evaluate-masked` is run for every stack and factor that the
CSV file lacks: interpolation and the mean once, for nothing in them is drawn, draws (`--steps 16`) with three seeds.
Draws take sixteen times as long as the mean; `--draws` names the stacks that they are made of. Without `--data` the
page's tables are written anew from the CSV file.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from tables import replaced

COLUMNS = ["stack", "factor", "method", "seed", "plane", "metric", "value"]
FACTORS, SEEDS, STEPS = (2, 4, 8), (0, 1, 2), 16
INTERPOLATED = ("nearest", "linear", "cubic")
METHODS = (*INTERPOLATED, "mean", "draw")


@dataclass(frozen=True)
class Kept:
    """Planes of a stack that the shipped network was not trained on, and how they are seen."""

    file: str
    options: tuple[str, ...] = ()


STACKS = {
    "microct": Kept("xbrain-microct/cube2.ome.tif[160:200]", ("--block-mean", "2")),
    "fibsem": Kept("fibsem-medulla/training1.ome.tif[170:250]"),
    "brain": Kept("brainreg-mousebrain/brain_planes000-159.ome.tif[116:160]", ("--clip-percentile", "99.8")),
}
# heading, planes, metric, format
SHOWN = (
    ("PSNR, dB", "3D", "psnr", ".2f"),
    ("SSIM", "3D", "ssim", ".3f"),
    ("seam index", "3D", "seam_index", ".2f"),
    ("oriented, XZ", "XZ", "oriented_frechet", ".3g"),
    ("YZ", "YZ", "oriented_frechet", ".3g"),
    ("swd, XZ", "XZ", "swd", ".2g"),
    ("YZ", "YZ", "swd", ".2g"),
    ("spectrum along z, dB, XZ", "XZ", "spectrum_down_db", ".1f"),
    ("YZ", "YZ", "spectrum_down_db", ".1f"),
)


def main() -> None:
    """Run what is missing, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("csv", type=Path)
    parser.add_argument("page", type=Path)
    parser.add_argument("--data", type=Path, help="run what the CSV file lacks")
    parser.add_argument("--model", default="models/masked.pt", help="of other weights (models/masked.pt)")
    parser.add_argument("--stacks", nargs="+", choices=STACKS, default=list(STACKS))
    parser.add_argument("--draws", nargs="*", choices=STACKS, default=["microct"], help="stacks to draw of (microct)")
    parser.add_argument("--factors", nargs="+", type=int, choices=FACTORS, default=FACTORS)
    arguments = parser.parse_args()
    rows = pd.read_csv(arguments.csv) if arguments.csv.exists() else pd.DataFrame(columns=COLUMNS)
    if arguments.data is not None:
        for stack in arguments.stacks:
            for factor in arguments.factors:
                for seed in SEEDS if stack in arguments.draws else SEEDS[:1]:
                    for drawn in (False, True) if stack in arguments.draws else (False,):
                        asked = [stack, factor, "draw" if drawn else "mean", seed]
                        if (seed and not drawn) or (rows[COLUMNS[:4]] == asked).all(axis=1).any():
                            continue
                        found = compared(arguments.data, stack, factor, drawn, seed, arguments.model)
                        rows = pd.concat([rows, found], ignore_index=True) if len(rows) else found
                        rows.to_csv(arguments.csv, index=False, lineterminator="\n")
    text = arguments.page.read_text(encoding="utf-8")
    for stack in STACKS:
        text = replaced(arguments.page, text, stack, table(rows, stack))
    arguments.page.write_text(text, encoding="utf-8")


def compared(data: Path, stack: str, factor: int, drawn: bool, seed: int, model: str) -> pd.DataFrame:
    """Return the rows of one run of `bida evaluate-masked`."""
    kept = STACKS[stack]
    methods = [f"draw={model}"] if drawn else [*INTERPOLATED, f"mean={model}"]
    with tempfile.TemporaryDirectory() as folder:
        words = [data / kept.file, *kept.options, "--factors", factor, "--seed", seed, "--methods", *methods]
        words += ["--steps", STEPS] if drawn else []
        command = [sys.executable, "-P", "-m", "bida", "evaluate-masked", *map(str, words), "-q", "--out", folder]
        subprocess.run(command, check=True)
        found = pd.read_csv(Path(folder) / "masked.csv")
    shown = pd.DataFrame([column[1:3] for column in SHOWN], columns=["plane", "metric"])
    found = found[found["method"] != "truth"].merge(shown, on=["plane", "metric"])
    found["value"] = found["value"].map(lambda value: float(f"{value:.5g}"))
    return found.assign(stack=stack, seed=seed)[COLUMNS]


def table(rows: pd.DataFrame, stack: str) -> str:
    """Return the table of a stack: a row a factor and method, the mean over seeds and their standard deviation."""
    own = rows[rows["stack"] == stack]
    lines = ["| | " + " | ".join(heading for heading, *_ in SHOWN) + " |", "| --- |" + " --- |" * len(SHOWN)]
    for factor in FACTORS:
        for method in METHODS:
            row = own[(own["factor"] == factor) & (own["method"] == method)]
            if len(row):
                lines.append(
                    f"| {factor}x `{method}` | " + " | ".join(entry(row, *column[1:]) for column in SHOWN) + " |"
                )
    return "\n".join(lines) + "\n"


def entry(rows: pd.DataFrame, plane: str, metric: str, how: str) -> str:
    """Return a cell of a table: the mean, and where there are several seeds their standard deviation."""
    values = rows[(rows["plane"] == plane) & (rows["metric"] == metric)]["value"]
    if values.empty:
        return ""
    text = format(values.mean(), how)
    return f"{text} ± {values.std():.1g}" if len(values) > 1 else text


if __name__ == "__main__":
    main()
