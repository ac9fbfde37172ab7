"""The plain way from a scan to a network's input, and its steps as MONAI transforms: one result, there and back."""

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from conftest import MakeScan
from monai.data import MetaTensor
from monai.transforms import Compose, Orientationd

from bida.mri.run import way_of
from bida.mri.settings import Settings
from bida.mri.workflow import scan_transform, undoing
from bida.transforms.dictionary import Applyd, Stepd
from bida.transforms.way import back


@pytest.mark.parametrize(
    "scan, options",
    [
        ({"codes": "RAS"}, {}),
        ({"codes": "LPI", "tilt_deg": 12}, {"n4": False}),
        ({"codes": "SAR", "shear": 0.1}, {"n4": False, "spacing": 0.2}),
        ({"codes": "PIR", "tilt_deg": -30}, {"bias_corrected": True}),
    ],
)
def test_monai_and_plain_steps_agree_to_the_byte(
    scan: dict[str, Any], options: dict[str, Any], make_scan: MakeScan
) -> None:
    path, settings = make_scan(**scan), Settings(**options)
    way = way_of(settings, 8)
    image, records = way.there(path)
    oriented = Orientationd("image", axcodes="RAS", labels=None)  # MONAI's own, as an oracle
    steps = [Stepd("image", step) for step in way.steps]
    transform = Compose([Applyd("image", way.load), oriented, Applyd("image", way.plan), *steps])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        item = transform({"image": path})
    np.testing.assert_array_equal(image.numpy(), item["image"][0].numpy())
    np.testing.assert_allclose(image.affine, item["image"].affine.numpy(), rtol=0, atol=1e-12)
    noted = {key: item["image"].meta[key] for key in ("slice_geometry", "target_grids", "padding", "warnings")}
    assert {key: image.meta[key] for key in noted} == noted
    volume = image.data + torch.randn(image.data.shape, generator=torch.Generator().manual_seed(0))
    undone = back(volume[0], image, records)
    monai = undoing("draw", transform, None)({"image": item["image"], "draw": MetaTensor(volume)})["draw"]
    np.testing.assert_array_equal(undone.numpy(), monai[0].numpy())
    np.testing.assert_allclose(undone.affine, monai.affine.numpy(), rtol=0, atol=1e-12)
    for name in ("sampler_residual", "scan_residual"):
        assert undone.meta.get(name) == monai.meta.get(name)


def test_the_bundle_takes_every_step_of_the_way(make_scan: MakeScan) -> None:
    settings = Settings(n4=False)
    composed = scan_transform(settings, 8)
    wrapped = [transform.step for transform in composed.transforms if isinstance(transform, Stepd)]
    assert [type(step) for step in wrapped[1:]] == [type(step) for step in way_of(settings, 8).steps]
    path = make_scan(codes="LPI", tilt_deg=12)
    image, _ = way_of(settings, 8).there(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        item = composed({"image": path})
    np.testing.assert_array_equal(item["image"][0].numpy(), image.numpy())
    np.testing.assert_array_equal(item["image"].affine.numpy(), image.affine)
