"""`bida volumes`: the structures of a scan, by labels that registration carries over from other animals."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import nibabel as nib
import numpy as np

from bida.errors import ScanError, SettingsError
from bida.eval.volumetry import Atlas, Structure, whole_labels
from bida.io.bids import (
    LABELS,
    Animal,
    animals_of,
    find_animals,
    label_file,
    subjects,
)
from bida.io.files import atomic, check_output
from bida.io.scan import read_affine, read_scan

ATLASES = 3  # each costs a registration; on two training animals five reached a Dice that is 0.01 higher
COLUMNS = ("index", "name", "volume_mm3", "n_voxels", "spread_mm3")
MISSING = "n/a"  # as BIDS writes it
THICK = 1.5  # coarsest over finest voxel size from which a scan is better restored first
SAME_GRID_MM = 1e-3  # headers are float32


class AtlasFiles(NamedTuple):
    """A training animal's image, and its label map."""

    animal: Animal
    labels: Path


def read_atlases(data: Path, count: int, own: str | Sequence[str] = (), labels: Path | None = None) -> list[Atlas]:
    """Read training animals of a BIDS data set, with their labels.

    Args:
        data: data set with the images; animals of another split than ``train`` are never taken.
        count: how many, at most.
        own: subject, or subjects, that must not be among them: the one that is measured.
        labels: data set with one ``*_dseg.nii.gz`` a subject; ``derivatives/labels`` of `data` when None.

    Raises:
        ScanError: An image or its labels cannot be read.
        SettingsError: A folder is missing, no animal has labels, or an animal has several images or label maps, or
            labels on another grid than its image.
    """
    if count < 1:
        raise SettingsError(f"--atlases must be >= 1, got {count}; give for example {ATLASES}")
    folder = data / LABELS if labels is None else labels
    if not folder.is_dir():
        raise SettingsError(f"{folder}: the folder of labels must exist, it does not; name it by --labels")
    names = [animal.subject for animal in find_animals([data], split="train", exclude=subjects(own))]
    found = find_atlases(data, count, own, folder)
    if not found:
        raise SettingsError(f"{folder}: must hold sub-*/**/*_dseg.nii.gz of {', '.join(names)}, none is there")
    return [read_atlas(*files) for files in found]


def find_atlases(data: Path, count: int, own: str | Sequence[str] = (), labels: Path | None = None) -> list[AtlasFiles]:
    """List the files of `read_atlases` without reading them; there may be none.

    Raises:
        SettingsError: An animal with labels has several images or label maps.
    """
    folder = data / LABELS if labels is None else labels
    animals = animals_of(data, split="train", exclude=subjects(own))
    found = [AtlasFiles(animal, path) for animal in animals if (path := label_file(folder, animal.subject)) is not None]
    names = [files.animal.subject for files in found]
    double = sorted({name for name in names if names.count(name) > 1})
    if double:
        raise SettingsError(f"{data}: each atlas must have one image, {', '.join(double)} has more; remove the others")
    return found[:count]


def read_atlas(animal: Animal, path: Path) -> Atlas:
    """Read an animal's image and its labels.

    Raises:
        ScanError: See `read_scan`.
        SettingsError: Labels on another grid than the image, or not whole numbers.
    """
    scan = read_scan(animal.path)
    shape, affine = read_affine(path)
    if shape != scan.data.shape or not np.allclose(affine, scan.affine, atol=SAME_GRID_MM):
        raise SettingsError(f"{path}: labels must be on the grid of {animal.path.name}, they are not; resample them")
    try:
        values = np.asarray(cast(Any, nib.load(path)).dataobj)
    except (OSError, EOFError, ValueError) as error:
        raise ScanError(
            f"{path}: the file must be whole, got '{' '.join(str(error).split())}'; copy it again"
        ) from error
    return Atlas(animal.subject, scan.data, whole_labels(values.reshape(shape), str(path)), scan.affine)


def write_table(
    path: Path, structures: Sequence[Structure], names: Mapping[int, str], *, overwrite: bool = False
) -> None:
    """Write structures as a tab-separated table, atomically; a structure without a name goes by its index.

    Raises:
        ScanError: See `check_output`.
    """
    check_output(path, overwrite=overwrite, suffixes=(".tsv",))
    with atomic(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(COLUMNS)
        for one in structures:
            spread = MISSING if math.isnan(one.spread_mm3) else f"{one.spread_mm3:.6g}"
            writer.writerow([one.label, names.get(one.label, one.label), f"{one.volume_mm3:.6g}", one.voxels, spread])
