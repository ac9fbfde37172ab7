"""Measure the memory of `bida superres-masked` on OME-Zarr whose results have 0.25, 0.5 and 1 GiB.

    python benchmarks/zarr_memory.py FOLDER

Stacks of noise with structure are made in FOLDER, and restored at 4x by the shipped network (`--model` names another),
in a process of its own each. `--self-check off` makes every voxel pass through the network, which would else be left
out where it does not help. All of 1 GiB would take a core hours, so the network computes the first and then one of
EVERY batches of tiles, and the rest are answered by zeros: batches are of one shape, so the largest memory is that of a
whole run, and the time is not. `--every 1` is a whole run. It takes 9 GB of disk.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

PLANES = (33, 65, 129)  # of 1024 x 1024 pixels of 16 bits: (planes - 1) * 4 + 1 in the result
SIDE, FACTOR, EVERY = 1024, 4, 40
MAKE = """
import sys
import numpy as np
from scipy.ndimage import gaussian_filter
from bida.microscopy.stacks.stack import Stack, write_stack
stack, planes, side = sys.argv[1], *map(int, sys.argv[2:])
draw = np.random.default_rng(0)
data = np.empty((1, planes, side, side), np.uint16)
for plane in data[0]:
    plane[:] = 2000 + 4000 * np.abs(gaussian_filter(draw.normal(size=plane.shape), 3)) + draw.normal(0, 30, plane.shape)
write_stack(stack, Stack(data, (2.0, 0.5, 0.5), ("a",)), overwrite=True)
"""
SEEN = """
import resource, sys
import torch
from bida.cli.parser import main
from bida.microscopy.prior import MaskedPrior
every, calls, computed = int(sys.argv[1]), 0, MaskedPrior.forward
def forward(self, x, timesteps):
    global calls
    calls += 1
    return computed(self, x, timesteps) if calls % every == 1 % every else torch.zeros_like(x[:, :1])
MaskedPrior.forward = forward
code = main(["superres-masked", *sys.argv[2:]])
print("batches", calls, file=sys.stderr)
print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
sys.exit(code)
"""


def main() -> None:
    """Make the stacks, restore them and print a line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--planes", nargs="+", type=int, default=PLANES)
    parser.add_argument("--model", type=Path, help="weights; default: those that are shipped")
    parser.add_argument("--every", type=int, default=EVERY, help=f"batches of which one is computed ({EVERY})")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    print("result, GiB | peak, MiB | s")
    for planes in arguments.planes:
        stack, out = (arguments.folder / f"{name}{planes}.ome.zarr" for name in ("in", "out"))
        subprocess.run([sys.executable, "-c", MAKE, *map(str, [stack, planes, SIDE])], check=True)
        words = [stack, out, "--factor", FACTOR, "--minutes", 0, "--self-check", "off", "--overwrite"]
        words += ["--model", arguments.model] if arguments.model else []
        start = time.monotonic()
        command = [sys.executable, "-c", SEEN, str(arguments.every), *map(str, words)]
        told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        peak = int(told.split()[-1]) // 1024
        size = ((planes - 1) * FACTOR + 1) * SIDE**2 * 2 / 2**30
        print(f"{size:.2f} | {peak} | {time.monotonic() - start:.0f}", flush=True)


if __name__ == "__main__":
    main()
