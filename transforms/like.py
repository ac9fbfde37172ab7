"""Turn a result into the orientation of another file."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform

from bida.io.scan import read_affine
from bida.transforms.base import affine_of, replaced


class OrientLiked(MapTransform):
    """Turn and mirror volumes [1, X, Y, Z], which lie on the grid of a file already, into that file's orientation.

    Args:
        keys: Results whose grid was planned by ``PlanScand(like=...)``.
        like: The file; its affine becomes the result's, exactly.
    """

    def __init__(self, keys: KeysCollection, like: str | Path) -> None:
        """Read the file's affine."""
        super().__init__(keys)
        _, self.affine = read_affine(like)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Turn every key."""
        result = dict(data)
        wanted = nib.orientations.io_orientation(self.affine)
        for key in self.key_iterator(result):
            image = result[key]
            turn = nib.orientations.ornt_transform(nib.orientations.io_orientation(affine_of(image)), wanted)
            volume = nib.orientations.apply_orientation(image[0].cpu().numpy(), turn)
            result[key] = replaced(image, torch.from_numpy(np.ascontiguousarray(volume))[None], self.affine)
        return result
