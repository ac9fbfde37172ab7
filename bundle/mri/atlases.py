"""`bida volumes`: the structures of a scan, by labels that registration carries over from other animals."""

from __future__ import annotations

import argparse
import csv
import math
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import nibabel as nib
import numpy as np
from tqdm import tqdm

from bida.errors import ScanError, SettingsError
from bida.eval.volumetry import Atlas, Structure, Volumetry, volumetry, whole_labels
from bida.io.bids import (
    LABELS,
    Animal,
    animals_of,
    find_animals,
    find_names,
    has_splits,
    label_file,
    read_names,
    subjects,
    subjects_of,
)
from bida.io.files import atomic, check_output
from bida.io.nifti import write_volume
from bida.io.scan import Scan, read_affine, read_scan

ATLASES = 3  # each costs a registration; on two training animals five reached a Dice that is 0.01 higher
COLUMNS = ("index", "name", "volume_mm3", "n_voxels", "spread_mm3")
MISSING = "n/a"  # as BIDS writes it
THICK = 1.5  # coarsest over finest voxel size from which a scan is better restored first
SAME_GRID_MM = 1e-3  # headers are float32


class AtlasFiles(NamedTuple):
    """A training animal's image, and its label map."""

    animal: Animal
    labels: Path


def volumes(arguments: argparse.Namespace) -> None:
    """Measure the structures of a scan and write them as a table.

    Args:
        arguments: ``input`` SCAN; ``atlas``, ``labels`` folders; ``output`` TSV; ``atlases`` their number; ``names`` a
            lookup table or None; ``labels_out`` NIfTI or None; ``volume``, ``scale_header`` as in `read_scan`;
            ``overwrite``.

    Raises:
        ScanError: The scan cannot be read, or a file not written.
        SettingsError: No atlas is left, an atlas or a table cannot be used, or a registration fails.
    """
    start = time.monotonic()
    table = check_output(arguments.output, overwrite=arguments.overwrite, suffixes=(".tsv",))
    if arguments.labels_out is not None:
        check_output(arguments.labels_out, overwrite=arguments.overwrite)
    if Path(arguments.labels_out or "").resolve() == Path(arguments.input).resolve():
        raise SettingsError(f"{arguments.labels_out}: --labels-out must not be the scan; choose another name")
    scan = read_scan(arguments.input, arguments.volume, arguments.scale_header)
    names = read_names(arguments.names) if arguments.names is not None else find_names(Path(arguments.labels))
    own = subjects_of(arguments.input)
    atlases = read_atlases(Path(arguments.atlas), arguments.atlases, own, Path(arguments.labels))
    for note in notes(scan, arguments.atlas, own, atlases):
        print(f"bida: note: {note}", file=sys.stderr)
    bar = tqdm(total=len(atlases), desc="registering", unit="atlas")

    def progress(done: int, total: int) -> None:
        bar.update(done - bar.n)

    with bar:
        found = volumetry(scan.data, scan.affine, atlases, progress=progress)
    write_table(table, found.structures, names, overwrite=arguments.overwrite)
    if arguments.labels_out is not None:
        write_volume(arguments.labels_out, found.labels, scan.affine, dtype=np.int32, overwrite=arguments.overwrite)
    print(summary(table, found, atlases, time.monotonic() - start))


def notes(scan: Scan, data: str, own: Sequence[str], atlases: Sequence[Atlas]) -> list[str]:
    """Return what a user should know before the run, a sentence each."""
    found = list(scan.warnings)
    if max(scan.spacing_mm) > THICK * min(scan.spacing_mm):
        sizes = " x ".join(f"{size:.4g}" for size in scan.spacing_mm)
        found.append(f"the scan has thick slices ({sizes} mm): restore it first with bida superres")
    split = "animals of the split train" if has_splits(Path(data)) else "the data set has no splits"
    left_out = f"; {', '.join(own)}, the scan's own subject, is left out" if own else ""
    found.append(f"atlases: {', '.join(atlas.name for atlas in atlases)} ({split}{left_out})")
    return found


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


def summary(path: Path, found: Volumetry, atlases: Sequence[Atlas], seconds: float) -> str:
    """Return the line that ends a run."""
    total = sum(one.volume_mm3 for one in found.structures)
    relative = [100 * one.spread_mm3 / one.volume_mm3 for one in found.structures if one.volume_mm3 > 0]
    spread = f"; the atlases differ by {np.median(relative):.1f}% (median SD)" if len(atlases) > 1 and relative else ""
    return (
        f"{path}: {len(found.structures)} structures, {total:.1f} mm3, from {len(atlases)} atlas(es) in "
        f"{seconds:.0f} s{spread}"
    )
