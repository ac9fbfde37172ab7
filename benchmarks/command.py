"""Measure the whole command under two states of the code, in turns: seconds, CPU seconds, memory and PSNR in one table.

    python benchmarks/command.py BEFORE [--tree DIR] [--truth FILE ...] [--snr 10] [--factor 5] [--made N ...]
        [--runs 5] [--threads N] [--options "..."]

BEFORE and DIR (this checkout without --tree) are folders of checkouts, each with its own weights; both run
`bida superres --steps 1`. From each --truth, an isotropic volume, a scan is made along A, with noise where --snr is
given; PSNR is that of the result in the truth's tissue. Each --made is a sphere in the dark of N x N x N voxels, of
which memory and growth are told and PSNR is not. Seconds are medians, memory the largest of the runs. Writes
build/bench/command.csv and .md.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
from measure import Used, in_process, machine, write_tables
from same_bytes import HERE, environment_of

from bida.device import usable_cores

FACTOR = 5.0
# what the environment of other benchmarks sets and a user's does not
OURS = ("CUDA_VISIBLE_DEVICES", "PYTHONDONTWRITEBYTECODE", "OMP_WAIT_POLICY", "OMP_NUM_THREADS", "MKL_NUM_THREADS",
        "OPENBLAS_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")  # fmt: skip
MAIN = "import bida.cli as c; {}; sys.exit(m())".format(
    "import importlib, sys; m = c.main if hasattr(c, 'main') else importlib.import_module('bida.cli.parser').main"
)


def main() -> None:
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("--tree", type=Path, default=HERE)
    parser.add_argument("--truth", type=Path, nargs="+", default=[])
    parser.add_argument("--snr", type=float)
    parser.add_argument("--factor", type=float, default=FACTOR)
    parser.add_argument("--made", type=int, nargs="+", default=[])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, help="of a run, as many as the machine has cores without it")
    parser.add_argument("--options", default="", help="more options of both commands")
    arguments = parser.parse_args()
    trees = {"before": arguments.before.resolve(), "after": arguments.tree.resolve()}
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        environments = {what: environment_of(tree, work / what) for what, tree in trees.items()}
        for environment in environments.values():
            for ours in OURS:
                environment.pop(ours)
            if arguments.threads is not None:
                environment |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(arguments.threads))
        scans = [
            (path.name, thick(path, arguments.factor, arguments.snr, work, environments["after"]), path)
            for path in arguments.truth
        ]
        scans += [(f"made, {n}^3", sphere(n, arguments.factor, work), None) for n in arguments.made]
        rows, threads = [], arguments.threads or usable_cores()
        for title, scan, truth in scans:
            found: dict[str, list[Used]] = {what: [] for what in trees}
            scores: dict[str, float | None] = {}
            for _ in range(arguments.runs):
                for what, environment in environments.items():
                    out = work / f"{what}.nii.gz"
                    words = [str(scan), str(out), "--overwrite", "--steps", "1", *arguments.options.split()]
                    found[what].append(in_process([sys.executable, "-c", MAIN, "superres", *words], environment, work))
                    scores[what] = None if truth is None else psnr(truth, out)
            for what, runs in found.items():
                wall, cpu, gib = zip(*runs)
                ratios = [one.cpu_s / before.cpu_s for one, before in zip(runs, found["before"])]
                rows.append(
                    {
                        "scan": title,
                        "code": what,
                        "seconds": statistics.median(wall),
                        "CPU seconds": statistics.median(cpu),
                        "of before": statistics.median(ratios),
                        "peak, GiB": max(gib),
                        "PSNR, dB": scores[what],
                    }
                )
                print(rows[-1], flush=True)
        print(write_tables(rows, "command", f"{machine(torch.device('cpu'))}, {threads} threads."))


def thick(truth: Path, factor: float, snr: float | None, work: Path, environment: dict[str, str]) -> Path:
    """Make a scan of a volume along A by `bida simulate`."""
    out = work / f"thick_{truth.name.split('.')[0]}.nii.gz"
    words = ["simulate", str(truth.resolve()), str(out), "--factor", str(factor), "--axis", "A", "--overwrite"]
    words += [] if snr is None else ["--snr", str(snr)]
    subprocess.run([sys.executable, "-c", MAIN, *words], env=environment, cwd=work, check=True, capture_output=True)
    return out


def sphere(voxels: int, factor: float, work: Path) -> Path:
    """Write thick slices of a sphere in the dark."""
    shape = (voxels, round(voxels / factor), voxels)
    place = np.meshgrid(*[np.linspace(-1, 1, n, dtype=np.float32) for n in shape], indexing="ij", sparse=True)
    inside = sum(p**2 for p in place) < 0.02
    slices = np.where(inside, 1000 + 200 * np.sin(9 * place[0]) + 100 * np.cos(40 * place[2]), 0).astype(np.float32)
    out = work / f"made_{voxels}.nii.gz"
    nib.save(nib.Nifti1Image(slices, np.diag([0.1, 0.1 * factor, 0.1, 1.0])), out)
    return out


def psnr(truth: Path, result: Path) -> float:
    """Return the PSNR of a result in the truth's tissue, dB; both on the truth's grid."""
    from nibabel.processing import resample_from_to
    from skimage.filters import threshold_otsu
    from skimage.metrics import peak_signal_noise_ratio

    whole, found = nib.load(truth), nib.load(result)
    found = resample_from_to(found, whole, order=1) if found.shape != whole.shape else found
    x, y = (np.asarray(image.dataobj, dtype=np.float64) for image in (whole, found))
    tissue = x > threshold_otsu(x)
    return float(peak_signal_noise_ratio(x[tissue], y[tissue], data_range=float(np.ptp(x[tissue]))))


if __name__ == "__main__":
    main()
