"""The tables of figures are those of the evaluation that the repository holds."""

from __future__ import annotations

import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pandas as pd
import pytest
from conftest import ROOT, load_benchmark


@pytest.fixture(scope="module")
def tables() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")  # where its neighbours are
        yield load_benchmark("tables")


@pytest.fixture(scope="module")
def found(tables: ModuleType) -> dict[str, str]:
    """What goes between the markers of each name."""
    content: dict[str, str] = tables.contents(ROOT / "docs")
    return content


def test_every_table_stands_on_a_page_as_the_files_have_it(tables: ModuleType, found: dict[str, str]) -> None:
    shown = set()
    for page in tables.PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        names = set(re.findall(r"<!-- (\w+): begin -->", text))
        assert names <= set(found), page
        for name in names:
            assert tables.replaced(ROOT / page, text, name, found[name]) == text, f"{page}: {name}"
        shown |= names
    assert shown == set(found)


@pytest.fixture(scope="module")
def masked_tables() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")  # it takes from its neighbour there how tables are put into a page
        yield load_benchmark("masked_tables")


def test_the_tables_of_stacks_are_those_of_their_evaluation(masked_tables: ModuleType) -> None:
    page = ROOT / "docs" / "microscopy.md"
    rows, text = pd.read_csv(ROOT / "docs" / "microscopy.csv"), page.read_text(encoding="utf-8")
    assert set(rows["stack"]) == set(masked_tables.STACKS)
    for name in masked_tables.STACKS:
        assert masked_tables.replaced(page, text, name, masked_tables.table(rows, name)) == text, name


def test_a_cell_is_the_mean_over_seeds_and_their_deviation(masked_tables: ModuleType) -> None:
    def row(method: str, seed: int, value: float) -> tuple[str, int, str, int, str, str, float]:
        return "brain", 4, method, seed, "3D", "psnr", value

    rows = pd.DataFrame(
        [row("draw", 0, 20.0), row("draw", 1, 20.5), row("draw", 2, 21.0), row("linear", 0, 19.125)],
        columns=masked_tables.COLUMNS,
    )
    cells = [line.split(" | ")[:2] for line in masked_tables.table(rows, "brain").splitlines()[2:]]
    assert cells == [["| 4x `linear`", "19.12"], ["| 4x `draw`", "20.50 ± 0.5"]]


def test_a_short_row_is_the_mean_of_the_animals(tables: ModuleType) -> None:
    def summary(region: str, **means: float) -> dict[str, Any]:
        condition = {"factor": 5.0, "snr": None, "scans": "one"}
        cells = [{**condition, "metric": "psnr", "region": region, "method": m, "mean": v} for m, v in means.items()]
        return {"conditions": [condition], "cells": cells}

    text = tables.short(summary("brain", cubic=16.5, bida=18.75), summary("tissue", cubic=24.0, bida=23.5))
    rows = [[cell.strip() for cell in line.split("|")[2:5]] for line in text.splitlines()[2:]]
    assert rows == [["16.50", "18.75", "+2.25"], ["24.00", "23.50", "-0.50"]]
