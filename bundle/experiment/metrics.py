"""The metrics of the experiment: what each takes from a restored volume and its truth, and the rows that it gives."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray

from bida.errors import SettingsError
from bida.eval import (
    consistency_residual,
    dice,
    hd95_mm,
    make_stripper,
    psnr,
    sharpness,
    ssim,
    stitching,
    structure_dice,
    structure_volumes,
    volume_errors,
)
from bida.eval.skullstrip.mask import Stripper, check_mask
from bida.eval.skullstrip.network import WEIGHTS
from bida.eval.volumetry import volumetry
from bida.experiment.methods import Slices
from bida.experiment.truth import Truth
from bida.io.files import make_folder
from bida.io.nifti import write_volume
from bida.io.weights import released_path, sha256
from bida.mri.atlases import AtlasFiles, find_atlases, read_atlas
from bida.physics.grid import AXES
from bida.physics.operators import SliceOperator

# Carrying labels takes minutes a volume: only these methods' volumes get them, beside the truth's
VOLUMETRY_METHODS = ("hr", "cubic", "selfsr", "bida", "eclare")


class Score(NamedTuple):
    """One figure: metric, region (or axis, stripper, structure), value and unit, as in ``results.csv``."""

    metric: str
    region: str
    value: float
    unit: str


@dataclass(frozen=True)
class Case:
    """One method's volume of one animal at one factor, with all that it is compared with.

    Attributes:
        method: its name; ``hr`` is the truth itself.
        volume: [R, A, S] on the truth's grid.
        truth: the animal.
        slices: what the method was given; None for ``hr``.
        strippers: names of skull strippers.
        timeout_s: limit of an external stripper, seconds.
        data: BIDS data set, whose training animals' labels are carried over.
        atlas_count: how many of them, at most.
        folder: where masks and carried labels are kept.
    """

    method: str
    volume: NDArray[np.float32]
    truth: Truth
    slices: Slices | None
    strippers: Sequence[str]
    timeout_s: float
    data: Path
    atlas_count: int
    folder: Path

    @cached_property
    def atlases(self) -> list[AtlasFiles]:
        """Return the other animals whose labels are carried over, none where the data set has no such labels."""
        return find_atlases(self.data, self.atlas_count, self.truth.subject)

    @cached_property
    def atlas_hashes(self) -> dict[str, list[str]]:
        """Return subject to SHA-256 of image and labels of the atlases."""
        return {files.animal.subject: [sha256(files.animal.path), sha256(files.labels)] for files in self.atlases}

    @cached_property
    def regions(self) -> dict[str, NDArray[np.bool_] | None]:
        """Return the regions of PSNR and SSIM: the whole field of view, and the brain where its mask is known."""
        found: dict[str, NDArray[np.bool_] | None] = {"whole": None}
        return found if self.truth.mask is None else {**found, "brain": self.truth.mask}

    def kept(self, name: str, make: Callable[[], NDArray[Any]], dtype: DTypeLike) -> NDArray[Any]:
        """Return an array of whole numbers that was made before, or make it and keep it as NIfTI of a type."""
        path = make_folder(self.folder) / f"{name}.nii.gz"
        if not path.exists():
            write_volume(path, make(), self.truth.affine, dtype=dtype)
        image: Any = nib.load(path)
        return np.asarray(image.dataobj)


def case_of_truth(case: Case) -> Case:
    """Return the truth's own case beside a method's: its masks and labels are made once an animal."""
    folder = case.folder.parent / "hr"
    return replace(case, method="hr", volume=case.truth.data, slices=None, folder=folder)


def stripper_of(name: str, timeout_s: float) -> Stripper:
    """Return a skull stripper by its name; one that is a program, and may hang, with a limit of time, seconds.

    Raises:
        SettingsError: See ``bida.eval.make_stripper``.
    """
    return make_stripper(name) if name in ("builtin", "threshold") else make_stripper(name, timeout_s=timeout_s)


def brain_mask(case: Case, stripper: str) -> NDArray[np.bool_]:
    """Return the brain that a skull stripper finds in a case's volume."""

    def strip() -> NDArray[np.bool_]:
        return check_mask(stripper_of(stripper, case.timeout_s)(case.volume, case.truth.affine), case.volume, stripper)

    return case.kept(f"mask_{fingerprint(stripper)}", strip, np.int16) > 0


def carried_labels(case: Case) -> NDArray[np.int32]:
    """Return the structures that the atlases' labels show in a case's volume, as ``bida volumes`` finds them."""

    def carry() -> NDArray[np.int32]:
        return volumetry(case.volume, case.truth.affine, [read_atlas(*files) for files in case.atlases]).labels

    # int32: numbers of the Allen atlas reach 614454277
    return case.kept(f"labels_{short_hash(json.dumps(case.atlas_hashes))}", carry, np.int32)


def fingerprint(stripper: str) -> str:
    """Return what tells a stripper's masks from another's, as part of a file's name."""
    weights = sha256(released_path(WEIGHTS)) if stripper == "builtin" else ""
    return short_hash(f"{stripper}{weights}")


def short_hash(text: str) -> str:
    """Return eight digits that tell a text from another's."""
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def parts(name: str, strippers: Sequence[str]) -> dict[str, Sequence[str]]:
    """Return what of a metric is computed, kept and reported each by itself, with its strippers: cDSC, for each one."""
    return {f"{name}, {one}": [one] for one in strippers} if name == "cdsc" else {name: strippers}


def score_inputs(name: str, case: Case) -> dict[str, Any]:
    """Return what a metric depends on, beside the volume and its truth, as JSON holds it."""
    if name == "residual":
        return {}
    if name == "volumes":
        return {"atlases": case.atlas_hashes, "labels": case.truth.files.get("labels")}
    mask = {"mask": case.truth.files.get("mask")}
    return {**mask, "strippers": [fingerprint(one) for one in case.strippers]} if name == "cdsc" else mask


def score_psnr(case: Case) -> list[Score]:
    """Return PSNR, dB, over the field of view and in the brain."""
    span = case.truth.data_range
    return [
        Score("psnr", region, psnr(case.volume, case.truth.data, span, mask), "dB")
        for region, mask in case.regions.items()
    ]


def score_ssim(case: Case) -> list[Score]:
    """Return SSIM over the field of view and in the brain."""
    span = case.truth.data_range
    return [
        Score("ssim", region, ssim(case.volume, case.truth.data, span, mask), "")
        for region, mask in case.regions.items()
    ]


def score_cdsc(case: Case) -> list[Score]:
    """Return, for every stripper, cDSC and the distance of the two masks' surfaces, and Dice with the manual mask."""
    scores = []
    for stripper in case.strippers:
        mask = brain_mask(case, stripper)
        if case.method != "hr":
            truth = brain_mask(case_of_truth(case), stripper)
            scores.append(Score("cdsc", stripper, dice(mask, truth), ""))
            scores.append(Score("hd95", stripper, hd95_mm(mask, truth, case.truth.spacing_mm), "mm"))
        if case.truth.mask is not None:
            scores.append(Score("dice_manual", stripper, dice(mask, case.truth.mask), ""))
    return scores


def score_sharpness(case: Case) -> list[Score]:
    """Return the sharpness along each axis, over the truth's."""
    spacing, mask = case.truth.spacing_mm, case.truth.mask

    def ratio(axis: int) -> float:
        return sharpness(case.volume, axis, spacing, mask) / sharpness(case.truth.data, axis, spacing, mask)

    return [Score("sharpness", AXES[axis], ratio(axis), "ratio to HR") for axis in range(3)]


def score_stitching(case: Case) -> list[Score]:
    """Return the jumps from slice to slice along each axis, over the truth's."""
    mask = case.truth.mask

    def ratio(axis: int) -> float:
        return stitching(case.volume, axis, mask) / stitching(case.truth.data, axis, mask)

    return [Score("stitching", AXES[axis], ratio(axis), "ratio to HR") for axis in range(3)]


def score_residual(case: Case) -> list[Score]:
    """Return how far the volume, degraded again, is from the slices, as a share of their range."""
    if case.slices is None:
        return []
    degraded = SliceOperator.build(case.slices.geometry).forward(torch.from_numpy(np.ascontiguousarray(case.volume)))
    return [Score("residual", "", consistency_residual(degraded.numpy(), case.slices.data), "share of range")]


def score_volumes(case: Case) -> list[Score]:
    """Return every structure's volume, its error and its Dice with the animal's own labels and with those on HR."""
    if case.method not in VOLUMETRY_METHODS or not case.atlases:
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
    if case.method != "hr":
        on_hr = carried_labels(case_of_truth(case))
        scores += [Score("structure_dice_hr", name, value, "") for name, value in structure_dice(found, on_hr).items()]
    return scores


METRICS: dict[str, Callable[[Case], list[Score]]] = {
    "psnr": score_psnr,
    "ssim": score_ssim,
    "cdsc": score_cdsc,
    "sharpness": score_sharpness,
    "stitching": score_stitching,
    "residual": score_residual,
    "volumes": score_volumes,
}


def metric(name: str) -> Callable[[Case], list[Score]]:
    """Return a metric by its name.

    Raises:
        SettingsError: There is no such metric.
    """
    if name not in METRICS:
        raise SettingsError(f"--metrics: must be among {', '.join(METRICS)}, got {name}; correct it")
    return METRICS[name]
