"""The metrics of the experiment, each described once: what it takes, the numbers that it gives, how they are shown.

A new metric is a function and one entry of `METRICS`. What measures is imported when it runs, so that names and words
come at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from bida.errors import SettingsError
from bida.experiment.methods import TRUTH, shown_as

if TYPE_CHECKING:
    from bida.experiment.case import Case


class Score(NamedTuple):
    """One number: of what, region (or axis, stripper, structure), value and unit, as in ``results.csv``."""

    metric: str
    region: str
    value: float
    unit: str


@dataclass(frozen=True)
class Quantity:
    """How the numbers of one name are shown.

    Attributes:
        label: their title.
        unit: beside the title; empty for none.
        decimals: printed digits after the point.
        better: whether more is better (1), worse (-1) or neither (0).
        meaning: what they are, in words, for the report.
        power: printed as one digit and a power of ten, not with `decimals`.
        main: in the report's main table.
        compared: tested between methods.
        first: whose tests are told first, and drawn as box plots.
    """

    label: str
    unit: str = ""
    decimals: int = 3
    better: int = 0
    meaning: str = ""
    power: bool = False
    main: bool = False
    compared: bool = False
    first: bool = False

    def text(self, value: float) -> str:
        """Return a number as it is printed."""
        return (f"{value:.1g}" if self.power else f"{value:.{self.decimals}f}").replace("-", "\u2212")


def inputs_mask(case: Case) -> dict[str, Any]:
    """Return the data set's own brain mask, by its SHA-256."""
    return {"mask": case.truth.files.get("mask")}


@dataclass(frozen=True)
class Metric:
    """One metric, in all that the experiment needs to know of it.

    Attributes:
        score: a case to its numbers.
        shows: how the numbers that it gives are shown, by their name.
        inputs: what it depends on, beside the volume and its truth, as JSON holds it.
        by_stripper: computed, kept and reported for each skull stripper by itself.
    """

    score: Callable[[Case], list[Score]]
    shows: Mapping[str, Quantity]
    inputs: Callable[[Case], dict[str, Any]] = inputs_mask
    by_stripper: bool = False


def score_psnr(case: Case) -> list[Score]:
    """Return PSNR, dB, over the field of view and in the brain."""
    from bida.eval import psnr

    span, truth = case.truth.data_range, case.truth.data
    return [Score("psnr", region, psnr(case.volume, truth, span, mask), "dB") for region, mask in case.regions.items()]


def score_ssim(case: Case) -> list[Score]:
    """Return SSIM over the field of view and in the brain."""
    from bida.eval import ssim

    span, truth = case.truth.data_range, case.truth.data
    return [Score("ssim", region, ssim(case.volume, truth, span, mask), "") for region, mask in case.regions.items()]


def score_cdsc(case: Case) -> list[Score]:
    """Return, for every stripper, cDSC and the distance of the two masks' surfaces, and Dice with the manual mask."""
    from bida.eval import dice, hd95_mm
    from bida.experiment.case import brain_mask, case_of_truth

    scores = []
    for stripper in case.strippers:
        mask = brain_mask(case, stripper)
        if case.method != TRUTH:
            truth = brain_mask(case_of_truth(case), stripper)
            scores.append(Score("cdsc", stripper, dice(mask, truth), ""))
            scores.append(Score("hd95", stripper, hd95_mm(mask, truth, case.truth.spacing_mm), "mm"))
        if case.truth.mask is not None:
            scores.append(Score("dice_manual", stripper, dice(mask, case.truth.mask), ""))
    return scores


def inputs_cdsc(case: Case) -> dict[str, Any]:
    """Return the strippers and the data set's own brain mask."""
    from bida.experiment.case import fingerprint

    return {**inputs_mask(case), "strippers": [fingerprint(one) for one in case.strippers]}


def score_sharpness(case: Case) -> list[Score]:
    """Return the sharpness along each axis, over the truth's."""
    from bida.eval import sharpness

    spacing, mask = case.truth.spacing_mm, case.truth.mask
    return _over_truth("sharpness", case, lambda volume, axis: sharpness(volume, axis, spacing, mask))


def score_stitching(case: Case) -> list[Score]:
    """Return the jumps from slice to slice along each axis, over the truth's."""
    from bida.eval import stitching

    return _over_truth("stitching", case, lambda volume, axis: stitching(volume, axis, case.truth.mask))


def _over_truth(name: str, case: Case, measure: Callable[[Any, int], float]) -> list[Score]:
    from bida.physics.grid import AXES

    ratios = [measure(case.volume, axis) / measure(case.truth.data, axis) for axis in range(3)]
    return [Score(name, axis, ratio, "ratio to HR") for axis, ratio in zip(AXES, ratios)]


def score_bricks(case: Case) -> list[Score]:
    """Return how much the volume steps at the borders of the acquired slices, beside within them, in tissue.

    Of several scans it is that of the one whose slices show most.
    """
    if case.thick is None:
        return []
    from bida.eval import brick_index, slice_borders

    found = []
    for geometry in (scan.geometry for scan in case.thick.scans):
        borders = slice_borders(geometry.slice_centres_mm(), geometry.voxel_centres_mm())
        found.append(brick_index(case.volume, geometry.axis, borders, case.truth.tissue))
    return [Score("bricks", "", max((one for one in found if math.isfinite(one)), default=math.nan), "ratio")]


def score_residual(case: Case) -> list[Score]:
    """Return how far the volume, degraded again, is from the slices, as a share of their range; of several the most."""
    if case.thick is None:
        return []
    import numpy as np
    import torch

    from bida.eval import consistency_residual
    from bida.physics.operators import SliceOperator

    volume, found = torch.from_numpy(np.ascontiguousarray(case.volume)), []
    for scan in case.thick.scans:
        degraded = SliceOperator.build(scan.geometry).forward(volume)
        found.append(consistency_residual(degraded.numpy(), scan.data))
    return [Score("residual", "", max(found), "share of range")]


def score_volumes(case: Case) -> list[Score]:
    """Return every structure's volume, its error and its Dice with the animal's own labels and those on the truth."""
    from bida.eval import structure_dice, structure_volumes, volume_errors
    from bida.experiment.case import carried_labels, case_of_truth

    if not shown_as(case.method).main or not case.atlases:
        return []
    found = carried_labels(case)
    scores = [
        Score("structure_volume", name, v, "mm3") for name, v in structure_volumes(found, case.truth.affine).items()
    ]
    own = case.truth.labels
    if own is not None:
        error = volume_errors(structure_volumes(found, case.truth.affine), structure_volumes(own, case.truth.affine))
        scores += [Score("structure_error", name, value, "%") for name, value in error.items()]
        scores += [Score("structure_dice", name, value, "") for name, value in structure_dice(found, own).items()]
    if case.method != TRUTH:
        overlaps = structure_dice(found, carried_labels(case_of_truth(case)))
        scores += [Score("structure_dice_hr", name, value, "") for name, value in overlaps.items()]
    return scores


def inputs_volumes(case: Case) -> dict[str, Any]:
    """Return the atlases and the animal's own labels."""
    return {"atlases": case.atlas_hashes, "labels": case.truth.files.get("labels")}


METRICS: dict[str, Metric] = {  # in the order shown
    "psnr": Metric(
        score_psnr,
        {
            "psnr": Quantity(
                "PSNR",
                "dB",
                2,
                better=1,
                meaning="how far voxels are from the truth on average; 1 dB more is 11% less error",
                main=True,
                compared=True,
                first=True,
            )
        },
    ),
    "ssim": Metric(
        score_ssim,
        {
            "ssim": Quantity(
                "SSIM",
                better=1,
                meaning="likeness of local structure to the truth; 1 is equal",
                main=True,
                compared=True,
            )
        },
    ),
    "cdsc": Metric(
        score_cdsc,
        {
            "cdsc": Quantity(
                "cDSC",
                decimals=4,
                better=1,
                meaning="overlap (Dice) of the brain masks that one skull stripper draws on the method's volume and on "
                "the truth; 1 is equal",
                main=True,
                compared=True,
                first=True,
            ),
            "hd95": Quantity(
                "HD95",
                "mm",
                2,
                better=-1,
                meaning="distance between the surfaces of the same two masks, 95th percentile",
                main=True,
                compared=True,
            ),
            "dice_manual": Quantity(
                "Dice, data set's mask", better=1, meaning="overlap of the brain mask with the data set's own"
            ),
        },
        inputs=inputs_cdsc,
        by_stripper=True,
    ),
    "sharpness": Metric(
        score_sharpness,
        {
            "sharpness": Quantity(
                "Sharpness",
                decimals=2,
                meaning="steepness of structure along an axis over the truth's; 1 is as sharp",
            )
        },
    ),
    "stitching": Metric(
        score_stitching,
        {
            "stitching": Quantity(
                "Stitching",
                decimals=2,
                meaning="jumps from slice to slice over the truth's; above 1 is stitching, below 1 blur",
            )
        },
    ),
    "bricks": Metric(
        score_bricks,
        {
            "bricks": Quantity(
                "Brick index",
                decimals=2,
                better=-1,
                meaning="mean difference of neighbouring voxels across the borders of slices, over that within slices, "
                "in tissue; 1 is without bars one slice high; none is given where nothing changes within slices",
                main=True,
                compared=True,
            )
        },
    ),
    "residual": Metric(
        score_residual,
        {
            "residual": Quantity(
                "Residual",
                "of range",
                better=-1,
                meaning="largest difference between the scan and the volume made thick again; "
                "0 keeps what was measured",
                power=True,
                main=True,
            )
        },
        inputs=lambda case: {},
    ),
    "volumes": Metric(
        score_volumes,
        {
            "structure_volume": Quantity(
                "Structure volume", "mm\u00b3", meaning="from labels that registration carried over"
            ),
            "structure_error": Quantity(
                "Volume error", "%", 1, meaning="of a structure, against the animal's own labels"
            ),
            "structure_dice": Quantity(
                "Structure Dice", better=1, meaning="overlap of a structure with the animal's own labels"
            ),
            "structure_dice_hr": Quantity(
                "Structure Dice, HR", better=1, meaning="the same against the labels carried onto the truth"
            ),
        },
        inputs=inputs_volumes,
    ),
}
_TIMES = {
    "seconds": Quantity("Time", "s", 1, better=-1, meaning="of the method for one scan on this machine", main=True),
    "cpu_seconds": Quantity(
        "CPU time",
        "s",
        1,
        better=-1,
        meaning="the same summed over processor cores, of programs that it ran too",
        main=True,
    ),
}


def metric(name: str) -> Metric:
    """Return a metric by its name.

    Raises:
        SettingsError: There is no such metric.
    """
    if name not in METRICS:
        raise SettingsError(f"--metrics: must be among {', '.join(METRICS)}, got {name}; correct it")
    return METRICS[name]


def parts(name: str, strippers: Sequence[str]) -> dict[str, Sequence[str]]:
    """Return what of a metric is computed, kept and reported each by itself, with its strippers."""
    return {f"{name}, {one}": [one] for one in strippers} if METRICS[name].by_stripper else {name: strippers}


def quantities() -> dict[str, Quantity]:
    """Return all numbers that metrics give, and the times that every method takes, in the order shown."""
    return {name: one for metric in METRICS.values() for name, one in metric.shows.items()} | _TIMES


def quantity(name: str) -> Quantity:
    """Return how numbers are shown; those that no metric gives go by their name."""
    return quantities().get(name, Quantity(name))
