"""Slices of label maps for painting heads: what each voxel is, and how far it is from the brain.

Label maps are brains (``*_dseg``), or tissues of whole heads (``*_label-NAME_probseg``, NAME from the outside of the
head to white matter). No image of these animals is looked at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from numpy.typing import NDArray

from bida.errors import SettingsError
from bida.io.nifti_file import open_nifti
from bida.physics.grid import NORMAL, PLANES, spacing_of
from bida.training.pixels import Lottery, PixelStore
from bida.training.synthetic_head import distance_mm

BONE, FLUID = 255, 254  # labels of skull and of cerebrospinal fluid, where the maps tell them
OUTSIDE = "outside"  # of the maps of tissue
TISSUES = {"skull": BONE, "CSF": FLUID}
DISTANCE_MM = 0.05  # of one unit of the distance's 8 bits
FINE_MM = 0.075  # finer maps are taken at every second voxel
MARGIN_MM = 2.5  # around what is labelled


@dataclass(frozen=True)
class LabelMap:
    """One animal's labels.

    Attributes:
        name: data set and file.
        labels: [R, A, S] uint8, 0 outside, `BONE`, `FLUID`, or a region's number.
        voxel_mm: size of a voxel, the mean of the three axes.
    """

    name: str
    labels: NDArray[np.uint8]
    voxel_mm: float

    def distance(self) -> NDArray[np.uint8]:
        """Return the distance of voxels from the nearest one with a label, in `DISTANCE_MM`, at most 255, [R, A, S]."""
        away = distance_mm(torch.from_numpy(self.labels > 0), self.voxel_mm).numpy()
        return np.clip(np.rint(np.where(self.labels > 0, 0, away) / DISTANCE_MM), 0, 255).astype(np.uint8)


def read_label_maps(folders: Sequence[str | Path]) -> list[LabelMap]:
    """Read the label maps of BIDS folders.

    Raises:
        SettingsError: A folder holds none.
    """
    found = []
    for folder in map(Path, folders):
        files = [p for p in sorted(folder.glob("[st]*-*/**/*_dseg.nii*")) if "_atlas-" not in p.name]
        tissues = folder.glob("[st]*-*/**/*_label-*_probseg.nii*")
        heads = sorted({p.parent / p.name.split("_label-")[0] for p in tissues})
        if not files and not heads:
            raise SettingsError(
                f"{folder}: label_maps must be BIDS folders of label maps, *_dseg.nii.gz or *_probseg.nii.gz, this one "
                "holds none; leave it out"
            )
        found += [_labels(str(p.relative_to(folder.parent)), *_volume(p)) for p in files]
        found += [_tissues(head, folder) for head in heads]
    return found


def _volume(path: Path) -> tuple[NDArray[np.float32], float]:
    image = nib.as_closest_canonical(open_nifti(path))
    return np.asarray(image.dataobj, dtype=np.float32), float(np.mean(spacing_of(image.affine)))


def _labels(name: str, volume: NDArray[np.float32], voxel_mm: float) -> LabelMap:
    if voxel_mm < FINE_MM:
        volume, voxel_mm = volume[::2, ::2, ::2], 2 * voxel_mm
    values = np.union1d([0], np.unique(volume))
    if len(values) > FLUID:
        raise SettingsError(
            f"{name}: a label map must have fewer than {FLUID} labels, got {len(values)}; leave it out of label_maps"
        )
    labels = np.searchsorted(values, volume)  # numbers from 0 on; what lies outside is the least of them
    return _cropped(name, labels.astype(np.uint8), voxel_mm)


def _tissues(head: Path, folder: Path) -> LabelMap:
    """Return the most probable tissue of each voxel; those within the skull are numbered by name."""
    files = sorted(head.parent.glob(f"{head.name}_label-*_probseg.nii*"))
    names = [p.name.split("_label-")[1].split("_")[0] for p in files]
    read = [_volume(p) for p in files]
    ordinary = [name for name in names if name not in (OUTSIDE, *TISSUES)]
    numbers = [0 if n == OUTSIDE else TISSUES.get(n) or 1 + ordinary.index(n) for n in names]
    found = np.argmax(np.stack([volume for volume, _ in read]), axis=0)
    labels = np.array(numbers, dtype=np.uint8)[found]
    labels[np.stack([volume for volume, _ in read]).max(axis=0) <= 0] = 0
    return _cropped(str(head.relative_to(folder.parent)), labels, read[0][1])


def _cropped(name: str, labels: NDArray[np.uint8], voxel_mm: float) -> LabelMap:
    if not labels.any():
        raise SettingsError(f"{name}: a label map must hold labels, got none; leave it out of label_maps")
    box = tuple(
        slice(int(where[0]), int(where[-1]) + 1)
        for where in (np.flatnonzero(labels.any(axis=other)) for other in ((1, 2), (0, 2), (0, 1)))
    )
    return LabelMap(name, np.pad(labels[box], round(MARGIN_MM / voxel_mm)), voxel_mm)


class LabelBank:
    """Slices of label maps in the memory of one device.

    Args:
        maps: The animals; each data set is drawn alike often, and each animal of it.
        device: Where they are kept.
        every: Every so many-th slice of a map is kept.

    Attributes:
        store: labels and distances, two channels.
        voxel_mm: [N], size of each slice's pixels.
    """

    def __init__(self, maps: Sequence[LabelMap], device: torch.device | str = "cpu", every: int = 2) -> None:
        """Cut the maps into slices."""
        if not maps:
            raise SettingsError("label_maps: at least one label map must be given, got none; name a folder")
        slices: list[NDArray[np.uint8]] = []
        voxels: list[float] = []
        sets = Counter(one.name.split("/")[0] for one in maps)
        chances: list[tuple[int, range, int]] = []  # plane and slices of each map, maps of its data set
        for one in maps:
            both = np.stack([one.labels, one.distance()], axis=-1)
            for plane, name in enumerate(PLANES):
                stack = np.moveaxis(both, NORMAL[name], 0)
                useful = [k for k in range(0, len(stack), every) if (stack[k, ..., 0] > 0).any()]
                places = range(len(slices), len(slices) + len(useful))
                chances.append((plane, places, sets[one.name.split("/")[0]]))
                slices += [np.ascontiguousarray(stack[k]) for k in useful]
                voxels += [one.voxel_mm] * len(useful)
        self.store = PixelStore(slices, device)
        self.device, self.sizes = self.store.device, self.store.sizes
        self.voxel_mm = torch.tensor(voxels)
        table = torch.zeros(len(PLANES), len(slices), dtype=torch.float64)
        for plane, places, alike in chances:
            table[plane, places.start : places.stop] = 1 / (alike * max(len(places), 1))
        self.draw = Lottery(table, torch.arange(len(PLANES))).draw
