"""Standard normal noise that is a function of its key, whatever the device, the batching or the padding.

Each slice of noise has its own stretch of a counter-based generator (Salmon et al. 2011, "Parallel random numbers: as
easy as 1, 2, 3"; NumPy's Philox 4x64), drawn on the CPU: its key is (seed, draw), its counter (0, slice index, step,
stream), where the lowest word is left to run.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bida.errors import SettingsError
from bida.physics.grid import NORMAL, from_slices

INITIAL = -1  # the step of x_T
VOLUME_STREAM = 3  # the stream of a state that both planes share; 0, 1, 2 are the planes
NO_PADDING = ((0, 0), (0, 0), (0, 0))

_MARGIN = 1 << 32  # added to the stream for the voxels of in-plane padding
_WORD = (1 << 64) - 1


def slice_noise(
    shape: tuple[int, int], seed: int, draw: int, stream: int, slice_index: int, step: int
) -> NDArray[np.float32]:
    """Return the noise of one slice, [H, W] float32.

    Args:
        shape: (H, W).
        seed: the user's seed, 0 <= seed < 2^64.
        draw: which sample of the posterior.
        stream: which state: a plane's index, or `VOLUME_STREAM`.
        slice_index: position of the slice, counted before padding: negative or past the end in the padding.
        step: step of the sampler, `INITIAL` for x_T.
    """
    if not 0 <= seed <= _WORD:
        raise SettingsError(f"seed: must be from 0 to 2^64 - 1, got {seed}")
    key = np.array([seed, draw], dtype=np.uint64)
    # negative numbers as two's complement, so that each key is met once
    counter = np.array([0, slice_index & _WORD, step & _WORD, stream], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter)).standard_normal(shape, dtype=np.float32)


def volume_noise(
    shape: Sequence[int],
    plane: str,
    seed: int,
    draw: int,
    stream: int,
    step: int,
    padding: Sequence[tuple[int, int]] = NO_PADDING,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Return the noise of a volume, slice by slice of a plane.

    Args:
        shape: [R, A, S], padding included.
        plane: the plane whose slices are keyed.
        seed, draw, stream, step: see `slice_noise`.
        padding: voxels of padding before and after each axis; the noise inside is the same whatever it is.
        device: where the result is put; it is drawn on the CPU.

    Returns:
        [R, A, S] float32.
    """
    stack = NORMAL[plane]
    (h0, h1), (w0, w1) = (padding[axis] for axis in range(3) if axis != stack)
    height, width = (shape[axis] for axis in range(3) if axis != stack)
    slices = np.empty((shape[stack], 1, height, width), dtype=np.float32)

    def fill(k: int) -> None:
        index = k - padding[stack][0]
        if h0 or h1 or w0 or w1:
            slices[k, 0] = slice_noise((height, width), seed, draw, stream + _MARGIN, index, step)
        inner = (height - h0 - h1, width - w0 - w1)
        slices[k, 0, h0 : height - h1, w0 : width - w1] = slice_noise(inner, seed, draw, stream, index, step)

    if torch.device(device).type == "cpu":
        for k in range(len(slices)):
            fill(k)
    else:  # a GPU waits for it, and the cores have nothing else to do
        with ThreadPoolExecutor() as pool:
            list(pool.map(fill, range(len(slices))))
    return from_slices(torch.from_numpy(slices).to(device), plane)
