"""All that a training reads in one small file, for machines that the data sets don't fit on or don't get to.

Images as `bida.training.dataset` makes them, normalised and denoised, and label maps, in 8 bits each; `write_pack` of
`bida.training.data` writes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bida.diffusion.prior import X0_RANGE
from bida.errors import SettingsError
from bida.training.label_maps import LabelMap
from bida.training.pixels import STEP


@dataclass(frozen=True)
class PackedImage:
    """An image of a packed file.

    Attributes:
        subject, data_set: As `bida.io.bids.Animal` names them.
        split: "train" or "tuning".
        pair: [R, A, S, 2] uint8, as scanned and denoised, 0 to 255 over `X0_RANGE`.
        spacing_mm: of its voxels.
    """

    subject: str
    data_set: str
    split: str
    pair: NDArray[np.uint8]
    spacing_mm: tuple[float, float, float]

    def read(self) -> tuple[NDArray[np.float32], tuple[float, float, float]]:
        """Return the pair [R, A, S, 2] on the scale of [-1, 1], and its spacings in mm."""
        return self.pair.astype(np.float32) * np.float32(STEP) + np.float32(X0_RANGE[0]), self.spacing_mm


def read_images(path: str | Path, split: str) -> list[PackedImage]:
    """Return the images of a packed file.

    Raises:
        SettingsError: It is none, or has no image of the split.
    """
    found = []
    with _opened(path) as pack:
        for name in pack.files:
            kind, *parts = name.split("/")
            if kind == "image" and parts[0] == split and len(parts) == 4:
                low, middle, high = (float(mm) for mm in pack[f"{name}/mm"])
                found.append(PackedImage(parts[2], parts[1], split, pack[name], (low, middle, high)))
    if not found:
        raise SettingsError(f"{path}: a pack must hold images for {split}, this one has none; pack it again")
    return found


def read_packed_labels(path: str | Path) -> list[LabelMap]:
    """Return the label maps of a packed file; there may be none.

    Raises:
        SettingsError: It is no packed file.
    """
    with _opened(path) as pack:
        names = [name for name in pack.files if name.startswith("labels/") and not name.endswith("/mm")]
        return [LabelMap(name.split("/", 2)[2], pack[name], float(pack[f"{name}/mm"])) for name in names]


def _opened(path: str | Path) -> np.lib.npyio.NpzFile:
    try:
        found = np.load(path)
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path}: packed must be a file of benchmarks/pack.py, got '{error}'; pack it") from error
    if not isinstance(found, np.lib.npyio.NpzFile):
        raise SettingsError(f"{path}: packed must be a file of benchmarks/pack.py, got an array; pack it")
    return found
