"""Time sampling and the whole command on a GPU, beside an older state of the code, and hold its results to the CPU's.

    python benchmarks/gpu.py BEFORE [--tree DIR] [--device cuda] [--runs 3] [--shape 144 144 64] [--steps 1 4 16]

BEFORE and DIR (this checkout without --tree) are folders of checkouts, each with its own weights. Sampling of a made
volume is timed in each, in turns, two processes of each. Then, of this state: the parts of `bida superres` by its own
clock; whether results are the same bytes at --batch-size 1, 7 and 64; how far those in float32 are from the CPU's, of
the range. Writes build/bench/gpu.csv and .md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from same_bytes import HERE, environment_of

BATCHES = (1, 7, 64)
# a tree's own benchmark times it: modules have moved between states
CHILD = """
import json, sys
sys.path.insert(0, sys.argv[1])
import superres as s
asked = json.loads(sys.argv[2])
device = s.choose_device(asked["device"])
prior = s.load_prior(s.prior_of(), None, device, "auto")
for steps in asked["steps"]:
    case = s.Case(f"{steps} steps", steps=steps, shape=tuple(asked["shape"]))
    s.row(case, prior, device, 1)  # warms up
    print(json.dumps(s.row(case, prior, device, asked["runs"])), flush=True)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("--tree", type=Path, default=HERE)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--shape", type=int, nargs=3, default=(144, 144, 64))
    parser.add_argument("--steps", type=int, nargs="+", default=(1, 4, 16))
    arguments = parser.parse_args()
    # here, since it starts CUDA's and torch's work in this process
    from measure import write_tables

    with tempfile.TemporaryDirectory() as name:
        rows = sampling(arguments, Path(name))
    rows += command(arguments.device, tuple(arguments.shape))
    print(write_tables(rows, "gpu", f"{arguments.device}, {' x '.join(map(str, arguments.shape))} voxels."))


def sampling(arguments: argparse.Namespace, work: Path) -> list[dict[str, Any]]:
    """Time sampling in both trees, in turns."""
    asked = json.dumps({key: getattr(arguments, key) for key in ("device", "steps", "shape", "runs")})
    trees = {"before": arguments.before.resolve(), "after": arguments.tree.resolve()}
    environments = {}
    for what, tree in trees.items():
        environments[what] = environment_of(tree, work / what)
        for limit in ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            environments[what].pop(limit)
    found: dict[str, dict[str, list[dict[str, Any]]]] = {what: {} for what in trees}
    for _ in range(2):
        for what, tree in trees.items():
            words = [sys.executable, "-c", CHILD, str(tree / "benchmarks"), asked]
            run = subprocess.run(words, env=environments[what], capture_output=True, text=True)
            if run.returncode:
                raise SystemExit(f"{tree}: ended with {run.returncode}: {run.stderr[-500:]}")
            for line in run.stdout.splitlines():
                row = json.loads(line)
                found[what].setdefault(row["what"], []).append(row)
    rows = []
    for case, before in found["before"].items():
        was, now = (float(np.median([row["seconds"] for row in one])) for one in (before, found["after"][case]))
        peak = max(row["peak, GiB"] or 0.0 for row in found["after"][case])
        rows.append({"what": f"sampling, {case}", "before": was, "after": now, "ratio": now / was, "peak, GiB": peak})
    return rows


def command(device: str, shape: tuple[int, ...]) -> list[dict[str, Any]]:
    """Time the parts of the whole command's work, and hold its results to one another and to the CPU's."""
    import nibabel as nib

    import bida
    from bida.mri.synthetic_brain import smooth_noise

    slices = 100 * smooth_noise(np.random.default_rng(0), (shape[0], round(shape[1] / 5), shape[2]), 0.5, 0.15) + 500
    scan = nib.Nifti1Image(slices.astype(np.float32), np.diag([0.15, 0.75, 0.15, 1.0]))
    rows = []

    def row(what: str, value: float) -> None:
        rows.append({"what": what, "before": None, "after": value, "ratio": None, "peak, GiB": None})

    plain = bida.Settings(device=device, samples=1, steps=4)
    for settings, what in ((bida.Settings(device=device), "the mean"), (plain, "one draw, 4 steps")):
        bida.restore(scan, settings)  # warms up
        for part, seconds in bida.restore(scan, settings).record["seconds"].items():
            row(f"{what}: {part}, s", seconds)
    volumes = [bida.restore(scan, replace(plain, batch_size=size)).data for size in BATCHES]
    row("batch sizes whose result differs", sum(not np.array_equal(volumes[0], other) for other in volumes[1:]))
    exact = replace(plain, dtype="float32")
    gpu, cpu = (bida.restore(scan, replace(exact, device=one)).data for one in (device, "cpu"))
    row("largest difference to the CPU, of the range", float(np.abs(gpu - cpu).max() / np.ptp(cpu)))
    return rows


if __name__ == "__main__":
    main()
