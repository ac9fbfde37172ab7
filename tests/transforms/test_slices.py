"""Slices that differ: corrected, taken out, and said."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from bida.errors import ScanError
from bida.mri.synthetic_brain import synthetic_brain
from bida.physics.geometry import SliceGeometry
from bida.physics.operators import SliceOperator
from bida.physics.simulate import simulate_slices
from bida.physics.slice_gains import SliceGains
from bida.transforms.backproject import BackProject
from bida.transforms.base import ScanImage
from bida.transforms.match import MatchScan
from bida.transforms.slices import CorrectSlices, sentences


@pytest.fixture(scope="module")
def scan() -> ScanImage:
    """A made brain in 22 slices of 0.9 mm along A, as a plan leaves it."""
    volume, _ = synthetic_brain(0.3, (40, 64, 32), 0)
    thick, geometry = simulate_slices(volume.astype(np.float32), 0.3, 1, 3.0)
    grids = [{"voxels": size, "spacing_mm": 0.3, "offset_mm": 0.0} for size in volume.shape]
    meta = {"slice_geometry": geometry.to_json(), "target_grids": json.dumps(grids), "warnings": '["one before"]'}
    return ScanImage(torch.from_numpy(thick)[None], np.diag([0.3, 0.9, 0.3, 1.0]), meta)


def changed(scan: ScanImage, gains: dict[int, float]) -> ScanImage:
    data = scan.data.clone()
    for k, gain in gains.items():
        data[:, :, k] *= gain
    return ScanImage(data, scan.affine, scan.meta)


def test_an_even_scan_passes_untouched(scan: ScanImage) -> None:
    image, record = CorrectSlices().forward(scan)
    assert torch.equal(image.data, scan.data) and record == {}
    assert {key: image.meta[key] for key in scan.meta} == dict(scan.meta)
    found = json.loads(image.meta["slices"])
    assert found["corrected"] == {} and found["missing"] == [] and len(found["gains"]) == 22


def test_stripes_are_divided_out_and_stay_so(scan: ScanImage) -> None:
    image, record = CorrectSlices().forward(changed(scan, dict.fromkeys(range(1, 22, 2), 0.7)))
    torch.testing.assert_close(image.data, scan.data, rtol=0.03, atol=1e-4)
    before, sentence = json.loads(image.meta["warnings"])
    assert before == "one before"
    assert sentence.startswith("slices 2, 4, 6, 8, 10 ... 22 (from the posterior end) were ")
    assert "darker than their neighbours and were brightened" in sentence
    assert set(json.loads(image.meta["slices"])["corrected"]) == {str(k) for k in range(1, 22, 2)}
    back = CorrectSlices().backward(image, record)
    assert torch.equal(back.data, image.data)


def test_an_empty_slice_leaves_the_geometry_and_is_filled(scan: ScanImage) -> None:
    image, _ = CorrectSlices().forward(changed(scan, {9: 0.0}))
    assert SliceGeometry.from_json(image.meta["slice_geometry"]).missing == (9,)
    others = [k for k in range(22) if k != 9]
    assert torch.equal(image.data[:, :, others], scan.data[:, :, others])
    lost, truth = image.data[0, :, 9], scan.data[0, :, 9]
    assert (lost - truth).abs().mean() < 0.25 * truth.abs().mean()
    sentence = json.loads(image.meta["warnings"])[-1]
    assert sentence == (
        "slice 10 (from the posterior end) was empty and was left out: what the result holds there is filled in from "
        "the neighbours and the prior"
    )


def test_the_result_matches_the_corrected_scan_where_it_was_measured(scan: ScanImage) -> None:
    striped = changed(scan, dict.fromkeys(range(0, 22, 2), 0.75))
    striped.data[:, :, 7] = 0
    image, _ = CorrectSlices().forward(striped)
    _, remembered = MatchScan().forward(image)
    made, sliced = BackProject().forward(image)
    volume = torch.randn(made.data.shape, generator=torch.Generator().manual_seed(0))
    result = MatchScan().backward(ScanImage(volume, made.affine, made.meta), remembered)
    assert result.meta["scan_residual"] < 1e-6
    again = SliceOperator.build(SliceGeometry.from_json(result.meta["slice_geometry"])).forward(result.data, dim=2)
    others = [k for k in range(22) if k != 7]
    # roundings of float32
    torch.testing.assert_close(again[:, :, others], image.data[:, :, others], rtol=1e-6, atol=1e-3)
    assert not again[:, :, 7].any()
    assert BackProject().backward(result, sliced).meta["sampler_residual"] < 1e-6


def test_words() -> None:
    nothing = (1.0,) * 8
    found = SliceGains(nothing, nothing, (1, 1, 1.2, 1, 0.8, 1, 1, 1), corrected=(2, 4), corrupt=(5, 6))
    assert sentences(found, 2) == [
        "slice 5 (from the inferior end) was 20% darker than its neighbours and was brightened, "
        "in the result too; --correct-slices off leaves it",
        "slice 3 (from the inferior end) was 20% brighter than its neighbours and was darkened, "
        "in the result too; --correct-slices off leaves it",
        "slices 6, 7 (from the inferior end) were unlike both neighbours, as if spoilt, and were left out: what the "
        "result holds there is filled in from the neighbours and the prior",
    ]
    assert sentences(SliceGains(nothing, nothing, nothing), 0) == []


def test_on_request_slices_stay_as_they_are_and_are_spoken_of(scan: ScanImage) -> None:
    striped = scan.data.clone()
    striped[:, :, 1::2] *= 0.7
    given = ScanImage(striped, scan.affine, scan.meta)
    kept, _ = CorrectSlices(correct=False).forward(given)
    assert torch.equal(kept.data, striped) and kept.meta["slice_geometry"] == scan.meta["slice_geometry"]
    (text,) = json.loads(kept.meta["warnings"])[1:]
    assert "30% darker than their neighbours and stay so" in text
    even, _ = CorrectSlices().forward(given)
    assert "were brightened" in json.loads(even.meta["warnings"])[1]


@pytest.mark.parametrize("lost", [range(7, 15), range(1, 20, 2)])
def test_a_scan_that_is_mostly_empty_is_refused(scan: ScanImage, lost: range) -> None:
    given = changed(scan, dict.fromkeys(lost, 0.0))
    given = ScanImage(given.data, given.affine, {**given.meta, "filename_or_obj": "torn.nii.gz"})
    with pytest.raises(ScanError) as error:
        CorrectSlices().forward(given)
    said = str(error.value)
    rule = "torn.nii.gz: at most a third of the slices may be empty or spoilt, "
    assert said.startswith(f"{rule}got {len(lost)} of 22: slices {lost[0] + 1}, {lost[1] + 1}, ")
    assert said.endswith("; give --correct-slices off to take them as measured") and "\n" not in said
    kept, _ = CorrectSlices(correct=False).forward(given)
    assert torch.equal(kept.data, given.data)
    assert "were empty and count as measured" in json.loads(kept.meta["warnings"])[-1]


def test_a_third_may_be_missing(scan: ScanImage) -> None:
    lost = range(7, 14)  # 7 of 22
    image, _ = CorrectSlices().forward(changed(scan, dict.fromkeys(lost, 0.0)))
    assert SliceGeometry.from_json(image.meta["slice_geometry"]).missing == tuple(lost)
