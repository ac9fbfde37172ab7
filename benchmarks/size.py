"""Measure how the whole command grows: with voxels, 1 to 64 million, with draws, and with volumes of a 4D scan.

    python benchmarks/size.py [--millions 1 4 16 64] [--draws 1 2 4] [--volumes 1 2 4] [--threads 2] [--csv FILE]

Each run is `bida superres` in a process of its own, on a scan made for it: an ellipsoid of smooth texture and noise
(SNR 20) that fills half of the field of view, slices 5 voxels apart; of 64 million voxels the result is 512 x 512 x
255. Draws and volumes are measured at one million voxels. Columns: voxels of a volume of the result, millions; seconds;
CPU seconds, and those of each million voxels, draw or volume more than in the row before; largest memory, GiB, and
likewise. Rows that the CSV file has are not measured again. Writes build/bench/size.md.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from measure import in_process, machine, write_tables
from noisy_tables import Rows
from scipy.ndimage import zoom

FACTOR, VOXEL_MM, SNR = 5, 0.1, 20.0
COLUMNS = {
    "what": "",
    "number": "g",
    "voxels_millions": ".1f",
    "seconds": ".1f",
    "cpu_s": ".1f",
    "peak_gib": ".3f",
    "machine": "",
}
COMMAND = (sys.executable, "-m", "bida", "superres", "scan.nii", "out.nii", "--overwrite", "--factor", str(FACTOR))
PLANE_OF_64 = 512  # voxels along a side of the planes where the result has 64 million, twice as many as across them


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--millions", type=float, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--draws", type=int, nargs="*", default=[1, 2, 4])
    parser.add_argument("--volumes", type=int, nargs="*", default=[1, 2, 4])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--csv", type=Path)
    arguments = parser.parse_args()
    wanted = [("voxels", n, n, 1, ()) for n in arguments.millions]
    wanted += [("draws", k, 1, 1, ("--samples", str(k))) for k in arguments.draws]
    wanted += [("volumes", k, 1, k, ("--volume", "all") if k > 1 else ()) for k in arguments.volumes]
    rows = Rows(COLUMNS, arguments.csv)
    about = f"{machine(torch.device('cpu'))}, {arguments.threads} threads"
    environment = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(arguments.threads))
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        for what, number, millions, volumes, options in wanted:
            if rows.has(what=what, number=number):
                continue
            shape = made(work / "scan.nii", millions, volumes)
            used = in_process([*COMMAND, *options], environment, work)
            rows.add({"what": what, "number": number, "voxels_millions": np.prod(shape[:3]) / 1e6, **used._asdict(),
                      "machine": about})  # fmt: skip
    print(write_tables(with_growth(rows), "size", f"{about}."))


def made(path: Path, millions: float, volumes: int) -> tuple[int, ...]:
    """Write thick slices of an ellipsoid; return the result's shape, (R, A, S, volumes)."""
    side = round(PLANE_OF_64 * (millions / 64) ** (1 / 3))
    slices = round(side / 2 / FACTOR)
    draw = np.random.default_rng(0)
    texture = zoom(draw.normal(1000, 150, (side // 8, side // 8, slices)).astype(np.float32), (8, 8, 1), order=1)
    place = np.meshgrid(*[np.linspace(-1, 1, n, dtype=np.float32) for n in texture.shape], indexing="ij", sparse=True)
    inside = sum(one**2 for one in place) < 1
    sigma = 1000 / SNR

    def scan() -> np.ndarray:
        noise = draw.normal(0, sigma, (2, *texture.shape)).astype(np.float32)
        return np.hypot(np.where(inside, texture, 0) + noise[0], noise[1])

    data = scan() if volumes == 1 else np.stack([scan() for _ in range(volumes)], axis=-1)
    nib.save(nib.Nifti1Image(data, np.diag([VOXEL_MM, VOXEL_MM, VOXEL_MM * FACTOR, 1.0])), path)
    return (*texture.shape[:2], slices * FACTOR, volumes)


def with_growth(rows: Rows) -> list[dict[str, object]]:
    """Return the rows with what each takes beyond the one before it."""
    found = []
    for what, part in rows.frame().groupby("what", sort=False):
        part = part.sort_values("number")
        more = part[["number", "cpu_s", "peak_gib"]].diff()
        for (_, row), (_, step) in zip(part.iterrows(), more.iterrows()):
            found.append(
                {
                    "what": what,
                    "number": row.number,
                    "voxels, millions": row.voxels_millions,
                    "seconds": row.seconds,
                    "CPU seconds": row.cpu_s,
                    "CPU seconds each more": None if np.isnan(step.number) else step.cpu_s / step.number,
                    "peak, GiB": row.peak_gib,
                    "GiB each more": None if np.isnan(step.number) else step.peak_gib / step.number,
                }
            )
    return found


if __name__ == "__main__":
    main()
