"""Whole runs on scans with stripes and with an empty slice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from bida import superres
from bida.mri.result import Result
from bida.mri.run import way_of
from bida.mri.settings import Settings
from bida.mri.synthetic_brain import synthetic_brain
from bida.mri.workflow import scan_transform
from bida.physics.geometry import SliceGeometry
from bida.physics.operators import SliceOperator
from bida.physics.simulate import simulate_slices

FAST = {"spacing": 0.3, "noise": 0, "n4": False, "device": "cpu", "self_check": False}
Write = Callable[[NDArray, str], Path]


@pytest.fixture(scope="module")
def thick() -> NDArray:
    """A made brain in 22 slices of 0.9 mm along A."""
    volume, _ = synthetic_brain(0.3, (40, 64, 32), 0)
    return simulate_slices(volume.astype(np.float32), 0.3, 1, 3.0)[0]


@pytest.fixture
def write(make_scan: Callable[..., Path]) -> Write:
    def one(scan: NDArray, name: str) -> Path:
        return make_scan(scan.shape, (0.3, 0.9, 0.3), values=scan, name=name)

    return one


def again(result: Result) -> tuple[NDArray, SliceGeometry]:
    """Return the thick slices of a result, as if all had been measured, and its geometry."""
    geometry = SliceGeometry(**result.record["slice_geometry"])
    slices = SliceOperator.build(geometry.complete()).forward(torch.from_numpy(result.data.astype(np.float64)))
    return slices.numpy(), geometry


def test_an_empty_slice_is_filled_in_and_said(thick: NDArray, write: Write) -> None:
    lost = thick.copy()
    lost[:, 9] = 0
    result = superres(write(lost, "lost.nii.gz"), **FAST)
    slices, geometry = again(result)
    assert geometry.missing == (9,)
    assert sum("slice 10 (from the posterior end) was empty" in warning for warning in result.warnings) == 1
    others = [k for k in range(22) if k != 9]
    assert np.abs(slices[:, others] - thick[:, others]).max() < 1e-5 * np.ptp(thick)
    assert max(result.record["data_consistency"].values()) < 1e-5
    # there is a brain where nothing was measured, and it is about the one that was there
    assert np.corrcoef(slices[:, 9].ravel(), thick[:, 9].ravel())[0, 1] > 0.9
    assert slices[:, 9].mean() == pytest.approx(thick[:, 9].mean(), rel=0.1)


def test_stripes_do_not_show_in_the_result(thick: NDArray, write: Write) -> None:
    striped = thick.copy()
    striped[:, 1::2] *= 0.7
    result, even = (superres(write(scan, f"{k}.nii.gz"), **FAST) for k, scan in enumerate((striped, thick)))
    assert sum("darker than their neighbours and were brightened" in warning for warning in result.warnings) == 1
    assert not any("neighbours" in warning for warning in even.warnings)
    assert np.abs(result.data - even.data).mean() < 0.03 * even.data.mean()  # the gain is known to 2%
    slices, _ = again(result)
    np.testing.assert_allclose(slices, thick, rtol=0, atol=0.04 * thick.max())
    assert result.record["data_consistency"]["scan_residual"] < 1e-5


def test_the_bundle_takes_the_same_slices(thick: NDArray, write: Write) -> None:
    lost = thick.copy()
    lost[:, 9] = 0
    lost[:, 1::2] *= 0.7
    path, settings = write(lost, "lost.nii.gz"), Settings(n4=False)
    image, _ = way_of(settings).there(path)
    item = scan_transform(settings)({"image": str(path)})
    np.testing.assert_array_equal(item["image"][0].numpy(), image.numpy())
    for name in ("slices", "slice_geometry", "warnings"):
        assert item["image"].meta[name] == image.meta[name]
    whole = replace(settings, n4=True)  # N4 sees no empty slice
    assert np.isfinite(way_of(whole).there(path)[0].numpy()).all()
