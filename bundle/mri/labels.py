"""Put a label map or a mask on the grid that a scan's result gets, by nearest neighbour."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation, ornt_transform
from numpy.typing import NDArray

from bida.io.scan import read_affine, read_scan
from bida.mri.settings import Settings
from bida.physics.grid import AxisGrid, resampled_affine, spacing_of
from bida.physics.grid_like import ImageGrid
from bida.physics.plan import plan_scan
from bida.provenance import versions
from bida.transforms.load import OWN


@dataclass(frozen=True)
class Labels:
    """A label map on another grid.

    Attributes:
        data: [X, Y, Z], in the file's orientation, or in that of ``like``; the values of the file.
        affine: 4 x 4, voxel index to mm.
        header: the file's NIfTI header, None for other formats.
        record: what was done, as JSON can hold it.
        warnings: what was assumed, a sentence each.
    """

    data: NDArray
    affine: NDArray[np.float64]
    header: nib.Nifti1Header | None
    record: dict[str, Any]
    warnings: tuple[str, ...]


def labels_on_grid(source: str | Path, settings: Settings) -> Labels:
    """Return a label map on the grid that `bida.superres` would give a scan of the same grid; no value is new.

    Raises:
        ScanError: It cannot be read or planned, or holds no labels.
        SettingsError: An option contradicts another.
    """
    own = {name: getattr(settings, name) for name in OWN}
    scan = read_scan(source, settings.volume, settings.scale_header, labels=True, **own)
    turn = io_orientation(scan.affine)
    values = apply_orientation(scan.data, turn)  # [R, A, S]
    affine = scan.affine @ inv_ornt_aff(turn, scan.data.shape)
    like = None if settings.like is None else ImageGrid(str(settings.like), *read_affine(settings.like))
    plan = plan_scan(values.shape, affine, settings, like=like, sidecar=scan.sidecar, name=str(source))
    spacing = spacing_of(plan.affine)
    found = values[np.ix_(*map(nearest, values.shape, spacing, plan.grids))]
    on_grid = resampled_affine(plan.affine, values.shape, spacing, plan.grids)
    back = ornt_transform(io_orientation(on_grid), turn if like is None else io_orientation(like.affine))
    on_grid = on_grid @ inv_ornt_aff(back, found.shape)
    kept = tuple(one for one in (*scan.warnings, *plan.warnings) if "slice thickness" not in one)  # of no use here
    record = {
        "source": str(source),
        "estimate": "labels",
        "interpolation": "nearest",
        "settings": asdict(settings),
        "grid_ras": [asdict(grid) for grid in plan.grids],
        "warnings": list(kept),
        "versions": versions(),
    }
    data = plain_type(np.ascontiguousarray(apply_orientation(found, back)))
    return Labels(data, on_grid if like is None else like.affine, scan.header, record, kept)


def nearest(voxels: int, spacing_mm: float, grid: AxisGrid) -> NDArray[np.int64]:
    """Return the voxel of an axis that lies nearest to each voxel of a grid, whose centre is the field of view's.

    Doctest:
        >>> nearest(3, 0.8, AxisGrid(6, 0.4)).tolist()
        [0, 0, 1, 1, 2, 2]
    """
    at = ((np.arange(grid.voxels) - (grid.voxels - 1) / 2) * grid.spacing_mm + grid.offset_mm) / spacing_mm
    return np.clip(np.floor(at + voxels / 2), 0, voxels - 1).astype(np.int64)


def plain_type(values: NDArray) -> NDArray:
    """Return whole numbers of 64 bits, which few readers take, as the smaller type that holds them."""
    if values.dtype.kind not in "iu" or values.dtype.itemsize < 8:
        return values
    return values.astype(np.promote_types(np.min_scalar_type(values.min()), np.min_scalar_type(values.max())))
