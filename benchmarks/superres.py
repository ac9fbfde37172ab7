"""Time the restoration of volumes: steps, planes, batch, volume size, threads; every slice through the network.

    python benchmarks/superres.py [--runs 5] [--quick]

The first row is 144 x 144 x 64 voxels, 16 steps, two planes; the second the default of 4 steps; each other row changes
one thing of the second. The limit is the time that the network's floating-point operations take at the rate of a matrix
product of the same type, measured between the runs. Writes build/bench/superres.csv and .md.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from measure import gflop, load, machine, timed, write_tables

from bida.device import choose_device
from bida.diffusion.load import load_prior, prior_of
from bida.diffusion.prior import PlanePrior
from bida.mri.measurement import Measurement
from bida.mri.sampler import BiplanarSampler
from bida.mri.settings import SamplerOptions
from bida.mri.synthetic_brain import smooth_noise
from bida.physics.geometry import SliceGeometry
from bida.physics.grid import NORMAL, axis_within, planes_containing
from bida.physics.guide import SHOWN
from bida.physics.operators import SliceOperator

AXIS, FACTOR, VOXEL_MM = 1, 5.0, 0.15


@dataclass(frozen=True)
class Case:
    """One row: what is restored and how."""

    what: str
    steps: int = 4
    planes: int = 2
    guided: bool = True
    batch_size: int = 16
    shape: tuple[int, int, int] = (144, 144, 64)
    threads: int | None = None


def cases(quick: bool) -> list[Case]:
    main, default = Case("16 steps", steps=16), Case("default, 4 steps")
    if quick:
        small = (96, 96, 32)
        return [
            replace(main, what="16 steps, small", shape=small),
            replace(default, what="4 steps, small", shape=small),
        ]
    return [
        main,
        default,
        *(replace(default, what=f"{n} steps", steps=n) for n in (1, 8)),
        replace(default, what="one plane", planes=1),
        *(replace(default, what=f"batch size {n}", batch_size=n) for n in (1, 64)),
        *(replace(default, what=f"{n} slices", shape=(144, 144, n)) for n in (32, 128)),
        replace(default, what="96 x 96 x 64", shape=(96, 96, 64)),
        replace(default, what="not guided", guided=False),
        replace(default, what="one thread", threads=1),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="of each row; the median counts")
    parser.add_argument("--quick", action="store_true", help="two small rows, two runs each: a trial, not a figure")
    parser.add_argument("--threads", type=int, help="CPU threads; default: torch's own choice")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    arguments = parser.parse_args()
    threads = arguments.threads or torch.get_num_threads()
    device = choose_device(arguments.device)
    prior = load_prior(prior_of(), None, device, arguments.dtype)
    rows = []
    for case in cases(arguments.quick):
        torch.set_num_threads(case.threads or threads)
        rows.append(row(case, prior, device, 2 if arguments.quick else arguments.runs))
        print(rows[-1], flush=True)
    dtype = str(prior.compute_dtype).removeprefix("torch.")
    print(write_tables(rows, "superres", f"{machine(device)}, {threads} threads, {dtype}; {load()}."))


def row(case: Case, prior: PlanePrior, device: torch.device, runs: int) -> dict[str, Any]:
    inputs, geometry = problem(case.shape, device)
    planes = planes_containing(AXIS)[: case.planes]
    options = SamplerOptions(samples=1, steps=case.steps, batch_size=case.batch_size, guided=case.guided)
    inferer = BiplanarSampler(options)
    scan = Measurement.of(inputs, prior.stride, geometry)

    def restore() -> None:
        with torch.no_grad():
            next(iter(inferer.sampled(scan, prior, planes)))

    found = timed(restore, runs, prior.compute_dtype, device)
    calls = sum(case.shape[NORMAL[plane]] for plane in planes) * case.steps
    flops = network_gflop(prior, case, device) * case.steps
    return {
        "what": case.what,
        "seconds": found.seconds,
        "range": f"{min(found.wall):.1f}-{max(found.wall):.1f}",
        "runs": runs,
        "limit, s": flops / found.gflops,
        "times the limit": found.seconds * found.gflops / flops,
        "slices a second": calls / found.seconds,
        "GFLOP": flops,
        "GFLOP/s": flops / found.seconds,
        "matrix product, GFLOP/s": found.gflops,
        "CPU seconds": found.cpu,
        "peak, GiB": found.peak_gib,
    }


def problem(shape: tuple[int, int, int], device: torch.device) -> tuple[torch.Tensor, SliceGeometry]:
    """Return A+ y of smooth noise, so that no slice is background, and its geometry."""
    spacing = FACTOR * VOXEL_MM
    geometry = SliceGeometry(AXIS, round(shape[AXIS] / FACTOR), spacing, spacing, shape[AXIS], VOXEL_MM)
    truth = 0.3 * smooth_noise(np.random.default_rng(0), shape, 0.5, VOXEL_MM)
    operator = SliceOperator.build(geometry)
    return operator.pinv(operator.forward(torch.from_numpy(truth)))[None, None].to(device), geometry


def network_gflop(prior: PlanePrior, case: Case, device: torch.device) -> float:
    """Return the operations of one step: every slice of the planes once."""
    total = 0.0
    for plane in planes_containing(AXIS)[: case.planes]:
        height, width = (case.shape[axis] for axis in range(3) if axis != NORMAL[plane])
        x = torch.zeros(1, 1, height, width, device=device)
        guide = x.repeat(1, SHOWN, 1, 1) if case.guided else None
        along = axis_within(plane, AXIS)
        once = gflop(
            lambda x=x, plane=plane, guide=guide, along=along: prior.predict(x, 500, plane, guide, along=along)
        )
        total += once * case.shape[NORMAL[plane]]
    return total


if __name__ == "__main__":
    main()
