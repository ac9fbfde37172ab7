"""Measure the memory of `bida superres-masked` on OME-Zarr whose results have 0.25, 0.5 and 1 GiB.

    python benchmarks/zarr_memory.py FOLDER

Stacks of noise with structure are made in FOLDER, and restored at 4x by the smallest network of the shipped kind, of
random weights, in a process of its own each. `--self-check off` makes every voxel pass through the network, which would
else be left out where it does not help. It takes about half an hour on one core, and 9 GB of disk.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

PLANES = (33, 65, 129)  # of 1024 x 1024 pixels of 16 bits: (planes - 1) * 4 + 1 in the result
SIDE, FACTOR, WIDTH = 1024, 4, 8
MAKE = """
import sys
import numpy as np, torch
from scipy.ndimage import gaussian_filter
from bida.io.weights import save_weights
from bida.microscopy.prior import MaskedPrior
from bida.microscopy.stacks.stack import Stack, write_stack
stack, weights, planes, side, width = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
torch.manual_seed(0)
network = MaskedPrior("guided", 1, (width,), 1)
torch.nn.init.normal_(next(network.parameters()), std=0.1)
save_weights(network.eval(), weights)
draw = np.random.default_rng(0)
data = np.empty((1, planes, side, side), np.uint16)
for plane in data[0]:
    plane[:] = 2000 + 4000 * np.abs(gaussian_filter(draw.normal(size=plane.shape), 3)) + draw.normal(0, 30, plane.shape)
write_stack(stack, Stack(data, (2.0, 0.5, 0.5), ("a",)), overwrite=True)
"""
PEAK = """
import resource, subprocess, sys
subprocess.run([sys.executable, "-m", "bida", "superres-masked", *sys.argv[1:]], check=True, stdout=sys.stderr)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def main() -> None:
    """Make the stacks, restore them and print a line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--planes", nargs="+", type=int, default=PLANES)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    weights = arguments.folder / "small.pt"
    print("result, GiB | peak, MiB | s")
    for planes in arguments.planes:
        stack, out = (arguments.folder / f"{name}{planes}.ome.zarr" for name in ("in", "out"))
        made = [stack, weights, planes, SIDE, WIDTH]
        subprocess.run([sys.executable, "-c", MAKE, *map(str, made)], check=True)
        words = [stack, out, "--factor", FACTOR, "--model", weights, "--self-check", "off", "--overwrite"]
        start = time.monotonic()
        # a process between, for a peak is told of all children together
        command = [sys.executable, "-c", PEAK, *map(str, words)]
        told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        size = ((planes - 1) * FACTOR + 1) * SIDE**2 * 2 / 2**30
        print(f"{size:.2f} | {int(told) // 1024} | {time.monotonic() - start:.0f}", flush=True)


if __name__ == "__main__":
    main()
