"""Microscopy stacks [C, Z, Y, X] with voxel sizes in micrometres: one reader and one writer for every format."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bida.errors import ScanError, SettingsError
from bida.io.files import NIFTI_SUFFIXES, atomic
from bida.microscopy.stacks import microscopes, nifti, ome_tiff, ome_zarr, opensrh
from bida.microscopy.stacks.axes import Found, SizesUm, native
from bida.microscopy.stacks.paths import (
    MICROSCOPE_SUFFIXES,
    SCENE,
    SUFFIXES,
    TIFF_SUFFIXES,
    ZARR_SUFFIXES,
    check_stack_output,
    is_zarr,
)


@dataclass(frozen=True)
class Stack:
    """Hold a microscopy stack.

    Attributes:
        data: [C, Z, Y, X], integers or floats of the file's own type, all finite. A dask array where the stack is read
            block by block (`open_stack`), of which whoever reads a block checks that it is finite.
        spacing_um: distance of voxel centres along z, y and x, um.
        channels: a name a channel.
        path: where it came from, as given.

    Raises:
        ScanError: data of another shape or type, empty or not finite, or names that do not fit the channels.
        SettingsError: voxel sizes that are not three positive numbers.
    """

    data: NDArray
    spacing_um: tuple[float, float, float]
    channels: tuple[str, ...]
    path: str | Path = ""

    def __post_init__(self) -> None:
        """Check what the attributes promise."""
        data, where = self.data, str(self.path) or "stack"
        if data.ndim != 4 or not data.size:
            raise ScanError(f"{where}: a stack must be [C, Z, Y, X] and hold voxels, got shape {data.shape}")
        if data.dtype.kind not in "iuf":
            raise ScanError(f"{where}: voxels must be integers or real numbers, got {data.dtype}; convert them")
        if data.dtype.kind == "f" and isinstance(data, np.ndarray) and not np.isfinite(data).all():
            raise ScanError(f"{where}: intensities must be finite, got NaN or Inf; replace them")
        if len(self.channels) != len(data):
            raise ScanError(f"{where}: every channel needs a name, got {len(self.channels)} for {len(data)} channels")
        if len(self.spacing_um) != 3 or not all(math.isfinite(size) and size > 0 for size in self.spacing_um):
            raise SettingsError(
                f"{where}: voxel sizes must be three positive numbers of um (z, y, x), got {self.spacing_um}; "
                "give --voxel-um Z Y X"
            )


class Volume(Protocol):
    """An array that is read and written by slices: of NumPy or zarr."""

    def __getitem__(self, index: tuple[slice, ...], /) -> NDArray:
        """Return a part."""

    def __setitem__(self, index: tuple[slice, ...], value: NDArray, /) -> None:
        """Write a part."""


def block_mean(stack: Stack, block: int) -> Stack:
    """Average cubes of ``block`` voxels a side, float32; what is over at the far ends is cut, and 1 changes nothing.

    Raises:
        SettingsError: The block is less than 1 or larger than the stack.
    """
    from skimage.measure import block_reduce

    shortest = min(stack.data.shape[1:])
    if not 1 <= block <= shortest:
        raise SettingsError(
            f"{stack.path}: block mean must be from 1 to the stack's shortest side, {shortest} voxels, got {block}"
        )
    if block == 1:
        return stack
    whole = (slice(size // block * block) for size in stack.data.shape[1:])
    z, y, x = (size * block for size in stack.spacing_um)
    means = block_reduce(stack.data[:, *whole], (1, block, block, block), np.mean, func_kwargs={"dtype": np.float64})
    return replace(stack, data=means.astype(np.float32), spacing_um=(z, y, x))


def read_stack(
    path: str | Path,
    spacing_um: Sequence[float] | None = None,
    channels: Sequence[str] | None = None,
    frames_are_z: bool = False,
) -> Stack:
    """Read a microscopy stack.

    OME-TIFF, ImageJ TIFF and plain TIFF; a folder or glob of single-plane TIFFs, one a z, in natural order of their
    names; OME-Zarr 0.4 and 0.5, the highest resolution level; CZI, LIF, ND2 and IMS, ``FILE[SCENE]`` where a file holds
    several images (see `microscopes`); NIfTI, whose third axis is z; a field of view of OpenSRH's z-stacks,
    ``FILE.pt[ROW,COLUMN]``. Axes of length 1 are dropped; longer time axes, colour samples and TIFF files of several
    images are refused.

    Args:
        path: file, folder or glob (with * or ?).
        spacing_um: voxel sizes (z, y, x), um, which go before those of the file.
        channels: names, which go before those of the file; without either they are numbered.
        frames_are_z: time points are planes, whose distance is the file's voxel size along z where it says one.

    Raises:
        ScanError: The file cannot be used.
        SettingsError: The file does not say its voxel sizes and `spacing_um` is not given.
    """
    found = _found(path, spacing_um is not None, frames_are_z)
    names = tuple(channels or found.channels or (f"channel {i}" for i in range(len(found.data))))
    return Stack(native(found.data), _sizes(path, spacing_um, found.spacing_um), names, path)


def open_stack(path: str | Path, spacing_um: Sequence[float] | None = None, frames_are_z: bool = False) -> Stack:
    """Open a microscopy stack as `read_stack`, but read blocks of OME-Zarr and of microscopes' files where asked for.

    Raises:
        ScanError: The file cannot be used.
        SettingsError: See `read_stack`.
    """
    file = Path(path)
    if not _is_zarr(file) and not _is_microscopes(path):
        return read_stack(path, spacing_um, frames_are_z=frames_are_z)
    if _is_zarr(file):
        found = ome_zarr.open_zarr(file, frames_are_z)
    else:
        found = microscopes.open_microscope(path, frames_are_z)
    names = found.channels or tuple(f"channel {i}" for i in range(len(found.data)))
    data = found.data.astype(found.data.dtype.newbyteorder("="))
    return Stack(data, _sizes(path, spacing_um, found.spacing_um), names, path)


def part_of(path: str | Path, part: NDArray) -> NDArray:
    """Return a part of a stack in memory, whether it is there or still in the file.

    Raises:
        ScanError: It cannot be read.
    """
    if isinstance(part, np.ndarray):
        return part
    with (ome_zarr.whole_zarr if _is_zarr(Path(path)) else microscopes.whole_file)(path):
        return np.asarray(part)


def as_type(values: NDArray, dtype: np.dtype) -> NDArray:
    """Return values as a stack's type holds them: integers rounded, at most its limits."""
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        values = np.clip(np.rint(values), limits.min, limits.max)
    return values.astype(dtype)


def _is_zarr(file: Path) -> bool:
    return is_zarr(file) or (file.is_dir() and file.name.lower().endswith(ZARR_SUFFIXES))


def _is_microscopes(path: str | Path) -> bool:
    """Tell whether a microscope's file is named; a glob or a folder of single planes is none."""
    return SCENE.match(str(path)) is not None and not Path(path).is_dir()


def _found(path: str | Path, sizes_given: bool, frames_are_z: bool) -> Found:
    file = Path(path)
    if _is_zarr(file):
        return ome_zarr.read_zarr(file, frames_are_z)
    if _is_microscopes(path):
        found = microscopes.open_microscope(path, frames_are_z)
        return replace(found, data=part_of(path, found.data))
    series = file.is_dir() or (not file.exists() and any(mark in str(path) for mark in "*?"))
    if frames_are_z and (series or opensrh.is_field(path)):
        raise SettingsError(f"{path}: frames are z in a file of its own, this is none; leave --frames-are-z out")
    if series:
        return ome_tiff.read_series(path, sizes_given)
    if opensrh.is_field(path):
        return opensrh.read_field(path)
    if not file.is_file():
        raise ScanError(f"{path}: a stack must exist, nothing is there; check the path")
    if file.name.lower().endswith(TIFF_SUFFIXES):
        return ome_tiff.read_tiff(file, alone=True, frames_are_z=frames_are_z)
    if file.name.lower().endswith(NIFTI_SUFFIXES):
        return nifti.read_nifti(file, frames_are_z)
    endings = ", ".join((*SUFFIXES, *MICROSCOPE_SUFFIXES))
    raise ScanError(f"{path}: a stack must end in one of {endings}, got '{file.name}'; convert it")


def _sizes(path: str | Path, given: Sequence[float] | None, found: SizesUm) -> tuple[float, float, float]:
    if given is not None:
        if len(given) != 3:
            raise SettingsError(f"--voxel-um: must be three sizes Z Y X in um, got {len(given)}")
        return float(given[0]), float(given[1]), float(given[2])
    z, y, x = found
    if z is None or y is None or x is None:
        known = ", ".join(f"{name} = {size:g}" for name, size in zip("zyx", found) if size is not None) or "none"
        raise SettingsError(
            f"{path}: voxel sizes z, y and x must be known, the file says {known}; give --voxel-um Z Y X"
        )
    return z, y, x


def check_voxel_type(path: str | Path, dtype: np.dtype, voxels: int = 0) -> None:
    """Check that the format of a stack to be written has voxels of a type, and so many.

    Raises:
        ScanError: It has not.
    """
    path = Path(path)
    if path.name.endswith(NIFTI_SUFFIXES):
        nifti.check_type(path, dtype)
    elif not path.name.endswith(ZARR_SUFFIXES):
        ome_tiff.check_type(path, dtype, voxels)


def write_stack(path: str | Path, stack: Stack, overwrite: bool = False, old_record: str | Path | None = None) -> None:
    """Write a stack, whole or not at all; read back it has the same voxels, type, sizes and channel names.

    Args:
        path: ends in .ome.tif or .ome.tiff (OME-TIFF), .tif or .tiff (ImageJ's; sizes along y and x to 9 digits),
            .zarr (OME-Zarr 0.5), .nii or .nii.gz (NIfTI, in mm; sizes to 7 digits).
        stack: what to write.
        overwrite: replace an existing file or zarr group.
        old_record: of what is replaced; removed before that, so that no stack stands beside the record of another.

    Raises:
        ScanError: See `check_stack_output`, or the format has no such type of voxel.
    """
    target = check_stack_output(path, overwrite=overwrite)
    spacing, names = stack.spacing_um, stack.channels
    if target.name.endswith(ZARR_SUFFIXES):
        with ome_zarr.atomic_folder(target) as temporary:
            ome_zarr.write_zarr(
                temporary, stack.data, spacing, names, target.name.removesuffix(".zarr").removesuffix(".ome")
            )
            _forget(old_record)
        return
    check_voxel_type(target, stack.data.dtype, stack.data.size)
    ours = ome_tiff.write_imagej if ome_tiff.for_imagej(target) else ome_tiff.write_tiff
    write = nifti.write_nifti if target.name.endswith(NIFTI_SUFFIXES) else ours
    with atomic(target) as temporary:
        write(temporary, stack.data, spacing, names)
        _forget(old_record)


def _forget(record: str | Path | None) -> None:
    """Remove the record of a stack that is replaced in a moment."""
    if record is not None:
        Path(record).unlink(missing_ok=True)
