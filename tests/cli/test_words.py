"""What is misspelt is told with the nearest word; `bida info --json` can be read by programs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import MakeScan

from bida.cli.parser import main


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["supperres", "a", "b"], "did you mean superres?"),
        (["superres", "a", "b", "--thicknes", "0.5"], "--thicknes 0.5; did you mean --thickness?"),
        (["superres", "a", "b", "--overwrit", "--spacin=0.1"], "did you mean --overwrite and --spacing?"),
        (["info", "a", "--jsn"], "did you mean --json?"),
        (["superres", "a", "b", "--qqqq"], "unrecognized arguments: --qqqq; bida superres --help lists all"),
    ],
)
def test_the_nearest_word_is_named_in_one_line(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(words)
    said = capsys.readouterr().err
    assert left.value.code == 2 and told in said
    assert said.startswith("bida: error: ") and said.count("\n") == 1


def test_info_of_a_folder_in_words_and_as_json(
    make_scan: MakeScan, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scan, bad = make_scan((12, 5, 10), name="a.nii.gz"), tmp_path / "b.nii.gz"
    bad.write_text("no image")
    assert main(["info", str(tmp_path), "--json", "--no-n4", "--self-check", "--thickness", "0.6"]) == 1
    first, second = json.loads(capsys.readouterr().out)
    assert (first["scan"], first["factor"]) == (str(scan), "5, the slice spacing over the voxel size of the result")
    assert first["slices"] == "5, 0.75 mm apart, 0.6 mm thick (--thickness)"
    assert first["notes"] and "self_check" in first
    assert second["scan"] == str(bad) and second["error"].startswith(f"{bad}: ")
    assert main(["info", str(tmp_path), "--no-n4"]) == 1
    plan, failed = capsys.readouterr().out.split("\n\n")
    assert plan.startswith(f"{scan}\n") and "  factor              5, the slice spacing over" in plan
    assert failed.startswith(f"failed: {bad}: ") and failed.count("\n") == 1
    assert main(["info", str(scan), "--json", "--no-n4"]) == 0
    assert [one["scan"] for one in json.loads(capsys.readouterr().out)] == [str(scan)]
