"""Time the restoration of a 144 x 144 x 64 volume: 16 steps, two planes, every slice through the network.

    python benchmarks/superres.py [--runs 3] [--threads N]

Prints a Markdown table: median and range over the runs, the rate of the network's floating-point operations beside that
of a matrix product of the same type measured in the same run, and the peak memory of the process.
"""

from __future__ import annotations

import argparse
import platform
import resource
import time
from collections.abc import Callable

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from bida.degradation import SliceGeometry, SliceOperator
from bida.device import choose_device
from bida.inferer import BiplanarInferer
from bida.pipeline import load_prior, released_prior
from bida.prior import PlanePrior
from bida.sample import smooth_noise
from bida.volume import NORMAL, planes_containing

SHAPE, AXIS, FACTOR, VOXEL_MM = (144, 144, 64), 1, 5.0, 0.15


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, help="CPU threads; default: torch's own choice")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    device = choose_device(arguments.device)
    prior = load_prior(released_prior(), None, device, arguments.dtype)
    inputs, geometry = problem(device)
    inferer = BiplanarInferer(steps=16)

    def restore() -> None:
        next(iter(inferer.draws(inputs, prior, geometry)))

    times = [seconds(restore, device) for _ in range(arguments.runs)]
    rates = [matmul_gflops(prior.compute_dtype, device) for _ in range(3)]
    median = float(np.median(times))
    calls = sum(SHAPE[NORMAL[plane]] for plane in planes_containing(AXIS)) * inferer.steps
    flops = network_gflop(prior, device) * inferer.steps
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    peak = torch.cuda.max_memory_allocated() if device.type == "cuda" else 1024 * peak_kib()
    dtype = str(prior.compute_dtype).removeprefix("torch.")
    rows = {
        "machine": f"{name}, {platform.machine()}, PyTorch {torch.__version__}",
        "seconds a volume": f"{median:.1f} ({min(times):.1f}-{max(times):.1f}, {len(times)} runs)",
        "slices a second": f"{calls / median:.0f}",
        "network": f"{flops / median:.0f} GFLOP/s ({flops:.0f} GFLOP), {dtype}",
        "matrix product, same type": f"{np.median(rates):.0f} GFLOP/s",
        "peak memory": f"{peak / 2**30:.2f} GiB",
    }
    print("| 144 x 144 x 64, 16 steps, two planes | |\n| --- | --- |")
    print("\n".join(f"| {key} | {value} |" for key, value in rows.items()))


def problem(device: torch.device) -> tuple[torch.Tensor, SliceGeometry]:
    """Return A+ y of smooth noise, so that no slice is background, and its geometry."""
    spacing = FACTOR * VOXEL_MM
    geometry = SliceGeometry(AXIS, round(SHAPE[AXIS] / FACTOR), spacing, spacing, SHAPE[AXIS], VOXEL_MM)
    truth = 0.3 * smooth_noise(np.random.default_rng(0), SHAPE, 0.5, VOXEL_MM)
    operator = SliceOperator.build(geometry)
    return operator.pinv(operator.forward(torch.from_numpy(truth)))[None, None].to(device), geometry


def seconds(run: Callable[[], None], device: torch.device) -> float:
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def network_gflop(prior: PlanePrior, device: torch.device) -> float:
    """Return the operations of one step: every slice of both planes once."""
    total = 0.0
    for plane in planes_containing(AXIS):
        height, width = (SHAPE[axis] for axis in range(3) if axis != NORMAL[plane])
        with FlopCounterMode(display=False) as counter:
            prior.predict(torch.zeros(1, 1, height, width, device=device), 500, plane)
        total += counter.get_total_flops() / 1e9 * SHAPE[NORMAL[plane]]
    return total


def matmul_gflops(dtype: torch.dtype, device: torch.device, size: int = 2048) -> float:
    a = torch.ones(size, size, dtype=dtype, device=device)
    a @ a
    took = min(seconds(lambda: a @ a, device) for _ in range(5))  # type: ignore[func-returns-value]
    return 2 * size**3 / took / 1e9


def peak_kib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB on Linux


if __name__ == "__main__":
    main()
