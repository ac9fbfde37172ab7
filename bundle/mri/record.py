"""The record of a run: what was done, and what the user should know of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from bida.device import dtype_choice
from bida.diffusion.prior import PlanePrior
from bida.mri.familiarity import THRESHOLD_DB
from bida.mri.measurement import ScanMeta
from bida.mri.settings import Settings
from bida.provenance import Clock, versions


def describe(
    meta: ScanMeta,
    settings: Settings,
    prior: PlanePrior,
    clock: Clock,
    adapted: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the record of a run, as JSON can hold it.

    Args:
        meta: Of the result, on the scan's grid.
        settings: Of the run.
        prior: As it was sampled.
        clock: What the parts took.
        adapted: What an adaptation did.
    """
    device = next(prior.parameters()).device
    choice = dtype_choice(settings.dtype, device)  # as it was made: a process measures once
    return {
        "source": meta.source,
        "settings": asdict(settings),
        "estimate": "mean" if settings.is_mean else "draws",
        "steps": settings.steps_taken,
        "samples": settings.samples,
        "device": str(device),
        "dtype": str(prior.compute_dtype).removeprefix("torch."),
        "dtype_choice": choice.how,
        "weights_sha256": prior.weights_sha256,
        "slice_geometry": meta.geometry and asdict(meta.geometry),
        "slice_thickness_from": meta.thickness_from,
        "grid_ras": [asdict(grid) for grid in meta.grids],
        "data_consistency": meta.residuals,
        "uncertainty_scale": round(float(prior.uncertainty_scale), 4),
        "uncertainty_floor": round(float(prior.uncertainty_floor), 4),
        "adapted": adapted,
        "self_check": meta.self_check,
        "warnings": [
            *meta.warnings,
            *check_warnings(settings, meta.self_check),
            *([] if choice.warning is None else [choice.warning]),
        ],
        "seconds": dict(clock.seconds),
        "versions": versions(),
    }


def check_warnings(settings: Settings, check: Mapping[str, Any] | None) -> list[str]:
    """Return what the user should know of the self-check, a sentence each."""
    if not settings.self_check:
        return []
    if check is None:
        return ["the slices are too small or too empty for a self-check: compare the result with interpolation"]
    found = []
    known = check["familiarity_db"]
    if known < THRESHOLD_DB:
        found.append(
            f"the scan is unlike what the priors know (familiarity {known:.1f} dB, below {THRESHOLD_DB:g}): "
            "look at the result, and adapt the priors to it (superres --adapt 10, or bida adapt and --model)"
        )
    weight, least = check["weight_of_result"], ""
    if weight is None:  # the mean of the planes' priors bears no less than one of them
        weight, least = check["weight"], "at least "
    if weight < 0.95:
        found.append(
            f"on the scan's own slices the bare priors gain {check['gain_db']:+.2f} dB on cubic + projection, so the "
            f"result takes {least}{weight:.0%} from them and the rest from cubic + projection"
            + ("; the draws' part of an uncertainty map is smaller by the same share" if settings.samples > 1 else "")
        )
    return found
