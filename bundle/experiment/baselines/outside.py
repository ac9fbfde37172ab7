"""What adapters of programs of others share: the image that a program wrote, and its volume on another grid."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bida.errors import ExternalError, ScanError
from bida.io.scan import Scan, read_scan
from bida.physics.grid import corner_distance_voxels

Float = NDArray[np.float64]

COVERED = 0.9  # least share of the wanted voxels that a result must cover: a program keeps the scan's field of view


def only_image(folder: Path, what: str, scale_header: float | None = None) -> Scan:
    """Read the one image that a program wrote.

    Args:
        folder: where it wrote.
        what: the program's name in errors.
        scale_header: by which its lengths are too long.

    Raises:
        ExternalError: it wrote none, several, or one that can't be used.
    """
    found = sorted(path for path in folder.rglob("*") if path.name.endswith((".nii", ".nii.gz")))
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise ExternalError(
            f"{what}: the program must write one NIfTI image, wrote {names}; run it by hand on a scan to see more"
        )
    try:
        return read_scan(found[0], scale_header=scale_header)
    except ScanError as error:
        reason = str(error).replace(str(found[0]), found[0].name)
        raise ExternalError(f"{what}: the program must write an image that can be used: {reason}") from error


def resampled(
    volume: NDArray[np.float32], affine: Float, shape: Sequence[int], wanted: Float, what: str
) -> NDArray[np.float32]:
    """Return a program's volume on another grid, by cubic B-splines; refuse one that lies elsewhere.

    Args:
        volume: [X, Y, Z].
        affine: 4 x 4, its voxel index to mm.
        shape: of the grid.
        wanted: affine of the grid.
        what: the program's name in errors.

    Raises:
        ExternalError: it covers too little of the grid.
    """
    from scipy import ndimage

    index = np.linalg.solve(affine, wanted)  # voxel of the wanted grid to voxel of the volume
    inside = np.ones(tuple(shape), dtype=bool)
    for k in range(3):
        parts = [index[k, j] * np.arange(shape[j]) for j in range(3)]
        position = index[k, 3] + parts[0][:, None, None] + parts[1][:, None] + parts[2]
        inside &= (position >= -0.51) & (position <= volume.shape[k] - 0.49)  # a face on a face is inside
    if inside.mean() < COVERED:
        raise ExternalError(
            f"{what}: the result must lie over the scan, its affine puts {1 - inside.mean():.0%} of the scan's grid "
            "outside it; look at the affine that the program writes"
        )
    if volume.shape == tuple(shape) and corner_distance_voxels(affine, wanted, volume.shape) < 1e-3:
        return volume
    return ndimage.affine_transform(volume, index, output_shape=tuple(shape), order=3, mode="nearest")
