"""Compare priors trained alike but for one choice: the network, what it predicts, or one ingredient of the data.

    python benchmarks/ingredients.py train DATA/mouse-rtg4510 DATA/mouse-template-drcarbon HEADS DATA/rat-bold-pontes \\
        DATA/mouse-sherm --out DIR [--jobs 16] [--variants "64 x 8" "v to eps"] [--set epochs=2]
    python benchmarks/ingredients.py score DATA --out DIR [--variants ...]

`train` makes DIR/VARIANT/model.pt for every variant, short runs of configs/release_train.yaml whose guided network
starts from nothing; the data sets are named as there. `score` restores the three tuning mice (one draw, no self-check)
and the slices of two heads that no variant was trained on, made 5x thick in their plane: a T1-weighted mouse and an EPI
rat. It adds to DIR/scores.csv what is not there yet, and prints the table.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from ablation import scores
from monai.bundle import ConfigParser
from trust import at_factor, cut_to_stride, gains, prepared

from bida.diffusion.load import load_prior, prior_of
from bida.experiment.truth import choose_animals, prepare
from bida.io.weights import save_weights, sha256
from bida.training.run import override

COLUMNS = ["weights", "trained with", "cell", "dB"]
DONE = "done"  # file in the folder of a run that came to its end
SHORT = ["epochs=1", "steps_per_epoch=600", "dtype=bfloat16"]
# what differs from the recipe: assignments, or data sets left out
VARIANTS: dict[str, list[str]] = {
    "64 x 8": [],
    "64 x 8, another seed": ["seed=1"],
    "32 x 8": ["network#guided#channels=32"],
    "96 x 8": ["network#guided#channels=96"],
    "128 x 8": ["network#guided#channels=128"],
    "64 x 4": ["network#guided#blocks=4"],
    "64 x 16": ["network#guided#blocks=16"],
    "v to eps": ["prediction=eps"],
    "v to x0": ["prediction=x0"],
    "cosine to linear schedule": ["schedule=linear"],
    "more high times": ["emphasis=2.0"],
    "every slice its own plane alone": ["any_plane=false"],
    "no denoised targets": ["grain=1.0"],
    "denoised targets alone": ["grain=0.0"],
    "no turning, shifting, scaling": ["moved=0.0"],
    "all turned, shifted, scaled": ["moved=1.0"],
    "no change of contrast": ["contrast=0.0"],
    "no noise added": ["noisy=0.0"],
    "no template": ["-mouse-template-drcarbon"],
    "no synthetic heads": ["-synthetic-heads"],
    "no EPI": ["-rat-bold-pontes"],
    "no T1 heads": ["-mouse-sherm"],
    "mice alone": ["-mouse-template-drcarbon", "-synthetic-heads", "-rat-bold-pontes", "-mouse-sherm"],
}
GRAINY = ("no denoised targets",)  # know the grain of scans alone, and are asked for it
MICE = ("sub-15", "sub-17", "sub-24")
FACTORS = (2.5, 5.0)
HEADS = {
    "T1 head": ("mouse-sherm", "sub-02", "*_T1w.nii.gz"),
    "EPI head": ("rat-bold-pontes", "sub-15", "*_boldref.nii.gz"),
}
CELLS = (*(f"{subject} {factor:g}x" for factor in FACTORS for subject in MICE), *HEADS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["train", "score"])
    parser.add_argument(
        "data", type=Path, nargs="+", help="data sets to train on; the folder that holds them, to score"
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--jobs", type=int, default=1, help="runs at once, of one thread each")
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", help="for all variants")
    arguments = parser.parse_args()
    if arguments.what == "score":
        print(table(score(arguments)))
        return
    for name in arguments.variants:  # one after the other: all chance is the process's own
        start(name, arguments)
    with ThreadPoolExecutor(arguments.jobs) as pool:
        failed = [name for name, code in pool.map(lambda name: train(name, arguments), arguments.variants) if code]
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}; see log.txt in their folders")


def folder_of(out: Path, name: str) -> Path:
    return out / name.replace(", ", "-").replace(" ", "-")


def assignments_of(name: str, arguments: argparse.Namespace) -> list[str]:
    return [*SHORT, *arguments.set, *(change for change in VARIANTS[name] if "=" in change)]


def start(name: str, arguments: argparse.Namespace) -> None:
    """Write weights to start from: the released network for slices without a guide, and a guided one from nothing."""
    path = folder_of(arguments.out, name) / "start.pt"
    if path.exists():
        return
    parser = ConfigParser()
    names = ("train.yaml", "on_device.yaml", "release_train.yaml")
    parser.read_config([str(files("bida.configs") / name) for name in names])
    for text in assignments_of(name, arguments):
        key, value = override(text)
        parser[key] = value
    torch.manual_seed(parser.get_parsed_content("seed"))
    prior = parser.get_parsed_content("network_def")
    released = load_prior(prior_of(), None, torch.device("cpu"), "float32")
    prior.networks["shared"].bare.load_state_dict(released.networks["shared"].bare.state_dict())
    save_weights(prior, path)


def train(name: str, arguments: argparse.Namespace) -> tuple[str, int]:
    """Train a variant, or go on with one that was cut off; return its name and the exit status."""
    output = folder_of(arguments.out, name)
    if (output / DONE).exists():
        return name, 0
    left_out = {change[1:] for change in VARIANTS[name] if change.startswith("-")}
    cache = output / "denoised"
    if not cache.exists():
        cache.symlink_to(make(arguments.out.resolve() / "denoised"), target_is_directory=True)
    folders = [str(folder) for folder in arguments.data if folder.name not in left_out]
    given = [*assignments_of(name, arguments), f"initial_weights={output / 'start.pt'}"]
    recipe = str(files("bida.configs") / "release_train.yaml")
    command = [sys.executable, "-m", "bida", "train", *folders, "--config", recipe, "--output", str(output)]
    command += [part for value in given for part in ("--set", value)]
    with (output / "log.txt").open("a") as log:
        one = {**os.environ, "OMP_NUM_THREADS": "1"}
        code = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, env=one, check=False).returncode
    if code == 0:
        (output / DONE).touch()
    print(f"{name}: {'trained' if code == 0 else 'failed'}", flush=True)
    return name, code


def make(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def score(arguments: argparse.Namespace) -> dict[tuple[str, str], float]:
    """Return what every variant reaches in every cell; what the CSV holds for the same weights is not done again."""
    out, (data, *_) = arguments.out / "scores.csv", arguments.data
    work = make(arguments.out / "work")
    known = {(weights, cell): float(value) for weights, _, cell, value in rows_of(out)}
    truths = {
        animal.subject: prepare(animal, data / "mouse-rtg4510", work, None, n4=True)
        for animal in choose_animals(data / "mouse-rtg4510", MICE, None)
    }
    found: dict[tuple[str, str], float] = {}
    for name in arguments.variants:
        folder, grain = folder_of(arguments.out, name), name in GRAINY
        if not (folder / DONE).exists():
            continue
        model = str(folder / "model.pt")
        weights = sha256(model)[:12]
        for cell in CELLS:
            if (weights, cell) not in known:
                if cell in HEADS:
                    data_set, subject, pattern = HEADS[cell]
                    value = head(sorted((data / data_set / subject).rglob(pattern))[0], model, grain)
                else:
                    subject, factor = cell.split()
                    choice = "guide, grain" if grain else "guide, clean"
                    value = float(scores(truths[subject], float(factor[:-1]), choice, model, work)[0])
                known[weights, cell] = value
                add(out, [weights, name, cell, f"{value:.4f}"])
                print(name, cell, f"{value:.4f}", flush=True)
            found[name, cell] = known[weights, cell]
    return found


def rows_of(path: Path) -> list[list[str]]:
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))[1:]


def add(path: Path, row: list[str]) -> None:
    fresh = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([*([COLUMNS] if fresh else []), row])


def head(path: Path, model: str, grain: bool) -> float:
    """Return the gain of one draw on cubic interpolation, dB, of a scan's slices made 5x thick in their plane."""
    settings = argparse.Namespace(samples=1, steps=4, model=model)
    sampler, prior, _, scan = prepared(path, settings, grain=grain)
    sharp = cut_to_stride(scan.inside(), scan.geometry.axis, prior.stride)
    return gains(sampler, prior, sharp, at_factor(scan.geometry, 5.0), 1)[0]


def table(found: dict[tuple[str, str], float]) -> str:
    """Return Markdown: mean over the mice of each factor, and the gain on cubic of the heads, dB."""
    names = list(dict.fromkeys(name for name, _ in found))
    lines = ["| trained with | mice 2.5x, dB | mice 5x, dB | T1 head, dB on cubic | EPI head |", "|" + " --- |" * 5]
    for name in (name for name in VARIANTS if name in names):
        mice = [[found.get((name, f"{subject} {factor:g}x"), np.nan) for subject in MICE] for factor in FACTORS]
        cells = [f"{np.mean(values):.2f}" for values in mice]
        cells += [f"{found.get((name, cell), np.nan):+.2f}" for cell in HEADS]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
