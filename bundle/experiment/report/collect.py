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
from bida.experiment.design import (
    CLEAN_WORD,
    Condition,
    Experiment,
    Job,
    cell_name,
    command_line,
    snr_of,
    snr_text,
)
from bida.experiment.methods import METHODS, TRUTH, label_of, method, reference_of
from bida.experiment.metrics import parts
from bida.experiment.report.montage import TRUTH_PANEL, montage
from bida.experiment.report.sections import write_report
from bida.experiment.results import shown, write_results
from bida.experiment.summary import summarise
from bida.experiment.truth import EXTRACTED, HEADS
from bida.io.bids import group_of
from bida.io.files import write_json
from bida.io.nifti import ras
from bida.io.scan import read_scan
from bida.io.weights import sha256, weights_file
from bida.parallel.cluster import threads_of
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
TISSUE_NOTE = (
    "'tissue' is what is brighter than Otsu's threshold in the truth, for scans without a brain mask and for heads."
)
NOISE_NOTE = (
    "SNR is the truth's mean in tissue over the standard deviation of the Rician noise of one acquired slice; each has "
    "its own. The reference of every figure is the truth, which does not have that noise."
)
SCANS_NOTE = (
    "Where no scans are named it is one, through-plane along {axis}; scans A+S are two of one animal, through-plane "
    "along A and along S, each with noise of its own and lying as its header says. All the scans of a set went to "
    "{names}; the other methods had the first of them alone."
)


def collect(experiment: Experiment, truths: Sequence[Job], jobs: Sequence[Job]) -> list[Row]:
    """Return the tidy rows of all finished jobs; those of the truth itself stand beside every condition.

    So do those of a method that takes one scan, of every set of scans that begins with this one.
    """
    rows: list[Row] = []
    for job in jobs:
        for condition in experiment.conditions:
            if experiment.given(job.method, condition) == job.condition:
                rows += rows_of(experiment, job, condition)
    for job in truths:
        for condition in experiment.conditions:
            rows += rows_of(experiment, job, condition)
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
        "threads_each": torch.get_num_threads() if experiment.jobs == 1 else threads_of(experiment.jobs),
        "scoring_seconds": scoring,
    }


def rows_of(experiment: Experiment, job: Job, condition: Condition) -> list[Row]:
    """Return the rows of one job, as of a condition; none where it was not finished."""
    record = record_of(experiment, job.animal.subject, job.name)
    if record is None:
        return []
    truth = record_of(experiment, job.animal.subject, TRUTH) or {}
    group = group_of(Path(experiment.data), job.animal.subject) or (HEADS if truth.get("head") else "")
    head = {"subject": job.animal.subject, "group": group, **condition._asdict(), "method": job.method}
    names = [part for name in experiment.metrics for part in parts(name, experiment.strippers)]
    scores = [score for name in names for score in record["scores"].get(name, {}).get("rows", [])]
    scores += [[name, "", record[name], "s"] for name in ("seconds", "cpu_seconds") if name in record]
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
    summary = summarise(rows, reference_of(experiment.methods)) | {"time": dict(spent)}
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
        "SNR of the slices": ", ".join(map(snr_text, map(snr_of, experiment.snr))).replace(
            CLEAN_WORD, "no noise added"
        ),
        **({"sets of scans, beside one": ", ".join(experiment.scans)} if experiment.scans else {}),
        **({"draws of bida-draws": experiment.choices.samples} if "bida-draws" in experiment.methods else {}),
        "seed": experiment.choices.seed,
        "skull strippers": ", ".join(experiment.strippers),
        "weights of the prior": sha256(weights_file(experiment.choices.model))[:12],
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
    notes += [TISSUE_NOTE] * any(row.get("region") == "tissue" for row in rows)
    notes += [NOISE_NOTE] * any(snr_text(snr_of(snr)) != CLEAN_WORD for snr in experiment.snr)
    if any("+" in scans for scans in experiment.scans):
        taking = [label_of(name) for name in experiment.methods if METHODS[name].several]
        notes.append(SCANS_NOTE.format(axis=experiment.axis, names=", ".join(taking) or "no method here"))
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
    """Return whether an animal's scan is brain-extracted: more than two fifths exactly zero, and not of a head."""
    if (record_of(experiment, subject, TRUTH) or {}).get("head"):
        return False
    file = Path(experiment.output) / subject / "truth" / f"{subject}.nii.gz"
    return file.exists() and float((read_scan(file).data == 0).mean()) > EXTRACTED


def montages(experiment: Experiment, rows: Sequence[Row]) -> list[tuple[str, bytes]]:
    """Draw thick slices, main methods and truth of every animal and condition, with the first stripper's outlines.

    Of several scans the first one's slices are drawn.
    """
    pictures, main = [], [name for name, one in METHODS.items() if one.main and name in experiment.methods]
    for subject in sorted({row["subject"] for row in rows}):
        folder = Path(experiment.output) / subject
        for condition in experiment.conditions:
            _, first = experiment.scans_of(condition)[0]
            panels = {"LR": panel(folder / cell_name(condition.factor, condition.snr, first, "slices.nii.gz"))}
            masks, captions = {}, {}
            for name in (*main, TRUTH_PANEL):
                place = folder / TRUTH
                if name != TRUTH_PANEL:
                    given = experiment.given(name, condition)
                    if given is None:
                        continue
                    place = folder / cell_name(*given, name)
                file = folder / "truth" / f"{subject}.nii.gz" if name == TRUTH_PANEL else place / "volume.nii.gz"
                if not file.exists():
                    continue
                column = label_of(name)
                panels[column] = panel(file)
                mask = place / f"mask_{fingerprint(experiment.strippers[0])}.nii.gz"
                if "cdsc" in experiment.metrics and mask.exists():
                    masks[column] = read_mask(mask)
                if text := caption(rows, subject, condition, name):
                    captions[column] = text
            title = f"{subject}, {condition}"
            pictures.append((title, montage(panels, TRUTH_PANEL, masks, captions, title)))
    return pictures


def caption(rows: Sequence[Row], subject: str, condition: Condition, method: str) -> str:
    """Return a method's PSNR and brick index on an animal, without what there is not."""
    found = {
        (row["metric"], row["region"]): shown(row["metric"], row["value"])
        for row in rows
        if (row["subject"], row["factor"], row["snr"], row["scans"], row["method"]) == (subject, *condition, method)
    }
    texts = {("psnr", "whole"): "{} dB", ("bricks", ""): "bricks {}"}
    return ", ".join(text.format(found[key]) for key, text in texts.items() if key in found)


def panel(file: Path) -> Any:
    """Return a volume as [R, A, S] with its voxel sizes."""
    scan = read_scan(file)
    return ras(scan.data, scan.affine)


def read_mask(file: Path) -> Any:
    """Return a mask that the experiment kept; it is in RAS."""
    image: Any = nib.load(file)
    return np.asarray(image.dataobj) > 0
