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


@pytest.mark.parametrize("name", ["sub-01_desc-superres_T2w", "sub-01_acq-x_superres_T2w"])
def test_results_are_no_scans(folders, name):
    (folders[0] / "sub-01" / "anat" / f"{name}.nii.gz").touch()
    with pytest.raises(SettingsError, match=rf"{name}\.nii\.gz: an image of a data set must be a scan, got a result"):
        find_animals(folders)


def test_a_result_of_another_name_is_known_by_its_record(folders):
    record = folders[0] / "sub-01" / "anat" / "sub-01_T2w.json"
    record.write_text('{"SliceThickness": 1}')
    assert find_animals(folders)
    record.write_text('{"weights_sha256": "x", "slice_geometry": {}, "estimate": "mean"}')
    with pytest.raises(SettingsError, match="got a result of super-resolution; move it to derivatives"):
        find_animals(folders)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"participant_id\tSplit\nsub-01\tval\n", "the column of splits must be called split, got 'Split'; rename it"),
        (b"participant_id\t split\nsub-01\tval\n", "must be called split, got ' split'"),
        (b"participant_id\tsplit\tnote\nsub-01\ttrain\tM\xfcller\n", "a table must be UTF-8 text, got 'no UTF-8'"),
        (b"name\tsplit\nsub-01\ttrain\n", "must have a column participant_id"),
        (b"\x00\x01\x02", "must have a column participant_id"),
        (b"", "must have a column participant_id, got []"),
        (b"participant_id\tsplit\nsub-01\n", "must give the split of every subject, got none for"),
        (b"participant_id\tnote\n" + b"x" * 200_000 + b"\t1\n", "field larger than field limit"),
    ],
)
def test_a_table_that_cannot_be_used_is_one_line(folders, content, message):
    (folders[0] / "participants.tsv").write_bytes(content)
    with pytest.raises(SettingsError) as caught:
        find_animals(folders, split="train")
    assert message in str(caught.value) and "participants.tsv" in str(caught.value) and "\n" not in str(caught.value)
