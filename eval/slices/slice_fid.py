"""SliceFID: how far the slices of a volume, in each of its planes, are from reference XY slices in features."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from bida.eval.slices.frechet import Shrinkage, feature_frechet
from bida.eval.slices.planes import PLANES, finite, plane_slices

Features = Callable[[np.ndarray], np.ndarray]  # slices [N, C, H, W] to features [M, D], one or more a slice


@dataclass(frozen=True)
class SliceFid:
    """Distance of each plane's slices from the reference, and the mean of the three."""

    xy: float
    xz: float
    yz: float
    mean: float


def slice_fid(stack: ArrayLike, reference: ArrayLike, features: Features, shrinkage: Shrinkage = "auto") -> SliceFid:
    """Return SliceFID of a stack against reference XY slices.

    Args:
        stack: volume [C, Z, Y, X], isotropic.
        reference: XY slices [N, C, H, W], in the stack's intensities.
        features: maps slices [N, C, H, W] to features [M, D], one or more a slice; it is a FID only with those of
            the Inception network.
        shrinkage: of the covariances, see `feature_frechet`.

    Raises:
        SettingsError: an argument is not as said, or a value is NaN or Inf.

    Source: Jiang et al., arXiv:2404.09425, 2024, Eq. 10.
    """
    known = features(finite("reference", reference, "[N, C, H, W]"))
    found = {plane: features(plane_slices(stack, plane)) for plane in PLANES}
    return over_planes(found, known, lambda a, b: feature_frechet(a, b, shrinkage))


def over_planes(
    features: Mapping[str, ArrayLike], reference: ArrayLike, distance: Callable[[ArrayLike, ArrayLike], float]
) -> SliceFid:
    """Return the distances of each plane's features [N, D] from a reference's [M, D], and the mean of the three."""
    xy, xz, yz = (distance(features[plane], reference) for plane in PLANES)
    return SliceFid(xy, xz, yz, float(np.mean([xy, xz, yz])))
