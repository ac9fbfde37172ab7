"""The paper's experiment: isotropic scans made thick, restored by every method, scored by every metric, reported.

A job is one method on one animal in one condition, a cell of the table. What it made and scored is kept in a folder of
its own, beside what it was made from; a later run reuses it where that has not changed, and computes what is missing.

    OUT/<subject>/truth/<subject>.nii.gz   the prepared scan
    OUT/<subject>/<factor>x_slices.nii.gz  the thick slices; <factor>x_snr<SNR>_slices.nii.gz with noise,
                                           <factor>x_S_slices.nii.gz, x_A2_slices.nii.gz other scans of a set
    OUT/<subject>/<factor>x_<method>/      volume.nii.gz, masks, labels, cell.json; <factor>x_snr<SNR>_<method>,
                                           <factor>x_A+S_<method> of several scans
    OUT/<subject>/hr/                      masks, labels and cell.json of the prepared scan itself
    OUT/results.csv  summary.json  failures.json  report.html
"""

from __future__ import annotations

import json
import math
import os
import shutil
import time
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import torch

from bida.errors import BidaError, SettingsError
from bida.experiment.case import Case, short_hash
from bida.experiment.design import CLEAN, ONE, Condition, Experiment, Job, cell_name, snr_text
from bida.experiment.methods import METHODS, TRUTH, ThickScan
from bida.experiment.metrics import metric, parts
from bida.experiment.report.collect import collect, time_spent, write_outputs
from bida.experiment.truth import Truth, choose_animals, prepare
from bida.io.bids import Animal
from bida.io.claim import claimed
from bida.io.files import make_folder, recorded, sidecar_path, unless_empty, write_json
from bida.io.nifti import write_volume
from bida.io.scan import read_scan
from bida.io.weights import sha256
from bida.mri.simulate import simulate_file
from bida.parallel.queue import Lost, each
from bida.physics.geometry import SliceGeometry
from bida.physics.rician import add_noise, sigma_of_snr
from bida.progress import LOG, bar
from bida.provenance import versions


def run(experiment: Experiment) -> Path:
    """Run the experiment, or what is missing of it, and write its tables and report.

    Args:
        experiment: what to run.

    Returns:
        The report.

    Raises:
        SettingsError: The data do not fit the experiment, or jobs failed (after all others were done).
    """
    with unless_empty(experiment.output), claimed(make_folder(experiment.output) / "results.csv"):
        return run_alone(experiment)


def run_alone(experiment: Experiment) -> Path:
    """Run the experiment into a folder that no other run writes; see ``run``."""
    start = time.perf_counter()
    output = make_folder(experiment.output)
    subjects = None if experiment.subjects is None else list(experiment.subjects)
    animals = choose_animals(Path(experiment.data), subjects, experiment.split)
    jobs = jobs_of(experiment, animals)
    truths = [Job(animal, TRUTH) for animal in animals]
    failures: list[dict[str, str]] = []
    reused = 0
    shown = bar(
        total=sum(job.cost for job in truths + jobs),
        bar_format="{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}",
    )
    with shown:  # an end by Ctrl-C closes it, too
        for stage in (truths, jobs):  # the truths' masks and labels come before the jobs that are compared with them
            with closing(finish(experiment, stage)) as finished:
                for job, outcome in finished:
                    failures += outcome.failures
                    reason = f", {len(outcome.failures)} failed" if outcome.failures else ""
                    LOG.info("%s %s: done%s", job.animal.subject, job.name, reason)
                    reused += outcome.reused
                    shown.set_description_str(f"{job.animal.subject} {job.name}", refresh=False)
                    shown.update(job.cost)
    write_json(output / "failures.json", {"failures": failures}, overwrite=True)
    rows = collect(experiment, truths, jobs)
    if not rows:
        raise SettingsError(
            f"{output}: a cell must finish for a report, none did, the first because of: {failures[0]['error']}; "
            "mend the cause (see failures.json) and run the same command again"
        )
    spent = time_spent(experiment, truths + jobs, time.perf_counter() - start, reused)
    report = write_outputs(experiment, rows, failures, spent)
    if failures:
        first = failures[0]
        raise SettingsError(
            f"{output}: every cell must finish, {len(failures)} failed, the first {first['cell']} ({first['error']}); "
            f"the others are in {report}; mend the cause (see failures.json) and run the same command again"
        )
    return report


def jobs_of(experiment: Experiment, animals: Sequence[Animal]) -> list[Job]:
    """Return a job a cell, each once: what a method makes of one scan stands for all sets that begin with it."""
    cells = product(animals, experiment.conditions, experiment.methods)
    given = ((animal, name, experiment.given(name, condition)) for animal, condition, name in cells)
    return list(dict.fromkeys(Job(*one) for one in given if one[-1] is not None))


class Outcome(NamedTuple):
    """What came of a job: the records of what failed in it, and whether all of it was there from an earlier run."""

    failures: list[dict[str, str]]
    reused: bool


def finish(experiment: Experiment, jobs: Sequence[Job]) -> Generator[tuple[Job, Outcome], None, None]:
    """Run jobs, one by one or in several processes; yield each with what came of it, as it ends."""
    with closing(each(partial(attempt, experiment), jobs, experiment.jobs)) as ended:
        for job, outcome in ended:
            if isinstance(outcome, Lost):
                outcome = Outcome([failure_of(job, "process", f"{outcome.reason}; give fewer --jobs")], False)
            yield job, outcome


def attempt(experiment: Experiment, job: Job) -> Outcome:
    """Run a job; whatever fails in it, the other metrics and jobs go on."""
    failures, computed = [], False
    try:
        for name, compute in scoring(experiment, job):
            try:
                computed |= compute()
            except Exception as error:  # whatever a metric raises, the rest goes on
                failures.append(failure_of(job, name, error))
    except Exception as error:
        failures.append(failure_of(job, "method", error))
    return Outcome(failures, not (computed or failures))


def failure_of(job: Job, part: str, error: Exception | str) -> dict[str, str]:
    """Return the record of a failure; an error that no user can mend keeps its traceback."""
    text = " ".join(str(error).split())
    found = {"subject": job.animal.subject, "cell": f"{job.animal.subject} {job.name}", "part": part, "error": text}
    if part in ("method", "process") and job.condition is not None:
        factor, snr, scans = job.condition
        found |= {"method": job.method, "factor": f"{factor:g}"}
        found |= {} if snr == CLEAN else {"snr": snr_text(snr)}
        found |= {} if scans == ONE else {"scans": scans}
    if isinstance(error, Exception) and not isinstance(error, BidaError):
        found["error"] = f"{type(error).__name__}: {text}"
        found["traceback"] = "".join(traceback.format_exception(error))
    return found


def scoring(experiment: Experiment, job: Job) -> Iterator[tuple[str, Callable[[], bool]]]:
    """Make a job's volume where it is missing; yield for every part of a metric what computes and keeps it."""
    folder = make_folder(Path(experiment.output) / job.animal.subject)
    truth, inputs = truth_of(experiment, job.animal)
    place = folder / job.name
    if job.condition is None:
        record = kept(place, inputs) or {"made_from": inputs, "scores": {}}  # first: should slices fail, others go on
        for condition in experiment.conditions:  # here, so that jobs that run side by side find them
            thick_scan_of(experiment, condition, truth, folder, inputs)
        record["head"] = truth.is_head
        case = case_of(experiment, job, truth, truth.data, None)
    else:
        thick = thick_scan_of(experiment, job.condition, truth, folder, inputs)
        first, *others = simulation_inputs(experiment, job.condition, truth)
        inputs = {**inputs, **first, **({"others": others} if others else {}), "method": job.method}
        inputs |= METHODS[job.method].fingerprint(experiment.choices)
        record = kept(place, inputs) or make(experiment, job, thick, place, inputs)
        case = case_of(experiment, job, truth, read_scan(place / "volume.nii.gz").data, thick)
    make_folder(place)
    for name in experiment.metrics:
        for part, strippers in parts(name, case.strippers).items():
            yield part, partial(score, name, part, replace(case, strippers=strippers), record)


def score(name: str, part: str, case: Case, record: dict[str, Any]) -> bool:
    """Compute a part of a metric and keep its rows in the job's record; False where they are there already."""
    needs, file = metric(name).inputs(case), case.folder / "cell.json"
    if record["scores"].get(part, {}).get("made_from") == needs:
        return False
    if record["scores"].pop(part, None) is not None:  # should this fail, nothing of other inputs is reported
        write_json(file, record, overwrite=True)
    start = time.perf_counter()
    rows = [[*row[:2], row.value if math.isfinite(row.value) else None, row.unit] for row in metric(name).score(case)]
    unknown = {str(row[0]) for row in rows} - set(metric(name).shows)
    if unknown:
        raise SettingsError(f"{name}: a metric must show what it scores, it does not name {', '.join(sorted(unknown))}")
    record["scores"][part] = {"made_from": needs, "rows": rows, "seconds": time.perf_counter() - start}
    write_json(file, record, overwrite=True)
    return True


def truth_of(experiment: Experiment, animal: Animal) -> tuple[Truth, dict[str, Any]]:
    """Return the prepared scan of an animal, prepared anew where the scan or the choices changed, and its inputs."""
    folder = make_folder(Path(experiment.output) / animal.subject / "truth")
    inputs = {
        "bida": versions()["bida"],
        "scan": sha256(animal.path),
        "spacing_mm": experiment.spacing_mm,
        "n4": experiment.n4,
    }
    mark = sidecar_path(folder / f"{animal.subject}.nii.gz")
    if not is_from(mark, inputs):
        mark.unlink(missing_ok=True)  # first: without it the volume is no one's, should this end here
        (folder / f"{animal.subject}.nii.gz").unlink(missing_ok=True)
    truth = prepare(animal, Path(experiment.data), folder, experiment.spacing_mm, experiment.n4)
    if not mark.exists():
        write_json(mark, inputs)
    return truth, inputs


def is_from(mark: Path, inputs: dict[str, Any]) -> bool:
    """Return whether a file beside what is kept says that it was made from these inputs."""
    try:
        return bool(json.loads(mark.read_text(encoding="utf-8")) == json.loads(json.dumps(inputs)))
    except (FileNotFoundError, ValueError):  # none, or a damaged one
        return False


def simulation_inputs(experiment: Experiment, condition: Condition, truth: Truth) -> list[dict[str, Any]]:
    """Return what the thick slices of each scan depend on, beside the truth; the mask says where its tissue is."""
    scans = []
    for axis, name in experiment.scans_of(condition):
        found: dict[str, Any] = {"factor": condition.factor, "axis": axis, "profile": experiment.profile}
        if Path(experiment.profile).is_file():
            found["profile_sha256"] = sha256(experiment.profile)
        if condition.snr != CLEAN:
            seed = noise_seed(experiment.choices.seed, truth.subject, condition.factor, name)
            found["noise"] = {"snr": condition.snr, "seed": seed, "mask": truth.files.get("mask")}
        scans.append(found)
    return scans


def noise_seed(seed: int, subject: str, factor: float, scan: str = ONE) -> int:
    """Return the seed of a scan's noise at a factor, the same at every SNR, so that only its size differs there.

    It is the same in every set that the scan is in.
    """
    return int(short_hash(f"{seed} {subject} {factor:g}" + ("" if scan == ONE else f" {scan}")), 16)


def thick_scan_of(
    experiment: Experiment, condition: Condition, truth: Truth, folder: Path, truth_inputs: dict[str, Any]
) -> ThickScan:
    """Return an animal's thick slices in a condition, simulated where they are missing or of other inputs.

    They are those of its first scan, with the others beside it.
    """
    factor, snr, _ = condition
    found = []
    for (axis, name), own in zip(experiment.scans_of(condition), simulation_inputs(experiment, condition, truth)):
        path, mark = (folder / cell_name(factor, snr, name, what) for what in ("slices.nii.gz", "slices_from.json"))
        inputs = {**truth_inputs, **own}
        with claimed(path, wait=True):  # another job may be at it
            if not (path.exists() and is_from(mark, inputs)):
                mark.unlink(missing_ok=True)
                simulate_file(truth.path, path, factor, axis, profile=experiment.profile, overwrite=True)
                if snr != CLEAN:
                    make_noisy(path, truth, snr, inputs["noise"]["seed"])
                write_json(mark, inputs, overwrite=True)
        scan = read_scan(path)
        geometry = SliceGeometry(**scan.sidecar["slice_geometry"])
        found.append(ThickScan(path, scan.data, scan.affine, geometry, truth.path, truth.data.shape, truth.affine))
    return replace(found[0], others=tuple(found[1:]))


def make_noisy(path: Path, truth: Truth, snr: float, seed: int) -> None:
    """Add Rician noise to the slices in a file, which every slice has by itself, and tell its sidecar of it."""
    scan, sigma = read_scan(path), sigma_of_snr(truth.data, snr, truth.tissue)
    record = {**scan.sidecar, "noise": sigma, "noise_kind": "rician", "snr": snr, "seed": seed}
    with recorded(path, record, overwrite=True) as temporary:
        write_volume(temporary, add_noise(scan.data, sigma, seed, kind="rician"), scan.affine)


def kept(place: Path, inputs: dict[str, Any]) -> dict[str, Any] | None:
    """Return a job's record where it was made from the same inputs; remove what was made from others."""
    file = place / "cell.json"
    if file.exists():
        with suppress(ValueError, LookupError, TypeError):  # damaged: made anew
            record: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
            if record["made_from"] == json.loads(json.dumps(inputs)) and isinstance(record["scores"], dict):
                return record
        file.unlink()  # first: without it the rest is no one's, should this end here
    if place.exists():
        shutil.rmtree(place)
    return None


def make(experiment: Experiment, job: Job, thick: ThickScan, place: Path, inputs: dict[str, Any]) -> dict[str, Any]:
    """Run a method on thick slices; keep its volume and its time.

    Raises:
        SettingsError: Its volume is not on the truth's grid.
    """
    start, before = time.perf_counter(), cpu_seconds()
    volume = METHODS[job.method].run(thick, experiment.choices)
    spent = {"seconds": time.perf_counter() - start, "cpu_seconds": cpu_seconds() - before}
    if volume.shape != tuple(thick.truth_shape):
        raise SettingsError(f"{job.method}: must give the truth's grid {thick.truth_shape}, got {volume.shape}")
    write_volume(make_folder(place) / "volume.nii.gz", volume, thick.truth_affine, overwrite=True)
    record = {"made_from": inputs, **spent, "threads": torch.get_num_threads(), "scores": {}}
    write_json(place / "cell.json", record, overwrite=True)
    return record


def cpu_seconds() -> float:
    """Return the seconds that processor cores worked for this process and the programs that it ran to their end."""
    found = os.times()
    return found.user + found.system + found.children_user + found.children_system


def case_of(experiment: Experiment, job: Job, truth: Truth, volume: Any, thick: ThickScan | None) -> Case:
    """Return a job's volume with what the metrics need."""
    return Case(
        job.method,
        volume,
        truth,
        thick,
        tuple(experiment.strippers),
        experiment.choices.timeout_s,
        Path(experiment.data),
        experiment.atlases,
        Path(experiment.output) / job.animal.subject / job.name,
    )
