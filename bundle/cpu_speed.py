"""Whether this machine's CPU computes faster in bfloat16 than in float32, or in int8: measured in milliseconds, kept.

Matrix units give bfloat16 three times the speed and more; processors without them emulate it at a tenth, so that what
is to be measured has to be tiny. It is measured on one thread, by the time that thread has the processor: several wait
for each other where other programs use the cores, and what is found there would be kept. So the arithmetic, and with it
a result, is the same with any number of threads. The answer is kept for the CPU and the PyTorch that it was found for.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812

from bida.integers import HIGHEST, IntegerConvolution, exact
from bida.io.kept import Kept, cache_file, kept_or_found

FILE, INT8_FILE = "arithmetic.json", "int8.json"  # in the cache folder
# bfloat16 must be this many times as fast as float32 to be worth its rounding.
WORTHWHILE = 1.5
# Where tiny problems, which overheads make alike, already run slower than this, larger ones are not tried.
HOPELESS = 0.5
WIDTH = 64  # channels, the narrowest of the network's levels
# (order of the matrices, pixels along a side of the images): emulated bfloat16 takes 10 ms for the first; units that
# gain 2.1 times at the second show nothing at half of it, where the call costs as much as the work
SIZES = ((64, 8), (256, 32))
# int8 loses more by its rounding, and gains less: 1.7 times over bfloat16, 1.8 over float32 with AVX2
INT8_WORTHWHILE = 1.3
INT8_SIDE = 64
FINE = 1e-6  # s: that of Windows goes by 16 ms
CLOCK = time.thread_time if time.get_clock_info("thread_time").resolution <= FINE else time.perf_counter


@dataclass(frozen=True)
class Speed:
    """How many times as fast as in float32 the CPU is in bfloat16.

    Attributes:
        product: in a matrix product.
        convolution: in a 3 x 3 convolution of the network's narrowest width, channels last.
    """

    product: float
    convolution: float

    @property
    def worthwhile(self) -> bool:
        """Whether the network should compute in bfloat16: both kinds of operation must gain."""
        return min(self.product, self.convolution) > WORTHWHILE

    def __str__(self) -> str:
        """Return a clause for the record."""
        return (
            f"bfloat16 runs at {self.product:.2f} times the speed of float32 in products and at "
            f"{self.convolution:.2f} times in convolutions"
        )


@dataclass(frozen=True)
class Int8Speed:
    """How many times as fast as in a floating arithmetic the CPU is in int8.

    Attributes:
        convolution: in a 3 x 3 convolution of the network's narrowest width, channels last; 0 where there is none.
        than: the floating arithmetic, ``float32`` or ``bfloat16``.
    """

    convolution: float
    than: str

    @property
    def worthwhile(self) -> bool:
        """Whether what can be computed in int8 should be."""
        return self.convolution > INT8_WORTHWHILE

    def __str__(self) -> str:
        """Return a clause for the record."""
        if self.convolution == 0:
            return "there are no exact convolutions in int8"
        return f"int8 runs at {self.convolution:.2f} times the speed of {self.than} in convolutions"


def measured() -> Speed:
    """Measure; takes some 20 ms, also where bfloat16 is emulated."""
    speed = Speed(0.0, 0.0)
    with _one_thread():
        for order, side in SIZES:
            speed = Speed(_ratio(partial(_product, order)), _ratio(partial(_conv, side)))
            if max(speed.product, speed.convolution) < HOPELESS:
                break
    return speed


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _ratio(make: Callable[[torch.dtype], Callable[[], Any]]) -> float:
    """Return float32's best time of five over bfloat16's; others may be using the machine."""
    return _best(make(torch.float32)) / _best(make(torch.bfloat16))


def _best(run: Callable[[], Any]) -> float:
    times = []
    for _ in range(5):
        start = CLOCK()
        run()
        times.append(CLOCK() - start)
    return min(times)


def measured_int8(dtype: torch.dtype) -> Int8Speed:
    """Measure against a floating arithmetic; takes some 50 ms."""
    than = str(dtype).removeprefix("torch.")
    if not exact():
        return Int8Speed(0.0, than)
    with _one_thread():
        return Int8Speed(_best(_conv(INT8_SIDE, dtype)) / _best(_integer_conv(INT8_SIDE)), than)


def _product(order: int, dtype: torch.dtype) -> Callable[[], Any]:
    a = torch.ones(order, order, dtype=dtype)
    return lambda: a @ a


def _conv(side: int, dtype: torch.dtype) -> Callable[[], Any]:
    x, weight = torch.ones(2, WIDTH, side, side, dtype=dtype), torch.ones(WIDTH, WIDTH, 3, 3, dtype=dtype)
    x, weight = (part.contiguous(memory_format=torch.channels_last) for part in (x, weight))

    def run() -> torch.Tensor:
        with torch.inference_mode():
            return F.conv2d(x, weight, padding=1)

    return run


def _integer_conv(side: int) -> Callable[[], Any]:
    convolution = IntegerConvolution(torch.ones(WIDTH, WIDTH, 3, 3), torch.zeros(WIDTH))
    x = torch.full((2, WIDTH, side, side), HIGHEST, dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
    return lambda: convolution.relu(x)


def bfloat16_speed() -> Kept[Speed]:
    """Return the kept speed of this machine, or measure it and keep it."""
    return _bfloat16_speed(cache_file(FILE), machine())


@lru_cache(maxsize=8)
def _bfloat16_speed(file: Path, key: str) -> Kept[Speed]:
    return kept_or_found(file, key, measured, _speed_of, "the CPU's speed in bfloat16")


def _speed_of(row: Mapping[str, Any]) -> Speed:
    return Speed(float(row["product"]), float(row["convolution"]))


def int8_speed(dtype: torch.dtype) -> Kept[Int8Speed]:
    """Return the kept speed in int8 against a floating arithmetic, or measure it and keep it."""
    return _int8_speed(cache_file(INT8_FILE), f"{machine()}; {dtype}", dtype)


@lru_cache(maxsize=8)
def _int8_speed(file: Path, key: str, dtype: torch.dtype) -> Kept[Int8Speed]:
    return kept_or_found(file, key, lambda: measured_int8(dtype), _int8_speed_of, "the CPU's speed in int8")


def _int8_speed_of(row: Mapping[str, Any]) -> Int8Speed:
    return Int8Speed(float(row["convolution"]), str(row["than"]))


def machine() -> str:
    """Return what the speed depends on: the CPU, the PyTorch and the size of the trial, which is of one thread."""
    return f"{cpu_model()}; torch {torch.__version__}; one thread; products of {SIZES[-1][0]}"


def cpu_model() -> str:
    """Return the CPU's name, with family, model and bfloat16 units where Linux tells: clouds hide the name."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor() or platform.machine()
    first = dict(line.split(":", 1) for line in text.split("\n\n")[0].splitlines() if ":" in line)
    rows = {name.strip(): value.strip() for name, value in first.items()}
    units = [flag for flag in (rows.get("flags") or rows.get("Features") or "").split() if "bf16" in flag]
    parts = [rows.get("model name") or platform.machine()]
    parts += [f"{name} {rows[name]}" for name in ("cpu family", "model") if name in rows]
    return ", ".join(parts + units)
