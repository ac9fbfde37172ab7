"""Which device computes, in which arithmetic, and how much memory is free."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from bida.cpu_speed import bfloat16_speed, cpu_model, int8_speed
from bida.errors import SettingsError
from bida.integers import exact
from bida.io.kept import Kept, cache_file, kept_or_found
from bida.physics.geometry import SliceGeometry
from bida.physics.operators import SliceOperator, exact_dtype

MPS_FILE = "mps.json"  # in the cache folder: what mps gave
LARGEST = 0.01  # difference from the CPU, of the range of what it gives, that is the same answer
SLICES, WIDTH, SIDE = 4, 32, 32  # of the trial: slices of SIDE x SIDE pixels, WIDTH channels
# what a device says that lacks an operation or a type, or memory
FAILURES = (RuntimeError, TypeError, ValueError, AssertionError)


@dataclass(frozen=True)
class DtypeChoice:
    """The network's arithmetic and why.

    Attributes:
        dtype: ``float32``, ``bfloat16`` or ``int8``.
        how: how it was chosen, for the record.
        warning: what the user should know of it, a sentence; None for nothing.
        rest: with ``int8``, that of all that is not computed in integers; None elsewhere.
    """

    dtype: str
    how: str
    warning: str | None = None
    rest: str | None = None

    @property
    def floating(self) -> str:
        """That of what is not computed in integers."""
        return self.rest or self.dtype


@dataclass(frozen=True)
class DeviceChoice:
    """The device.

    Attributes:
        device: where the network runs.
        warning: what the user should know of the choice, a sentence; None for nothing.
    """

    device: torch.device
    warning: str | None = None


@dataclass(frozen=True)
class Trial:
    """What a pass on a device gave.

    Attributes:
        difference: the largest from the CPU, of the range of what it gives; None where the pass failed.
        failure: how it failed.
    """

    difference: float | None
    failure: str | None = None

    @property
    def same(self) -> bool:
        """Whether the device gives the CPU's answer."""
        return self.difference is not None and self.difference <= LARGEST

    def __str__(self) -> str:
        """Return a clause for a note."""
        if self.difference is None:
            return f"a small pass failed there ({self.failure})"
        return f"a small pass differs there from the CPU's by {self.difference:.2g} of its range"


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
    """Return the device of that name; ``auto`` takes CUDA where it is, then Apple's mps if it computes as the CPU does.

    Raises:
        SettingsError: The device is unknown or not there.
    """
    return device_choice(name).device


def device_choice(name: str = "auto") -> DeviceChoice:
    """Return what `choose_device` returns, and what the user should know of it.

    Raises:
        SettingsError: The device is unknown or not there.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return DeviceChoice(torch.device("cuda"))
        return _on_apple() if torch.backends.mps.is_available() else DeviceChoice(torch.device("cpu"))
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise SettingsError(f"device: must be one that this machine has, got {name!r}; use auto or cpu") from error
    return DeviceChoice(device)


def _on_apple() -> DeviceChoice:
    found = mps_trial()
    if found.value.same:
        return DeviceChoice(torch.device("mps"), found.problem)
    notes = [f"the CPU computes, not mps: {found.value}", *([] if found.problem is None else [found.problem])]
    return DeviceChoice(torch.device("cpu"), "; ".join(notes))


def notes_of(device: str, choice: DtypeChoice) -> list[str]:
    """Return what the user should know of the device of a name and of its arithmetic, a sentence each."""
    return [note for note in (device_choice(device).warning, choice.warning) if note is not None]


def choose_dtype(name: str, device: torch.device) -> str:
    """Return ``float32`` or ``bfloat16``; ``auto`` takes bfloat16 where the device computes it much faster.

    Raises:
        SettingsError: The name is none of these.
    """
    return dtype_choice(name, device).dtype


def dtype_choice(name: str, device: torch.device, int8: bool = False) -> DtypeChoice:
    """Return what `choose_dtype` returns, and how it was chosen.

    Args:
        name: ``auto``, or the one that is wanted.
        device: where the network computes.
        int8: whether ``int8`` is one of them, which ``auto`` takes where a CPU computes it faster yet.

    Raises:
        SettingsError: The name is none of them, or the device has no such arithmetic.
    """
    names = ("auto", "float32", "bfloat16", "int8") if int8 else ("auto", "float32", "bfloat16")
    if name not in names:
        raise SettingsError(f"dtype: must be {', '.join(names[:-1])} or {names[-1]}, got {name!r}; use auto")
    if name == "int8":
        if device.type != "cpu" or not exact():
            place = cpu_model() if device.type == "cpu" else device.type
            raise SettingsError(
                f"dtype: int8 needs a CPU on which PyTorch has exact integer convolutions, got {place}; use auto"
            )
        return DtypeChoice(name, "as asked", rest=dtype_choice("auto", device).dtype)
    if name != "auto":
        return DtypeChoice(name, "as asked")
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return DtypeChoice("bfloat16", "the GPU has bfloat16 units")
        return DtypeChoice("float32", "the GPU has no bfloat16 units")
    if device.type != "cpu":
        return DtypeChoice("float32", f"bfloat16 was never measured on {device.type}")
    found = bfloat16_speed()
    floating = DtypeChoice("bfloat16" if found.value.worthwhile else "float32", _how(found), found.problem)
    if not int8:
        return floating
    integers = int8_speed(getattr(torch, floating.dtype))
    problem = "; ".join(one.problem for one in (found, integers) if one.problem) or None
    how = f"{floating.how}; {_how(integers)}"
    if integers.value.worthwhile:
        return DtypeChoice("int8", how, problem, rest=floating.dtype)
    return DtypeChoice(floating.dtype, how, problem)


def _how(found: Kept[Any]) -> str:
    return f"{'measured by an earlier run on this machine' if found.kept else 'measured'}: {found.value}"


def mps_trial() -> Kept[Trial]:
    """Return what this Mac's mps gave when it was first tried under this PyTorch and system."""
    key = f"{cpu_model()}; macOS {platform.mac_ver()[0]}; torch {torch.__version__}"
    return _mps_trial(cache_file(MPS_FILE), key)


@lru_cache(maxsize=8)
def _mps_trial(file: Path, key: str) -> Kept[Trial]:
    return kept_or_found(file, key, lambda: tried(torch.device("mps")), _trial_of, "whether mps is as the CPU")


def _trial_of(row: Mapping[str, Any]) -> Trial:
    difference, failure = row["difference"], row["failure"]
    return Trial(None if difference is None else float(difference), None if failure is None else str(failure))


def tried(device: torch.device) -> Trial:
    """Return what a small pass on a device gives, against the CPU's; a failure is one, too."""
    expected = small_pass(torch.device("cpu"))
    try:
        found = small_pass(device)
    except FAILURES as error:
        return Trial(None, shorten(f"{type(error).__name__}: {error}", 160))
    differences = [
        float((there - here).abs().max() / (here.max() - here.min())) for here, there in zip(expected, found)
    ]
    if not all(map(math.isfinite, differences)):
        return Trial(None, "it gives what is not a number")
    return Trial(max(differences))


@torch.inference_mode(False)
@torch.enable_grad()
def small_pass(device: torch.device) -> list[Tensor]:
    """Return what a device makes of the same slices and weights, on the CPU: images, a gradient, a volume, figures."""
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        """Return weights [out, in, ...] that keep the size of what they are applied to."""
        return (torch.randn(shape, generator=generator) / math.sqrt(math.prod(shape[1:]))).to(device)

    x = torch.rand(SLICES, 1, SIDE, SIDE, generator=generator).to(device)
    stem, convolution, out = drawn(WIDTH, 4, 3, 3), drawn(WIDTH, WIDTH, 3, 3), drawn(4, WIDTH, 3, 3)
    scale, shift = (F.silu(drawn(1, WIDTH)) @ drawn(2 * WIDTH, WIDTH).mT).chunk(2, dim=1)
    stem.requires_grad_()
    first = F.conv2d(F.pixel_unshuffle(x, 2).contiguous(memory_format=torch.channels_last), stem, padding=1)
    h = torch.addcmul(shift[:, :, None, None], first, 1 + scale[:, :, None, None])
    h = torch.add(first, F.conv2d(F.relu(h), convolution, padding=1), alpha=0.5)
    coarse = F.silu(F.group_norm(F.avg_pool2d(h, 2), 8))
    h = h + F.interpolate(F.conv2d(coarse, convolution, padding=1), scale_factor=2, mode="nearest")
    image = F.pixel_shuffle(F.conv2d(F.layer_norm(h, h.shape[1:]), out, padding=1), 2)
    (slope,) = torch.autograd.grad(image.square().mean(), stem)

    made = image.detach()[:, 0]
    operator = SliceOperator(SliceGeometry(0, SLICES, 0.8, 0.8, 4 * SLICES, 0.2))
    volume = operator.pinv(made, dim=0)
    again = operator.forward(volume, dim=0)
    spread = again.flatten(1).std(dim=1)
    kept = again.index_select(0, torch.nonzero(spread > 0.5 * spread.max()).squeeze(1))
    figures = [
        kept.square().sum(dtype=exact_dtype(device)) / kept.numel(),
        kept.median(),
        kept.amax(),
        kept.cumsum(0).amin(),
    ]
    parts = [made, slope, volume, again, torch.stack([one.float() for one in figures])]
    return [part.cpu() for part in parts]
