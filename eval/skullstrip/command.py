"""Skull strippers that are programs of others."""

from __future__ import annotations

import math
import shlex
import string
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from bida.errors import SettingsError, StripperError
from bida.eval.external import run_external
from bida.eval.skullstrip.mask import Mask, check_mask
from bida.io.claim import scratch
from bida.physics.grid import corner_distance_voxels

_GRID_TOLERANCE_VOXELS = 0.01  # float32 affines and quaternions round far below that, half a voxel is far above


@dataclass(frozen=True)
class CommandStripper:
    """Let a program find the brain: it reads the volume from a NIfTI file and writes its mask to another one.

    The program is run without a shell. Its mask must come on the grid that it was given; voxels above 0.5 are brain,
    so that masks, label maps and maps of probabilities will do.

    Attributes:
        command: program and arguments, quoted as for a shell, with ``{in}`` (the file ``scan_0000.nii.gz``) or
            ``{in_dir}`` (its folder, which holds nothing else) and ``{out}`` (the mask's file, ``mask.nii.gz``) or
            ``{out_dir}`` (its folder, in which one NIfTI file is expected); braces of its own are doubled.
        orientation: axes of the file, such as ``RSP`` for slices along the third axis that are coronal; by default
            those of the volume.
        minimum_in_plane: pad the first two axes of the file to this number of voxels where they have fewer.
        minimum_in_plane_mm: pad them to this length, mm.
        timeout_s: longest time a run may take, s.
        name: for tables; the command by default.
        values: more placeholders of the command.

    Raises:
        SettingsError: the command or a setting cannot be used.
    """

    command: str
    orientation: str | None = None
    minimum_in_plane: int | None = None
    minimum_in_plane_mm: float | None = None
    timeout_s: float = 1800.0
    name: str = ""
    values: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the settings."""
        if not self.name:
            object.__setattr__(self, "name", self.command)
        axes = "".join(sorted("RAS" if self.orientation is None else self.orientation))
        if axes not in {"".join(sorted(a + b + c)) for a in "RL" for b in "AP" for c in "SI"}:
            raise SettingsError(
                f"stripper {self.name}: orientation must name an end of each of the three axes, such as RSP, "
                f"got '{self.orientation}'"
            )
        for key in ("minimum_in_plane", "minimum_in_plane_mm", "timeout_s"):
            size = getattr(self, key)
            if size is not None and not (math.isfinite(size) and size > 0):
                raise SettingsError(f"stripper {self.name}: {key} must be > 0, got {size:g}")
        self._check_command()

    def _check_command(self) -> None:
        files = ("in", "out", "in_dir", "out_dir")
        try:
            found = {
                name + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "")
                for token in _split(self.command)
                for _, name, spec, conversion in string.Formatter().parse(token)
                if name is not None
            }
        except ValueError as error:  # a quotation or brace that is not closed
            raise SettingsError(
                f"stripper {self.name}: the command must have its quotations and braces closed, got '{error}'; "
                "double a brace that is no placeholder"
            ) from error
        unknown = sorted(found - {*files, *self.values})
        if unknown or not found & {"in", "in_dir"} or not found & {"out", "out_dir"}:
            got = f"'{{{unknown[0]}}}'" if unknown else f"'{self.command}'"
            raise SettingsError(
                f"stripper {self.name}: the command must hold {{in}} and {{out}} (or {{in_dir}}, {{out_dir}}) and no "
                f"other placeholder, got {got}; write for example 'rbm {{in}} {{out}}'"
            )

    def __call__(self, volume: NDArray, affine: NDArray) -> Mask:
        """Return the mask [R, A, S] that the program finds in a volume [R, A, S] with its affine (4 x 4, mm).

        Raises:
            ExternalError: the program cannot be run, fails or takes too long.
            StripperError: it wrote no mask, none that can be read, one on another grid, or `check_mask` refuses it.
        """
        start = io_orientation(affine)
        goal = axcodes2ornt(self.orientation) if self.orientation else start
        turn = ornt_transform(start, goal)
        turned = apply_orientation(np.asarray(volume, dtype=np.float32), turn)
        turned_affine = np.asarray(affine, dtype=np.float64) @ inv_ornt_aff(turn, volume.shape)
        before, after = self._padding(turned.shape, turned_affine)
        air = float(np.clip(0.0, turned.min(), turned.max()))  # within the range, for programs that scale by it
        padded = np.pad(turned, np.stack([before, after], axis=1), constant_values=air)
        padded_affine = turned_affine.copy()
        padded_affine[:3, 3] -= turned_affine[:3, :3] @ before
        mask = self._run(padded, padded_affine)
        mask = mask[tuple(slice(b, b + n) for b, n in zip(before, turned.shape))]
        return check_mask(np.ascontiguousarray(apply_orientation(mask, ornt_transform(goal, start))), volume, self.name)

    def _padding(self, shape: tuple[int, ...], affine: NDArray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return how many voxels to add before and after the three axes of the file."""
        missing = np.zeros(3, dtype=np.int64)
        for axis in (0, 1):
            spacing_mm = float(np.linalg.norm(affine[:3, axis]))
            length = math.ceil((self.minimum_in_plane_mm or 0.0) / spacing_mm - 1e-6)
            missing[axis] = max(0, max(self.minimum_in_plane or 0, length) - shape[axis])
        return missing // 2, missing - missing // 2

    def _run(self, volume: NDArray[np.float32], affine: NDArray[np.float64]) -> Mask:
        """Return the program's mask of a volume, both in the file's orientation."""
        with scratch("strip") as folder:
            source, target = folder / "in" / "scan_0000.nii.gz", folder / "out" / "mask.nii.gz"
            source.parent.mkdir()
            target.parent.mkdir()
            image = nib.Nifti1Image(volume, affine)
            image.set_sform(affine, 1)
            # ITK reads the qform, which holds no shear
            image.set_qform(affine, 1 if _is_orthogonal(affine) else 0, strip_shears=True)
            image.header.set_xyzt_units("mm")
            nib.save(image, source)
            places = {"in": source, "out": target, "in_dir": source.parent, "out_dir": target.parent}
            arguments = [token.format(**{**self.values, **places}) for token in _split(self.command)]
            run_external(arguments, self.timeout_s, f"stripper {self.name}")
            return self._read_mask(self._written(target), volume.shape, affine)

    def _written(self, target: Path) -> Path:
        """Return the file that the program wrote."""
        if target.is_file():
            return target
        found = sorted(path for path in target.parent.rglob("*") if path.name.endswith((".nii", ".nii.gz")))
        if "{out_dir}" in self.command and len(found) == 1:
            return found[0]
        names = ", ".join(path.name for path in found) or "nothing"
        raise StripperError(
            f"stripper {self.name}: the program must write one NIfTI mask where the command says, wrote {names}; "
            "run it by hand on a scan and look at its output"
        )

    def _read_mask(self, path: Path, shape: tuple[int, ...], affine: NDArray[np.float64]) -> Mask:
        """Return the mask of a file, which must be on the grid that was handed over."""
        try:
            image = nib.load(path)
            values = np.asarray(image.dataobj, dtype=np.float64)  # type: ignore[attr-defined]
            found = np.asarray(image.affine, dtype=np.float64)  # type: ignore[attr-defined]
        except (OSError, EOFError, zlib.error, ImageFileError, HeaderDataError, ValueError, TypeError) as error:
            raise StripperError(
                f"stripper {self.name}: the mask must be a NIfTI image, reading it failed with "
                f"'{' '.join(str(error).split())}'; run the program by hand on a scan"
            ) from error
        while values.ndim > 3 and values.shape[-1] == 1:
            values = values[..., 0]
        apart = corner_distance_voxels(affine, found, shape) if values.shape == shape else math.nan
        if not apart <= _GRID_TOLERANCE_VOXELS:
            got = f"shape {values.shape}" if values.shape != shape else f"corners {apart:.3g} voxels away"
            raise StripperError(
                f"stripper {self.name}: the mask must be on the grid of the file that was handed over, of shape "
                f"{shape}, got {got}; masks are not resampled here: let the program write it on its input's grid"
            )
        probable = bool(values.min() >= -1e-3 and values.max() <= 1 + 1e-3)  # False for NaN
        if not probable and not (np.isfinite(values).all() and np.array_equal(values, np.rint(values))):
            raise StripperError(
                f"stripper {self.name}: the program must write a mask, labels or probabilities, got an image of "
                f"{values.min():g} to {values.max():g}; let it write the mask, not the extracted brain"
            )
        return np.asarray(values > 0.5)


def _split(command: str) -> list[str]:
    """Return a command's words; one that came in quotes as a whole is split again."""
    words = shlex.split(command)
    return shlex.split(words[0]) if len(words) == 1 else words


def _is_orthogonal(affine: NDArray[np.float64]) -> bool:
    columns = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return bool(np.allclose(columns.T @ columns, np.eye(3), atol=1e-6))
