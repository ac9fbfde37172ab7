"""An experiment that takes seconds, and single values of its table."""

from __future__ import annotations

from pathlib import Path

from bida.experiment.design import Experiment
from bida.experiment.results import read_results

FAST = {"methods": ["nearest", "cubic"], "metrics": ["psnr", "residual"], "factors": [2.5]}


def experiment(data: Path, output: Path, **changes) -> Experiment:
    return Experiment(data, output, **{**FAST, "n4": False, "strippers": ["threshold"], "atlases": 0, **changes})


def value(output: Path, **wanted) -> float:
    rows = [row for row in read_results(output / "results.csv") if all(row[k] == v for k, v in wanted.items())]
    assert len(rows) == 1, (wanted, rows)
    return rows[0]["value"]
