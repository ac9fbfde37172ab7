"""What the benchmarks share: clocks, the limit of the machine, memory, its description, and tables."""

from __future__ import annotations

import csv
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from bida.device import usable_cores
from bida.mri.info import synchronise

OUT = Path("build/bench")
STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
MATRIX = 2048  # order of the matrices whose product sets the limit


@dataclass(frozen=True)
class Timing:
    """Seconds of a run, repeated.

    Attributes:
        wall: by the clock, each run.
        cpu: of all threads of the process, the median: what other programs on the machine change least.
        gflops: of matrix products between the runs, the median.
        peak_gib: most memory, GiB; None where the system does not tell.
    """

    wall: Sequence[float]
    cpu: float
    gflops: float
    peak_gib: float | None

    @property
    def seconds(self) -> float:
        """Median by the clock."""
        return float(np.median(self.wall))


def timed(run: Callable[[], object], runs: int, dtype: torch.dtype, device: torch.device) -> Timing:
    """Run `runs` times, with matrix products in between, so that both meet the same machine."""
    wall, cpu, rates = [], [], [matmul_gflops(dtype, device)]
    reset_peak(device)
    for _ in range(runs):
        used, start = time.process_time(), time.perf_counter()
        run()
        synchronise(device)
        wall.append(time.perf_counter() - start)
        cpu.append(time.process_time() - used)
        rates.append(matmul_gflops(dtype, device))
    return Timing(wall, float(np.median(cpu)), float(np.median(rates)), peak_gib(device))


# runs the words behind the name of a file, and writes into it what they took: of a process that a large one starts, the
# kernel tells no less memory than that one has
LAUNCHER = (
    "import os, subprocess, sys; run = subprocess.Popen(sys.argv[2:]); _, status, used = os.wait4(run.pid, 0); "
    "print(used.ru_utime + used.ru_stime, used.ru_maxrss, file=open(sys.argv[1], 'w')); "
    "sys.exit(os.waitstatus_to_exitcode(status))"
)


class Used(NamedTuple):
    """What a process took: seconds by the clock, of the CPU, user and system, and its largest memory, GiB."""

    seconds: float
    cpu_s: float
    peak_gib: float


def in_process(words: Sequence[str], environment: Mapping[str, str], folder: Path) -> Used:
    """Run a command in a process of its own, in a folder.

    Raises:
        RuntimeError: It ended with another code than 0; which, and its last line, is said.
    """
    start, log, told = time.perf_counter(), folder / "log.txt", folder / "used.txt"
    with log.open("w") as file:
        call = [sys.executable, "-S", "-c", LAUNCHER, str(told), *words]
        run = subprocess.run(call, env=dict(environment), cwd=folder, stdout=file, stderr=file)
    if run.returncode:
        last = (log.read_text().strip().splitlines() or ["nothing"])[-1]
        raise RuntimeError(f"{words[0]} must end with 0, got {run.returncode}: {last}")
    cpu_s, kib = map(float, told.read_text().split())
    return Used(time.perf_counter() - start, cpu_s, kib / 2**20)


def matmul_gflops(dtype: torch.dtype, device: torch.device, repeats: int = 5) -> float:
    """Return the rate of a matrix product of that type, the median."""
    a = torch.ones(MATRIX, MATRIX, dtype=dtype, device=device)
    times = []
    for _ in range(1 + repeats):  # the first one warms up
        synchronise(device)
        start = time.perf_counter()
        a @ a
        synchronise(device)
        times.append(time.perf_counter() - start)
    return 2 * MATRIX**3 / float(np.median(times[1:])) / 1e9


def gflop(run: Callable[[], object]) -> float:
    """Return the floating-point operations of a run, in 10^9; those of matrix products and convolutions count."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops() / 1e9


def reset_peak(device: torch.device) -> None:
    """Forget the most memory used so far."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif RESET.exists():
        RESET.write_text("5")  # proc_pid_clear_refs(5): the peak becomes the present size


def peak_gib(device: torch.device) -> float | None:
    """Return the most memory used since `reset_peak`, GiB: of the GPU, or of the whole process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    lines = STATUS.read_text().splitlines() if STATUS.exists() else []
    kib = [int(line.split()[1]) for line in lines if line.startswith("VmHWM")]
    return kib[0] / 2**20 if kib else None


def machine(device: torch.device) -> str:
    """Describe the machine in one line."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    units = torch.backends.cpu.get_cpu_capability()
    parts = [names[0] if names else platform.processor() or platform.machine(), f"{usable_cores()} cores, {units}"]
    if device.type == "cuda":
        parts.insert(0, torch.cuda.get_device_name(device))
    return ", ".join([*parts, f"PyTorch {torch.__version__}"])


def load() -> str:
    """Say how busy the machine is; above the number of cores the figures are those of a shared machine."""
    return f"load average {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "load unknown"


def write_tables(rows: Iterable[Mapping[str, Any]], name: str, note: str) -> str:
    """Write rows as ``build/bench/<name>.csv`` and ``.md``, and return the Markdown."""
    listed = list(rows)
    OUT.mkdir(parents=True, exist_ok=True)
    with (OUT / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, listed[0].keys())
        writer.writeheader()
        writer.writerows(listed)
    lines = [list(listed[0]), ["---"] * len(listed[0]), *([_text(value) for value in row.values()] for row in listed)]
    text = "\n".join([*("| " + " | ".join(line) + " |" for line in lines), "", note, ""])
    (OUT / f"{name}.md").write_text(text, encoding="utf-8")
    return text


def _text(value: Any) -> str:
    return "-" if value is None else f"{value:.3g}" if isinstance(value, float) and value < 100 else _whole(value)


def _whole(value: Any) -> str:
    return f"{value:.0f}" if isinstance(value, float) else str(value)
