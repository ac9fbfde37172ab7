"""How much memory a run needs, and whether the machine has it, before any work."""

from __future__ import annotations

import ctypes
import math
from contextlib import suppress

from bida.device import available_bytes
from bida.errors import OutOfMemoryError
from bida.transforms.base import ScanImage, target_grids
from bida.transforms.plan import PlanScan

# Bytes of a run by voxel of its result: 47 from 2 to 17 million voxels, and 72 of several draws, however many (torch
# 2.13, CPU). The estimate says the larger; a run is refused by a smaller one: none is that would have gone through.
BYTES, LEAST_BYTES = 75, 40
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
BLOCK, TOP = 32 << 20, 64 << 20  # bytes: larger blocks are returned at once, and more than so much that is free
PROGRAM = 550e6  # of the libraries and the weights


class PlanWithinMemory(PlanScan):
    """Plan a scan, and refuse a result for which the machine has too little memory."""

    def __call__(self, image: ScanImage) -> ScanImage:
        """Plan an image.

        Raises:
            ScanError, SettingsError: See `PlanScan`.
            OutOfMemoryError: The memory that is free is less than the run needs at least.
        """
        planned = super().__call__(image)
        voxels = math.prod(grid.voxels for grid in target_grids(planned))
        free = available_bytes()
        if free is not None and voxels * LEAST_BYTES > free:
            sizes = " x ".join(str(grid.voxels) for grid in target_grids(planned))
            raise OutOfMemoryError(
                f"memory: a result of {sizes} voxels needs about {needed_bytes(voxels) / 1e9:.1f} GB, "
                f"got {free / 1e9:.1f} GB free; give a larger --spacing, or crop"
            )
        return planned


def bound_freed_blocks() -> None:
    """Let glibc keep a little of what is freed, whatever it was before.

    By itself it changes both limits with what is freed. To fetch a block anew is a fifth of a run's time where all are
    returned at once; kept ones take 0.15 GB.
    """
    with suppress(OSError, AttributeError, TypeError):  # another system, or another library
        library = ctypes.CDLL(None)
        library.mallopt(M_MMAP_THRESHOLD, BLOCK)
        library.mallopt(M_TRIM_THRESHOLD, TOP)


def needed_bytes(voxels: int) -> float:
    """Return the memory that a run takes for a result of so many voxels, bytes."""
    return PROGRAM + BYTES * voxels
