"""Compare choices of sampling on tuning animals: the table in docs/development.md.

    python benchmarks/ablation.py DATA/mouse-rtg4510 --subjects sub-15 sub-17 sub-24 --out ablation.csv

Each animal's bias field is divided out, its slices are simulated (coronal, Shinnar-Le Roux), and every choice restores
them. PSNR against the 1st to 99th percentile of the truth, over the whole volume and within the brain; sharpness is the
through-plane share of the truth's gradient, spectrum the distance from the truth's through-plane power less its noise
floor, dB. Rows that the CSV holds for the same weights are not computed again.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from bida.eval import psnr, sharpness, spectrum_distance_db, ssim
from bida.experiment.methods import METHODS, Choices, ThickScan
from bida.experiment.truth import Truth, choose_animals, prepare
from bida.io.files import stem
from bida.io.nifti import ras
from bida.io.scan import read_scan
from bida.io.weights import released_path, sha256
from bida.mri.pipeline import restore
from bida.mri.settings import Settings
from bida.mri.simulate import simulate_file
from bida.physics.geometry import SliceGeometry
from bida.physics.grid import spacing_of

BASE: dict[str, Any] = {"samples": 1, "self_check": False, "noise": 0.0}
CHOICES: dict[str, dict[str, Any]] = {
    "as published": {"guided": False, "grain": True, "profile": "gaussian", "steps": 16},
    "no guide, grain": {"guided": False, "grain": True},
    "no guide, clean": {"guided": False},
    "guide, grain": {"grain": True},
    "guide, clean": {},  # 4 steps, one draw, fusion final, eta 0, Shinnar-Le Roux
    "mean": {"samples": 0},
    "mean, noise estimated": {"samples": 0, "noise": "auto"},
    "2 steps": {"steps": 2},
    "8 steps": {"steps": 8},
    "16 steps": {"steps": 16},
    "50 steps": {"steps": 50},
    "eta 1": {"eta": 1.0},
    "Gaussian operator": {"profile": "gaussian"},
    "fusion step": {"fusion": "step"},
    "fusion alternate": {"fusion": "alternate"},
    "2 draws": {"samples": 2},
    "4 draws": {"samples": 4},
    "8 draws": {"samples": 8},
    "4 draws of 8 steps": {"samples": 4, "steps": 8},
    "no guide, grain, 4 draws": {"samples": 4, "guided": False, "grain": True},
    "self-check": {"self_check": True},
    "self-check, 4 draws": {"self_check": True, "samples": 4},
}
OTHERS = ("cubic", "cubic+projection", "selfsr")
COLUMNS = ("weights", "subject", "factor", "choice", "psnr", "psnr_brain", "ssim", "sharpness", "spectrum", "seconds")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="BIDS data set of isotropic scans")
    parser.add_argument("--subjects", nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True, help="CSV to add to")
    parser.add_argument("--work", type=Path, help="folder that keeps the prepared scans")
    parser.add_argument("--factors", nargs="+", type=float, default=[2.5, 5.0])
    parser.add_argument("--choices", nargs="+", choices=[*CHOICES, *OTHERS], default=[*OTHERS[:2], *CHOICES])
    parser.add_argument("--model", help="other weights than the released ones")
    arguments = parser.parse_args()
    weights = sha256(arguments.model or released_path("model.pt"))[:12]
    done = {tuple(row[key] for key in COLUMNS[:4]) for row in rows_of(arguments.out)}
    work = arguments.work or Path(tempfile.mkdtemp())
    for animal in choose_animals(arguments.data, arguments.subjects, None):
        truth = prepare(animal, arguments.data, work, None, n4=True)
        for factor in arguments.factors:
            for choice in arguments.choices:
                key = (weights, animal.subject, f"{factor:g}", choice)
                if key not in done:
                    add(arguments.out, [*key, *scores(truth, factor, choice, arguments.model, work)])
    print(table([row for row in rows_of(arguments.out) if row["weights"] == weights]))


def rows_of(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def add(path: Path, row: list[Any]) -> None:
    fresh = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if fresh:
            writer.writerow(COLUMNS)
        writer.writerow(row)
    print(*row, flush=True)


def scores(truth: Truth, factor: float, choice: str, model: str | None, work: Path) -> list[str]:
    """Return PSNR in the volume and in the brain, SSIM, sharpness and seconds of a choice."""
    path = work / f"{stem(truth.path)}_{factor:g}x.nii.gz"
    simulate_file(truth.path, path, factor, "A", overwrite=True)
    scan = read_scan(path)
    geometry = SliceGeometry(**scan.sidecar["slice_geometry"])
    start = time.perf_counter()
    if choice in OTHERS:
        slices = ThickScan(path, scan.data, scan.affine, geometry, truth.path, truth.data.shape, truth.affine)
        volume = METHODS[choice].run(slices, Choices())
    else:
        settings = Settings.of(**{**BASE, **CHOICES[choice]}, like=str(truth.path), n4=False, model=model)
        result = restore(path, settings)
        volume = ras(result.data, result.affine)[0]
    seconds = time.perf_counter() - start
    voxel_mm = spacing_of(truth.affine)
    brain = truth.data > 0 if truth.mask is None else truth.mask
    values = [
        psnr(volume, truth.data, truth.data_range),
        psnr(volume, truth.data, truth.data_range, brain),
        ssim(volume, truth.data, truth.data_range),
        sharpness(volume, 1, voxel_mm) / sharpness(truth.data, 1, voxel_mm),
        spectrum_distance_db(volume, truth.data, 1, brain),
    ]
    return [*(f"{value:.4f}" for value in values), f"{seconds:.1f}"]


def table(rows: list[dict[str, str]]) -> str:
    """Return Markdown: mean over animals for each factor and choice, and how many animals."""
    lines = [
        "| choice | factor | PSNR, dB | in the brain, dB | SSIM | sharpness | spectrum, dB | s | animals |",
        "|" + " --- |" * 9,
    ]
    for factor in sorted({row["factor"] for row in rows}, key=float):
        for choice in dict.fromkeys(row["choice"] for row in rows):
            mine = [row for row in rows if (row["factor"], row["choice"]) == (factor, choice)]
            if mine:
                means = {name: np.mean([float(row[name]) for row in mine]) for name in COLUMNS[4:]}
                lines.append(
                    f"| {choice} | {factor} | {means['psnr']:.2f} | {means['psnr_brain']:.2f} | {means['ssim']:.3f} | "
                    f"{means['sharpness']:.2f} | {means['spectrum']:.1f} | {means['seconds']:.0f} | {len(mine)} |"
                )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
