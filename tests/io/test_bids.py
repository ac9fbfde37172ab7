"""What a BIDS data set holds: animals are found by their label, with or without ``sub-``."""

from __future__ import annotations

from pathlib import Path

import pytest

from bida.errors import SettingsError
from bida.io.bids import find_animals

FILES = ("mouse-sherm/sub-01", "mouse-sherm/sub-1", "mouse-sherm/sub-08", "mouse-sherm/tpl-08", "other/sub-01")


@pytest.fixture
def folders(tmp_path) -> list[Path]:
    """Two data sets, of empty images: they are listed, not read."""
    for name in FILES:
        image = tmp_path / name / "anat" / f"{name.rpartition('/')[2]}_T2w.nii.gz"
        image.parent.mkdir(parents=True)
        image.touch()
    return [tmp_path / "mouse-sherm", tmp_path / "other"]


def found(folders: list[Path], **chosen) -> set[str]:
    return {f"{animal.data_set}/{animal.subject}" for animal in find_animals(folders, **chosen)}


@pytest.mark.parametrize(
    "name, meant",
    [
        ("sub-01", {"mouse-sherm/sub-01", "other/sub-01"}),
        ("01", {"mouse-sherm/sub-01", "other/sub-01"}),
        ("1", {"mouse-sherm/sub-1"}),
        ("mouse-sherm/sub-01", {"mouse-sherm/sub-01"}),
        ("mouse-sherm/01", {"mouse-sherm/sub-01"}),
        ("08", {"mouse-sherm/sub-08"}),
        ("tpl-08", {"mouse-sherm/tpl-08"}),
    ],
)
def test_a_label_is_meant_exactly_with_or_without_sub(folders, name, meant):
    assert found(folders, include=[name]) == meant
    assert found(folders, exclude=[name]) == set(FILES) - meant


@pytest.mark.parametrize("name", ["8", "sub-8", "other/08", "sherm/01", "sub-sub-01", "Sub-01"])
def test_a_label_that_is_not_there_is_an_error(folders, name):
    with pytest.raises(SettingsError, match="at least one image must be left, got none") as error:
        find_animals(folders, include=[name])
    assert "\n" not in str(error.value) and name in str(error.value)
