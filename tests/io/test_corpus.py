"""What a lab may have on its disk comes out right, or is refused in one line: the list is tests/corpus.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import ROOT, load_benchmark
from corpus import CASES, Case, outcome


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title.replace(" ", "_"))
def test_what_is_expected_comes(case: Case, tmp_path: Path) -> None:
    if case.group == "ParaVision":
        pytest.importorskip("brukerapi")
    held, got = outcome(case, tmp_path)
    assert held, got


def test_there_are_many_inputs_and_each_has_its_name() -> None:
    assert len(CASES) >= 300
    assert len({case.title for case in CASES}) == len(CASES)


def test_the_table_in_the_documentation_is_of_this_list() -> None:
    """What came is written by the script; the inputs and what is expected of them are these."""
    plain = load_benchmark("corpus_table").plain
    lines = (ROOT / "docs" / "corpus.md").read_text(encoding="utf-8").splitlines()
    written = [line.split(" | ")[0] for line in lines if line.startswith("| ") and line.endswith(" |")][2:]
    assert written == [f"| {plain(case.title)}" for case in CASES]
