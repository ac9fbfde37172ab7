"""Training images without most of their noise, so that a prior can be taught to draw clean tissue."""

from __future__ import annotations

import io
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bida.diffusion.prior import X0_RANGE
from bida.io.files import atomic, make_folder
from bida.io.weights import sha256

AIR = -0.9  # 5% of the range above the background: what is darker tells nothing of the noise in tissue
NLM_STRENGTH = 0.8  # cut-off of non-local means over the noise's standard deviation, scikit-image's advice


def denoised(volume: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a normalised volume [R, A, S] without most of its noise, by non-local means (Buades et al. 2005).

    The noise level is taken from the wavelets of the finest scale (Donoho & Johnstone 1994) of the image's brighter
    part; exact background stays as it is.
    """
    from skimage.restoration import denoise_nl_means, estimate_sigma

    inside = volume > AIR
    if not inside.any():
        return volume
    box = volume[tuple(slice(axis.min(), axis.max() + 1) for axis in np.nonzero(inside))]
    sigma = float(np.median([estimate_sigma(part) for part in _middle_slices(box)]))
    smooth = denoise_nl_means(volume, patch_size=3, patch_distance=4, h=NLM_STRENGTH * sigma, sigma=sigma)
    return np.where(volume == X0_RANGE[0], volume, smooth).astype(np.float32)


def denoised_image(path: Path, volume: NDArray[np.float32], cache: Path | None) -> NDArray[np.float32]:
    """Return ``denoised`` of an image's volume, kept in a folder under the hash of the image's file."""
    if cache is None:
        return denoised(volume)
    kept = cache / f"{sha256(path)}_nlm{NLM_STRENGTH:g}_{X0_RANGE[0]:g}_{X0_RANGE[1]:g}.npy"
    with suppress(OSError, EOFError, ValueError):  # nothing is kept yet, or what is was damaged
        found = np.load(kept)
        if isinstance(found, np.ndarray) and (found.shape, found.dtype) == (volume.shape, volume.dtype):
            return found
    smooth = denoised(volume)
    make_folder(cache)
    packed = io.BytesIO()  # numpy's own writer doesn't say that a disk is full
    np.save(packed, smooth)
    with atomic(kept) as temporary:
        temporary.write_bytes(packed.getbuffer())
    return smooth


def _middle_slices(box: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Return the middle half of every second slice in the middle half of a volume, along its shortest axis."""
    stack = np.moveaxis(box, int(np.argmin(box.shape)), 0)
    quarter = [size // 4 for size in stack.shape]
    rows, columns = (slice(q, max(size - q, q + 8)) for q, size in zip(quarter[1:], stack.shape[1:]))
    return [one[rows, columns] for one in stack[quarter[0] : max(stack.shape[0] - quarter[0], quarter[0] + 1) : 2]]
