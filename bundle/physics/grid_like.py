"""The grid of another file (`--like`), as grids on the axes of a scan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from bida.errors import ScanError
from bida.physics.grid import AXES, SAME_GRID, AxisGrid, spacing_of

# Largest difference of unit vectors between a scan and its --like grid, whose affine the result gets: at the ends of an
# axis of 300 voxels it moves a point by 150 x 5e-5 = 0.0075 voxels, below the 0.01 that is allowed. Directions that are
# the same differ by 1e-6 at most, the rounding of float32 headers.
DIRECTIONS = 5e-5


@dataclass(frozen=True)
class ImageGrid:
    """The grid of an image file.

    Attributes:
        name: what errors call the file.
        shape: voxels along its own axes.
        affine: 4 x 4, voxel index to mm.
    """

    name: str
    shape: tuple[int, ...]
    affine: NDArray[np.float64]


def like_grids(
    affine: NDArray, shape: Sequence[int], through: int, like: ImageGrid, name: str, warnings: list[str]
) -> list[AxisGrid]:
    """Return the grid of another image on the axes of the scan; note where it reaches beyond the scan.

    Raises:
        ScanError: its axes point elsewhere, or it does not lie over the scan.
    """
    orientation = nib.orientations.io_orientation(like.affine)
    like_affine = like.affine @ nib.orientations.inv_ornt_aff(orientation, like.shape)
    order = np.argsort(orientation[:, 0])
    voxels = [like.shape[k] for k in order]
    spacing, like_spacing = spacing_of(affine), spacing_of(like_affine)
    unit = affine[:3, :3] / spacing
    turned = float(np.abs(like_affine[:3, :3] / like_spacing - unit).max())
    if turned > DIRECTIONS:
        raise ScanError(
            f"{like.name}: --like must have the axes of {name}, got directions {turned:.2g} apart; resample it first"
        )
    centre = affine[:3, :3] @ ((np.asarray(shape) - 1) / 2) + affine[:3, 3]
    like_centre = like_affine[:3, :3] @ ((np.asarray(voxels) - 1) / 2) + like_affine[:3, 3]
    offsets = np.linalg.solve(unit, like_centre - centre)
    grids = []
    for k in range(3):
        offset = float(offsets[k])
        outside = abs(offset) > shape[k] * spacing[k] / 2
        if k == through:  # every slice needs its centre on the grid
            outside = (shape[k] - 1) * spacing[k] / 2 + abs(offset) > voxels[k] * like_spacing[k] / 2
        if outside:
            raise ScanError(
                f"{like.name}: --like must cover {name}, got a grid of {voxels[k] * like_spacing[k]:.4g} mm centred "
                f"{offset:.3g} mm off the scan's {shape[k] * spacing[k]:.4g} mm along {AXES[k]}; give another file"
            )
        beyond = voxels[k] * like_spacing[k] / 2 + abs(offset) - shape[k] * spacing[k] / 2
        if beyond > spacing[k]:
            filling = "the prior alone fills it" if k == through else "its edge values are repeated there"
            warnings.append(f"the --like grid reaches {beyond:.3g} mm beyond the scan along {AXES[k]}: {filling}")
        same = abs(like_spacing[k] - spacing[k]) <= SAME_GRID * spacing[k] and voxels[k] == shape[k]
        if same and abs(offset) <= SAME_GRID * spacing[k] * 10:  # a thousandth of a voxel
            grids.append(AxisGrid(shape[k], spacing[k]))
        else:
            grids.append(AxisGrid(voxels[k], like_spacing[k], offset))
    return grids
