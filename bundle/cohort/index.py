"""The page of a cohort: every scan with its picture and figures, to be sorted, and marked as pass or fail."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import nibabel as nib
import numpy as np

from bida.cohort.job import FAILED, KEPT, Outcome, told_of
from bida.drawing import cut, focus, grey_window
from bida.io.files import atomic, stem
from bida.io.nifti import ras
from bida.mri.qc import bricks_of
from bida.mri.same import record_of
from bida.physics.geometry import SliceGeometry
from bida.report.viewer import check_page, page, png_base64, thumbnail

NAME = "index.html"
COLUMNS = (  # key, title, digits behind the point, what it means
    ("better_db", "better than interpolation, dB", 2,
     "on the scan's own slices, made thick and restored; 1 dB is an error 11% smaller; below 0.1: none"),
    ("familiarity", "familiarity", 2, "that gain as a share of the usual one; below 0.5 look twice"),
    ("bricks", "brick index", 2, "steps at the borders of slices, over those within; 1: no bars"),
    ("residual_over_noise", "residual over noise", 2,
     "how far the result, made thick again, is from the scan; 1: as far as the noise"),
    ("snr", "SNR", 1, "mean in tissue over the noise of one slice"),
)  # fmt: skip


def write_index(folder: str | Path, outcomes: Sequence[Outcome]) -> Path:
    """Write the page of a cohort into its folder, atomically, in place of the one that is there; return it.

    Results of earlier runs that are in the folder are shown too.

    Args:
        folder: Of the results.
        outcomes: Of the jobs, in the order shown at first.
    """
    there = {Path(outcome.output).resolve() for outcome in outcomes}
    others = [path for path in results_in(Path(folder)) if path.resolve() not in there]
    rows = [row_of(Path(folder), outcome) for outcome in (*outcomes, *map(outcome_of, others))]
    columns = [(key, title, hint) for key, title, _, hint in COLUMNS]
    text = page("index.html.j2", rows=rows, columns=columns, folder=Path(folder).name)
    file = Path(folder) / NAME
    check_page(file)
    with atomic(file) as temporary:
        Path(temporary).write_text(text, encoding="utf-8")
    return file


def results_in(folder: Path) -> list[Path]:
    """List the results in a folder and those below it, sorted: volumes with a record of bida's."""
    found = sorted(path for path in folder.rglob("*.nii.gz") if "superres" in path.name)
    return [path for path in found if "weights_sha256" in (record_of(path) or {})]


def outcome_of(output: Path) -> Outcome:
    """Return the outcome of a result that is there."""
    record = record_of(output) or {}
    return Outcome(str(record.get("source", output)), str(output), KEPT, told=told_of(record))


def row_of(folder: Path, outcome: Outcome) -> dict[str, Any]:
    """Return what the page shows of an outcome."""
    beside = Path(outcome.output).with_name(f"{stem(outcome.output)}.html")
    told = dict(outcome.told)
    told["bricks"] = None
    picture = None
    error = outcome.error
    if outcome.state != FAILED and Path(outcome.output).is_file():
        try:
            told["bricks"], picture = looked_at(outcome)
        except Exception as damage:  # one damaged file must not take the page of all with it
            reason = " ".join(str(damage).split())[:100]
            error = f"{outcome.output}: cannot be read ({reason}); make it again by --overwrite"
    return {
        "name": Path(outcome.scan).name,
        "state": outcome.state,
        "error": error,
        "key": Path(outcome.output).name,
        "verdict": told.get("verdict"),
        "warnings": told.get("warnings") or [],
        "figures": [figure(told.get(key), digits) for key, _, digits, _ in COLUMNS],
        "picture": picture,
        "link": quote(os.path.relpath(beside, folder)) if beside.is_file() else None,
    }


def figure(value: float | None, digits: int) -> tuple[float | None, str]:
    """Return a number to sort by and its text; None and nothing where there is none."""
    return (None, "") if value is None else (float(value), f"{value:.{digits}f}")


def looked_at(outcome: Outcome) -> tuple[float | None, str]:
    """Return a result's brick index, None where it cannot be told, and a picture of its middle."""
    image = cast(nib.Nifti1Pair, nib.load(outcome.output))
    stored = np.asarray(image.dataobj)
    volume, spacing = ras(stored[..., 0] if stored.ndim > 3 else stored, image.affine)  # of a series the first
    described = (record_of(outcome.output) or {}).get("slice_geometry")
    geometry = None if described is None else SliceGeometry.from_json(json.dumps(described))
    axis = 1 if geometry is None else geometry.axis
    plane = {0: "coronal", 1: "sagittal", 2: "sagittal"}[axis]  # one that holds the through-plane axis
    place = (np.array(focus(volume)) - 0.5) * volume.shape * np.array(spacing)
    normal = {"coronal": 1, "sagittal": 0}[plane]
    picture = thumbnail(cut(volume, spacing, plane, float(place[normal])), grey_window(volume))
    return None if geometry is None else bricks_of(volume, geometry), png_base64(picture)
