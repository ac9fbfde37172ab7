"""The panels of a picture of a run: the scan, its cubic interpolation, the result."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bida.errors import plain_errors
from bida.physics.grid import spacing_of
from bida.physics.interpolation import resample
from bida.settings import Settings
from bida.transforms.base import affine_of, target_grids
from bida.transforms.load import LoadScand
from bida.transforms.plan import PlanScand

Panel = tuple[NDArray[np.float32], tuple[float, float, float]]


def restoration_panels(scan: str | Path, settings: Settings) -> tuple[Panel, Panel]:
    """Return a scan as it is, and interpolated by cubic B-splines on the grid of its restoration."""
    from monai.transforms import Compose, Orientationd

    plan = PlanScand(
        "image",
        axis=settings.axis,
        factor=settings.factor,
        spacing=settings.spacing,
        thickness_mm=settings.thickness_mm,
        gap_mm=settings.gap_mm,
        like=settings.like,
    )
    load = LoadScand("image", volume=settings.volume, scale_header=settings.scale_header)
    with plain_errors():
        image = Compose([load, Orientationd("image", axcodes="RAS", labels=None), plan])({"image": scan})["image"]
    grids = target_grids(image)
    spacing = spacing_of(affine_of(image))
    thick = image[0].numpy()
    fine = resample(thick, spacing, grids).astype(np.float32)
    return (thick, spacing), (fine, (grids[0].spacing_mm, grids[1].spacing_mm, grids[2].spacing_mm))
