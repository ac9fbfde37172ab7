"""From the experiment's finished cells to its tables, figures and report."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch

from bida.device import usable_cores
from bida.experiment.case import fingerprint
from bida.experiment.design import Experiment, Job, command_line, threads_each
from bida.experiment.methods import METHODS, TRUTH, method
from bida.experiment.metrics import parts
from bida.experiment.report.montage import TRUTH_PANEL, montage
from bida.experiment.report.sections import write_report
from bida.experiment.results import write_results
from bida.experiment.summary import summarise
from bida.io.bids import group_of
from bida.io.files import write_json
from bida.io.nifti import ras
from bida.io.scan import read_scan
from bida.io.weights import released_path, sha256
from bida.provenance import versions

Row = dict[str, Any]

PAPERS_STRIPPER = "rbm"
STRIPPER_NOTE = (
    "The paper strips skulls with the 2D U-Net of Hsu et al. (2020), preset rbm. {name} is not the paper's, so that "
    "what is said of cDSC by it does not repeat the paper's."
)
EXTRACTED_NOTE = (
    "These scans hold no heads: they are brain-extracted, their background is exactly zero, so that any stripper finds "
    "the brain easily and cDSC says little. The paper's cDSC needs isotropic scans of whole heads, and can't be "
    "repeated with this data."
)
ATLASES_NOTE = (
    "Volumes of structures were not measured for {names}: the data set has no labels (derivatives/labels, "
    "*_dseg.nii.gz) of other, training animals that could be carried over."
)
VALIDATION_NOTE = (
    "PSNR and SSIM take the range between the truth's 1st and 99th percentile as data range; 'whole' is the scan's "
    "field of view without any padding, 'brain' the data set's own brain mask."
)


def collect(experiment: Experiment, truths: Sequence[Job], jobs: Sequence[Job]) -> list[Row]:
    """Return the tidy rows of all finished jobs; those of the truth itself stand beside every factor."""
    rows: list[Row] = []
    for job in jobs:
        rows += rows_of(experiment, job, job.factor)
    for job in truths:
        for factor in experiment.factors:
            rows += rows_of(experiment, job, factor)
    return rows


def record_of(experiment: Experiment, subject: str, name: str) -> dict[str, Any] | None:
    """Return what is kept of a job, None where it was not finished."""
    file = Path(experiment.output) / subject / name / "cell.json"
    found: dict[str, Any] | None = json.loads(file.read_text(encoding="utf-8")) if file.exists() else None
    return found


def time_spent(experiment: Experiment, jobs: Sequence[Job], wall_s: float, reused: int) -> dict[str, Any]:
    """Return what a run took, on what machine, and what the metrics of its jobs took whenever they were computed.

    Args:
        experiment: what was run.
        jobs: all its jobs.
        wall_s: seconds from its start to its report.
        reused: how many of them were there from an earlier run, and took none of these seconds.
    """
    scoring = dict.fromkeys(experiment.metrics, 0.0)
    for job in jobs:
        record = record_of(experiment, job.animal.subject, job.name) or {"scores": {}}
        for name in experiment.metrics:
            for part in parts(name, experiment.strippers):
                scoring[name] += record["scores"].get(part, {}).get("seconds", 0.0)
    return {
        "wall_seconds": wall_s,
        "cells_computed": len(jobs) - reused,
        "cells_reused": reused,
        "machine": platform.machine(),
        "cores": usable_cores(),
        "jobs": experiment.jobs,
        "threads_each": torch.get_num_threads() if experiment.jobs == 1 else threads_each(experiment.jobs),
        "scoring_seconds": scoring,
    }


def rows_of(experiment: Experiment, job: Job, factor: float | None) -> list[Row]:
    """Return the rows of one job, none where it was not finished."""
    record = record_of(experiment, job.animal.subject, job.name)
    if record is None:
        return []
    group = group_of(Path(experiment.data), job.animal.subject)
    head = {"subject": job.animal.subject, "group": group, "factor": factor, "method": job.method}
    names = [part for name in experiment.metrics for part in parts(name, experiment.strippers)]
    scores = [score for name in names for score in record["scores"].get(name, {}).get("rows", [])]
    if "seconds" in record:
        scores.append(["seconds", "", record["seconds"], "s"])
    return [
        {**head, "metric": name, "region": region, "value": math.nan if value is None else value, "unit": unit}
        for name, region, value, unit in scores
    ]


def write_outputs(
    experiment: Experiment, rows: Sequence[Row], failures: Sequence[Mapping[str, str]], spent: Mapping[str, Any]
) -> Path:
    """Write results.csv, summary.json and report.html; return the report. See `time_spent` for the last argument."""
    output = Path(experiment.output)
    write_results(output / "results.csv", rows)
    reference = "bida" if "bida" in experiment.methods else experiment.methods[-1]
    summary = summarise(rows, reference) | {"time": dict(spent)}
    write_json(output / "summary.json", summary, overwrite=True)
    report = output / "report.html"
    write_report(
        report,
        rows,
        summary,
        montages(experiment, rows),
        settings_of(experiment, spent),
        command_line(experiment),
        failures,
        notes_of(experiment, rows),
    )
    return report


def settings_of(experiment: Experiment, spent: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a reader needs to know of how the figures were made."""
    scoring = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in spent["scoring_seconds"].items())
    run = f"{spent['wall_seconds']:.0f} s from start to report, {spent['cells_computed']} cells computed"
    if spent["cells_reused"]:
        run += f"; {spent['cells_reused']} cells were there from earlier runs, whose time is not counted"
    settings: dict[str, Any] = {
        "data": Path(experiment.data).name,
        "through-plane axis": experiment.axis,
        "voxel size": "the scans' own" if experiment.spacing_mm is None else f"{experiment.spacing_mm:g} mm",
        "bias field": "divided out first (N4)" if experiment.n4 else "left as it is",
        "slice profile": experiment.profile,
        "draws of bida": experiment.choices.samples,
        "seed": experiment.choices.seed,
        "skull strippers": ", ".join(experiment.strippers),
        "weights of the prior": sha256(experiment.choices.model or released_path("model.pt"))[:12],
        "machine": f"{spent['machine']}, {spent['cores']} CPU cores",
        "cells at once": f"{spent['jobs']}, {spent['threads_each']} threads each",
        "time of this run": run,
        "time of scoring, all cells": scoring,
        "versions": ", ".join(f"{name} {version}" for name, version in versions().items()),
    }
    if "volumes" in experiment.metrics:
        settings["atlases"] = experiment.atlases
    return settings


def notes_of(experiment: Experiment, rows: Sequence[Row]) -> list[str]:
    """Return the limits that a reader must know."""
    notes = [VALIDATION_NOTE]
    subjects = sorted({row["subject"] for row in rows})
    if "cdsc" in experiment.metrics:
        notes += [STRIPPER_NOTE.format(name=name) for name in experiment.strippers if name != PAPERS_STRIPPER]
        if any(extracted(experiment, subject) for subject in subjects):
            notes.append(EXTRACTED_NOTE)
    bare = [subject for subject in subjects if without_atlases(experiment, subject)]
    if "volumes" in experiment.metrics and experiment.atlases > 0 and bare:
        notes.append(ATLASES_NOTE.format(names=", ".join(bare)))
    return notes + [note for name in experiment.methods if (note := method(name).note)]


def without_atlases(experiment: Experiment, subject: str) -> bool:
    """Return whether no other animal's labels were there to be carried over to an animal."""
    record = record_of(experiment, subject, TRUTH) or {"scores": {}}
    return "volumes" in record["scores"] and not record["scores"]["volumes"]["made_from"]["atlases"]


def extracted(experiment: Experiment, subject: str) -> bool:
    """Return whether more than two fifths of an animal's prepared scan are exactly zero."""
    file = Path(experiment.output) / subject / "truth" / f"{subject}.nii.gz"
    return file.exists() and float((read_scan(file).data == 0).mean()) > 0.4


def montages(experiment: Experiment, rows: Sequence[Row]) -> list[tuple[str, bytes]]:
    """Draw thick slices, methods and truth of every animal and factor, with the first stripper's outlines."""
    pictures, main = [], [name for name, one in METHODS.items() if one.main and name in experiment.methods]
    for subject in sorted({row["subject"] for row in rows}):
        folder = Path(experiment.output) / subject
        for factor in experiment.factors:
            panels = {"LR": panel(folder / f"{factor:g}x_slices.nii.gz")}
            masks, captions = {}, {}
            for name in (*main, TRUTH_PANEL):
                place = folder / (TRUTH if name == TRUTH_PANEL else f"{factor:g}x_{name}")
                file = folder / "truth" / f"{subject}.nii.gz" if name == TRUTH_PANEL else place / "volume.nii.gz"
                if not file.exists():
                    continue
                panels[name] = panel(file)
                mask = place / f"mask_{fingerprint(experiment.strippers[0])}.nii.gz"
                if "cdsc" in experiment.metrics and mask.exists():
                    masks[name] = read_mask(mask)
                if text := caption(rows, subject, factor, name):
                    captions[name] = text
            title = f"{subject}, {factor:g}x"
            pictures.append((title, montage(panels, TRUTH_PANEL, masks, captions, title)))
    return pictures


def caption(rows: Sequence[Row], subject: str, factor: float, method: str) -> str:
    """Return a method's PSNR on an animal, empty where there is none."""
    found = [
        row["value"]
        for row in rows
        if (row["subject"], row["factor"], row["method"], row["metric"], row["region"])
        == (subject, factor, method, "psnr", "whole")
    ]
    return f"{found[0]:.2f} dB" if found else ""


def panel(file: Path) -> Any:
    """Return a volume as [R, A, S] with its voxel sizes."""
    scan = read_scan(file)
    return ras(scan.data, scan.affine)


def read_mask(file: Path) -> Any:
    """Return a mask that the experiment kept; it is in RAS."""
    image: Any = nib.load(file)
    return np.asarray(image.dataobj) > 0
