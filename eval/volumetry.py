"""Volumetry: labels of atlases carried onto a volume by registration, joined by a vote, and measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bida.errors import SettingsError
from bida.eval.registration import carry, check_volume, itk_grid
from bida.eval.structures import structure_volumes

Labels = NDArray[np.int32]
Progress = Callable[[int, int], None]  # done, total


@dataclass(frozen=True)
class Atlas:
    """An animal whose structures are known.

    Attributes:
        name: what to call it.
        image: [X, Y, Z] float32.
        labels: [X, Y, Z], whole numbers, kept as int32; 0 is background.
        affine: 4 x 4, voxel index of both to mm (RAS+).
    """

    name: str
    image: NDArray[np.float32]
    labels: Labels
    affine: NDArray[np.float64]

    def __post_init__(self) -> None:
        """Check the atlas.

        Raises:
            SettingsError: an image that cannot be registered, labels on another grid, none above 0, or not whole
                numbers, an affine with shears.
        """
        place = f"atlas {self.name}"
        object.__setattr__(self, "image", check_volume(self.image, place))
        object.__setattr__(self, "labels", whole_labels(self.labels, place))
        if self.labels.shape != self.image.shape:
            raise SettingsError(
                f"{place}: labels must be on the image's grid, got shapes {self.labels.shape} and {self.image.shape}"
            )
        if not self.labels.any():
            raise SettingsError(f"{place}: labels must name a structure, all voxels are 0; leave it out")
        itk_grid(self.affine, place)


@dataclass(frozen=True)
class Structure:
    """A structure as measured.

    Attributes:
        label: its number.
        voxels: number of voxels.
        volume_mm3: volume, mm^3.
        spread_mm3: standard deviation (divisor n - 1), over the atlases, of the volume that each gives alone, mm^3: a
            measure of trust; nan with one atlas.
    """

    label: int
    voxels: int
    volume_mm3: float
    spread_mm3: float


@dataclass(frozen=True)
class Volumetry:
    """The labels on a volume's grid [X, Y, Z], and every structure that an atlas knows."""

    labels: Labels
    structures: tuple[Structure, ...]


def whole_labels(values: ArrayLike, place: str = "labels") -> Labels:
    """Return a label map as int32, exactly; files of floating-point whole numbers are common.

    Raises:
        SettingsError: a value is not a whole number from 0 to 2^31 - 1.
    """
    found = np.asarray(values)
    if found.dtype.kind not in "iuf" or not np.isfinite(found).all():
        raise SettingsError(f"{place}: labels must be whole numbers, got {found.dtype} or NaN or Inf; correct them")
    if found.min() < 0 or found.max() > np.iinfo(np.int32).max:
        raise SettingsError(f"{place}: labels must be 0 to 2^31 - 1, got {found.min():g} to {found.max():g}; renumber")
    whole = found.astype(np.int32)
    if not np.array_equal(whole, found):
        odd = found[whole != found].flat[0]
        raise SettingsError(f"{place}: labels must be whole numbers, got {odd:g}; give a label map, not resampled")
    return whole


def carry_labels(atlas: Atlas, volume: ArrayLike, affine: ArrayLike, seed: int = 1) -> Labels:
    """Register an atlas to a volume and return its labels on the volume's grid, [X, Y, Z].

    Nothing is shared between calls: two volumes of one animal are registered each from the start.

    Args:
        atlas: image and labels; it must show what the volume shows, the brain alone or the head.
        volume: [X, Y, Z].
        affine: 4 x 4, voxel index to mm (RAS+).
        seed: of the registration, which is reproducible: see `bida.eval.registration.carry`.

    Raises:
        SettingsError: the volume cannot be used, or the registration fails.
    """
    place = f"registration of atlas {atlas.name}"
    return carry(atlas.labels, atlas.image, atlas.affine, volume, affine, seed, place)


def fuse_labels(maps: Sequence[NDArray[np.integer[Any]]]) -> Labels:
    """Return the label with the most votes, voxel by voxel; where several tie, that of the map that comes first.

    Args:
        maps: label maps of one shape, at least one.

    Raises:
        SettingsError: no map, or shapes differ.
    """
    if len({one.shape for one in maps}) != 1:
        raise SettingsError(f"fuse_labels: needs maps of one shape, got {[one.shape for one in maps]}")
    stack = np.stack(maps)
    votes = np.stack([(stack == one).sum(axis=0) for one in stack])  # for what each map says
    winner = votes.argmax(axis=0)  # the first of several largest
    return np.take_along_axis(stack, winner[None], axis=0)[0].astype(np.int32)


def measure(maps: Sequence[Labels], affine: ArrayLike, labels: Sequence[int]) -> Volumetry:
    """Join label maps by vote and measure structures, with their spread over the maps.

    Args:
        maps: one from every atlas, on one grid.
        affine: 4 x 4, voxel index to mm (RAS+).
        labels: structures to measure; one without a voxel measures 0.

    Raises:
        SettingsError: see `fuse_labels`, `structure_volumes`.
    """
    names = {label: str(label) for label in labels}
    fused = fuse_labels(maps)
    alone = [structure_volumes(one, affine, names) for one in maps]
    voxels, volumes = structure_volumes(fused, np.eye(4), names), structure_volumes(fused, affine, names)

    def spread(name: str) -> float:
        return float(np.std([one[name] for one in alone], ddof=1)) if len(alone) > 1 else math.nan

    rows = (Structure(label, round(voxels[name]), volumes[name], spread(name)) for label, name in names.items())
    return Volumetry(fused, tuple(rows))


def volumetry(
    volume: ArrayLike, affine: ArrayLike, atlases: Sequence[Atlas], seed: int = 1, progress: Progress | None = None
) -> Volumetry:
    """Carry the labels of atlases onto a volume, join them by vote and measure every structure that an atlas knows.

    Every atlas has one vote.

    Args:
        volume: [X, Y, Z].
        affine: 4 x 4, voxel index to mm (RAS+).
        atlases: one or more; several do better, and show how far the result can be trusted.
        seed: see `carry_labels`.
        progress: called with the number of atlases that are done, and of all, at the start and after each.

    Raises:
        SettingsError: no atlas, or see `carry_labels`.
    """
    if not atlases:
        raise SettingsError("volumetry: needs at least one atlas, got none")
    tell = progress or (lambda done, total: None)
    tell(0, len(atlases))
    carried: list[Labels] = []
    for atlas in atlases:
        carried.append(carry_labels(atlas, volume, affine, seed))
        tell(len(carried), len(atlases))
    known = set().union(*(np.unique(atlas.labels).tolist() for atlas in atlases))
    return measure(carried, affine, sorted(known - {0}))
