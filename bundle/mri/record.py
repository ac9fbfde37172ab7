"""The record of a run: what was done, and what the user should know of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from bida.device import dtype_choice, notes_of
from bida.diffusion.int8 import integer_network
from bida.diffusion.prior import PlanePrior
from bida.mri.content import at_once
from bida.mri.familiarity import UNFAMILIAR
from bida.mri.measurement import ScanMeta
from bida.mri.settings import Settings
from bida.provenance import Clock, versions

BETTER_DB = 0.1  # than interpolation: less is not worth a word


def describe(
    meta: ScanMeta,
    settings: Settings,
    prior: PlanePrior,
    clock: Clock,
    adapted: Mapping[str, Any] | None = None,
    scans: Sequence[Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """Return the record of a run, as JSON can hold it.

    Args:
        meta: Of the result, on the scan's grid.
        settings: Of the run.
        prior: As it was sampled.
        clock: What the parts took.
        adapted: What an adaptation did.
        scans: What was found of each scan, where several were combined.
    """
    device = next(prior.parameters()).device
    int8 = settings.is_mean and integer_network(prior) is not None
    choice = dtype_choice(settings.dtype, device, int8)  # as it was made: a process measures once
    return {
        "source": meta.source,
        "scans": None if scans is None else [dict(one) for one in scans],
        "settings": asdict(settings),
        "estimate": "mean" if settings.is_mean else "draws",
        "steps": settings.steps_taken,
        "samples": settings.samples,
        "device": str(device),
        "dtype": prior.arithmetic(settings.is_mean),
        "dtype_choice": choice.how,
        "at_once": at_once(device.type),
        "weights_sha256": prior.weights_sha256,
        "slice_geometry": meta.geometry and json.loads(meta.geometry.to_json()),
        "slice_thickness_from": meta.thickness_from,
        "slice_thickness_estimate": meta.thickness_estimate,
        "slices": meta.slices,
        "grid_ras": [asdict(grid) for grid in meta.grids],
        "noise": meta.noise_level,
        "data_consistency": meta.residuals,
        **uncertainty_of(prior, settings.is_mean, meta.self_check),
        "adapted": adapted,
        "self_check": meta.self_check,
        "verdict": verdict(meta.self_check, scans is not None),
        "warnings": [
            *meta.warnings,
            *check_warnings(settings, meta.self_check, scans is not None),
            *notes_of(settings.device, choice),
        ],
        "seconds": dict(clock.seconds),
        "versions": versions(),
    }


def uncertainty_of(prior: PlanePrior, mean: bool, check: Mapping[str, Any] | None) -> dict[str, str | float]:
    """Return what the uncertainty of a run is made by.

    Args:
        prior: whose numbers count (`PlanePrior.uncertainty`) where the scan's own slices did not tell.
        mean: whether it is that of the mean in one step.
        check: what the self-check found.
    """
    scale = None if check is None else check["spread_scale"]
    if mean and scale is not None:
        return {"uncertainty_from": "self-check", "uncertainty_scale": scale}
    found: dict[str, str | float] = {"uncertainty_from": "weights"}
    parts = ("scale", "floor", "noise") if mean else ("scale", "floor")
    name = "spread" if mean else "uncertainty"
    return found | {f"uncertainty_{part}": round(float(getattr(prior, f"{name}_{part}")), 4) for part in parts}


def check_warnings(settings: Settings, check: Mapping[str, Any] | None, several: bool = False) -> list[str]:
    """Return what the user should know of the self-check, a sentence each.

    Args:
        settings: of the run.
        check: what was found.
        several: whether scans were combined: how familiar those are nobody measured, the usual gain is of one scan.
    """
    if not settings.self_check:
        return []
    if check is None:
        return ["the slices are too small or too empty for a self-check: compare the result with interpolation"]
    if several or round(check["familiarity"], 2) >= UNFAMILIAR:  # as it is shown
        return []
    return [
        "the scan is unlike what the priors know: look at the result, and adapt the priors to it (superres --adapt "
        "auto, or bida adapt and --model)"
    ]


def verdict(check: Mapping[str, Any] | None, several: bool = False) -> str | None:
    """Return what the self-check found in one sentence; None where there was none.

    Args:
        check: what it found.
        several: whether scans were combined.
    """
    if check is None:
        return None
    if several:
        if round(check["better_db"], 1) < BETTER_DB:
            return "on these scans: no better than interpolation of one of them; look at the result"
        return f"on these scans: {check['better_db']:.1f} dB better than interpolation of the best one, by their slices"
    if check["weight"] > 0 and check.get("familiarity") == 0:
        return "on this scan: its slices hold hardly more than noise, which is smoothed; nothing more can be promised"
    if check["weight"] > 0 and round(check["better_db"], 1) >= BETTER_DB:
        return f"on this scan: {check['better_db']:.1f} dB better than interpolation, by its own slices"
    return "on this scan: no better than interpolation; the result is interpolation made to agree with the slices"
