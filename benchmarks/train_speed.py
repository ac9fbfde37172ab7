"""Time training: the whole loop, the step alone and the loader alone, in images a second, beside the machine's limit.

    python benchmarks/train_speed.py [--runs 5] [--quick]

Runs configs/train.yaml on a synthetic brain, with batches made where the network is (configs/on_device.yaml), and with
slices prepared one by one by processes. The limit is the rate at which the operations of the network's forward and
backward passes can be had, at that of a matrix product of the same type. Writes build/bench/train_speed.csv and .md.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from ignite.engine import Engine, Events
from measure import gflop, load, machine, matmul_gflops, write_tables
from monai.bundle import ConfigParser

from bida.mri.info import synchronise
from bida.mri.synthetic_brain import synthetic_brain
from bida.training.handlers import SpreadLoss

WARM = 2  # steps that are not counted: the workers start, memory is laid out
SPACING_MM, SHAPE = 0.2, (64, 96, 64)


@dataclass(frozen=True)
class Case:
    """One row: values of train.yaml, and threads; without workers batches are made where the network is."""

    what: str
    batch_size: int = 16
    workers: int | None = None
    threads: int | None = None


def cases(quick: bool) -> list[Case]:
    default = Case("default")
    if quick:
        return [default]
    return [
        default,
        Case("batch size 32", batch_size=32),
        Case("one thread", threads=1),
        Case("slices one by one, one worker", workers=1),
        Case("slices one by one, two workers", workers=2),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="groups of steps of each row; the median counts")
    parser.add_argument("--quick", action="store_true", help="the default alone, two groups: a trial, not a figure")
    parser.add_argument("--threads", type=int, help="CPU threads; default: torch's own choice")
    arguments = parser.parse_args()
    threads = arguments.threads or torch.get_num_threads()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        write_data(Path(folder) / "data")
        for case in cases(arguments.quick):
            torch.set_num_threads(case.threads or threads)
            rows.append(row(case, Path(folder), 2 if arguments.quick else arguments.runs))
            print(rows[-1], flush=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    print(write_tables(rows, "train_speed", f"{machine(device)}, {threads} threads; {load()}."))


def write_data(folder: Path) -> None:
    """Write one animal that trains and one that validates."""
    lines = ["participant_id\tsplit"]
    for number, split in enumerate(("train", "val"), 1):
        volume, affine = synthetic_brain(SPACING_MM, SHAPE, number)
        path = folder / f"sub-{number}" / "anat" / f"sub-{number}_T2w.nii.gz"
        path.parent.mkdir(parents=True)
        nib.save(nib.Nifti1Image(volume.astype(np.float32), affine), path)
        lines.append(f"sub-{number}\t{split}")
    (folder / "participants.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def row(case: Case, folder: Path, runs: int, group: int = 4) -> dict[str, Any]:
    """Train for `runs` groups of steps; their median time counts."""
    steps = WARM + runs * group
    parser = ConfigParser()
    together = case.workers is None
    parser.read_config([str(files("bida.configs") / f"{name}.yaml") for name in ("train", *["on_device"] * together)])
    run = folder / case.what.replace(" ", "-")
    overrides = {"dataset_dir": str(folder / "data"), "output_dir": str(run), "batch_size": case.batch_size,
                 "num_workers": case.workers or 0, "epochs": 1, "steps_per_epoch": steps, "warmup": 1}  # fmt: skip
    for name, value in overrides.items():
        parser[name] = value
    trainer = parser.get_parsed_content("train#trainer")
    prior, dataset = (parser.get_parsed_content(name) for name in ("bare_network", "train#dataset"))
    loader = parser.get_parsed_content("train#dataloader")
    batch = next(iter(loader))
    device = parser.get_parsed_content("device")
    rate = matmul_gflops(prior.compute_dtype, device)
    flops = gflop(lambda: backward(prior, batch, device)) / case.batch_size
    alone, ready = seconds(lambda: backward(prior, batch, device), runs, device), []
    prior.zero_grad()
    made = partial(loader.batch, 1) if together else lambda: [dataset[index] for index in range(case.batch_size)]
    loading = seconds(made, runs, device)
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: ready.append(clock(engine, device)))
    trainer.add_event_handler(Events.ITERATION_COMPLETED(once=steps), lambda engine: engine.terminate())
    trainer.run()
    whole = float(np.median(np.diff(ready[WARM - 1 :: group]))) / group
    rate = float(np.median([rate, matmul_gflops(prior.compute_dtype, device)]))
    return {
        "what": case.what,
        "images a second": case.batch_size / whole,
        "the step alone": case.batch_size / alone,
        "one loader alone": case.batch_size / loading,
        "limit": rate / flops,
        "share of the limit": case.batch_size / whole * flops / rate,
        "GFLOP an image": flops,
        "matrix product, GFLOP/s": rate,
        "dtype": str(prior.compute_dtype).removeprefix("torch."),
    }


def clock(engine: Engine, device: torch.device) -> float:
    synchronise(device)
    return time.perf_counter()


def backward(prior: torch.nn.Module, batch: dict[str, torch.Tensor], device: torch.device) -> None:
    """Run the two passes of a training step."""
    x, label, times, planes = (batch[key].to(device) for key in ("image", "label", "timesteps", "planes"))
    SpreadLoss()(prior(x, times, planes), label).backward()


def seconds(run: Any, runs: int, device: torch.device) -> float:
    run()
    times = []
    for _ in range(runs):
        synchronise(device)
        start = time.perf_counter()
        run()
        synchronise(device)
        times.append(time.perf_counter() - start)
    return float(np.median(times))


if __name__ == "__main__":
    main()
