"""Restore simulated thick slices of isotropic scans and compare with the truth: the model card's table.

    python benchmarks/validation.py DATA --subjects sub-08 sub-14 sub-21 --card models/MODEL_CARD.md

For every animal and factor: thick coronal slices by the Shinnar-Le Roux profile, restored on the truth's own grid
without N4, as ``bida simulate`` and ``bida superres --like HR --no-n4 --samples K`` do. PSNR and SSIM are over the
whole volume, background included, with the range between the truth's 1st and 99th percentile as data range; ``brain``
is PSNR inside the data set's brain mask where there is one.
"""

from __future__ import annotations

import argparse
import csv
import json
import platform
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from numpy.typing import NDArray

from bida.baselines import cubic, project
from bida.cli import main as bida
from bida.dataset import find_animals
from bida.degradation import SliceGeometry
from bida.eval import psnr, ssim
from bida.pictures import ras
from bida.pipeline import console_progress, restore
from bida.preview import preview
from bida.scan import read_scan
from bida.settings import Settings

BEGIN, END = "<!-- validation: begin -->", "<!-- validation: end -->"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="BIDS folder of isotropic scans, with derivatives/masks")
    parser.add_argument("--subjects", nargs="+", required=True)
    parser.add_argument("--factors", nargs="+", type=float, default=[2.5, 5.0])
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--model", help="other weights than the released ones")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="other settings of bida.Settings")
    parser.add_argument("--card", type=Path, help="Markdown file whose marked section gets the table")
    parser.add_argument("--csv", type=Path, help="where to keep the rows")
    parser.add_argument("--pictures", type=Path, help="folder for a picture of every cell")
    arguments = parser.parse_args()
    options = {name: json.loads(value) for name, _, value in (text.partition("=") for text in arguments.set)}
    settings = Settings.of(**{"samples": arguments.samples, "model": arguments.model, "n4": False, **options})
    rows, digest = [], ""
    for animal in find_animals([arguments.data], include=arguments.subjects):
        for factor in arguments.factors:
            found, digest = cell(arguments.data, animal.subject, animal.path, factor, settings, arguments.pictures)
            rows += found
            for row in found:
                print("  ".join(str(value) for value in row.values()), flush=True)
    if arguments.csv:
        with arguments.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=rows[0])
            writer.writeheader()
            writer.writerows(rows)
    report = table(rows, settings, digest)
    print(report)
    if arguments.card:
        text = arguments.card.read_text(encoding="utf-8")
        before, after = text.split(BEGIN)[0], text.split(END)[1]
        arguments.card.write_text(f"{before}{BEGIN}\n{report}{END}{after}", encoding="utf-8")


def cell(
    data: Path, subject: str, path: Path, factor: float, settings: Settings, pictures: Path | None
) -> tuple[list[dict[str, str | float]], str]:
    """Score every method on one animal at one factor; return the rows and the weights' hash."""
    truth, affine = read_scan(path).data, read_scan(path).affine
    low, high = np.percentile(truth, [1, 99])
    masks = list((data / "derivatives" / "masks" / subject).glob("**/*_mask.nii.gz"))
    mask = np.asarray(nib.load(masks[0]).dataobj) > 0 if masks else np.ones(truth.shape, bool)
    with tempfile.TemporaryDirectory() as folder:
        thick = Path(folder) / "thick.nii.gz"
        if bida(["simulate", str(path), str(thick), "--factor", str(factor)]):
            raise SystemExit(2)
        draws: list[NDArray[np.float32]] = []
        run = Settings(**{**vars(settings), "like": str(path)})
        result = restore(thick, run, console_progress(), on_draw=draws.append)
        slices, _ = ras(read_scan(thick).data, read_scan(thick).affine)
    geometry = SliceGeometry(**result.record["slice_geometry"])
    spline = cubic(slices, geometry)
    volumes = {
        "cubic": spline,
        "cubic + projection": project(spline, slices, geometry),
        "one draw": ras(draws[0], affine)[0],
        f"mean of {len(draws)} draws": ras(result.data, affine)[0],
    }
    truth, mask = ras(truth, affine)[0], ras(mask, affine)[0] > 0
    span = float(high - low)
    if pictures:
        spacing = ras(result.data, affine)[1]
        shown = {"cubic": volumes["cubic"], "one draw": volumes["one draw"], "mean": ras(result.data, affine)[0]}
        panels = {name: (volume, spacing) for name, volume in {**shown, "truth": truth}.items()}
        scores = {name: psnr(volume, truth, span) for name, volume in shown.items()}
        pictures.mkdir(parents=True, exist_ok=True)
        preview(pictures / f"{subject}_{factor:g}x.png", panels, psnr=scores, title=f"{subject}, {factor:g}x")
    return [
        {
            "subject": subject,
            "factor": factor,
            "method": name,
            "psnr_db": round(psnr(volume, truth, span), 3),
            "ssim": round(ssim(volume, truth, span), 4),
            "brain_psnr_db": round(psnr(volume, truth, span, mask), 3),
        }
        for name, volume in volumes.items()
    ], result.record["weights_sha256"]


def table(rows: list[dict[str, str | float]], settings: Settings, digest: str) -> str:
    """Return the rows as Markdown, with the mean and the spread over animals."""
    methods = list(dict.fromkeys(str(row["method"]) for row in rows))
    lines = []
    for factor in dict.fromkeys(row["factor"] for row in rows):
        lines += [f"**{factor:g}x** (PSNR dB / SSIM / PSNR dB in the brain)", ""]
        lines += ["| animal | " + " | ".join(methods) + " |", "| --- |" + " --- |" * len(methods)]
        chosen = [row for row in rows if row["factor"] == factor]
        for subject in dict.fromkeys(row["subject"] for row in chosen):
            of = {row["method"]: row for row in chosen if row["subject"] == subject}
            lines.append(f"| {subject} | " + " | ".join(entry(of[method]) for method in methods) + " |")
        means = []
        for method in methods:
            scores = np.array([(r["psnr_db"], r["ssim"], r["brain_psnr_db"]) for r in chosen if r["method"] == method])
            mean, spread = scores.mean(axis=0), scores.std(axis=0, ddof=1) if len(scores) > 1 else np.zeros(3)
            means.append(f"{mean[0]:.2f} ± {spread[0]:.2f} / {mean[1]:.3f} / {mean[2]:.2f} ± {spread[2]:.2f}")
        lines += ["| mean ± SD | " + " | ".join(means) + " |", ""]
    lines += [
        f"Settings: {settings.steps} steps, {settings.profile} operator, fusion `{settings.fusion}`, "
        f"seed {settings.seed}; weights {digest[:12]}; {platform.machine()}, PyTorch {torch.__version__}.",
        "",
    ]
    return "\n".join(lines)


def entry(row: dict[str, str | float]) -> str:
    return f"{row['psnr_db']:.2f} / {row['ssim']:.3f} / {row['brain_psnr_db']:.2f}"


if __name__ == "__main__":
    main()
