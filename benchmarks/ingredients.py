"""Compare priors trained alike but for one choice: the network, what it predicts, or one ingredient of the data.

    python benchmarks/ingredients.py train PACK --out DIR [--jobs 16] [--variants "64 x 8" "v to x0"] [--set epochs=2]
    python benchmarks/ingredients.py score DATA --out DIR [--variants ...]

`train` makes DIR/VARIANT/model.pt for every variant, short runs of configs/release_train.yaml whose guided network
starts from nothing, on a file of `benchmarks/pack.py`. No mouse head is trained on (`shares`), so that `score` can tell
how much the variants know of heads that they have not seen: it takes the sharp slices of scans, makes them 5x thick in
their plane, clean, and gives the gain of the mean on cubic interpolation, without the self-check. It adds to
DIR/scores.csv what is not there yet, and prints the table.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from monai.bundle import ConfigParser
from trust import at_factor, cut_to_stride, gains, prepared, thickened

from bida.diffusion.load import load_prior, prior_of
from bida.io.weights import save_weights, sha256
from bida.training.run import override

COLUMNS = ["weights", "trained with", "cell", "dB"]
DONE = "done"  # file in the folder of a run that came to its end
SHORT = ["epochs=1", "steps_per_epoch=600", "batch_size=16", "val_interval=9"]
# of the mouse heads none, so that they can be tested with
SHARES = {
    "mouse-rtg4510": 9, "mouse-template-drcarbon": 1, "synthetic-heads": 0, "rat-bold-pontes": 1, "mouse-sherm": 0,
    "mouse-jax": 0, "mouse-template-atlasbrex": 0,
}  # fmt: skip


def shares(**changes: float) -> str:
    """Return the weights of the data sets as an assignment."""
    named = {name.replace("_", "-"): value for name, value in changes.items()}
    return f"shares={json.dumps(SHARES | named)}"


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
    "no template": [shares(mouse_template_drcarbon=0)],
    "no EPI": [shares(rat_bold_pontes=0)],
    "no painted heads": ["painted=0.0"],
    "64 grown heads instead": ["painted=0.0", shares(synthetic_heads=4)],
    "64 grown heads as well": [shares(synthetic_heads=4)],
    "painted without texture": ["painting={texture: 0.0}"],
    "painted without vessels": ["painting={vessels: 0.0}"],
    "painted brains alone": ["painting={brains: 1.0}"],
    "painted without fluid around": ["painting={bath: 0.0}"],
    "half of all crops painted": ["painted=0.5"],
    "reversed contrast, too": ["inverted=0.1"],
    "mice alone": ["painted=0.0", shares(mouse_template_drcarbon=0, rat_bold_pontes=0)],
}
GRAINY = ("no denoised targets",)  # know the grain of scans alone, and are asked for it
CELLS = {  # data set, animal, image
    **{f"mouse {subject}": ("mouse-rtg4510", subject, "*_T2w.nii.gz") for subject in ("sub-15", "sub-17", "sub-24")},
    "T1w head": ("mouse-sherm", "sub-01", "*_T1w.nii.gz"),
    "T2w head 1": ("mouse-jax", "sub-01", "*_T2w.nii.gz"),
    "T2w head 3": ("mouse-jax", "sub-03", "*_T2w.nii.gz"),
    "diffusion head": ("mouse-jax", "sub-01", "*_dwi.nii.gz"),
    "EPI rat": ("rat-bold-pontes", "sub-15", "*_boldref.nii.gz"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["train", "score"])
    parser.add_argument(
        "data", type=Path, help="a packed file, to train on; the folder that holds the data sets, to score"
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
    return [shares(), *SHORT, *arguments.set, *VARIANTS[name]]


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
    given = [*assignments_of(name, arguments), f"initial_weights={output / 'start.pt'}"]
    given += [f"packed={arguments.data.resolve()}"]
    recipe = str(files("bida.configs") / "release_train.yaml")
    command = [
        sys.executable,
        "-m",
        "bida",
        "train",
        str(arguments.data.parent),
        "--config",
        recipe,
        "--output",
        str(output),
    ]
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
    out = arguments.out / "scores.csv"
    known = {(weights, cell): float(value) for weights, _, cell, value in rows_of(out)}
    found: dict[tuple[str, str], float] = {}
    for name in arguments.variants:
        folder = folder_of(arguments.out, name)
        if not (folder / DONE).exists():
            continue
        model = str(folder / "model.pt")
        weights = sha256(model)[:12]
        for cell, (data_set, subject, pattern) in CELLS.items():
            if (weights, cell) not in known:
                path = sorted((arguments.data / data_set / subject).rglob(pattern))[0]
                known[weights, cell] = gain(path, model, name in GRAINY)
                add(out, [weights, name, cell, f"{known[weights, cell]:.4f}"])
                print(name, cell, f"{known[weights, cell]:.4f}", flush=True)
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


def gain(path: Path, model: str, grain: bool) -> float:
    """Return the gain of the mean on cubic interpolation, dB, of a scan's slices made 5x thick in their plane."""
    settings = argparse.Namespace(samples=0, steps=None, model=model)
    sampler, prior, scan = prepared(thickened(path), settings, grain=grain)
    sharp = cut_to_stride(scan.inside(), scan.geometry.axis, prior.stride)
    return gains(sampler, prior, sharp, at_factor(scan.geometry, 5.0))[0]


def table(found: dict[tuple[str, str], float]) -> str:
    """Return Markdown: the gain on cubic of each scan, dB, the mice as their mean."""
    names = list(dict.fromkeys(name for name, _ in found))
    heads = [cell for cell in CELLS if not cell.startswith("mouse ")]
    lines = [f"| trained with | three mice | {' | '.join(heads)} |", "|" + " --- |" * (len(heads) + 2)]
    for name in (name for name in VARIANTS if name in names):
        mice = [value for (of, cell), value in found.items() if of == name and cell.startswith("mouse ")]
        cells = [f"{value:+.2f}" for value in (np.mean(mice), *(found.get((name, cell), np.nan) for cell in heads))]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
