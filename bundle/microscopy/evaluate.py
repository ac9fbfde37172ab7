"""The experiment on stacks with truth: planes left out, put back by every method, and compared where missing."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bida.device import choose_device, dtype_choice, notes_of
from bida.errors import SettingsError
from bida.eval.slices.inception import InceptionFeatures
from bida.eval.slices.panel import PanelRow
from bida.io.files import atomic, make_folder, write_json
from bida.microscopy.crops import Crops
from bida.microscopy.load import PERCENTILES, IntensityLine, load_stack
from bida.microscopy.prior import MaskedPrior
from bida.microscopy.restore import (
    fitting_factor,
    fusion_of,
    inferer_of,
    interpolate_stack,
    load_masked,
    restore_stack,
)
from bida.microscopy.settings import TRUTH, MaskedExperiment, MaskedSettings
from bida.microscopy.slice_scores import VOLUME, Judge, SliceFidJudge, SlicePanel
from bida.microscopy.stacks.stack import Stack
from bida.progress import Progress
from bida.provenance import Clock, versions

Row = dict[str, Any]

COLUMNS = ("factor", "method", "plane", "metric", "value")


def evaluate_masked(
    experiment: MaskedExperiment,
    progress: Progress | None = None,
    note: Callable[[str], None] | None = None,
    priors: Mapping[str, MaskedPrior] | None = None,
) -> str:
    """Run an experiment; write ``masked.csv`` and ``masked_<factor>x.png``, and return the table as text.

    ``masked.json`` records how it was run; `note` is told each of its warnings before the work begins. `progress` is
    told of each restoration by weights, see `MaskedSliceInferer`. `priors` are the experiment's networks by the name of
    the method, from `load_priors`, which loads them where they are not given.

    Raises:
        SettingsError: The truth has too few planes for a factor, or a method cannot do one.
        ScanError: Results of an earlier run are there, and ``overwrite`` is not given.
        WeightsError: Weights that are named cannot be read.
    """
    from bida.microscopy.figures import masked_montage

    priors = load_priors(experiment) if priors is None else priors
    inception = inception_of(experiment)
    seen = (experiment.block_mean, experiment.clip_percentile, experiment.voxel_um, experiment.frames_are_z)
    truth = load_stack(experiment.truth, *seen)
    crops = Crops(truth, experiment.crops, experiment.settings.seed, inception) if experiment.crops else None
    for factor in experiment.factors:
        left_out(truth, factor)
    folder = make_folder(experiment.output)
    experiment.check_outputs()
    record = experiment_record(experiment, truth, priors)
    write_json(folder / "masked.json", record, overwrite=experiment.overwrite)
    if note is not None:
        for warning in record["warnings"]:
            note(warning)
    rows: list[Row] = []
    for factor in experiment.factors:
        kept, cut = left_out(truth, factor)
        judges = make_judges(experiment, cut, factor, inception)
        floors = [row for judge in judges for row in judge.floor()] + (crops.floor() if crops else [])
        rows += as_rows(factor, TRUTH, floors)
        results = {TRUTH: cut}
        for method in experiment.methods:
            clock = Clock()
            name, restored = run_method(method, kept, factor, experiment.settings, priors, progress)
            clock.lap("restore")
            results[name] = restored
            found = [PanelRow(VOLUME, *score) for score in missing_scores(restored.data, cut.data, factor).items()]
            found.append(PanelRow(VOLUME, "seconds", clock.seconds["restore"]))
            found += [row for judge in judges for row in judge(restored.data)]
            if crops:
                found += crops.scores(restored_crops(method, crops, factor, experiment.settings, priors), factor)
            rows += as_rows(factor, name, found)
            write_rows(folder / "masked.csv", rows)
        picture = masked_montage({name: stack.data for name, stack in results.items()}, f"{factor}x")
        with atomic(experiment.pictures[factor]) as temporary:
            temporary.write_bytes(picture)
    return table(rows)


def load_priors(experiment: MaskedExperiment) -> dict[str, MaskedPrior]:
    """Return the network of each method that has one, by the method's name; each file is read once.

    Raises:
        WeightsError: Weights that are named cannot be read.
    """
    files = {file: load_masked(file, experiment.settings) for file in dict.fromkeys(experiment.weights.values())}
    return {name: files[file] for name, file in experiment.weights.items()}


def inception_of(experiment: MaskedExperiment) -> InceptionFeatures | None:
    """Return the Inception network of an experiment, None where none is named."""
    if experiment.inception_weights is None or experiment.inception_sha256 is None:
        return None
    device = str(choose_device(experiment.settings.device))
    return InceptionFeatures(experiment.inception_weights, experiment.inception_sha256, device)


def experiment_record(experiment: MaskedExperiment, truth: Stack, priors: Mapping[str, MaskedPrior]) -> dict[str, Any]:
    """Return the record of an experiment: what was compared, by which weights and how, as JSON can hold it."""
    record: dict[str, Any] = asdict(experiment) | {
        "networks": {
            name: {
                "method": one.method,
                "sha256": one.weights_sha256,
                "fusion": fusion_of(experiment.settings, one),
            }
            for name, one in priors.items()
        },
        "shape_czyx": list(truth.data.shape),
        "spacing_um_zyx": list(truth.spacing_um),
        "intensity_percentiles": list(PERCENTILES),
        "warnings": [],
        "versions": versions(),
    }
    if priors:
        device = choose_device(experiment.settings.device)
        choice = dtype_choice(experiment.settings.dtype, device)
        notes = notes_of(experiment.settings.device, choice)
        record |= {"device": str(device), "dtype": choice.dtype, "dtype_choice": choice.how, "warnings": notes}
    return record


def make_judges(
    experiment: MaskedExperiment, truth: Stack, factor: int, inception: InceptionFeatures | None
) -> list[Judge]:
    """Return what an experiment compares slices by."""
    judges: list[Judge] = []
    if experiment.panel:
        judges.append(SlicePanel(truth.data, factor, experiment.settings.seed))
    if inception is not None:
        judges.append(SliceFidJudge(truth.data, inception))
    return judges


def as_rows(factor: int, method: str, found: Sequence[PanelRow]) -> list[Row]:
    """Return figures as lines of the table."""
    return [{"factor": factor, "method": method, **asdict(row)} for row in found]


def left_out(truth: Stack, factor: int) -> tuple[Stack, Stack]:
    """Return every ``factor``-th plane of a stack, and the stack cut to the planes between the first and last of them.

    Raises:
        SettingsError: Fewer than two planes are left.
    """
    kept = truth.data[:, ::factor]
    if kept.shape[1] < 2:
        raise SettingsError(
            f"{truth.path}: truth must have more than {factor} planes for factor {factor}, got {truth.data.shape[1]}"
        )
    z, y, x = truth.spacing_um
    cut = truth.data[:, : (kept.shape[1] - 1) * factor + 1]
    return replace(truth, data=kept, spacing_um=(z * factor, y, x)), replace(truth, data=cut)


def run_method(
    method: str,
    kept: Stack,
    factor: int,
    settings: MaskedSettings,
    priors: Mapping[str, MaskedPrior] | None = None,
    progress: Progress | None = None,
) -> tuple[str, Stack]:
    """Return a method's name and what it makes of the planes kept, by the network of its name where there is one."""
    name = method.partition("=")[0]
    if priors is None or name not in priors:
        return name, interpolate_stack(kept, factor, name)
    inferer = inferer_of(settings, priors[name], factor, fitting_factor(kept, priors[name], settings, factor))
    inferer.progress = progress
    return name, restore_stack(kept, priors[name], inferer)


def restored_crops(
    method: str,
    crops: Crops,
    factor: int,
    settings: MaskedSettings,
    priors: Mapping[str, MaskedPrior] | None = None,
) -> Stack:
    """Return what a method makes of the known rows of crops, each a slice of its own."""
    alone = replace(settings, fusion="single-xz", blur=False)  # other crops are no neighbours
    return run_method(method, crops.kept(factor), factor, alone, priors)[1]


def missing_scores(result: NDArray, truth: NDArray, factor: int) -> dict[str, float]:
    """Return PSNR (dB) and SSIM over the planes that were left out, the mean over channels.

    The peak is the width of the channel's `IntensityLine` in the truth, between its 0.5th and 99.5th percentile.
    """
    from bida.eval.metrics import psnr, ssim

    missing = np.arange(truth.shape[1]) % factor != 0
    line = IntensityLine.of(truth)
    width = (line.high - line.low).astype(np.float64)
    mask = np.broadcast_to(missing[:, None, None], truth.shape[1:])
    pairs = list(zip(result, truth, width))
    return {
        "psnr": float(np.mean([psnr(got, true, peak, mask) for got, true, peak in pairs])),
        "ssim": float(np.mean([ssim(got, true, peak, mask) for got, true, peak in pairs])),
    }


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write the results as CSV, one number a line."""
    with atomic(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows({**row, "value": f"{row['value']:.6g}"} for row in rows)


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the results as text: a block a plane, in it a line a factor and method, a column a metric."""
    lines: list[str] = []
    for plane in sorted(dict.fromkeys(row["plane"] for row in rows), key=lambda plane: plane != VOLUME):
        block = [row for row in rows if row["plane"] == plane]
        metrics = list(dict.fromkeys(row["metric"] for row in sorted(block, key=lambda row: row["method"] == TRUTH)))
        widths = [max(len(metric), 9) + 2 for metric in metrics]
        values = {(row["factor"], row["method"], row["metric"]): row["value"] for row in block}
        head = "".join(f"{metric:>{width}}" for metric, width in zip(metrics, widths))
        lines += [*([""] if lines else []), f"{plane:<6}  method              {head}"]
        for factor, method in dict.fromkeys((row["factor"], row["method"]) for row in block):
            cells = [values.get((factor, method, metric)) for metric in metrics]
            shown = ["-" if cell is None else format(cell, ".4g") for cell in cells]
            text = "".join(f"{cell:>{width}}" for cell, width in zip(shown, widths))
            lines.append(f"{f'{factor}x':<8}{method:<20}{text}")
    return "\n".join(lines)
