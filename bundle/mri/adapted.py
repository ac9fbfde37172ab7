"""Adaptation as a part of a run: whether it may pay, asked before, and whether it did, asked of slices it never saw.

Both are asked of the self-check (`bida.mri.selfcheck`), whose slices no adaptation is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bida.diffusion.prior import PlanePrior
from bida.errors import SettingsError
from bida.mri.evidence import Evidence
from bida.mri.measurement import Measurement
from bida.mri.sampler import BiplanarSampler
from bida.mri.selfcheck import SelfCheck
from bida.mri.settings import AUTO, Settings
from bida.progress import Report
from bida.provenance import Clock

KNOWN = 0.9  # familiarity from which an adaptation was not found to be worth its time (`docs/development.md`)


@dataclass(frozen=True)
class Adapted:
    """What became of an adaptation.

    Attributes:
        check: the self-check of the priors that go on, None where there is none.
        record: what was done; None where nothing was asked for.
        notes: what the user should know, a sentence each.
    """

    check: SelfCheck | None
    record: dict[str, Any] | None = None
    notes: tuple[str, ...] = ()


def adapted(
    prior: PlanePrior,
    scan: Evidence,
    slices: Sequence[Measurement],
    settings: Settings,
    clock: Clock,
    checkpoint: Path | None = None,
    report: Report | None = None,
) -> Adapted:
    """Check a prior on a scan, and where that is asked for fine-tune it, in place, if the scan's own slices gain.

    Args:
        prior: the prior, loaded.
        scan: what is going to be restored.
        slices: sharp slices, of each scan.
        settings: of the run.
        clock: told of the time that checks and training take.
        checkpoint, report: see `bida.mri.adapt.adapt_prior`.

    Raises:
        SettingsError: minutes are given, and the slices are too small or too few to be trained on.
    """
    sampler = BiplanarSampler(settings)
    before = sampler.check(scan, prior)
    clock.lap("self_check")
    if settings.adapt is None:
        return Adapted(before)
    reason = unpromising(before, slices, settings, prior.stride) if settings.adapt == AUTO else None
    if reason is not None:
        return Adapted(before, {"minutes": 0.0, "steps": 0, "kept": False}, (f"the priors were not adapted: {reason}",))
    from bida.mri.adapt import adapt_prior  # training code loads when it is used

    first = {name: value.clone() for name, value in prior.state_dict().items()}
    done = adapt_prior(prior, slices, settings.adapt_minutes, settings, checkpoint, report)
    clock.lap("adapt")
    after = sampler.check(scan, prior)
    clock.lap("self_check")
    if before is None or after is None:
        return Adapted(after, {**done, "kept": True, "gain_db": None})
    gain = after.gain_shrunk_db - before.gain_shrunk_db
    done = {**done, "kept": gain > 0, "gain_db": round(gain, 4)}
    if gain > 0:
        return Adapted(after, done)
    prior.load_state_dict(first)
    note = f"the adaptation was left out: on slices that it had not seen it changed the result by {gain:+.2f} dB"
    return Adapted(before, done, (note,))


def unpromising(check: SelfCheck | None, slices: Sequence[Measurement], settings: Settings, stride: int) -> str | None:
    """Return why an adaptation will not pay, in words; None where it may."""
    from bida.mri.adapt import Adaptation, ScanSlices

    if check is None:
        return "the slices are too small or too empty for a self-check, which would tell whether that helps"
    if check.familiarity == 0:
        return "the slices hold hardly more than noise"
    if check.familiarity >= KNOWN:
        return "the priors know such scans, on which hardly anything is gained"
    known = [ScanSlices.of(scan, settings) for scan in slices]
    how = Adaptation.of(settings.adapt_minutes, settings)
    try:
        how.fitted(known, stride)
    except SettingsError:
        return f"the slices are smaller than {stride} voxels"
    if not all(scan.free() for scan in known):
        return "there are no slices beside those that the self-check keeps"
    return None
