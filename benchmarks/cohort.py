"""Forty made scans, three of them bad, on two workers, with a worker killed and then the whole run: what is left after.

    python benchmarks/cohort.py FOLDER [--scans 40]

Restores the scans unbroken by one process, then by two of which one is killed, with the run itself killed half-way and
started again; says whether every output is there once, equal to the unbroken one, and how long a run takes that has
nothing to do. Nothing is written beside FOLDER.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import psutil

BAD = 3
SIZE, SPACING_MM = (32, 12, 28), (0.15, 0.75, 0.15)


def make_scans(folder: Path, count: int) -> None:
    """Write scans of smooth noise, of which the last ones are cut, constant and no image."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        values = np.random.default_rng(number).uniform(50, 150, SIZE).astype(np.float32)
        if number == count - 2:
            values[:] = 1
        path = folder / f"scan{number:02d}.nii.gz"
        image = nib.Nifti1Image(values, np.diag([*SPACING_MM, 1]))
        image.header.set_xyzt_units("mm")
        nib.save(image, path)
        if number == count - 1:
            path.write_text("no image")
        if number == count - 3:
            path.write_bytes(path.read_bytes()[:1000])


def start(scans: Path, out: Path, workers: int) -> subprocess.Popen:
    """Start the command."""
    words = [sys.executable, "-m", "bida", "superres", scans, "-o", out, "--workers", workers, "--no-n4"]
    return subprocess.Popen(list(map(str, words)), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def wait_for(out: Path, count: int, process: subprocess.Popen) -> None:
    """Wait until so many results are there, or the process has ended."""
    while process.poll() is None and len(list(out.glob("*.nii.gz"))) < count:
        time.sleep(0.05)


def finish(process: subprocess.Popen) -> str:
    """Return the last line that a run prints."""
    return (process.communicate()[0].splitlines() or [""])[-1]


def main() -> None:
    """Run it all, and say what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scans", type=int, default=40)
    arguments = parser.parse_args()
    count, scans = arguments.scans, arguments.folder / "scans"
    make_scans(scans, count)
    begun = time.perf_counter()
    print("one process, unbroken:", finish(start(scans, arguments.folder / "unbroken", 1)))
    alone, begun = time.perf_counter() - begun, time.perf_counter()
    print("two workers, unbroken:", finish(start(scans, arguments.folder / "two", 2)))
    print(f"seconds: one process {alone:.0f}, two workers {time.perf_counter() - begun:.0f}")
    out = arguments.folder / "broken"
    process = start(scans, out, 2)
    wait_for(out, count // 4, process)
    started = psutil.Process(process.pid).children(recursive=True)
    workers = [one for one in started if "spawn_main" in " ".join(one.cmdline())]
    os.kill(workers[0].pid, signal.SIGKILL)
    wait_for(out, count // 2, process)
    started = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    psutil.wait_procs(started, timeout=60)
    done, running = len(list(out.glob("*.nii.gz"))), sum(one.is_running() for one in started)
    print(f"a worker killed, then the run: {done} results, {running} processes left")
    print("started again:", finish(start(scans, out, 2)))
    expected = {path.name: path.read_bytes() for path in (arguments.folder / "unbroken").glob("*.nii.gz")}
    for name in ("two", "broken"):
        found = {path.name: path.read_bytes() for path in (arguments.folder / name).glob("*.nii.gz")}
        others = [
            one.name for one in (arguments.folder / name).iterdir() if one.suffix not in (".gz", ".json", ".html")
        ]
        same = "equal to the unbroken ones" if found == expected else "NOT equal to the unbroken ones"
        print(f"{name}: {len(found)} of {count - BAD} results, {same}; left behind: {', '.join(others) or 'nothing'}")
    begun = time.perf_counter()
    print("once more:", finish(start(scans, out, 2)))
    print(f"seconds: {time.perf_counter() - begun:.1f}")


if __name__ == "__main__":
    main()
