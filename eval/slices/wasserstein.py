"""Sliced Wasserstein distance between patches of two sets of slices, level by level of a Laplacian pyramid."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bida.errors import SettingsError
from bida.eval.slices.planes import finite

Float = NDArray[np.float64]

PATCH = 7  # pixels a side
SMALLEST = 16  # pixels of a side, at the coarsest level
PATCHES = 8192  # of each set and level
DIRECTIONS = 256


def sliced_wasserstein(a: ArrayLike, b: ArrayLike, seed: int = 0) -> Float:
    """Return the sliced Wasserstein distance between two sets of slices at each level of their pyramids, finest first.

    See `pyramid_patches` and `patch_distance`.

    Args:
        a: slices [N, C, H, W].
        b: slices [M, C, h, w].
        seed: of the places of patches and of the directions.

    Returns:
        [levels], as many as the smaller slices have.

    Raises:
        SettingsError: an argument is not as said, or a value is NaN or Inf.

    Source: Karras et al., ICLR 2018, section 5.
    """
    pairs = zip(pyramid_patches(a, seed), pyramid_patches(b, seed))
    return np.array([patch_distance(x, y, seed) for x, y in pairs])


def pyramid_patches(slices: ArrayLike, seed: int = 0) -> list[Float]:
    """Return 8192 random patches of 7 x 7 pixels [8192, C, 49] of each level of slices' Laplacian pyramids.

    Levels go from the slices' own pixels in steps of 2 down to 16 pixels on the shorter side. The patches of a level
    are normalised, channel by channel, to mean 0 and standard deviation 1.

    Raises:
        SettingsError: slices aren't [N, C, H, W] of 16 or more pixels a side, a value is NaN or Inf, or a level holds
            one value only.
    """
    from skimage.transform import pyramid_laplacian

    x = finite("slices", slices, "[N, C, H, W]")
    n, channels, height, width = x.shape
    if min(height, width) < SMALLEST:
        raise SettingsError(f"wasserstein: slices must have {SMALLEST} pixels a side or more, got {height} x {width}")
    levels = (min(height, width) // SMALLEST).bit_length()
    images = np.moveaxis(x.reshape(n * channels, height, width), 0, -1)
    generator = np.random.default_rng(seed)
    result = []
    for band in pyramid_laplacian(images, max_layer=levels - 1, channel_axis=-1):
        image, top, left = (
            generator.integers(size, size=(PATCHES, 1, 1))
            for size in (n, band.shape[0] - PATCH + 1, band.shape[1] - PATCH + 1)
        )
        within = np.arange(PATCH)
        squares = band.reshape(*band.shape[:2], n, channels)[top + within[:, None], left + within, image]
        patches = np.moveaxis(squares, -1, 1).reshape(PATCHES, channels, -1)  # of [patches, 7, 7, C]
        spread = patches.std(axis=(0, 2), keepdims=True)
        if not (spread > 0).all():
            raise SettingsError(
                "wasserstein: slices must hold detail at every level, got a level of one value; look at the channel"
            )
        result.append((patches - patches.mean(axis=(0, 2), keepdims=True)) / spread)
    return result


def patch_distance(a: Float, b: Float, seed: int = 0) -> float:
    """Return the mean over 256 random directions of the 1-Wasserstein distance of patches [N, C, P] projected on them.

    Both samples are of one size, so that the distance along a line is that of their sorted values.
    """
    x, y = (patches.reshape(len(patches), -1) for patches in (a, b))
    directions = np.random.default_rng(seed).normal(size=(x.shape[1], DIRECTIONS))
    directions /= np.linalg.norm(directions, axis=0)
    x, y = (np.sort(patches @ directions, axis=0) for patches in (x, y))
    return float(np.abs(x - y).mean())
