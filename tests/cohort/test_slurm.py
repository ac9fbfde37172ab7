"""The example of docs/cohorts.md asks Slurm for what it says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest


def test_the_job_script_of_the_example() -> None:
    pytest.importorskip("dask_jobqueue", reason="dask-jobqueue is not installed")
    text = (Path(__file__).parents[2] / "docs" / "cohorts.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    made, _, _ = example.replace('"ib0"', '"lo"').partition("print(")
    names: dict[str, Any] = {}
    exec(made, names)
    with names["cluster"] as cluster:
        lines = cluster.job_script().splitlines()
    assert {"#SBATCH --cpus-per-task=4", "#SBATCH --mem=15G", "#SBATCH -t 04:00:00"} <= set(lines)
    exported = next(number for number, line in enumerate(lines) if line.startswith("export OMP_NUM_THREADS=4 "))
    started = next(number for number, line in enumerate(lines) if "distributed.cli.dask_worker" in line)
    assert exported < started, "before the worker's first import, which fixes the number of threads"
    assert lines[started].rfind("--nthreads 1") > lines[started].find("--nthreads 4"), "the last one counts"
    assert "--no-nanny" in lines[started]
