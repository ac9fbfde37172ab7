"""Make the figures of README, model card and documentation anew, in one run: `make figures DATA=folder of the data`.

    python benchmarks/figures.py DATA [--only NAME ...] [--out build/figures] [--seg4 WHEEL] [--eclare COMMAND] [--list]

Every step is a command of this repository whose result is kept as a file of docs/, with the pictures; then the tables
in the pages are written from the files. docs/evaluation/figures.json says of each step when it was made, with which
version and weights, on which machine and in how many CPU seconds. Steps whose file is of these weights already are
passed over, unless --only names them; the programs themselves go on where they were cut off. `--before` rows are those
of commit b385219 (version 0.1), which is checked out beside it. All of it takes about three hours of one core.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from measure import machine
from tables import write_pages

from bida.io.weights import sha256
from bida.provenance import own_version

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
DOCS = ROOT / "docs"
RECORD = DOCS / "evaluation" / "figures.json"
WEIGHTS = ROOT / "models" / "model.pt"
BEFORE = "b385219"  # version 0.1
BIDA = (sys.executable, "-m", "bida")
MICE = ("sub-08", "sub-14", "sub-21")
HEADS = ("mouse-template-rminc", "rat-sigma")
OF_SLICES = ("psnr", "ssim", "cdsc", "sharpness", "stitching", "residual", "bricks")
METHODS_OF_HEADS = ("nearest", "cubic", "cubic+projection", "selfsr", "bida-draw", "bida-draws", "bida")
OF_SECOND_STRIPPER = ("nearest", "cubic", "selfsr", "bida")  # minutes a mask
SKULLS = ("mouse-sherm", "rat-bold-pontes:" + ",".join(f"sub-{n}" for n in range(25, 32)), "rat-nirodents",
          "rat-sigma", "mouse-jax:sub-02", "mouse-template-rminc")  # fmt: skip


@dataclass(frozen=True)
class Step:
    """A part of the run.

    Attributes:
        name: What it is called.
        calls: Commands, one after the other.
        gives: Files that they make, and the names in docs/ under which they are kept; several of one name are joined.
    """

    name: str
    calls: tuple[tuple[str, ...], ...]
    gives: tuple[tuple[Path, str], ...]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of the data sets that models/MODEL_CARD.md names")
    parser.add_argument("--only", nargs="+", metavar="NAME", default=[], help="these steps, made or not")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "figures")
    parser.add_argument("--seg4", metavar="WHEEL", help="of seg-for-4modalities, the second stripper of heads")
    parser.add_argument("--eclare", metavar="COMMAND", help="that runs the published ECLARE, for the first mouse at 5x")
    parser.add_argument("--list", action="store_true", help="say what would be made, and make nothing")
    arguments = parser.parse_args()
    out: Path = arguments.out.resolve()
    steps = {step.name: step for step in steps_of(arguments.data.resolve(), out, arguments.seg4, arguments.eclare)}
    if unknown := [name for name in arguments.only if name not in steps]:
        parser.error(f"--only: must be of {' '.join(steps)}, got {unknown[0]}")
    if arguments.seg4 is None and "second-stripper" in arguments.only:
        parser.error("--seg4: must name the wheel of seg-for-4modalities for second-stripper, got none")
    if arguments.eclare is None and "eclare" in arguments.only:
        parser.error("--eclare: must be the command of the published ECLARE for eclare, got none")
    if arguments.seg4 is None:
        del steps["second-stripper"]
    if arguments.eclare is None:
        del steps["eclare"]
    chosen = arguments.only or [name for name in steps if not made(name)]
    print("to make:", " ".join(chosen) or "nothing", flush=True)
    if arguments.list:
        return
    prepare(arguments.data.resolve(), out)
    for name in chosen:
        make(steps[name], {str(arguments.data.resolve()): "DATA", str(out): "figures"})
    write_pages(ROOT)


def prepare(data: Path, out: Path) -> None:
    """Make the head that no animal has, and check version 0.1 out, where they are not there yet."""
    out.mkdir(parents=True, exist_ok=True)
    sources = (data / "mouse-labels", data / "mouse-template-drcarbon")
    if not (out / "head").exists():
        run(script("synthetic_heads.py", *sources, "--out", out / "head", "--count", "1", "--seed", "99"))
    if not (out / "before").exists():
        run(("git", "-C", str(ROOT), "worktree", "prune"))
        run(("git", "-C", str(ROOT), "worktree", "add", "--detach", str(out / "before"), BEFORE))


def run(words: Sequence[str]) -> None:
    """Say a command, and run it."""
    print("$", " ".join(words), flush=True)
    subprocess.run(words, check=True)


def steps_of(data: Path, out: Path, seg4: str | None, eclare: str | None = None) -> list[Step]:
    """Return the steps of a run.

    Args:
        data: Folder of the data sets.
        out: Where programs write what they need to go on.
        seg4: Wheel of the second stripper of heads.
        eclare: Command of the published ECLARE.
    """
    mice = [next((data / "mouse-rtg4510" / name).rglob("*_T2w.nii.gz"), data) for name in MICE]
    heads = [next((data / name).rglob("tpl-*_T2w.nii.gz"), data) for name in HEADS]
    truths = [*mice, *heads, out / "head" / "sub-head000" / "anat" / "sub-head000_T2w.nii.gz"]
    noisy, several = (table_of(name, out) for name in ("noisy.py", "several.py"))
    of_mice = (*BIDA, "evaluate", "--data", data / "mouse-rtg4510", "--out", out / "mice", "--factors", "2.5", "5")
    of_one = (*BIDA, "evaluate", "--data", data / "mouse-rtg4510", "--out", out / "eclare", "--factors", "5")
    levels = ("--snr", "clean", "10")

    def of_heads(name: str) -> tuple[str | Path, ...]:
        return (*BIDA, "evaluate", "--data", data / name, "--out", out / name, "--factors", "5")

    return [
        Step("volumes", calls((*of_mice, "--methods", "cubic", "selfsr", "bida", "--metrics", "psnr", "volumes")),
             ((out / "mice" / "results.csv", "evaluation/volumes.csv"),)),
        Step("mice", calls((*of_mice, *levels, "--metrics", *OF_SLICES)),
             ((out / "mice" / "results.csv", "evaluation/results.csv"),
              (out / "mice" / "report.html", "evaluation/report.html"))),
        Step("heads", calls(*((*of_heads(name), "--snr", "clean", "20", "10", "--methods", *METHODS_OF_HEADS,
             "--metrics", "psnr", "ssim", "bricks", "cdsc") for name in HEADS)),
             tuple((out / name / "results.csv", "evaluation/heads.csv") for name in HEADS)),
        Step("second-stripper", calls(*((*of_heads(name), *levels, "--methods", *OF_SECOND_STRIPPER, "--metrics",
             "cdsc", "--strippers", f"seg4:{Path(seg4 or 'WHEEL').resolve()}") for name in HEADS)),
             tuple((out / name / "results.csv", "evaluation/heads_seg4.csv") for name in HEADS)),
        Step("noise", calls(noisy("gain", *truths, "--before", out / "before", "--factors", "5", "2.5", csv="noise")),
             ((out / "noise.csv", "noise.csv"),)),
        Step("lesions", calls(noisy("lesions", heads[0], "--before", out / "before", csv="lesions")),
             ((out / "lesions.csv", "lesions.csv"),)),
        Step("kept", calls(noisy("kept", heads[0], csv="kept")), ((out / "kept.csv", "kept.csv"),)),
        Step("coverage", calls(noisy("coverage", *truths, csv="coverage")), ((out / "coverage.csv", "coverage.csv"),)),
        Step("several", calls(several("gain", *truths, "--factors", "5", "2.5", *levels, csv="several")),
             ((out / "several.csv", "several.csv"),)),
        Step("time", calls(several("time", *heads, csv="several_time")),
             ((out / "several_time.csv", "several_time.csv"),)),
        Step("move", calls(several("move", truths[-1], "--draws", "3", csv="several_move")),
             ((out / "several_move.csv", "several_move.csv"),)),
        Step("align", calls(script("align.py", mice[0], *truths[3:], "--draws", "20", "--csv", out / "align.csv")),
             ((out / "align.csv", "align.csv"),)),
        Step("stacks", calls(*(script(name, out / csv, DOCS / "microscopy.md", "--data", data / "microscopy")
             for name, csv in (("masked_tables.py", "stacks.csv"), ("stack_noise.py", "stack_noise.csv")))),
             ((out / "stacks.csv", "microscopy.csv"), (out / "stack_noise.csv", "stack_noise.csv"))),
        Step("skulls", calls(script("skullstrip.py", *(data / name for name in SKULLS), "--csv", out / "skulls.csv",
             "--picture", out / "skulls.png")),
             ((out / "skulls.csv", "skullstrip.csv"), (out / "skulls.png", "skullstrip.png"))),
        Step("inplane", calls(script("inplane.py", data, "--models", "0.3", WEIGHTS, "--csv", out / "inplane.csv")),
             ((out / "inplane.csv", "inplane.csv"),)),
        Step("familiarity", calls(script("familiarity.py", "measure", data, "--out", out / "familiarity.csv")),
             ((out / "familiarity.csv", "familiarity.csv"),)),
        Step("size", calls(script("size.py", "--threads", "1", "--csv", out / "size.csv")),
             ((out / "size.csv", "size.csv"),)),
        Step("peers", calls(script("peers.py", heads[0], "--snr", "clean", "--csv", out / "peers.csv")),
             ((out / "peers.csv", "peers.csv"),)),
        Step("eclare", calls((*of_one, "--subjects", MICE[0], "--methods", "eclare", "--metrics", *OF_SLICES,
             "--eclare", eclare or "run-eclare", "--timeout", "90000")),
             ((out / "eclare" / "results.csv", "evaluation/eclare.csv"),)),
        Step("pictures", calls(script("gallery.py", DOCS),
             (*BIDA, "demo", "--output", out / "demo")), ((out / "demo" / "demo.png", "demo.png"),)),
    ]  # fmt: skip


def script(name: str, *words: str | Path) -> tuple[str, ...]:
    """Return the call of a program of this folder."""
    return (sys.executable, str(HERE / name), *map(str, words))


def table_of(name: str, out: Path) -> Callable[..., tuple[str, ...]]:
    """Return what makes calls of a program whose rows go into a file of `out`."""
    return lambda *words, csv: script(name, *words, "--csv", out / f"{csv}.csv")


def calls(*commands: Sequence[str | Path]) -> tuple[tuple[str, ...], ...]:
    """Return commands as texts."""
    return tuple(tuple(map(str, words)) for words in commands)


def record() -> dict[str, dict[str, object]]:
    """Return what is known of the steps that were made."""
    return json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}


def made(name: str) -> bool:
    """Return whether a step was made with these weights."""
    return record().get(name, {}).get("weights") == sha256(WEIGHTS)


def make(step: Step, own: Mapping[str, str]) -> None:
    """Run a step's commands, keep what they give and how it was made; `own` names folders that no page shall show."""
    start, used = time.time(), resource.getrusage(resource.RUSAGE_CHILDREN)
    for words in step.calls:
        run(words)
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    for name in dict.fromkeys(name for _, name in step.gives):
        keep([path for path, kept in step.gives if kept == name], DOCS / name, own)
    found = record()
    found[step.name] = {
        "date": time.strftime("%Y-%m-%d", time.gmtime(start)),
        "version": own_version(),
        "weights": sha256(WEIGHTS),
        "machine": machine(torch.device("cpu")),
        "threads": int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())),
        "cpu_seconds": round(now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime),
    }
    RECORD.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def keep(paths: Sequence[Path], target: Path, own: Mapping[str, str]) -> None:
    """Copy a file to where it is kept, or the rows of several, one after the other, without a user's own paths."""
    if target.suffix == ".html":
        text = paths[0].read_text(encoding="utf-8")
        for folder, called in own.items():
            text = text.replace(folder, called)
        target.write_text(text, encoding="utf-8")
        return
    if len(paths) == 1:
        shutil.copyfile(paths[0], target)
        return
    rows = pd.concat([pd.read_csv(path, dtype={"snr": str}) for path in paths])
    rows["region"] = rows.region.str.replace(r"^seg4:.*", "seg4", regex=True)
    rows.to_csv(target, index=False)


if __name__ == "__main__":
    main()
