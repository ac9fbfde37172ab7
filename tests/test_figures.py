"""The tables of figures are those of the evaluation that the repository holds."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
from conftest import ROOT, load_benchmark

from bida.experiment.results import read_results
from bida.experiment.summary import summarise


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    return load_benchmark("tables")


@pytest.fixture(scope="module")
def found(tables: ModuleType) -> dict[str, str]:
    """What goes between the markers of each name."""
    mice, heads, volumes = (
        summarise(read_results(ROOT / "docs" / "evaluation" / f"{name}.csv"))
        for name in ("results", "heads", "volumes")
    )
    content: dict[str, str] = {
        "evaluation": tables.tables(mice),
        "heads": tables.tables(heads, tables.OF_HEADS),
        "volumes": tables.volumes(volumes),
        "short": tables.short(mice, heads),
    }
    return content


@pytest.mark.parametrize(
    "file, names",
    [("README.md", ["short"]), ("docs/results.md", ["heads", "volumes"]), ("models/MODEL_CARD.md", ["evaluation"])],
)
def test_the_tables_are_those_of_the_evaluation(
    file: str, names: list[str], tables: ModuleType, found: dict[str, str]
) -> None:
    text = (ROOT / file).read_text(encoding="utf-8")
    for name in names:
        assert tables.replaced(ROOT / file, text, name, found[name]) == text, name


def test_a_short_row_is_the_mean_of_the_animals(tables: ModuleType) -> None:
    def summary(region: str, **means: float) -> dict[str, Any]:
        condition = {"factor": 5.0, "snr": None, "scans": "one"}
        cells = [{**condition, "metric": "psnr", "region": region, "method": m, "mean": v} for m, v in means.items()]
        return {"conditions": [condition], "cells": cells}

    text = tables.short(summary("brain", cubic=16.5, bida=18.75), summary("tissue", cubic=24.0, bida=23.5))
    rows = [[cell.strip() for cell in line.split("|")[2:5]] for line in text.splitlines()[2:]]
    assert rows == [["16.50", "18.75", "+2.25"], ["24.00", "23.50", "-0.50"]]
