"""Training data: sharp slices of the images in BIDS folders, split by animal."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, cast

import nibabel as nib
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, Sampler

from bida.errors import SettingsError
from bida.prior import X0_RANGE
from bida.scan import spacing_of
from bida.volume import NORMAL, PLANES

TABLE = "participants.tsv"  # of a BIDS data set

# In-plane spacings within 5% of the image's finest count as sharp: header rounding, not anisotropy.
SHARP = 1.05
# A slice teaches something when this share of it rises above the background by 5% of the range.
FOREGROUND_SHARE, FOREGROUND_LEVEL = 0.01, -0.9


@dataclass(frozen=True)
class Animal:
    """One image of one animal: ``subject`` is its BIDS label, ``path`` the image."""

    subject: str
    path: Path


def find_animals(
    folders: Sequence[str | Path],
    split: str | None = None,
    include: Sequence[str] | None = None,
    exclude: Sequence[str] = (),
    suffixes: Sequence[str] = ("T2w", "T1w"),
) -> list[Animal]:
    """List the anatomical images of BIDS folders.

    Args:
        folders: BIDS data sets.
        split: Keep the animals whose ``split`` column in ``participants.tsv`` says so; a data set without that
            table or without that column is training data.
        include: Keep these subjects only (``sub-01``).
        exclude: Drop these subjects.
        suffixes: BIDS suffixes that count as images.

    Returns:
        The images, sorted by path.

    Raises:
        SettingsError: A folder is missing, a table does not say an animal's split, or nothing is left.
    """
    found = []
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise SettingsError(f"{folder}: data folder must exist, it does not; name a BIDS data set")
        splits = _splits(folder)
        for suffix, ending in product(suffixes, (".nii", ".nii.gz")):
            for path in folder.glob(f"[st]*-*/**/*_{suffix}{ending}"):  # sub-*, and tpl-* for templates
                subject = path.relative_to(folder).parts[0]
                wanted = (include is None or subject in include) and subject not in exclude
                if wanted and (split is None or _split_of(subject, splits, folder) == split):
                    found.append(Animal(subject, path))
    if not found:
        raise SettingsError(
            f"{', '.join(map(str, folders))}: at least one image must be left, got none for split={split}, "
            f"include={include}, exclude={list(exclude)}, suffixes={list(suffixes)}; "
            "check participants.tsv and the subjects asked for (validation takes its split val, or tuning_subjects)"
        )
    return sorted(found, key=lambda animal: str(animal.path))


def has_splits(folder: Path) -> bool:
    """Return whether a data set says which animals train and which validate."""
    return _splits(folder) is not None


def _splits(folder: Path) -> dict[str, str] | None:
    """Return each subject's split, None for a data set that does not say."""
    table = folder / TABLE
    if not table.exists():
        return None
    with table.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file, delimiter="\t")
        columns = list(rows.fieldnames or [])
        if "participant_id" not in columns:
            raise SettingsError(f"{table}: must have a column participant_id, got {columns}; name one so")
        return {row["participant_id"]: row["split"] for row in rows} if "split" in columns else None


def _split_of(subject: str, splits: dict[str, str] | None, folder: Path) -> str:
    if splits is None:
        return "train"
    if not splits.get(subject):
        raise SettingsError(f"{folder / TABLE}: must give the split of every subject, got none for {subject}; add it")
    return splits[subject]


def load_normalised(path: Path) -> tuple[NDArray[np.float32], tuple[float, float, float]]:
    """Read an image as RAS, p1 to p99 mapped to [-1, 1], clipped at ``X0_RANGE``; return it and its spacings in mm.

    Raises:
        SettingsError: The image has no contrast, or not 3 dimensions.
    """
    image = cast(nib.Nifti1Image, nib.load(path))
    if len(image.shape) != 3:
        raise SettingsError(
            f"{path}: an image must have 3 dimensions, got shape {image.shape}; split it or leave it out"
        )
    image = nib.as_closest_canonical(image)
    data = np.asarray(image.dataobj, dtype=np.float32)
    low, high = np.percentile(data, [1, 99])
    if not high > low:
        raise SettingsError(f"{path}: the 1st and 99th percentile must differ, both are {low:g}; leave the image out")
    data = np.clip((data - np.float32(low)) * np.float32(2 / (high - low)) - 1, *X0_RANGE)
    return data, spacing_of(image.affine)


class SliceDataset(Dataset):
    """Sharp slices of whole images, drawn at random but reproducibly: sample ``i`` is a function of the seed and ``i``.

    An image serves the planes in which both spacings are as fine as its finest; an isotropic one serves all three.
    The plane is drawn first, then an image that serves it, then one of its slices that holds more than background.

    Args:
        data: The images, from ``find_animals``.
        transform: MONAI transform of ``{"image": [1, H, W], "planes": int, "index": int}``; its random state is set
            from the seed and the sample's index.
        seed: Seed of all draws.
        planes: The planes to teach.
        length: Number of samples of one pass.

    Raises:
        SettingsError: No image serves a plane.
    """

    def __init__(
        self,
        data: Sequence[Animal],
        transform: Callable[[dict[str, Any]], dict[str, Any]],
        seed: int = 0,
        planes: Sequence[str] = PLANES,
        length: int = 256,
    ) -> None:
        """Load every image into memory."""
        self.transform, self.seed, self.planes, self.length = transform, seed, tuple(planes), length
        self.slices: dict[str, list[tuple[NDArray[np.float32], NDArray[np.int64]]]] = {plane: [] for plane in planes}
        self.data = list(data)
        for animal in data:
            volume, spacing = load_normalised(animal.path)
            for plane in planes:
                normal = NORMAL[plane]
                in_plane = [spacing[axis] for axis in range(3) if axis != normal]
                stack = np.moveaxis(volume, normal, 0)
                useful = np.flatnonzero((stack > FOREGROUND_LEVEL).mean(axis=(1, 2)) >= FOREGROUND_SHARE)
                if max(in_plane) <= SHARP * min(spacing) and len(useful):
                    self.slices[plane].append((stack, useful))
        for plane, images in self.slices.items():
            if not images:
                raise SettingsError(f"data: the {plane} plane must have sharp slices, none has; drop it from planes")

    def __len__(self) -> int:
        """Return the number of samples of one pass; any index is valid."""
        return self.length

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return sample ``index``, transformed."""
        draw = np.random.Generator(np.random.Philox(np.random.SeedSequence([self.seed, index])))
        plane = self.planes[draw.integers(len(self.planes))]
        images = self.slices[plane]
        stack, useful = images[draw.integers(len(images))]
        image = torch.from_numpy(stack[useful[draw.integers(len(useful))]].copy())[None]
        set_state = getattr(self.transform, "set_random_state", None)
        if set_state is not None:
            set_state(seed=int(draw.integers(2**32)))
        return self.transform({"image": image, "planes": PLANES.index(plane), "index": index})


class CountingSampler(Sampler[int]):
    """Yield ``start, start + 1, ...`` without end, every ``world``-th from ``rank``: sample indices are training time.

    ``start`` is set when training begins or resumes, so that a resumed run draws the samples that it would have drawn.
    """

    def __init__(self, rank: int = 0, world: int = 1) -> None:
        """Take this process's rank among ``world``."""
        self.rank, self.world, self.start = rank, world, 0

    def __iter__(self) -> Iterator[int]:
        """Count up from ``start``."""
        index = self.start + self.rank
        while True:
            yield index
            index += self.world
