"""Which device computes, in which arithmetic, and how much memory is free."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from bida.cpu_speed import bfloat16_speed
from bida.errors import SettingsError


@dataclass(frozen=True)
class DtypeChoice:
    """The network's arithmetic and why.

    Attributes:
        dtype: ``float32`` or ``bfloat16``.
        how: how it was chosen, for the record.
        warning: what the user should know of it, a sentence; None for nothing.
    """

    dtype: str
    how: str
    warning: str | None = None


def available_bytes() -> int | None:
    """Return the memory that is free for this process, as Linux and its control groups tell it; None elsewhere."""
    found = []
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
        rows = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
        found.append(int(rows["MemAvailable"].split()[0]) * 1024)
        group = Path("/sys/fs/cgroup")
        most = (group / "memory.max").read_text(encoding="ascii").strip()
        if most != "max":
            found.append(int(most) - int((group / "memory.current").read_text(encoding="ascii")))
    except (OSError, ValueError, KeyError, IndexError):
        pass  # another system, or no control group: what was found counts
    return min(found, default=None)


def usable_cores() -> int:
    """Return how many CPU cores this process may use, which a container or a scheduler can limit."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def choose_device(name: str = "auto") -> torch.device:
    """Return the device of that name; ``auto`` takes CUDA where it is, then the CPU.

    Raises:
        SettingsError: The device is unknown or not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise SettingsError(f"device: must be one that this machine has, got {name!r}; use auto or cpu") from error
    return device


def choose_dtype(name: str, device: torch.device) -> str:
    """Return ``float32`` or ``bfloat16``; ``auto`` takes bfloat16 where the device computes it much faster.

    Raises:
        SettingsError: The name is neither of them.
    """
    return dtype_choice(name, device).dtype


def dtype_choice(name: str, device: torch.device) -> DtypeChoice:
    """Return what `choose_dtype` returns, and how it was chosen.

    Raises:
        SettingsError: The name is neither of them.
    """
    if name not in ("auto", "float32", "bfloat16"):
        raise SettingsError(f"dtype: must be auto, float32 or bfloat16, got {name!r}; use auto")
    if name != "auto":
        return DtypeChoice(name, "as asked")
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return DtypeChoice("bfloat16", "the GPU has bfloat16 units")
        return DtypeChoice("float32", "the GPU has no bfloat16 units")
    if device.type != "cpu":
        return DtypeChoice("float32", f"bfloat16 was never measured on {device.type}")
    found = bfloat16_speed()
    when = "measured by an earlier run on this machine" if found.kept else "measured"
    dtype = "bfloat16" if found.speed.worthwhile else "float32"
    return DtypeChoice(dtype, f"{when}: {found.speed}", found.problem)
