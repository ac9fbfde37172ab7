"""The paper's experiment: isotropic scans made thick, restored by every method, scored by every metric, reported.

A cell is one method on one animal at one factor. What it made and scored is kept in a folder of its own, beside what
it was made from; a later run reuses it where that has not changed, and computes what is missing.

    OUT/<subject>/truth/<subject>.nii.gz   the prepared scan
    OUT/<subject>/<factor>x_slices.nii.gz  the thick slices
    OUT/<subject>/<factor>x_<method>/      volume.nii.gz, masks, labels, cell.json
    OUT/<subject>/hr/                      masks, labels and cell.json of the prepared scan itself
    OUT/results.csv  summary.json  failures.json  report.html
"""

from __future__ import annotations

import json
import math
import shutil
import time
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tqdm import tqdm

from bida.errors import BidaError, SettingsError
from bida.experiment.design import HR, Cell, Experiment, threads_each
from bida.experiment.methods import METHODS, Slices
from bida.experiment.metrics import Case, metric, parts, score_inputs
from bida.experiment.report.collect import collect, time_spent, write_outputs
from bida.experiment.truth import Truth, choose_animals, prepare
from bida.experiment.workers import side_by_side
from bida.io.bids import Animal
from bida.io.files import make_folder, sidecar_path, write_json
from bida.io.nifti import write_volume
from bida.io.scan import read_scan, read_sidecar
from bida.io.weights import sha256
from bida.mri.simulate import simulate_file
from bida.physics.geometry import SliceGeometry


def run(experiment: Experiment) -> Path:
    """Run the experiment, or what is missing of it, and write its tables and report.

    Args:
        experiment: what to run.

    Returns:
        The report.

    Raises:
        SettingsError: The data do not fit the experiment, or cells failed (after all others were done).
    """
    start = time.perf_counter()
    output = make_folder(experiment.output)
    subjects = None if experiment.subjects is None else list(experiment.subjects)
    animals = choose_animals(Path(experiment.data), subjects, experiment.split)
    cells = [
        Cell(animal, name, factor) for animal in animals for factor in experiment.factors for name in experiment.methods
    ]
    truths = [Cell(animal, HR) for animal in animals]
    failures: list[dict[str, str]] = []
    reused = 0
    bar = tqdm(
        total=sum(cell.cost for cell in truths + cells),
        bar_format="{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}",
    )
    for stage in (truths, cells):  # the truths' masks and labels are made before the cells that are compared with them
        with closing(finish(experiment, stage)) as finished:
            for cell, outcome in finished:
                failures += outcome.failures
                reused += outcome.reused
                bar.set_description_str(f"{cell.animal.subject} {cell.name}", refresh=False)
                bar.update(cell.cost)
    bar.close()
    write_json(output / "failures.json", {"failures": failures}, overwrite=True)
    rows = collect(experiment, truths, cells)
    if not rows:
        raise SettingsError(
            f"{output}: a cell must finish for a report, none did, the first because of: {failures[0]['error']}; "
            "mend the cause (see failures.json) and run the same command again"
        )
    spent = time_spent(experiment, truths + cells, time.perf_counter() - start, reused)
    report = write_outputs(experiment, rows, failures, spent)
    if failures:
        first = failures[0]
        raise SettingsError(
            f"{output}: every cell must finish, {len(failures)} failed, the first {first['cell']} ({first['error']}); "
            f"the others are in {report}; mend the cause (see failures.json) and run the same command again"
        )
    return report


class Outcome(NamedTuple):
    """What came of a cell: the records of what failed in it, and whether all of it was there from an earlier run."""

    failures: list[dict[str, str]]
    reused: bool


def finish(experiment: Experiment, cells: Sequence[Cell]) -> Generator[tuple[Cell, Outcome], None, None]:
    """Run cells, one by one or in several processes; yield each with what came of it, as it ends."""
    if experiment.jobs == 1:
        for cell in cells:
            yield cell, attempt(experiment, cell)
        return
    work, threads = partial(attempt, experiment), threads_each(experiment.jobs)
    with closing(side_by_side(work, cells, experiment.jobs, threads)) as ended:
        for cell, outcome in ended:
            text = "its process died, or another one's beside it (too little memory?); give fewer --jobs"
            yield cell, outcome or Outcome([failure_of(cell, "process", text)], False)


def attempt(experiment: Experiment, cell: Cell) -> Outcome:
    """Run a cell; whatever fails in it, the other metrics and cells go on."""
    failures, computed = [], False
    try:
        for name, compute in scoring(experiment, cell):
            try:
                computed |= compute()
            except Exception as error:  # whatever a metric raises, the rest goes on
                failures.append(failure_of(cell, name, error))
    except Exception as error:
        failures.append(failure_of(cell, "method", error))
    return Outcome(failures, not (computed or failures))


def failure_of(cell: Cell, part: str, error: Exception | str) -> dict[str, str]:
    """Return the record of a failure; an error that no user can mend keeps its traceback."""
    text = " ".join(str(error).split())
    found = {"subject": cell.animal.subject, "cell": f"{cell.animal.subject} {cell.name}", "part": part, "error": text}
    if part in ("method", "process") and cell.factor is not None:
        found |= {"method": cell.method, "factor": f"{cell.factor:g}"}
    if isinstance(error, Exception) and not isinstance(error, BidaError):
        found["error"] = f"{type(error).__name__}: {text}"
        found["traceback"] = "".join(traceback.format_exception(error))
    return found


def scoring(experiment: Experiment, cell: Cell) -> Iterator[tuple[str, Callable[[], bool]]]:
    """Make a cell's volume where it is missing; yield for every part of a metric what computes and keeps it."""
    folder = make_folder(Path(experiment.output) / cell.animal.subject)
    truth, inputs = truth_of(experiment, cell.animal)
    place = folder / cell.name
    if cell.factor is None:
        for factor in experiment.factors:  # here, so that cells that run side by side find them
            slices_of(experiment, factor, truth, folder, inputs)
        record = kept(place, inputs) or {"made_from": inputs, "scores": {}}
        case = case_of(experiment, cell, truth, truth.data, None)
    else:
        slices = slices_of(experiment, cell.factor, truth, folder, inputs)
        inputs = {**inputs, **simulation_inputs(experiment, cell.factor), "method": cell.method}
        inputs |= METHODS[cell.method].fingerprint(experiment.choices)
        record = kept(place, inputs) or make(experiment, cell, slices, place, inputs)
        case = case_of(experiment, cell, truth, read_scan(place / "volume.nii.gz").data, slices)
    make_folder(place)
    for name in experiment.metrics:
        for part, strippers in parts(name, case.strippers).items():
            yield part, partial(score, name, part, replace(case, strippers=strippers), record)


def score(name: str, part: str, case: Case, record: dict[str, Any]) -> bool:
    """Compute a part of a metric and keep its rows in the cell's record; False where they are there already."""
    needs, file = score_inputs(name, case), case.folder / "cell.json"
    if record["scores"].get(part, {}).get("made_from") == needs:
        return False
    if record["scores"].pop(part, None) is not None:  # should this fail, nothing of other inputs is reported
        write_json(file, record, overwrite=True)
    start = time.perf_counter()
    rows = [[*row[:2], row.value if math.isfinite(row.value) else None, row.unit] for row in metric(name)(case)]
    record["scores"][part] = {"made_from": needs, "rows": rows, "seconds": time.perf_counter() - start}
    write_json(file, record, overwrite=True)
    return True


def truth_of(experiment: Experiment, animal: Animal) -> tuple[Truth, dict[str, Any]]:
    """Return the prepared scan of an animal, prepared anew where the scan or the choices changed, and its inputs."""
    folder = make_folder(Path(experiment.output) / animal.subject / "truth")
    inputs = {
        "bida": version("bida"),
        "scan": sha256(animal.path),
        "spacing_mm": experiment.spacing_mm,
        "n4": experiment.n4,
    }
    if read_sidecar(folder / f"{animal.subject}.nii.gz") != inputs:
        (folder / f"{animal.subject}.nii.gz").unlink(missing_ok=True)
        sidecar_path(folder / f"{animal.subject}.nii.gz").unlink(missing_ok=True)
    truth = prepare(animal, Path(experiment.data), folder, experiment.spacing_mm, experiment.n4)
    if not sidecar_path(truth.path).exists():
        write_json(sidecar_path(truth.path), inputs)
    return truth, inputs


def simulation_inputs(experiment: Experiment, factor: float) -> dict[str, Any]:
    """Return what thick slices depend on, beside the truth."""
    profile = {"profile": experiment.profile}
    if Path(experiment.profile).is_file():
        profile["profile_sha256"] = sha256(experiment.profile)
    return {"factor": factor, "axis": experiment.axis, **profile}


def slices_of(
    experiment: Experiment, factor: float, truth: Truth, folder: Path, truth_inputs: dict[str, Any]
) -> Slices:
    """Return the thick slices of an animal at a factor, simulated where they are missing or of other inputs."""
    path, mark = folder / f"{factor:g}x_slices.nii.gz", folder / f"{factor:g}x_slices_from.json"
    inputs = {**truth_inputs, **simulation_inputs(experiment, factor)}
    if not (path.exists() and mark.exists() and json.loads(mark.read_text(encoding="utf-8")) == inputs):
        simulate_file(truth.path, path, factor, experiment.axis, profile=experiment.profile, overwrite=True)
        write_json(mark, inputs, overwrite=True)
    scan = read_scan(path)
    geometry = SliceGeometry(**scan.sidecar["slice_geometry"])
    return Slices(path, scan.data, scan.affine, geometry, truth.path, truth.data.shape, truth.affine)


def kept(place: Path, inputs: dict[str, Any]) -> dict[str, Any] | None:
    """Return a cell's record where it was made from the same inputs; remove what was made from others."""
    file = place / "cell.json"
    if file.exists():
        record: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if record["made_from"] == json.loads(json.dumps(inputs)):
            return record
    shutil.rmtree(place, ignore_errors=True)
    return None


def make(experiment: Experiment, cell: Cell, slices: Slices, place: Path, inputs: dict[str, Any]) -> dict[str, Any]:
    """Run a method on thick slices; keep its volume and its time.

    Raises:
        SettingsError: Its volume is not on the truth's grid.
    """
    start = time.perf_counter()
    volume = METHODS[cell.method].run(slices, experiment.choices)
    seconds = time.perf_counter() - start
    if volume.shape != tuple(slices.hr_shape):
        raise SettingsError(f"{cell.method}: must give the truth's grid {slices.hr_shape}, got {volume.shape}")
    write_volume(make_folder(place) / "volume.nii.gz", volume, slices.hr_affine, overwrite=True)
    record = {"made_from": inputs, "seconds": seconds, "threads": torch.get_num_threads(), "scores": {}}
    write_json(place / "cell.json", record, overwrite=True)
    return record


def case_of(experiment: Experiment, cell: Cell, truth: Truth, volume: Any, slices: Slices | None) -> Case:
    """Return a cell's volume with what the metrics need."""
    return Case(
        cell.method,
        volume,
        truth,
        slices,
        tuple(experiment.strippers),
        experiment.choices.timeout_s,
        Path(experiment.data),
        experiment.atlases,
        Path(experiment.output) / cell.animal.subject / cell.name,
    )
