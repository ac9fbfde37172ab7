"""The library's own door: what it takes, what it gives, and how it says what is wrong."""

from __future__ import annotations

import inspect
import warnings
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from conftest import MakeScan
from monai.data import MetaTensor

import bida
from bida.cli.parser import parser
from bida.mri.settings import Settings
from bida.mri.source import source_of
from bida.options import options_of

FAST = {"n4": False, "self_check": False}
AFFINE = np.diag([0.15, 0.75, 0.15, 1.0])


@pytest.fixture(autouse=True)
def quiet() -> None:
    warnings.simplefilter("ignore", bida.BidaWarning)


def test_a_parameter_for_each_option_as_typed_there() -> None:
    given = inspect.signature(bida.superres).parameters
    typed = {name: str(parameter.annotation) for name, parameter in given.items()}
    for name in options_of(Settings):
        kind = str(Settings.__dataclass_fields__[name].type)
        assert typed[name] == (kind if "None" in kind else f"{kind} | None"), name


def test_names_are_those_of_the_command() -> None:
    flags = set[str]()
    for action in parser(["superres"])._subparsers._group_actions[0].choices["superres"]._actions:  # type: ignore
        flags |= {flag.removeprefix("--").replace("-", "_") for flag in action.option_strings}
    assert {name for name in options_of(Settings) if name not in flags} == set()


@pytest.mark.parametrize("dtype", [np.float64, np.int16, np.float16, np.int64])
def test_voxels_in_memory_give_what_their_file_gives(make_scan: MakeScan, dtype: Any) -> None:
    path = make_scan(dtype=np.int16)
    image = nib.load(path)
    voxels = np.asarray(image.dataobj).astype(dtype)
    expected = bida.superres(path, **FAST)
    for source in (voxels, torch.from_numpy(voxels)):
        result = bida.superres(source, affine=image.affine, **FAST)
        np.testing.assert_allclose(result.data, expected.data, rtol=1e-5)
        np.testing.assert_array_equal(result.affine, expected.affine)


def test_a_metatensor_brings_its_affine(make_scan: MakeScan) -> None:
    image = nib.load(make_scan())
    voxels = np.asarray(image.dataobj)
    tensor = MetaTensor(torch.from_numpy(voxels)[None], affine=torch.from_numpy(image.affine))
    np.testing.assert_array_equal(source_of(tensor).affine, image.affine)
    np.testing.assert_array_equal(np.asarray(source_of(tensor).dataobj), voxels)


def test_the_result_has_an_image_as_it_is_saved(make_scan: MakeScan, tmp_path: Any) -> None:
    result = bida.superres(make_scan(codes="LPI", tilt_deg=10), **FAST)
    result.save(tmp_path / "out.nii.gz")
    saved = nib.load(tmp_path / "out.nii.gz")
    np.testing.assert_array_equal(result.image.get_fdata(), saved.get_fdata())
    np.testing.assert_array_equal(result.image.affine, saved.affine)
    for key in ("qform_code", "sform_code", "xyzt_units", "descrip", "datatype"):
        assert result.image.header[key] == saved.header[key], key


def test_its_text_is_three_lines(make_scan: MakeScan) -> None:
    path = make_scan()
    lines = repr(bida.superres(path, **FAST)).splitlines()
    assert lines[0] == f"Result: 20 x 40 x 18 voxels of 0.15 x 0.15 x 0.15 mm, from {path}"
    assert lines[1] == "  not compared with interpolation"
    assert lines[2].startswith("  1 in .warnings: the slice thickness is not in the file")
    assert len(lines) == 3
    assert repr(bida.superres(path, thickness=0.6, **FAST)).splitlines()[2] == "  no warnings"


def test_warnings_are_warnings(make_scan: MakeScan) -> None:
    with pytest.warns(bida.BidaWarning, match="the slice thickness is not in the file") as caught:
        result = bida.superres(make_scan(), **FAST)
    assert [str(one.message) for one in caught if one.category is bida.BidaWarning] == list(result.warnings)
    assert caught[0].filename == __file__  # where the user called


@pytest.mark.parametrize(
    ("source", "given", "message"),
    [
        ("x.nii", {"thickness_mm": 1}, "thickness_mm: must be an option of bida.Settings.*; write thickness$"),
        ("x.nii", {"gap_mm": 1}, "gap_mm: .*; write gap$"),
        ("x.nii", {"step": 1}, "step: .*; write steps$"),
        ("x.nii", {"qqq": 1}, r"qqq: .*; help\(bida.Settings\) lists them$"),
        ("x.nii", {}, "x.nii: .*exist"),
        (np.zeros((4, 4, 4)), {}, "affine: must be 4 x 4, voxel index to mm, got none; give it"),
        (np.zeros((4, 4, 4)), {"affine": np.eye(3)}, r"affine: must be 4 x 4, .* got shape \(3, 3\)"),
        (np.zeros((4, 4, 4), bool), {"affine": np.eye(4)}, "source: voxels must be real numbers, got bool"),
        (torch.zeros(4, 4, 4), {}, "affine: must be 4 x 4"),
        ("x.nii", {"affine": np.eye(4)}, "affine: is for voxels in memory"),
        (torch.zeros(4, 4, 4), {"affine": "x"}, "affine: must be 4 x 4, .* got str"),
        (torch.zeros(4, 4, 4, dtype=torch.bfloat16), {"affine": np.full((4, 4), np.nan)}, "affine: must be finite"),
        (5, {}, "source: must be a path, .* got int"),
        (["x.nii", np.zeros((4, 4, 4))], {}, "source: must be a path, .* got ndarray"),
        (np.zeros((4, 4)), {"affine": np.eye(4)}, "dimension"),
        ("x.nii", {"samples": "many"}, "samples: must be a whole number, got 'many'"),
    ],
)
def test_errors_are_of_one_kind_and_one_line(source: Any, given: dict[str, Any], message: str) -> None:
    with pytest.raises(bida.BidaError, match=message) as caught:
        bida.superres(source, **given)
    assert "\n" not in str(caught.value)


def test_settings_hint_at_new_names() -> None:
    with pytest.raises(bida.BidaError, match=r"thickness_mm: must be an option .*; write thickness$"):
        Settings.of(thickness_mm=0.5)
