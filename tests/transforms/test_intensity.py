"""The range that intensities are mapped to, where the head is small in its field."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bida.mri.synthetic_brain import synthetic_brain
from bida.transforms.base import ScanImage
from bida.transforms.intensity import NormalizePercentiles

BRAIN, AFFINE = synthetic_brain(0.3, (40, 64, 32), 1)


def ends(values: np.ndarray) -> tuple[float, float]:
    image = ScanImage(torch.from_numpy(values.astype(np.float32))[None], AFFINE)
    _, record = NormalizePercentiles().forward(image)
    return record["low"], record["high"]


def field(share: float, noise: float) -> np.ndarray:
    """Return the brain in a field of which it fills a share, as a scanner measures it."""
    inside = 0.2 * BRAIN.max() < BRAIN
    brain = np.where(inside, BRAIN / np.percentile(BRAIN[inside], 50), 0)
    volume, sides = inside.sum() / share, np.array(BRAIN.shape)
    around = np.ceil(np.maximum((volume / BRAIN.size) ** (1 / 3) * sides - sides, 4) / 2).astype(int)
    big = np.pad(brain, [(k, k) for k in around])
    rng = np.random.default_rng(0)
    return np.hypot(big + rng.normal(0, noise, big.shape), rng.normal(0, noise, big.shape)) if noise else big


@pytest.mark.parametrize("noise", [0.0, 0.03])
def test_a_small_brain_gets_the_range_that_a_usual_one_has(noise: float) -> None:
    usual = ends(field(0.2, noise))[1]
    for share in (0.03, 0.01, 0.004):
        small = field(share, noise)
        assert np.percentile(small, 99) < 0.8 * usual or share > 0.01  # what the whole field says
        assert ends(small)[1] == pytest.approx(usual, rel=0.1), share


def test_a_usual_field_has_its_own_percentiles() -> None:
    for values in (field(0.15, 0.03), field(0.15, 0.0), BRAIN, np.random.default_rng(0).normal(size=(20, 20, 20))):
        values = values.astype(np.float32)
        assert ends(values) == tuple(np.percentile(values.astype(np.float64), (1, 99)))


def test_a_head_that_the_field_cuts_counts_whole() -> None:
    """Noise can't be told from faces that hold tissue."""
    cut = np.abs(np.random.default_rng(0).normal(0, 0.02, (40, 40, 40)))
    cut[:, :, :2] += 1.0
    assert ends(cut) == pytest.approx(tuple(np.percentile(cut.astype(np.float32), (1, 99))), rel=1e-6)
