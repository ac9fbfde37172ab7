"""Noise of a stack that grows with its signal: found in the stack itself, and taken out of its planes.

A camera or a detector that counts has noise of variance a s + b around a signal s, in the stack's own numbers: a is the
gain, what one photon or electron adds, b the noise of reading, less a times the value that stands for no light. Both
are told from the planes (`estimate_noise`): patches of 5 x 5 pixels are sorted by their mean, in each part those that
are flattest by their lower frequencies give the variance by their higher ones (as `bida.physics.noise_level` does for
scans), and a line is laid through them that parts with texture do not lift (a photon transfer curve from single
images: Foi et al., IEEE Transactions on Image Processing 17:1737, 2008; Liu, Tanaka & Okutomi, 23:4361, 2014).

Planes are cleaned one by one, in plane (`cleaned_planes`): the generalised Anscombe transform makes the noise alike
everywhere, scikit-image's non-local means (Buades et al. 2005) takes it out, the closed form of the exact unbiased
inverse (Makitalo & Foi, IEEE Transactions on Image Processing 22:91, 2013) brings them back. No voxel is changed by
more than `FARTHEST` standard deviations of its noise.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeGuard, cast

import dask.array as da
import numpy as np
import zarr
from numpy.typing import NDArray

from bida.errors import ScanError
from bida.io.claim import temporary_name
from bida.microscopy.load import middle
from bida.microscopy.settings import told_noise
from bida.microscopy.stacks.ome_zarr import CHUNK
from bida.microscopy.stacks.paths import ZARR_SUFFIXES
from bida.microscopy.stacks.stack import Stack, Volume, as_type, part_of
from bida.physics.noise_level import MOST_PATCHES, PATCH, WHITE, flattest_of, patches_at

PLANES = 16  # that are looked at, spread evenly
WINDOW = 1024  # pixels: planes are cut down to their middle
PARTS = 24  # of the patches, by their mean
LEAST_PATCHES = 2000  # of fewer nothing can be told
TINY = 1e-9  # of the largest variance of a part: the least there is
FLAT = 1e-3  # of the least variance: noise that grows by less does not grow
OUTLYING = 0.1  # of the line: from which on what lies off it counts less
FARTHEST = 3.0  # standard deviations that a voxel is changed by, at most
STRENGTH = 0.6  # cut-off of non-local means over the noise's standard deviation
PATCH_SIDE, SEARCHED = 5, 6  # pixels: patches that are compared, and how far they are looked for
TILE = 512  # pixels that are cleaned at once, with what is around them
ALIKE = 1e-12  # a squared over b: below it the transform has no digits left, and the noise is alike everywhere
HALO = SEARCHED + PATCH_SIDE // 2  # pixels around a tile that its own depend on


@dataclass(frozen=True)
class SignalNoise:
    """Noise of a channel: of variance a s + b around a signal s, in the stack's own numbers.

    Attributes:
        a: Of the signal, at least 0.
        b: Of none; below 0 where no light has a value above 0.
        white: Its highest frequencies are as strong as the others; where they are not, it is texture or noise that
            was made smooth, and which of them nothing tells.
    """

    a: float
    b: float
    white: bool = True

    def variance(self, signal: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the variance at a signal, at least 0."""
        return np.maximum(self.a * signal + self.b, 0.0)


@dataclass(frozen=True)
class Cleaning:
    """What was done to the planes of a stack, channel by channel.

    Attributes:
        how: ``estimated`` or ``given``.
        channels: Their names.
        noise: None where it cannot be told, and the channel is as it was.
        changed: Root mean square of the changes, in standard deviations of the noise at hand.
        largest: The largest one, at most `FARTHEST`.
    """

    how: str
    channels: tuple[str, ...]
    noise: list[SignalNoise | None]
    changed: list[float]
    largest: list[float]

    def record(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        found: dict[str, Any] = {}
        for name, one, changed, largest in zip(self.channels, self.noise, self.changed, self.largest):
            found[name] = one and {
                "a": float(f"{one.a:.5g}"),
                "b": float(f"{one.b:.5g}"),
                "white": one.white,
                "changed_in_sigma": round(changed, 4),
                "largest_change_in_sigma": round(largest, 4),
            }
        any_changed = any(self.changed)
        return {"how": self.how, "planes_changed": any_changed, "at_most_in_sigma": FARTHEST, "channels": found}

    def describe(self) -> str:
        """Return it in a line."""
        parts = []
        for name, one, changed, largest in zip(self.channels, self.noise, self.changed, self.largest):
            if one is None or not is_any(one):
                parts.append(f"{name} {'cannot be told' if one is None else 'none'}, planes stay as acquired")
                continue
            found = f"{name} variance {one.a:.4g} x signal {'-' if one.b < 0 else '+'} {abs(one.b):.4g}"
            if not one.white:
                parts.append(f"{found}, if it is not texture, so planes stay as acquired; --noise A,B cleans them")
                continue
            parts.append(f"{found}, planes changed by {changed:.2f} of its standard deviation, at most {largest:.1f}")
        return f"noise, {self.how}: {'; '.join(parts)}"


def estimate_noise(planes: NDArray) -> SignalNoise | None:
    """Estimate the noise of a channel.

    Args:
        planes: [Z, Y, X] in the stack's own numbers, as acquired.

    Returns:
        The noise; None of planes with fewer than `LEAST_PATCHES` patches that are neither at a limit nor of one value.
    """
    if min(planes.shape[1:]) < PATCH:
        return None
    patches = patches_at(planes, places_in(planes.shape)).astype(np.float64)
    uneven, middles = np.ptp(patches, axis=(1, 2)) > 0, np.median(patches, axis=(1, 2))
    if not uneven.any():
        return SignalNoise(0.0, 0.0)
    patches = patches[uneven & (middles > planes.min()) & (middles < planes.max())]
    if len(patches) < LEAST_PATCHES:
        return None
    means, found = patches.mean(axis=(1, 2)), []
    for part in np.array_split(np.argsort(means, kind="stable"), PARTS):
        flattest, usual, highest = flattest_of(patches[part])
        found.append((means[part][flattest].mean(), usual, highest))
    signal, variances, highest_ones = np.array(found).T
    whiteness = float(np.median(highest_ones / np.maximum(variances, TINY * variances.max())))
    return SignalNoise(*line_through(signal, variances), math.sqrt(whiteness) >= WHITE)


def places_in(shape: Sequence[int]) -> NDArray[np.int64]:
    """Return places [n, 3] in planes [Z, Y, X] around which there is a patch: all, or `MOST_PATCHES` by chance."""
    edge = PATCH // 2
    inner = (shape[0], shape[1] - 2 * edge, shape[2] - 2 * edge)
    count = math.prod(inner)
    chosen = np.arange(count) if count <= MOST_PATCHES else np.random.default_rng(0).integers(0, count, MOST_PATCHES)
    return np.stack(np.unravel_index(chosen, inner), axis=1) + np.array([0, edge, edge])


def line_through(signal: NDArray[np.float64], variances: NDArray[np.float64]) -> tuple[float, float]:
    """Return the line (a, b) of variances over signals that rise, a at least 0; those far off it count less."""
    from scipy.optimize import least_squares

    most = float(variances.max())
    width = float(signal[-1] - signal[0]) or 1.0
    part, share = (signal - signal[0]) / width, np.maximum(variances / most, TINY)

    def off(line: NDArray[np.float64]) -> NDArray[np.float64]:
        return share / (line[0] + line[1] * part) - 1

    ends = [share[0], max(share[-1] - share[0], TINY)]
    for loss in ("soft_l1", "cauchy"):  # the first finds the line, the second all but forgets what is off it
        ends = least_squares(off, ends, bounds=([TINY / 2, 0], np.inf), loss=loss, f_scale=OUTLYING).x
    least, rise = ends
    a = float(rise * most / width) if rise > FLAT * least else 0.0
    return a, float(least * most - a * signal[0])


def cleaned_planes(planes: NDArray, noise: SignalNoise) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Clean planes, each by itself.

    Args:
        planes: [Z, Y, X] in the stack's own numbers.
        noise: Of them, not nothing.

    Returns:
        The planes without most of their noise, and its standard deviation.
    """
    from skimage.restoration import denoise_nl_means

    y = planes.astype(np.float64)
    grows = noise.a**2 > ALIKE * abs(noise.b)
    even = stabilised(y, noise) if grows else y / math.sqrt(noise.b)
    how = {"patch_size": PATCH_SIDE, "patch_distance": SEARCHED, "h": STRENGTH, "sigma": 1.0}
    smooth = np.stack([denoise_nl_means(plane, **how) for plane in even])
    found = brought_back(smooth, noise) if grows else smooth * math.sqrt(noise.b)
    sigma = np.sqrt(noise.variance(found))
    most = FARTHEST * sigma if planes.dtype.kind == "f" else np.floor(FARTHEST * sigma)  # also when it is rounded
    return y + np.clip(found - y, -most, most), sigma


def stabilised(y: NDArray[np.float64], noise: SignalNoise) -> NDArray[np.float64]:
    """Return intensities whose noise has a standard deviation of 1: the generalised Anscombe transform."""
    return 2 / noise.a * np.sqrt(np.maximum(noise.a * y + 0.375 * noise.a**2 + noise.b, 0))


def brought_back(even: NDArray[np.float64], noise: SignalNoise) -> NDArray[np.float64]:
    """Return the signal of which the mean of `stabilised` is this (Makitalo & Foi 2013)."""
    d, root = np.maximum(even, 2 * math.sqrt(0.375)), math.sqrt(1.5)
    counts = d**2 / 4 + root / 4 / d - 11 / 8 / d**2 + 5 / 8 * root / d**3 - 1 / 8
    return noise.a * counts - noise.b / noise.a


@contextmanager
def cleaned(
    stack: Stack, noise: str, output: Path, progress: Callable[[int, int], None] | None = None
) -> Iterator[tuple[Stack, Cleaning | None]]:
    """Yield a stack whose planes were cleaned, and what was done; the stack itself where that is nothing.

    For an OME-Zarr output it lies in blocks beside that, removed when the block ends. What is cleaned does not depend
    on how a stack is read.

    Args:
        stack: As acquired, in memory or read block by block.
        noise: See `bida.microscopy.settings.told_noise`.
        output: Where the result will be written.
        progress: Called with (parts done, parts in all).

    Raises:
        ScanError: A block cannot be read, or the folder of the output cannot be written.
    """
    given = told_noise(noise)
    if given == (0.0, 0.0):
        yield stack, None
        return
    if given is None:
        found = [estimate_noise(looked_at(stack, channel)) for channel in range(len(stack.data))]
    else:
        found = [SignalNoise(*given)] * len(stack.data)
    made_of = partial(Cleaning, "given" if given else "estimated", stack.channels, found)
    if not any(map(to_clean, found)):
        nothing = [0.0] * len(found)
        yield stack, made_of(nothing, nothing)
        return
    shape, dtype = stack.data.shape, stack.data.dtype
    if not output.name.endswith(ZARR_SUFFIXES):
        data = np.empty(shape, dtype)
        done = made_of(*clean_into(data, stack, found, progress))
        yield replace(stack, data=data), done
        return
    folder = output.with_name(temporary_name(output, ".zarr"))
    try:
        try:
            chunks = tuple(min(size, most) for size, most in zip(shape, CHUNK))
            made = zarr.create_array(folder, shape=shape, dtype=dtype, chunks=chunks)
            done = made_of(*clean_into(cast(Volume, made), stack, found, progress))
        except OSError as error:
            raise ScanError(
                f"{output}: output must be writable, got '{error.strerror or error}'; choose another"
            ) from error
        yield replace(stack, data=da.from_array(made, chunks=chunks, inline_array=True)), done
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def is_any(noise: SignalNoise) -> bool:
    """Return whether noise is any."""
    return noise.a > 0 or noise.b > 0


def to_clean(noise: SignalNoise | None) -> TypeGuard[SignalNoise]:
    """Return whether planes are cleaned of noise: it was told, is any, and no texture."""
    return noise is not None and noise.white and is_any(noise)


def clean_into(
    out: Volume,
    stack: Stack,
    noise: Sequence[SignalNoise | None],
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[float], list[float]]:
    """Write a cleaned stack, tile by tile, and return what was changed, see `Cleaning`.

    Args:
        out: Where it is written, [C, Z, Y, X] of the stack's type.
        stack, noise, progress: See `cleaned`.
    """
    c, z, y, x = stack.data.shape
    starts = [(k, top, left) for k in range(0, z, CHUNK[1]) for top in range(0, y, TILE) for left in range(0, x, TILE)]
    squares, largest = [0.0] * c, [0.0] * c
    for channel, one in enumerate(noise):
        for count, (k, top, left) in enumerate(starts):
            planes = slice(k, min(k + CHUNK[1], z))
            inner = [slice(top, min(top + TILE, y)), slice(left, min(left + TILE, x))]
            more = [slice(max(side.start - HALO, 0), side.stop + HALO) for side in inner]
            cut = [slice(side.start - wide.start, side.stop - wide.start) for side, wide in zip(inner, more)]
            part = part_of(stack.path, stack.data[channel : channel + 1, planes, *more])[0]
            made = part
            if to_clean(one):
                values, sigma = cleaned_planes(part, one)
                made = as_type(values, part.dtype)
                changed = np.abs(made - part.astype(np.float64))[:, *cut]
                over = changed / np.maximum(sigma[:, *cut], np.finfo(np.float64).tiny) * (changed > 0)
                squares[channel] += float(np.square(over).sum())
                largest[channel] = max(largest[channel], float(over.max()))
            out[channel : channel + 1, planes, *inner] = made[None, :, *cut]
            if progress is not None:
                progress(channel * len(starts) + count + 1, c * len(starts))
    return [math.sqrt(total / (z * y * x)) for total in squares], largest


def looked_at(stack: Stack, channel: int) -> NDArray:
    """Return the planes of a channel that noise is estimated from, [Z, Y, X]."""
    count = stack.data.shape[1]
    chosen = np.unique(np.linspace(0, count - 1, min(count, PLANES)).round().astype(int))
    return part_of(stack.path, middle(stack.data[channel : channel + 1, chosen], WINDOW))[0]
