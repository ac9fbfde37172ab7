"""Agreement of two masks of one grid: overlap, distance of their surfaces, and cDSC."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bida.errors import SettingsError
from bida.eval.skullstrip.mask import Mask, check_mask


def dice(a: ArrayLike, b: ArrayLike) -> float:
    """Return the Dice coefficient of two masks, 2 |a and b| / (|a| + |b|); nan where both are empty.

    Args:
        a: mask of any shape, boolean or of zeros and ones.
        b: mask of the same shape.

    Raises:
        SettingsError: shapes differ, or an array holds other values than 0 and 1.

    Source: Dice, Ecology 26(3):297-302, 1945; nan for two empty masks as in `monai.metrics.compute_dice`.
    """
    first, second = _masks(a, b)
    total = np.count_nonzero(first) + np.count_nonzero(second)
    return float(2 * np.count_nonzero(first & second) / total) if total else math.nan


def hd95_mm(a: ArrayLike, b: ArrayLike, spacing_mm: Sequence[float]) -> float:
    """Return the symmetric 95th percentile Hausdorff distance of two masks' surfaces, in mm.

    The surface of a mask are its voxels that share a face with the outside, or with the border of the array. From
    every surface voxel of one mask the distance to the nearest surface voxel of the other is taken; the result is the
    larger of the two directions' 95th percentiles.

    Args:
        a: mask [R, A, S], boolean or of zeros and ones.
        b: mask of the same shape.
        spacing_mm: voxel size along each axis, mm.

    Raises:
        SettingsError: shapes differ, a mask is empty, or the voxel sizes are not one positive number per axis.

    Source: Huttenlocher et al., IEEE Trans. Pattern Anal. Mach. Intell. 15(9):850-863, 1993; computed by MONAI.
    """
    # imported here: `import bida.eval` must not wait for PyTorch and MONAI
    import torch
    from monai.metrics.hausdorff_distance import compute_hausdorff_distance

    first, second = _masks(a, b)
    sizes = [float(size) for size in spacing_mm]
    if len(sizes) != first.ndim or not all(math.isfinite(size) and size > 0 for size in sizes):
        raise SettingsError(f"spacing_mm must be {first.ndim} positive numbers, got {tuple(sizes)}")
    for name, mask in (("a", first), ("b", second)):
        if not mask.any():
            raise SettingsError(f"hd95_mm: mask {name} must hold at least one voxel, got none")
    one, other = (torch.from_numpy(np.ascontiguousarray(mask))[None, None] for mask in (first, second))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*always_return_as_numpy")  # MONAI's own, of a call within itself
        distance = compute_hausdorff_distance(one, other, include_background=True, percentile=95, spacing=sizes)
    return float(distance[0, 0])


def cdsc(x: ArrayLike, truth: ArrayLike, affine: ArrayLike, stripper: Callable[[NDArray, NDArray], Mask]) -> float:
    """Return the Dice coefficient of the brain masks that one skull stripper finds in a volume and in its truth.

    Args:
        x: restored volume [R, A, S].
        truth: its truth on the same grid.
        affine: voxel to RAS+ mm [4, 4], of both.
        stripper: (volume, affine) -> boolean mask on the volume's grid, such as a
            `bida.eval.skullstrip.strippers.Stripper`; it gets copies.

    Raises:
        SettingsError: shapes differ.
        StripperError: a mask is refused by `bida.eval.skullstrip.mask.check_mask`: empty, say, or on another grid.

    Source: Gharib et al., MICCAI 2025.
    """
    volumes = np.asarray(x), np.asarray(truth)
    if volumes[0].shape != volumes[1].shape:
        raise SettingsError(f"cdsc needs x and truth on one grid, got shapes {volumes[0].shape} and {volumes[1].shape}")
    name = str(getattr(stripper, "name", "given"))
    found = [check_mask(stripper(v.copy(), np.array(affine, dtype=np.float64)), v, name) for v in volumes]
    return dice(*found)


def _masks(a: ArrayLike, b: ArrayLike) -> tuple[Mask, Mask]:
    first, second = _mask(a, "a"), _mask(b, "b")
    if first.shape != second.shape:
        raise SettingsError(f"masks must be on one grid, got shapes {first.shape} and {second.shape}")
    return first, second


def _mask(values: ArrayLike, name: str) -> Mask:
    array = np.asarray(values)
    if array.dtype == bool:
        return array
    mask = array == 1
    if not np.all(mask | (array == 0)):
        raise SettingsError(f"{name} must be a mask of 0 and 1, got other values; compare a label map one by one")
    return np.asarray(mask, dtype=bool)
