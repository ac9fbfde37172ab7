"""The experiment on stacks with truth: planes left out, put back by every method, and compared where missing."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bida.errors import SettingsError
from bida.masked_data import IntensityLine, load_stack
from bida.masked_prior import MaskedPrior
from bida.masked_restore import INTERPOLATIONS, MaskedSettings, interpolate_stack, restore_stack
from bida.output import atomic, make_folder
from bida.result import Clock
from bida.stack import Stack

Row = dict[str, Any]


@dataclass(frozen=True)
class MaskedExperiment:
    """What to compare.

    Attributes:
        truth: An isotropic stack, or ``FILE[START:STOP]``, see `load_stack`.
        output: Folder of the results.
        factors: Integer factors; every F-th plane is kept.
        methods: Names of `INTERPOLATIONS`, and ``NAME=FILE`` for weights.
        block_mean, clip_percentile: See `load_stack`.
        settings: Of the restorations.
    """

    truth: str
    output: str
    factors: Sequence[int] = (4, 8)
    methods: Sequence[str] = tuple(INTERPOLATIONS)
    block_mean: int = 1
    clip_percentile: float | None = None
    settings: MaskedSettings = field(default_factory=MaskedSettings)

    def __post_init__(self) -> None:
        """Check the factors and the methods' names."""
        wrong = [factor for factor in self.factors if factor < 2]
        if wrong or not self.factors:
            raise SettingsError(f"factors: must be integers from 2 on, got {list(self.factors)}")
        names = [method.partition("=")[0] for method in self.methods]
        for method in self.methods:
            name, _, weights = method.partition("=")
            if bool(weights) == (name in INTERPOLATIONS):
                raise SettingsError(
                    f"methods: must be {', '.join(INTERPOLATIONS)} or NAME=FILE with weights, got {method!r}"
                )
        if len(set(names)) < len(names):
            raise SettingsError(f"methods: every name must be used once, got {', '.join(names)}")


def evaluate_masked(experiment: MaskedExperiment) -> str:
    """Run an experiment; write ``masked.csv`` and ``masked_<factor>x.png``, and return the table as text.

    Raises:
        SettingsError: The truth has too few planes for a factor, or a method cannot do one.
    """
    from bida.masked_montage import masked_montage

    folder = make_folder(experiment.output)
    truth = load_stack(experiment.truth, experiment.block_mean, experiment.clip_percentile)
    rows: list[Row] = []
    for factor in experiment.factors:
        kept, cut = left_out(truth, factor)
        results = {"truth": cut}
        for method in experiment.methods:
            clock = Clock()
            name, restored = run_method(method, kept, factor, experiment.settings)
            clock.lap("restore")
            results[name] = restored
            for metric, value in missing_scores(restored.data, cut.data, factor).items():
                rows.append({"factor": factor, "method": name, "metric": metric, "value": value})
            rows.append({"factor": factor, "method": name, "metric": "seconds", "value": clock.seconds["restore"]})
            write_rows(folder / "masked.csv", rows)
        picture = masked_montage({name: stack.data for name, stack in results.items()}, f"{factor}x")
        with atomic(folder / f"masked_{factor}x.png") as temporary:
            temporary.write_bytes(picture)
    return table(rows)


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


def run_method(method: str, kept: Stack, factor: int, settings: MaskedSettings) -> tuple[str, Stack]:
    """Return a method's name and what it makes of the planes kept."""
    name, _, weights = method.partition("=")
    if not weights:
        return name, interpolate_stack(kept, factor, name)
    return name, restore_stack(kept, load_masked(weights, settings), settings.inferer(factor))


def load_masked(weights: str, settings: MaskedSettings) -> MaskedPrior:
    """Return the network of a weights file on the settings' device, in their arithmetic."""
    from bida.device import choose_device, choose_dtype

    device = choose_device(settings.device)
    return MaskedPrior.load(weights, choose_dtype(settings.dtype, device)).to(device)


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
        writer = csv.DictWriter(file, ("factor", "method", "metric", "value"))
        writer.writeheader()
        writer.writerows({**row, "value": f"{row['value']:.6g}"} for row in rows)


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the results as text: a line a factor and method, a column a metric."""
    metrics = list(dict.fromkeys(row["metric"] for row in rows))
    values = {(row["factor"], row["method"], row["metric"]): row["value"] for row in rows}
    lines = ["factor  method              " + "".join(f"{metric:>16}" for metric in metrics)]
    for factor, method in dict.fromkeys((row["factor"], row["method"]) for row in rows):
        cells = [values.get((factor, method, metric)) for metric in metrics]
        text = "".join(f"{'-' if cell is None else format(cell, '.4g'):>16}" for cell in cells)
        lines.append(f"{factor:<8}{method:<20}{text}")
    return "\n".join(lines)
