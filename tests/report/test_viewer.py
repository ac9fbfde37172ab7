"""Volumes in pages: where their voxels lie, how large they are, and that nothing is loaded from elsewhere."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import re
from importlib.resources import files

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from bida.report.viewer import Shown, encoded, niivue, page, thumbnail

SPACING = (0.1, 0.5, 0.1)  # mm


def opened(text: str) -> nib.Nifti1Image:
    return nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(text)))


@pytest.fixture
def volume() -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 100, (12, 5, 9))


def test_a_volume_keeps_its_place_and_its_greys(volume: np.ndarray) -> None:
    found, block = encoded({"a": Shown("a", volume, SPACING, (10.0, 90.0))})
    image = opened(found["a"]["base64"])
    assert block == 1 and image.shape == volume.shape
    expected = np.clip((volume - 10) / 80, 0, 1)
    np.testing.assert_allclose(image.get_fdata() / 255, expected, atol=0.51 / 255)
    centre = image.affine @ [*((np.array(volume.shape) - 1) / 2), 1]
    np.testing.assert_allclose(centre[:3], 0, atol=1e-6)
    np.testing.assert_allclose(np.diag(image.affine)[:3], SPACING, rtol=1e-6)


def test_a_page_that_would_be_too_large_shows_blocks(volume: np.ndarray) -> None:
    fine = Shown("a", volume, (0.1, 0.1, 0.1), (0.0, 100.0))
    thick = Shown("b", volume, SPACING, (0.0, 100.0))
    whole = sum(len(one["base64"]) for one in encoded({"a": fine, "b": thick})[0].values())
    found, block = encoded({"a": fine, "b": thick}, room=whole - 1)
    assert block == 2
    small = opened(found["a"]["base64"])
    assert small.shape == (6, 3, 5)
    np.testing.assert_allclose(small.get_fdata()[0, 0, 0] * 100 / 255, volume[:2, :2, :2].mean(), atol=0.3)
    first = small.affine @ [0, 0, 0, 1]  # the centre of the first eight voxels
    np.testing.assert_allclose(first[:3], 0.05 - 0.1 * (np.array(volume.shape) - 1) / 2, atol=1e-6)
    assert opened(found["b"]["base64"]).shape == (6, 5, 5)  # slices that are thick stay single


def test_a_constant_volume_is_drawn() -> None:
    found, _ = encoded({"a": Shown("a", np.zeros((4, 4, 4)), SPACING, (0.0, 0.0))})
    assert opened(found["a"]["base64"]).get_fdata().max() == 0


def test_niivue_is_what_its_authors_published() -> None:
    told = json.loads(files("bida.report").joinpath("niivue.json").read_text())
    program = files("bida.report").joinpath("niivue.umd.js").read_bytes()
    assert hashlib.sha256(program).hexdigest() == told["sha256"]
    assert "Copyright (c) 2021, Niivue" in files("bida.report").joinpath("niivue.LICENSE").read_text()
    assert "</script" not in str(niivue()).lower()  # it would end the element that it stands in


@pytest.mark.parametrize("template", ["scan.html.j2", "index.html.j2"])
def test_no_template_loads_anything(template: str) -> None:
    text = files("bida.report").joinpath(template).read_text(encoding="utf-8")
    assert re.findall(r"""(?:src|href)=["'](?!\{\{)|url\(|@import|https?:""", text) == []


def test_whatever_is_given_is_escaped(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    given = dict.fromkeys(
        ("verdict", "summary", "methods", "niivue", "niivue_version", "uncertainty", "swipe_plane"), ""
    )
    text = page(
        "scan.html.j2", name="<script>alert(1)</script>", volumes={"thick": {"title": "</script><b>"}}, block=1,
        has_uncertainty=False, warnings=["<i>"], figures=[], numbers=[], references=[], settings=[], **given,
    )  # fmt: skip
    assert "<script>alert" not in text and "</script><b>" not in text and "<i>" not in text


def test_a_thumbnail_is_small_and_upright() -> None:
    ramp = np.linspace(0, 1, 200)[:, None] * np.ones((200, 100))
    image = np.asarray(Image.open(io.BytesIO(thumbnail(ramp, (0.0, 1.0)))))
    assert image.shape == (96, 48)
    assert image[0].mean() > 240 > 15 > image[-1].mean()  # the first row is the lowest
