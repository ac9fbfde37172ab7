"""What a run gives: the volume, its uncertainty, and the record of how it was made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import nibabel as nib
import numpy as np
from numpy.typing import DTypeLike, NDArray

from bida.errors import SettingsError
from bida.io.files import own_files, recorded, sidecar_path
from bida.io.nifti import as_stored, volume_image, write_volume
from bida.io.own_results import description
from bida.physics.grid import spacing_of


class Stored(Protocol):
    """Measure a volume against its scans, as it is stored."""

    def __call__(self, volume: NDArray) -> float:
        """Return max |A x - y| over the range of y."""

    def told(self, volume: NDArray, record: Mapping[str, Any]) -> dict[str, Any]:
        """Return the entries of a run's record that say how far the volume is from the scans."""


@dataclass(frozen=True, repr=False)
class Result:
    """A restored volume.

    Its text is three lines: what it is, how good it is, and what to look at.

    Attributes:
        data: The mean of what the scan can come from, in one step, or the mean of the draws [X, Y, Z], float32, the
            scan's orientation and intensities.
        affine: 4 x 4, voxel index to mm.
        std: Standard deviation of the error, as the network tells it of the mean, or over the draws (ddof 1), scaled to
            its size as measured on other animals, like ``data``; None for one draw, and of weights that do not tell.
        record: What was done: settings, operator, weights, residuals, timings, as JSON can hold it.
        warnings: What was assumed or is unusual, a sentence each.
        header: The scan's NIfTI header, None for other formats.
        residual: Measures a volume like ``data`` against the scan's slices, max |A x - y| over their range; None where
            they are not kept.
    """

    data: NDArray[np.float32]
    affine: NDArray[np.float64]
    std: NDArray[np.float32] | None
    record: dict[str, Any]
    warnings: tuple[str, ...]
    header: nib.Nifti1Header | None = None
    residual: Stored | None = field(default=None, repr=False, compare=False)

    @property
    def image(self) -> nib.Nifti1Image:
        """The volume as a nibabel image, float32, as `save` writes it."""
        return volume_image(self.data, self.affine, self.header, says=description())

    def __repr__(self) -> str:
        """Return three lines: the grid, the verdict, the warnings."""
        sizes = " x ".join(map(str, self.data.shape))
        spacing = " x ".join(f"{size:.4g}" for size in spacing_of(self.affine))
        told = f"{len(self.warnings)} in .warnings: {'; '.join(self.warnings)}" if self.warnings else "no warnings"
        return (
            f"Result: {sizes} voxels of {spacing} mm, from {self.record['source']}\n"
            f"  {self.record['verdict'] or 'not compared with interpolation'}\n"
            f"  {told}"
        )

    def save(self, path: str | Path, dtype: DTypeLike = np.float32, *, overwrite: bool = False) -> None:
        """Write the volume (.nii or .nii.gz), and its record as JSON beside it.

        Args:
            path: The file; the sidecar has its name.
            dtype: Type on disk; values are rounded to and clipped at an integer type, under the scan's own scaling.
            overwrite: Replace existing files.

        Raises:
            ScanError: See ``bida.io.files.recorded``.
            SettingsError: One of the two files is one that the result is from: a scan, its sidecar, weights, a profile.
        """
        sources = [self.record["source"], *(scan["source"] for scan in self.record.get("scans") or ())]
        named = [self.record.get("settings", {}).get(name) for name in ("like", "profile", "model")]
        sources += [one for one in named if one is not None and Path(one).is_file()]
        taken = {file.resolve() for source in sources for file in own_files(source)}
        for file in (Path(path), sidecar_path(path)):
            if file.resolve() in taken:
                raise SettingsError(
                    f"{file}: output must be a file of its own, not one that the result is from; rename it"
                )
        with recorded(path, self.record_as(dtype), overwrite=overwrite) as temporary:
            write_volume(temporary, self.data, self.affine, self.header, dtype, says=description())

    def record_as(self, dtype: DTypeLike) -> dict[str, Any]:
        """Return the record of the volume as it is stored: how far it is from the scan once it is rounded to a type."""
        record = {**self.record, "output_dtype": str(np.dtype(dtype))}
        if np.dtype(dtype).kind in "iu" and self.residual is not None:
            record |= self.residual.told(as_stored(self.data, np.dtype(dtype), self.header), record)
        return record
