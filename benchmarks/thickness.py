"""Measure how near a scan's own estimate of its slice thickness comes: isotropic volumes made thick, with noise.

    python benchmarks/thickness.py --group mice DATA/mouse-rtg4510/sub-{08,14,21}/anat/*_T2w.nii.gz \
        --group template DATA/mouse-template-rminc/tpl-rminc/anat/tpl-rminc_T2w.nii.gz

prints a table in Markdown: a row for each group and true share T / s of thickness in slice spacing. Each volume is made
thick along each of its axes, by each factor, with Rician noise of each SNR (mean in tissue over sigma; 0: none). Errors
are of ln T; `thinner` counts scans of which only this is told, that their slices are thinner than 0.9 of the spacing.
With --csv a row for each scan goes into a file.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from skimage.filters import threshold_otsu

from bida.physics.grid import AXES, spacing_of
from bida.physics.simulate import simulate_slices
from bida.physics.thickness import estimate_thickness


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--group", nargs="+", action="append", required=True, metavar=("NAME", "FILE"))
    parser.add_argument("--factors", nargs="+", type=float, default=[2.5, 4, 6])
    parser.add_argument("--shares", nargs="+", type=float, default=[0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2])
    parser.add_argument("--snr", nargs="+", type=float, default=[0, 30, 10])
    parser.add_argument("--csv", type=Path)
    arguments = parser.parse_args()
    rows = []
    for name, *files in arguments.group:
        for file in files:
            rows += [{"group": name, "file": Path(file).name, **row} for row in measured(file, arguments)]
    table = pd.DataFrame(rows)
    if arguments.csv is not None:
        table.to_csv(arguments.csv, index=False)
    print("\n".join(markdown(table)))


def measured(file: str, arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield what is found on each scan made of one volume."""
    image = nib.as_closest_canonical(nib.load(file))
    volume = np.clip(image.get_fdata(dtype=np.float32), 0, None)
    voxel = float(spacing_of(image.affine)[0])
    tissue = volume[volume > threshold_otsu(volume)].mean()
    cases = product(range(3), arguments.factors, arguments.snr, arguments.shares)
    for seed, (axis, factor, snr, share) in enumerate(cases):
        thick, _ = simulate_slices(volume, voxel, axis, factor, thickness_mm=share * factor * voxel)
        scan = rician(thick, tissue / snr, seed) if snr else thick
        sizes = [voxel * (factor if k == axis else 1) for k in range(3)]
        found = estimate_thickness(scan, sizes, axis)
        error = np.nan if found.share is None else np.log(found.share / share)
        thinner = found.thickness_mm is None and found.high_mm is not None
        case = {"axis": AXES[axis], "factor": factor, "snr": snr, "share": share}
        yield {**found.record(), **case, "error": error, "thinner": thinner}


def rician(slices: NDArray, sigma: float, seed: int) -> NDArray[np.float32]:
    """Return the magnitude of slices with complex noise."""
    draw = np.random.default_rng(seed)
    real, imaginary = sigma * draw.standard_normal((2, *slices.shape))
    return np.hypot(slices + real, imaginary).astype(np.float32)


def markdown(table: pd.DataFrame) -> Iterator[str]:
    """Yield the lines of a table of every group and true share, and of all of it."""
    yield "| volumes | T / s | scans | told | within 10% | within 15% | mean error | largest | thinner |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    for (group, share), part in table.groupby(["group", "share"], sort=False):
        yield line(str(group), f"{share:g}", part)
    for group, part in table.groupby("group", sort=False):
        yield line(str(group), "all", part)
    yield line("all", "all", table)


def line(group: str, share: str, part: pd.DataFrame) -> str:
    """Return a row of the table."""
    errors = part["error"].dropna()
    near = [f"{(errors.abs() < np.log(1 + limit)).sum()}" for limit in (0.1, 0.15)]
    mean = f"{errors.mean():+.2f}" if len(errors) else ""
    largest = f"{errors[errors.abs().idxmax()]:+.2f}" if len(errors) else ""
    cells = [group, share, str(len(part)), str(len(errors)), *near, mean, largest, str(int(part["thinner"].sum()))]
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
