"""Turn a result into the orientation of another file."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import torch

from bida.io.scan import read_affine
from bida.transforms.base import ScanImage, replaced


class OrientLike:
    """Turn and mirror a volume [1, X, Y, Z], which lies on the grid of a file already, into that file's orientation.

    Args:
        like: The file, on whose grid the result was planned; its affine becomes the result's, exactly.
    """

    def __init__(self, like: str | Path) -> None:
        """Read the file's affine."""
        _, self.affine = read_affine(like)

    def __call__(self, image: ScanImage) -> ScanImage:
        """Turn an image."""
        wanted = nib.orientations.io_orientation(self.affine)
        turn = nib.orientations.ornt_transform(nib.orientations.io_orientation(image.affine), wanted)
        volume = nib.orientations.apply_orientation(image.numpy(), turn)
        return replaced(image, torch.from_numpy(np.ascontiguousarray(volume))[None], self.affine)
