"""Time cohorts against single commands, and two workers of one thread against one: what many at once is worth here.

    python benchmarks/cohort_speed.py FOLDER [--scans 8] [--size 96 24 96] [--runs 3]

Each figure is the time that another scan takes: that of a run of twice as many scans less that of a run of so many,
by the clock, so that what a run costs once is left out of it. Runs of one thread are held to one by OMP_NUM_THREADS. A
single command is given with its start-up taken off, which is the time of the same command on 16 x 16 x 4 voxels. The
runs take turns, and medians are printed with their range; it wants a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import psutil

SPACING_MM = (0.15, 0.75, 0.15)


def main() -> None:
    """Run it all, and say what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scans", type=int, default=8)
    parser.add_argument("--size", type=int, nargs=3, default=(96, 24, 96), help="voxels of a scan, thick slices second")
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    folder, count = arguments.folder, arguments.scans
    folder.mkdir(parents=True, exist_ok=True)
    scans = [make_scan(folder / f"scan{number:02d}.nii.gz", arguments.size, number) for number in range(2 * count)]
    tiny = make_scan(folder / "tiny.nii.gz", (16, 4, 16), 0)
    ways = {
        "one process, one thread": (1, 1),
        "two workers, one thread each": (2, 2),
        "one process, two threads": (1, 2),
    }
    found: dict[str, list[float]] = {}
    for _ in range(arguments.runs):
        for way, (workers, threads) in ways.items():
            once, twice = (seconds(scans[:many], folder, workers, threads) for many in (count, 2 * count))
            found.setdefault(way, []).append((twice - once) / count)
        for threads in (1, 2):
            alone = seconds([scans[0]], folder, 1, threads) - seconds([tiny], folder, 1, threads)
            found.setdefault(f"single command less its start-up, threads {threads}", []).append(alone)
        loads = os.getloadavg()[0]
        print(f"load of the last minute {loads:.1f}", flush=True)
    for way, values in found.items():
        print(f"{way}: {statistics.median(values):.2f} s a scan ({min(values):.2f}-{max(values):.2f})")
    one, two, both, alone_1, alone_2 = (statistics.median(values) for values in found.values())
    print(f"two workers of one thread do {one / two:.2f} times what one process of one thread does (asked: 1.7)")
    print(f"and {both / two:.2f} times what one process of two threads does (asked: 1)")
    print(f"a scan of many takes {one / alone_1:.2f} and {both / alone_2:.2f} times a single command (asked: 1.1)")


def make_scan(path: Path, size: Sequence[int], seed: int) -> Path:
    """Write a scan of uniform noise, in which no part is passed over as air, and return its path."""
    values = np.random.default_rng(seed).uniform(50, 150, size).astype(np.float32)
    image = nib.Nifti1Image(values, np.diag([*SPACING_MM, 1]))
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
    return path


def seconds(scans: Sequence[Path], folder: Path, workers: int, threads: int) -> float:
    """Return the seconds by the clock of a command in a process of its own, on so many cores as it has threads."""
    cores = psutil.Process().cpu_affinity()[: max(workers, threads)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads // workers)}
    with tempfile.TemporaryDirectory(dir=folder) as out:
        target = [Path(out) / "one.nii.gz"] if len(scans) == 1 else ["-o", out, "--workers", workers]
        words = [sys.executable, "-m", "bida", "superres", *scans, *target, "--no-n4", "-q"]
        begun = time.perf_counter()
        process = subprocess.Popen(list(map(str, words)), env=environment, stdout=subprocess.DEVNULL)
        psutil.Process(process.pid).cpu_affinity(cores)
        if process.wait() != 0:
            raise SystemExit(f"{' '.join(map(str, words))}: ended with {process.returncode}")
        return time.perf_counter() - begun


if __name__ == "__main__":
    main()
