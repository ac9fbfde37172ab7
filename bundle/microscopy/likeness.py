"""How far apart pixels of a plane are that differ as much as neighbouring planes of a stack do.

A network learns from planes what lies between rows F pixels apart, and is asked what lies between planes F voxels
apart. Where the planes have noise of their own, which neighbouring pixels share more of than neighbouring planes do, or
where structure changes faster along z, the rows of XZ and YZ are less alike than those that it learned from, and it
trusts them too much. So planes are compared with each other, pixels with pixels, by their structure function, the mean
square of what they differ by (the variogram of Matheron, Economic Geology 58:1246, 1963, twice), which needs no model
of the noise; the restoration is made as of planes that far apart, and brought to the grid asked for.

One voxel more than the factor is the least: the estimates of two neighbouring rows, averaged, have the lower error on
every stack that was tried, also where planes are as much alike as pixels are. Networks are taught distances of up to
`FARTHEST_TAUGHT`, so beyond that the factor stays.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from bida.microscopy.load import Seen, middle
from bida.microscopy.stacks.stack import Stack, part_of

WINDOW = 256  # pixels: planes are cut down to their middle
PAIRS = 64  # of neighbouring planes that are compared, at most, spread evenly
FARTHEST_TAUGHT = 8  # voxels between rows, see the factors of `bida.microscopy.prior.SETTINGS`
FARTHEST = 2  # times the factor: how far apart pixels are compared


def alike_distance(stack: Stack, factor: float, seen: Seen | None = None) -> float | None:
    """Return how many pixels apart in plane a stack differs as much as from plane to plane.

    The median over the pairs of neighbouring planes, and the channels: planes that are darker than others or empty do
    not count.

    Args:
        stack: The acquired planes.
        factor: Plane spacing over voxel size.
        seen: How a network sees the stack; None: by its own planes.

    Returns:
        From 0 to `FARTHEST` times the factor; None where planes are too small or of one value.
    """
    reach = math.ceil(FARTHEST * factor)
    data = middle(stack.data, WINDOW)
    planes = data.shape[1]
    if planes < 2 or min(data.shape[2:]) <= 2 * reach:
        return None
    found = []
    for i in np.unique(np.linspace(0, planes - 2, min(PAIRS, planes - 1)).round().astype(int)):
        part = part_of(stack.path, data[:, i : i + 2])
        pair = (part if seen is None else seen.capped(part)).astype(np.float64)
        for one in pair:
            within = np.maximum.accumulate([0.0, *(differing(one, lag) for lag in range(1, reach + 1))])
            if within[-1] > 0:
                found.append(float(np.interp(np.var(one[1] - one[0]), within, np.arange(reach + 1))))
    return float(np.median(found)) if found else None


def differing(planes: NDArray[np.float64], lag: int) -> float:
    """Return the mean square of what pixels so far apart in planes [2, Y, X] differ by, along both axes."""
    rows, columns = planes[:, lag:] - planes[:, :-lag], planes[:, :, lag:] - planes[:, :, :-lag]
    return float(np.square(rows).mean() + np.square(columns).mean()) / 2


def finer_factor(factor: float, distance: float | None) -> float:
    """Return the factor at which a stack is restored: that asked for, or a whole number above it.

    Args:
        factor: Plane spacing over voxel size; 1, which has nothing between planes, stays.
        distance: From `alike_distance`.
    """
    if factor == 1:
        return factor
    alike = max(math.floor(factor) + 1, round(distance or 0))
    return max(factor, float(min(alike, FARTHEST_TAUGHT)))
