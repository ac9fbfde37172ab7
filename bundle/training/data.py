"""What a training reads, from data sets or from one packed file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bida.io.bids import Animal, find_animals
from bida.io.files import atomic
from bida.training.dataset import load_pair
from bida.training.label_maps import LabelBank, LabelMap, read_label_maps
from bida.training.pack import PackedImage, read_images, read_packed_labels
from bida.training.pixels import rounded


def training_images(
    folders: Sequence[str | Path],
    split: str | None = None,
    include: Sequence[str] | None = None,
    exclude: Sequence[str] = (),
    suffixes: Sequence[str] = ("T2w", "T1w"),
    packed: str | Path | None = None,
    tuning: bool = False,
) -> Sequence[Animal | PackedImage]:
    """Return the images of BIDS folders as `bida.io.bids.find_animals` does, or all those of a packed file.

    Args:
        folders, split, include, exclude, suffixes: See there.
        packed: The file; what is asked of the folders was asked when it was packed.
        tuning: Whether those to tune with are meant.
    """
    if packed is not None:
        return read_images(packed, "tuning" if tuning else "train")
    return find_animals(folders, split, include, exclude, suffixes)


def label_bank(
    folders: Sequence[str | Path] | None, packed: str | Path | None = None, device: torch.device | str = "cpu"
) -> LabelBank | None:
    """Return the label maps of BIDS folders, or of a packed file, on a device; None where there are none."""
    maps = read_packed_labels(packed) if packed is not None else read_label_maps(folders or ())
    return LabelBank(maps, device) if maps else None


def write_pack(
    path: Path, images: Mapping[str, Sequence[Animal]], label_maps: Sequence[LabelMap] = (), cache: Path | None = None
) -> None:
    """Write images and label maps as one file.

    Args:
        path: The file, ``.npz``.
        images: Those to train on and to tune with, by "train" and "tuning".
        label_maps: To paint heads on.
        cache: Folder that keeps denoised images.
    """
    arrays: dict[str, NDArray[Any]] = {}
    for split, animals in images.items():
        for animal in animals:
            pair, spacing_mm = load_pair(animal.path, cache)
            name = f"image/{split}/{animal.data_set}/{animal.subject}/{len(arrays)}"
            arrays[name], arrays[f"{name}/mm"] = rounded(pair), np.array(spacing_mm)
    for one in label_maps:
        name = f"labels/{len(arrays)}/{one.name}"
        arrays[name], arrays[f"{name}/mm"] = one.labels, np.array(one.voxel_mm)
    with atomic(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]  # numpy's stubs take names for an option
