"""How familiar a scan is: what the priors gain on its slices, over what they gain on scans like those they know.

Both gains are the self-check's (`bida.mri.selfcheck`): PSNR in tissue of one plane's prior over interpolation that
agrees with the slices. Brains alone gain more than heads, so that each is held against its own kind.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bida.physics.consistency import TISSUE

USUAL_DB = {"brain": 2.6, "head": 1.6}  # of scans of training animals, `benchmarks/familiarity.py table`
UNFAMILIAR = 0.5  # of the usual gain: below it, it is lost
EXTRACTED = 0.4  # share of voxels at the background or below, in scans of brains alone
LEAST_CONTRAST = 1.0  # of tissue over the noise: with less, what a smooth result gains is no sign of anatomy


def kind_of_scan(y: Tensor) -> str:
    """Return whether slices y, any shape, in the prior's space, show a "brain" alone or a whole "head"."""
    return "brain" if float((y <= -1).to(torch.float32).mean()) > EXTRACTED else "head"


def familiarity(gain_db: float, kind: str) -> float:
    """Return a gain, dB, over that of scans of a kind that the priors know; below `UNFAMILIAR` they don't know it."""
    return gain_db / USUAL_DB[kind]


def is_mere_noise(slices: Tensor, noise: float) -> bool:
    """Return whether slices, any shape, without most of their noise, vary less in tissue than by that noise.

    Args:
        slices: in the prior's space.
        noise: standard deviation of a slice's noise, in their units.
    """
    tissue = slices[slices > TISSUE]
    return noise > 0 and (len(tissue) < 2 or float(tissue.std()) < LEAST_CONTRAST * noise)
