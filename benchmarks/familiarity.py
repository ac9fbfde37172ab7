"""Measure whether bida says "unlike what the priors know" where the gain is lost, and only there.

    python benchmarks/familiarity.py measure DATA --out familiarity.csv [--model FILE]
    python benchmarks/familiarity.py table familiarity.csv

`measure` takes scans of every data set and of no animal, each in its own contrast, reversed and with a gamma, without
added noise and at two SNRs; isotropic ones are made thick first. It writes what the self-check finds on the scan's own
slices, and what the prior gains on four other slices of it, whose truth has no added noise: PSNR in tissue over
interpolation that agrees with the slices. Rows that the file holds are not measured again.
`table` prints the gain of scans of the kind that was trained on by noise, which a scan's own gain is held against
(`bida.mri.familiarity`), and the area under the curve: how well the ratio tells the scans whose gain is lost, less than
half of that of their kind.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from familiarity_tables import area, of_trained, with_verdicts
from trust import prepared, strange, thickened

from bida.errors import BidaError
from bida.mri.measurement import Measurement
from bida.mri.moments import mean_of
from bida.mri.sampler import BiplanarSampler
from bida.mri.selfcheck import chosen_indices, plane_across, slice_geometry, window
from bida.mri.slice_errors import sums_over_slices
from bida.physics.consistency import TISSUE, interpolated
from bida.physics.operators import SliceOperator

SCANS = {  # of each data set, subjects that nothing was trained on, or some that were
    "mouse-rtg4510": ("sub-08", "sub-14", "sub-21", "sub-15", "sub-01", "sub-20"),
    "mouse-sherm": ("sub-01", "sub-02"),
    "mouse-jax": ("sub-01", "sub-02"),
    "rat-nirodents": ("sub-15",),
    "rat-bold-pontes": ("sub-01", "sub-25", "sub-28"),
    "mouse-template-rminc": ("tpl-rminc",),
    "rat-sigma": ("tpl-sigma",),
    "mouse-template-drcarbon": ("tpl-drcarbon",),
    "mouse-template-atlasbrex": ("tpl-atlasbrex",),
}
CONTRASTS = {"own": (False, 1.0), "reversed": (True, 1.0), "gamma 0.5": (False, 0.5), "gamma 2": (False, 2.0)}
SNRS: tuple[float | None, ...] = (None, 20.0, 10.0)
COLUMNS = [
    "scan",
    "kind",
    "contrast",
    "snr",
    "factor",
    "noise",
    "familiarity",
    "gain_db",
    "better_db",
    "weight",
    "other_db",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sub = parser.add_subparsers(dest="what", required=True)
    one = sub.add_parser("measure")
    one.add_argument("data", type=Path)
    one.add_argument("--out", type=Path, required=True)
    one.add_argument("--model")
    one.set_defaults(samples=0, steps=None, run=measure)
    two = sub.add_parser("table")
    two.add_argument("csv", type=Path)
    two.set_defaults(run=table)
    arguments = parser.parse_args()
    arguments.run(arguments)


def scans(data: Path) -> Iterator[tuple[str, str, Any]]:
    """Yield name, kind and source of scans."""
    for folder, subjects in SCANS.items():
        for subject in subjects:
            for path in sorted((data / folder / subject).rglob("*.nii.gz")):
                if path.name.rpartition("_")[2].split(".")[0] in ("T2w", "T1w", "boldref", "bold", "dwi"):
                    yield f"{folder} {path.name.split('.')[0]}", "", path
    for name, image in strange(data):
        yield name, "no animal", image


def measure(arguments: argparse.Namespace) -> None:
    done = set()
    if arguments.out.is_file():
        done = {(row["scan"], row["contrast"], row["snr"]) for row in csv.DictReader(arguments.out.open())}
    with arguments.out.open("a", newline="") as file:
        rows = csv.DictWriter(file, COLUMNS)
        if not done:
            rows.writeheader()
        for name, kind, source in scans(arguments.data):
            if all((name, contrast, str(snr or "clean")) in done for contrast in CONTRASTS for snr in SNRS):
                continue
            try:
                sampler, prior, scan = prepared(thickened(source), arguments)
            except BidaError as error:
                print(f"{name}: {error}")
                continue
            empty = float((scan.y <= -1).float().mean())
            kind = kind or ("brain" if empty > 0.4 else "head")
            for contrast in CONTRASTS:
                for snr in SNRS:
                    if (name, contrast, str(snr or "clean")) not in done:
                        row = found(sampler, prior, scan, contrast, snr)
                        told = {"scan": name, "kind": kind, "contrast": contrast, "snr": snr or "clean"}
                        rows.writerow(told | {k: f"{v:.4f}" for k, v in row.items()})
                        file.flush()


@torch.no_grad()
def found(
    sampler: BiplanarSampler, prior: Any, scan: Measurement, contrast: str, snr: float | None
) -> dict[str, float]:
    """Return what the self-check finds, and what is gained on other slices."""
    clean, geometry = contrasted(scan.inside(), *CONTRASTS[contrast]), scan.geometry.unpadded()
    own, tissue = scan.noise or 0.0, clean > TISSUE
    sigma = 0.0 if snr is None else float((clean[tissue] + 1).mean()) / snr
    drawn = torch.from_numpy(np.random.default_rng(0).standard_normal(tuple(clean.shape), dtype=np.float32))
    noise = float(np.hypot(own, sigma))
    noised = Measurement(clean + sigma * drawn, geometry, noise=noise)
    check = sampler.check(noised, prior)
    row = {"factor": geometry.factor, "noise": noise}
    if check is not None:
        row |= {"familiarity": check.familiarity, "gain_db": check.gain_db, "better_db": check.better_db}
        row |= {"weight": check.weight}
    row["other_db"] = on_others(sampler, prior, clean, noised, sigma)
    return row


def contrasted(y: torch.Tensor, reverse: bool, gamma: float) -> torch.Tensor:
    """Return slices of another contrast, background kept."""
    bright = ((y + 1) / 2).clamp(min=0)
    if reverse:
        bright = (bright / 0.08).clamp(max=1) * (1.2 - bright).clamp(min=0.05)
    return 2 * bright**gamma - 1


def on_others(sampler: BiplanarSampler, prior: Any, clean: torch.Tensor, noised: Measurement, sigma: float) -> float:
    """Return the gain on four slices that the self-check does not see, dB; their truth has no added noise."""
    axis, noise = noised.geometry.axis, noised.noise or 0.0
    held = set(chosen_indices(noised.y, axis))
    left = clean.index_select(axis, torch.tensor([i for i in range(clean.shape[axis]) if i not in held]))
    chosen = chosen_indices(left, axis)
    if not chosen:
        return float("nan")
    truth = window(left.index_select(axis, torch.tensor(chosen)), axis, prior.stride)
    inside = (truth > TISSUE).to(truth.dtype)
    sums = []
    for other in (other for other in range(3) if other != axis):
        geometry = slice_geometry(noised.geometry, other, truth.shape[other])
        if geometry.slices < 2:
            return float("nan")
        thick = SliceOperator.build(geometry).forward(truth)
        drawn = np.random.default_rng(other + 1).standard_normal(tuple(thick.shape), dtype=np.float32)
        thick = thick + sigma * torch.from_numpy(drawn)
        plane = plane_across(axis)
        volumes = next(iter(sampler.sampled(Measurement(thick, geometry, noise=noise), prior, (plane,))))
        errors = [inside * (truth - x) for x in (interpolated(thick, geometry, noise), mean_of(volumes))]
        sums.append([float(sums_over_slices(e, e, axis).sum()) for e in errors])
    reference, restored = np.sum(sums, axis=0)
    return float(10 * np.log10((reference + 1e-12) / (restored + 1e-12)))


def table(arguments: argparse.Namespace) -> None:
    rows = with_verdicts(pd.read_csv(arguments.csv))
    print(of_trained(rows).groupby(["kind", "snr"])[["noise", "gain_db", "other_db"]].mean().round(3))
    lost, told = rows.lost.to_numpy(), rows.told.to_numpy()
    print(f"area under the curve {area(-rows.familiarity.to_numpy(), lost):.3f}, {lost.sum()} of {len(lost)} lost")
    print(f"told unfamiliar: {np.mean(told[lost]):.2f} of the lost, {np.mean(told[~lost]):.2f} of the others")
    print(rows[told != lost].round(2).to_string())


if __name__ == "__main__":
    main()
