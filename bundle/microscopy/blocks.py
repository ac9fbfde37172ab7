"""Restoration of a stack that need not fit into memory: slices in slabs, their average kept on disk, written in blocks.

A slice is restored as a whole, for its rows tell each other what is missing; neighbouring slices do not know each other
but by the average of the XZ and the YZ volume. So slabs of XZ slices are restored first, then slabs of YZ slices, and
the sum is brought to the stack's own numbers in columns of voxels that hold all of z. Nothing depends on the width of
the slabs (see `MaskedSliceInferer.slices`), and what is in memory does not on the size of the stack, but for the slab
of fewest slices.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import cast

import dask.array as da
import numpy as np
import torch
import zarr
from torch import Tensor

from bida.device import available_bytes
from bida.errors import OutOfMemoryError, ScanError
from bida.io.claim import temporary_name
from bida.microscopy.grid import StackGrid
from bida.microscopy.inferer import MaskedSliceInferer
from bida.microscopy.load import Seen
from bida.microscopy.prior import MaskedPrior
from bida.microscopy.restore import check_fits, finer, interpolate_stack, leaning, restore_stack
from bida.microscopy.settings import FUSIONS, WHOLE
from bida.microscopy.stacks.ome_zarr import CHUNK
from bida.microscopy.stacks.paths import ZARR_SUFFIXES
from bida.microscopy.stacks.stack import Stack, Volume, part_of
from bida.microscopy.volumes import blurred

SLAB = 1 << 25  # voxels of the finer grid in a slab, about: 128 MB; a restoration has eight slices in work at once
WIDEST = 256  # slices in a slab, at most: the sides of blocks on disk
WHOLE_BYTES = 40  # of a voxel of the result, of a fusion that needs all of it at once, about
COLUMN = CHUNK[3]  # pixels along y and x that are finished at once


@contextmanager
def restored(
    stack: Stack,
    prior: MaskedPrior,
    inferer: MaskedSliceInferer,
    seen: Seen,
    output: Path,
    weights: Sequence[float] | None = None,
) -> Iterator[Stack]:
    """Yield a restored stack; for an OME-Zarr output it lies in blocks beside it, removed when the block ends.

    Args:
        stack, prior, inferer, seen, weights: See `restore_blocks`.
        output: Where it will be written.

    Raises:
        SettingsError: See `restore_blocks`.
        ScanError: See there, or the folder of the output cannot be written.
    """
    shape, (z, y, x) = finer_shape(stack, inferer.factor), stack.spacing_um
    sizes = (z / inferer.factor, y, x)
    if not output.name.endswith(ZARR_SUFFIXES):
        out = np.empty(shape, stack.data.dtype)
        restore_blocks(stack, prior, inferer, seen, out, weights=weights)
        yield replace(stack, data=out, spacing_um=sizes)
        return
    folder = output.with_name(temporary_name(output, ".zarr"))
    try:
        chunks = tuple(min(size, most) for size, most in zip(shape, CHUNK))
        made = zarr.create_array(folder / "result", shape=shape, dtype=stack.data.dtype, chunks=chunks)
        restore_blocks(stack, prior, inferer, seen, cast(Volume, made), folder / "between", weights)
        shutil.rmtree(folder / "between", ignore_errors=True)
        yield replace(stack, data=da.from_array(made, chunks=chunks, inline_array=True), spacing_um=sizes)
    except OSError as error:
        raise ScanError(
            f"{output}: output must be writable, got '{error.strerror or error}'; choose another"
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def check_memory(stack: Stack, inferer: MaskedSliceInferer, output: Path) -> None:
    """Check that the machine has the memory for what must be in it at once: nothing but in two cases.

    Raises:
        OutOfMemoryError: It has not, and the fusion or the format of the output wants the whole result.
    """
    voxels = int(np.prod(finer_shape(stack, inferer.factor)))
    made = int(np.prod(finer_shape(stack, inferer.as_factor)))
    joined = inferer.fusion in WHOLE
    if not joined and output.name.endswith(ZARR_SUFFIXES):
        return
    needed = made * WHOLE_BYTES if joined else voxels * (4 + stack.data.dtype.itemsize)
    free = available_bytes()
    if free is not None and needed > free:
        what, cure = (
            (f"--fusion {inferer.fusion}", "give --fusion final") if joined else (output.name, "write OME-Zarr (.zarr)")
        )
        raise OutOfMemoryError(
            f"memory: {what} takes about {needed / 1e9:.1f} GB for a result of {voxels} voxels, got {free / 1e9:.1f} "
            f"GB free; {cure}"
        )


def finer_shape(stack: Stack, factor: float) -> tuple[int, int, int, int]:
    """Return the shape [C, n, Y, X] of a restored stack."""
    c, planes, y, x = stack.data.shape
    return c, StackGrid(planes, factor).voxels, y, x


def restore_blocks(
    stack: Stack,
    prior: MaskedPrior,
    inferer: MaskedSliceInferer,
    seen: Seen,
    out: Volume,
    scratch: Path | None = None,
    weights: Sequence[float] | None = None,
    slab: int = SLAB,
) -> None:
    """Restore the voxels between the planes of a stack as `restore_stack`, slab by slab.

    Args:
        stack: The acquired planes, in memory or read block by block.
        prior: The network.
        inferer: How it is sampled. Some fusions (`WHOLE`) need all of the stack at once.
        seen: How the network sees the stack.
        out: Where the result is written, [C, n, Y, X] of the stack's type (`finer_shape`).
        scratch: Folder that is made for what is between, 4 bytes a voxel of the result; None: in memory.
        weights: See `restore_stack`.
        slab: Voxels in a slab, about; changes no result.

    Raises:
        SettingsError: See `restore_stack`.
        ScanError: A block of the stack cannot be read.
    """
    check_fits(stack, prior)
    planes = FUSIONS[inferer.fusion]
    if inferer.fusion in WHOLE:
        whole = replace(stack, data=part_of(stack.path, stack.data))
        out[:, :, :, :] = restore_stack(whole, prior, inferer, seen.clip_percentile, weights, seen.line).data
        return
    total: Volume | None = None
    if weights is None or any(weights):
        total = _averaged(stack, prior, inferer, seen, scratch, slab)
    _, _, height, width = stack.data.shape
    for top in range(0, height, COLUMN):
        for left in range(0, width, COLUMN):
            inner = slice(top, min(top + COLUMN, height)), slice(left, min(left + COLUMN, width))
            column = replace(stack, data=part_of(stack.path, stack.data[:, :, *inner]))
            if total is None:
                out[:, :, *inner] = interpolate_stack(column, inferer.factor, "linear").data
                continue
            # one pixel more on each side, where there is one, for the blur
            more = [slice(max(side.start - 1, 0), side.stop + 1) if inferer.blur else side for side in inner]
            values = np.asarray(total[:, :, *more], dtype=np.float32) / np.float32(len(planes))
            if inferer.blur:
                cut = [slice(one.start - by.start, one.stop - by.start) for one, by in zip(inner, more)]
                values = blurred(torch.from_numpy(values)).numpy()[:, :, *cut]
            restored = leaning(seen.line.backward(values), column, inferer.factor, weights)
            out[:, :, *inner] = finer(restored, column, inferer.factor, exact=not inferer.blur).data


def _averaged(
    stack: Stack, prior: MaskedPrior, inferer: MaskedSliceInferer, seen: Seen, scratch: Path | None, slab: int
) -> Volume:
    """Return the sum over the planes of what their slices become, on the network's scale, [C, n, Y, X] float32."""
    planes, shape = FUSIONS[inferer.fusion], finer_shape(stack, inferer.factor)
    sides = {"xz": 2, "yz": 3}
    made_shape = finer_shape(stack, inferer.as_factor)
    widths = {plane: slab_width(made_shape, axis, inferer.micro_batch, slab) for plane, axis in sides.items()}
    total = _blank(scratch, shape, widths)
    device = next(prior.parameters()).device
    low, high = (torch.from_numpy(end).to(device) for end in seen.limits())
    count = sum(-(-shape[sides[plane]] // widths[plane]) for plane in planes)
    done = 0
    for plane in planes:
        axis, width = sides[plane], widths[plane]
        for first in range(0, shape[axis], width):
            index = [slice(None)] * 4
            index[axis] = slice(first, min(first + width, shape[axis]))
            part = part_of(stack.path, stack.data[tuple(index)])
            y = torch.from_numpy(seen.line.forward(seen.capped(part))).to(device)
            made: Tensor = inferer.slices(y, prior, plane, first, (low, high)).cpu()
            region = cast(tuple[slice, ...], tuple(index))
            total[region] = made.numpy() if plane == planes[0] else made.numpy() + np.asarray(total[region])
            done += 1
            if inferer.progress is not None:
                inferer.progress(done, count)
    return total


def slab_width(shape: Sequence[int], axis: int, unit: int, slab: int) -> int:
    """Return how many slices of a volume [C, n, Y, X] a slab holds: ``unit`` times a power of 2, at most `WIDEST`."""
    across = int(np.prod([size for place, size in enumerate(shape) if place != axis]))
    width = unit
    while 2 * width <= WIDEST and 2 * width * across <= slab:
        width *= 2
    return width


def _blank(scratch: Path | None, shape: tuple[int, int, int, int], widths: dict[str, int]) -> Volume:
    if scratch is None:
        return np.empty(shape, np.float32)
    chunks = (1, min(shape[1], CHUNK[1]), min(shape[2], widths["xz"]), min(shape[3], widths["yz"]))
    return cast(Volume, zarr.create_array(scratch, shape=shape, dtype="float32", chunks=chunks, compressors=None))
