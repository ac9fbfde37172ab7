"""Which device computes, and in which arithmetic."""

from __future__ import annotations

import time
from functools import cache

import torch

from bida.errors import SettingsError

# bfloat16 must be this many times as fast as float32 to be worth its rounding; matrix units give 3 and more,
# processors that emulate it stay below 1.
_WORTHWHILE = 1.5


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
    if name not in ("auto", "float32", "bfloat16"):
        raise SettingsError(f"dtype: must be auto, float32 or bfloat16, got {name!r}; use auto")
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    return "bfloat16" if device.type == "cpu" and _cpu_speed_ratio() > _WORTHWHILE else "float32"


@cache
def _cpu_speed_ratio() -> float:
    """Time a matrix product in both precisions on the CPU; return float32's best time over bfloat16's."""

    def best(dtype: torch.dtype) -> float:
        a = torch.ones(768, 768, dtype=dtype)
        times = []
        for _ in range(6):
            start = time.perf_counter()
            a @ a
            times.append(time.perf_counter() - start)
        return min(times)

    return best(torch.float32) / best(torch.bfloat16)
