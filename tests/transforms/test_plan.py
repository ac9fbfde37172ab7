"""The plan's step on a scan with voxels: the scan is asked how thick its slices are."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from bida.physics.geometry import SliceGeometry
from bida.physics.plan import PlanOptions
from bida.physics.simulate import simulate_slices
from bida.transforms.base import ScanImage
from bida.transforms.plan import PlanScan


@pytest.fixture(scope="module")
def scan() -> ScanImage:
    """Random smooth shapes seen through slices of 0.9 mm every 0.75 mm."""
    field = gaussian_filter(np.random.default_rng(2).standard_normal((110, 110, 110)), 11, mode="wrap")
    volume = 100 + 150 * np.clip(0.5 + field / (0.1 * field.std()), 0, 1)
    slices, _ = simulate_slices(gaussian_filter(volume, 0.6), 0.15, 1, 5, thickness_mm=0.9)
    return ScanImage(torch.from_numpy(slices)[None], np.diag([0.15, 0.75, 0.15, 1]))


def test_the_scan_says_how_thick_its_slices_are(scan: ScanImage) -> None:
    got = PlanScan(PlanOptions(thickness="estimate"))(scan)
    geometry = SliceGeometry.from_json(got.meta["slice_geometry"])
    assert geometry.thickness_mm == pytest.approx(0.9, rel=0.1)
    assert got.meta["thickness_from"] == "estimate"
    assert json.loads(got.meta["thickness_estimate"])["thickness_mm"] == geometry.thickness_mm


def test_a_given_thickness_is_taken_as_it_is(scan: ScanImage) -> None:
    got = PlanScan(PlanOptions(thickness=0.6))(scan)
    assert SliceGeometry.from_json(got.meta["slice_geometry"]).thickness_mm == pytest.approx(0.6)
    assert json.loads(got.meta["thickness_estimate"]) is None


@pytest.mark.parametrize("gain", [0.7, 0.9])
def test_stripes_do_not_change_what_the_scan_says(scan: ScanImage, gain: float) -> None:
    """Left in, stripes of 0.7 leave two clear edges of 600, and those of 0.9 change the thickness by some percent."""
    striped = scan.data.clone()
    striped[:, :, 1::2] *= gain
    options = PlanOptions(thickness="estimate")
    given = ScanImage(striped, scan.affine)
    got, even = PlanScan(options)(given), PlanScan(options)(scan)
    found, expected = (json.loads(image.meta["thickness_estimate"]) for image in (got, even))
    assert found["thickness_mm"] == pytest.approx(expected["thickness_mm"], rel=0.005)  # gains are known to 0.3%
    assert abs(found["edges"] - expected["edges"]) <= 0.02 * expected["edges"]
    assert torch.equal(got.data, striped.float())  # what is evened is for the estimate alone
