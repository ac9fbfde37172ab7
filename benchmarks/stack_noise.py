"""The table of noise in docs/microscopy.md: planes with made noise, kept or cleaned, and what is restored between them.

    python benchmarks/stack_noise.py docs/stack_noise.csv docs/microscopy.md [--data DATA]

With `--data`, the folder of the microscopy data sets, what the CSV file lacks is made: of the planes of
`masked_tables.py` that the shipped network has not seen, at most their middle 128 x 128 pixels, every 4th gets photons'
noise and that of reading, and the rest is restored. Without `--data` the page's table is written anew from the file.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from masked_tables import STACKS
from numpy.typing import NDArray
from skimage.restoration import denoise_nl_means, estimate_sigma
from tables import replaced

from bida.microscopy.evaluate import left_out
from bida.microscopy.load import PERCENTILES, load_stack, middle
from bida.microscopy.noise import cleaned
from bida.microscopy.prior import MaskedPrior
from bida.microscopy.restore import fitting_factor, inferer_of, load_masked, restore_stack
from bida.microscopy.settings import MaskedSettings
from bida.microscopy.stacks.stack import Stack

COLUMNS = ["stack", "photons", "seed", "method", "metric", "value"]
FACTOR, SIDE, SEEDS = 4, 128, (0, 1, 2)
PHOTONS = (30, 200)  # at the 99.5th percentile
READ = 0.02  # of the range from the 0.5th percentile to it: standard deviation of the noise of reading
METHODS = {"kept": "kept", "nlm": "at one level", "cleaned": "`auto`"}
NAMES = {"microct": "microCT", "fibsem": "FIB-SEM", "brain": "brain"}
SHOWN = ("acquired", "missing")


def main() -> None:
    """Make what is missing, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("csv", type=Path)
    parser.add_argument("page", type=Path)
    parser.add_argument("--data", type=Path, help="make what the CSV file lacks")
    arguments = parser.parse_args()
    rows = pd.read_csv(arguments.csv) if arguments.csv.exists() else pd.DataFrame(columns=COLUMNS)
    if arguments.data is not None:
        settings = MaskedSettings()
        prior = load_masked("models/masked.pt", settings)
        for stack in STACKS:
            for photons in PHOTONS:
                for seed in SEEDS:
                    if (rows[COLUMNS[:3]] == [stack, photons, seed]).all(axis=1).any():
                        continue
                    found = compared(arguments.data, stack, photons, seed, prior, settings)
                    made = pd.DataFrame([(stack, photons, seed, *one) for one in found], columns=COLUMNS)
                    rows = pd.concat([rows, made], ignore_index=True) if len(rows) else made
                    rows.to_csv(arguments.csv, index=False, lineterminator="\n")
    text = arguments.page.read_text(encoding="utf-8")
    arguments.page.write_text(replaced(arguments.page, text, "stack_noise", table(rows)), encoding="utf-8")


def compared(
    data: Path, name: str, photons: int, seed: int, prior: MaskedPrior, settings: MaskedSettings
) -> Iterator[tuple[str, str, float]]:
    """Yield (method, metric, value) of a stack, a level of noise and a draw of it."""
    truth, kept = scaled(data, name)
    rng = np.random.default_rng(seed)
    noisy = rng.poisson(kept.data * photons) / photons + rng.normal(0, READ, kept.data.shape)
    made = replace(kept, data=noisy.astype(np.float32))
    with cleaned(made, "auto", Path("none.tif")) as (clean, done):
        if done is None or done.noise[0] is None:
            raise SystemExit(f"{name}: noise must be found, it is not")
        one = done.noise[0]
        level = {"a": one.a * photons, "sigma": float(np.sqrt(one.variance(np.array(0.5)) / (0.5 / photons + READ**2)))}
        level |= {"changed": done.changed[0], "largest": done.largest[0]}
        for method, stack in (("kept", made), ("nlm", at_one_level(made)), ("cleaned", clean)):
            inferer = inferer_of(settings, prior, FACTOR, fitting_factor(stack, prior, settings, FACTOR))
            result = restore_stack(stack, prior, inferer).data
            missing = np.arange(result.shape[1]) % FACTOR != 0
            yield method, "acquired", psnr(stack.data, kept.data)
            yield method, "missing", psnr(result[:, missing], truth.data[:, missing])
        for metric, value in level.items():
            yield "cleaned", metric, float(f"{value:.5g}")


def scaled(data: Path, name: str) -> tuple[Stack, Stack]:
    """Return a stack without made noise and every 4th of its planes, its percentiles at 0 and 1, nothing below 0."""
    kept = STACKS[name]
    words = dict(zip(kept.options[::2], kept.options[1::2]))
    clip = words.get("--clip-percentile")
    stack = load_stack(str(data / kept.file), int(words.get("--block-mean", 1)), None if clip is None else float(clip))
    part = middle(stack.data, SIDE).astype(np.float32)
    low, high = np.percentile(part, PERCENTILES)
    planes, cut = left_out(replace(stack, data=np.clip((part - low) / (high - low), 0, None)), FACTOR)
    return cut, planes


def at_one_level(stack: Stack) -> Stack:
    """Return planes cleaned as scikit-image says, of noise that is alike everywhere: its own estimate of it."""
    sigma = float(np.median([estimate_sigma(plane) for plane in stack.data[0]]))
    how = {"patch_size": 5, "patch_distance": 6, "h": 0.8 * sigma, "sigma": sigma}
    return replace(stack, data=np.stack([denoise_nl_means(plane, **how) for plane in stack.data[0]])[None])


def psnr(result: NDArray, truth: NDArray) -> float:
    """Return the PSNR, dB, of a range of 1."""
    return round(float(-10 * np.log10(np.mean(np.square(result.astype(np.float64) - truth)))), 3)


def table(rows: pd.DataFrame) -> str:
    """Return the table: a row a stack and level, PSNR on acquired and on missing planes by each way, seeds averaged."""
    headings = [f"{shown} planes: {METHODS[method]}" for shown in SHOWN for method in METHODS]
    lines = [
        "| PSNR, dB | " + " | ".join([*headings, "noise found, of that made", "farthest change"]) + " |",
        "| --- |" + " --- |" * (len(headings) + 2),
    ]
    for stack, name in NAMES.items():
        for photons in PHOTONS:
            own = rows[(rows["stack"] == stack) & (rows["photons"] == photons)]
            if own.empty:
                continue
            values = own.groupby(["method", "metric"])["value"].agg(["mean", "max"])
            means = values["mean"]
            entries = [f"{means[method, shown]:.2f}" for shown in SHOWN for method in METHODS]
            entries += [f"{means['cleaned', 'sigma']:.2f}", f"{values['max']['cleaned', 'largest']:.1f} sigma"]
            lines.append(f"| {name}, {photons} photons | " + " | ".join(entries) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
