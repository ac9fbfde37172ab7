"""What a training reads, from data sets or from one packed file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from bida.io.bids import Animal, find_animals
from bida.training.label_maps import LabelBank, read_label_maps
from bida.training.pack import PackedImage, read_images, read_packed_labels


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
