"""Every promise of docs/promises.md has the test that it names."""

from __future__ import annotations

import ast
import re

import pytest
from conftest import ROOT

ROWS = [
    line
    for line in (ROOT / "docs" / "promises.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and not line.startswith(("| promise |", "| --- |", "| **"))
]


@pytest.mark.parametrize("row", ROWS)
def test_the_test_of_a_promise_is_there(row: str) -> None:
    found = re.fullmatch(r"\| (.+) \| `(tests/[\w/]+\.py)::(test_\w+)` \|", row)
    assert found is not None, row
    tree = ast.parse((ROOT / found[2]).read_text(encoding="utf-8"))
    assert found[3] in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_there_are_promises() -> None:
    assert len(ROWS) > 40 and len(set(ROWS)) == len(ROWS)
