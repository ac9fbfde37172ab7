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


def test_pages_of_todays_figures_hold_no_other_tables() -> None:
    for page in ("prior.md", "results.md"):
        text = (ROOT / "docs" / page).read_text(encoding="utf-8")
        outside = re.sub(r"<!-- (\w+): begin -->.*?<!-- \1: end -->", "", text, flags=re.DOTALL)
        assert re.findall(r"^\|.*", outside, re.MULTILINE) == [], page


def test_the_record_says_of_each_section_which_version_it_is_of() -> None:
    text = (ROOT / "docs" / "development.md").read_text(encoding="utf-8")
    top, *sections = re.split(r"^## ", text, flags=re.MULTILINE)
    assert "is a record" in top and "begin -->" not in text
    for section in sections:
        assert re.match(r".*\n\n\*(Version|On the way to) [01]\.\d.*\*\n", section), section.splitlines()[0]


def test_every_part_of_the_figures_is_said_to_be_shown_somewhere() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        figures, page_tables = load_benchmark("figures"), load_benchmark("page_tables")
    steps = [step.name for step in figures.steps_of(ROOT / "data", ROOT / "build", None)]
    assert sorted(page_tables.WHERE) == sorted(steps)
    for shown in page_tables.WHERE.values():
        for target in re.findall(r"\]\(([^)#]+)", shown):
            assert (ROOT / "docs" / target).exists(), shown


def test_a_gain_is_lost_below_half_of_that_of_scans_trained_on() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        tables = load_benchmark("familiarity_tables")
    usual = [("mouse-rtg4510 sub-01_T2w", "brain", 2.0), ("rat-bold-pontes sub-01_boldref", "head", 1.0)]
    others = [("a", "brain", 0.98, 0.499), ("b", "head", 0.51, 0.45), ("c", "no animal", 0.4, 0.49)]
    rows = pd.DataFrame(
        [(scan, kind, "own", "clean", 1.0, 1.0, gain) for scan, kind, gain in usual]
        + [(scan, kind, "own", "clean", share, 1.0, gain) for scan, kind, gain, share in others]
        + [("d", "head", "own", "clean", 1.0, float("nan"), 1.0)],
        columns=["scan", "kind", "contrast", "snr", "familiarity", "gain_db", "other_db"],
    )
    found = tables.with_verdicts(rows)
    assert list(found.expected) == [2.0, 1.0, 2.0, 1.0, 1.0]
    assert list(found.lost) == [False, False, True, False, True]
    assert list(found.told) == [False, False, False, True, True]  # 0.499 is shown as 0.50
    assert tables.area(-found.familiarity.to_numpy(), found.lost.to_numpy()) == pytest.approx(4 / 6)


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


def test_the_table_of_noise_in_stacks_is_that_of_its_file() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        stack_noise = load_benchmark("stack_noise")
    page, rows = ROOT / "docs" / "microscopy.md", pd.read_csv(ROOT / "docs" / "stack_noise.csv")
    text = page.read_text(encoding="utf-8")
    assert stack_noise.replaced(page, text, "stack_noise", stack_noise.table(rows)) == text


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


def test_a_method_of_others_stands_beside_those_of_the_same_animal_and_factor(tables: ModuleType) -> None:
    def rows(method: str, subject: str, factor: float, value: float) -> dict[str, Any]:
        return {"subject": subject, "group": "", "factor": factor, "snr": float("inf"), "scans": "one",
                "method": method, "metric": "psnr", "region": "whole", "value": value, "unit": "dB"}  # fmt: skip

    mice = [rows("cubic", "a", 5.0, 20.0), rows("cubic", "a", 2.5, 21.0), rows("cubic", "b", 5.0, 22.0),
            rows("linear", "a", 5.0, 23.0)]  # fmt: skip
    found = tables.beside(mice, [rows("eclare", "a", 5.0, 24.0), rows("hr", "a", 5.0, 25.0)])
    assert found.splitlines()[2:] == ["| cubic | 20.00 |", "| eclare | 24.00 |", "", "One animal (a)."]
