"""One scan of many: restored in whatever process takes it, skipped where that was done before, its failure kept."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bida.errors import BidaError, ScanError
from bida.io.checkpoints import discard_used
from bida.io.claim import claimed
from bida.io.files import atomic, check_output, discard, make_folder, stem
from bida.mri import same
from bida.mri.same import record_of
from bida.mri.settings import Settings
from bida.report.viewer import check_page, is_own_page

DONE, KEPT, FAILED = "done", "kept", "failed"


@dataclass(frozen=True)
class Job:
    """What is to be done with a scan, or with several that make one volume.

    Attributes:
        scans: Paths; of more than one the first gives the grid.
        output: NIfTI file to write.
        settings: Of the run.
        overwrite: Replace results that exist, whatever they were made with.
        report: Write a page beside the result, ``<name>.html``.
        fields: What the sidecar says beside the record, such as what a BIDS sidecar said of the scan; what is called
            with the scans where their values are to be looked at.
        copies: Files that hold for the result, too, and where they go beside it; None for one that must not be there.
    """

    scans: tuple[str, ...]
    output: str
    settings: Settings
    overwrite: bool = False
    report: bool = False
    fields: Mapping[str, Any] = field(default_factory=dict)
    copies: tuple[tuple[str | None, str], ...] = ()

    @property
    def page(self) -> Path:
        """The page beside the result."""
        return Path(self.output).with_name(f"{stem(self.output)}.html")


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Attributes:
        scan: The (first) scan.
        output: The result.
        state: ``done``, ``kept`` (it was there, made of the same scan by the same settings) or ``failed``.
        error: One line, of a failure.
        seconds: That it took.
        told: What the record says of the result: verdict, figures, warnings.
    """

    scan: str
    output: str
    state: str
    error: str | None = None
    seconds: float = 0.0
    told: Mapping[str, Any] = field(default_factory=dict)


def fingerprint(job: Job) -> dict[str, Any]:
    """Return what a job's result depends on, see `bida.mri.same.fingerprint`."""
    return same.fingerprint(job.scans, job.settings)


def is_the_same(job: Job) -> bool:
    """Return whether a result is there that was made of the same scans by the same settings and weights."""
    record = record_of(job.output)
    return record is not None and all(record.get(key) == value for key, value in fingerprint(job).items())


def is_finished(job: Job) -> bool:
    """Return whether nothing is left to be done: the result is there, and its page where one is wanted."""
    return not job.overwrite and (job.page.is_file() or not job.report) and is_the_same(job)


def kept(job: Job) -> Outcome | None:
    """Return the outcome of a job that was done before; None where it is still to be done, or its scan not there."""
    try:
        finished = is_finished(job)
    except BidaError:  # told when the scan is read
        return None
    return Outcome(job.scans[0], job.output, KEPT, told=told_of(record_of(job.output) or {})) if finished else None


def unreadable(job: Job) -> Outcome | None:
    """Return the failure of a job whose scan cannot be read; None where it can."""
    from bida.mri.series import first_volume
    from bida.transforms.load import LoadScan

    start = time.perf_counter()
    try:
        for scan in job.scans[:1]:  # of several, others may be left out
            LoadScan.of(first_volume(scan, job.settings))(scan)
    except Exception as error:
        return failed(job, error, start)
    return None


def failed(job: Job, error: Exception, start: float) -> Outcome:
    """Return the outcome of a job that an error has ended, in one line."""
    line = " ".join(str(error).split())
    if not isinstance(error, BidaError):  # whatever one scan brings up must not take the others with it
        line = f"{job.scans[0]}: {type(error).__name__}: {line[:300]}"
    return Outcome(job.scans[0], job.output, FAILED, line, time.perf_counter() - start)


def do(job: Job, make: Callable[[Job], dict[str, Any]] | None = None) -> Outcome:
    """Restore a scan, unless that was done; what goes wrong with it comes back as its outcome.

    Args:
        job: What is to be done.
        make: Writes the result and returns its record; `restored` where None.
    """
    start = time.perf_counter()
    try:
        before = kept(job)
        if before is not None:
            discard_used(checkpoint_of(job), job.output)
            return before
        record = (make or restored)(job)
    except Exception as error:
        return failed(job, error, start)
    return Outcome(job.scans[0], job.output, DONE, None, time.perf_counter() - start, told_of(record))


def restored(job: Job) -> dict[str, Any]:
    """Restore a job's scans, write the result, its record and its page; return the record."""
    make_folder(Path(job.output).parent)
    with claimed(job.output, job.page if job.report else None, *(target for _, target in job.copies)):
        return _restored(job)


def _restored(job: Job) -> dict[str, Any]:
    from bida.mri.combine import restore_combined
    from bida.mri.pipeline import restore

    overwrite = job.overwrite or is_the_same(job)  # where the page alone is missing
    output = check_place(job, overwrite)
    if job.report:
        check_page(job.page)
    checkpoint = checkpoint_of(job)
    if len(job.scans) == 1:
        result = restore(job.scans[0], job.settings, checkpoint=checkpoint)
    else:
        result = restore_combined(job.scans, job.settings, checkpoint=checkpoint)
    said = {name: value(job.scans) if callable(value) else value for name, value in job.fields.items()}
    result.record.update({name: value for name, value in said.items() if name not in result.record})
    result.record.update(fingerprint(job))
    for source, target in job.copies:
        if source is None:
            Path(target).unlink(missing_ok=True)
            continue
        with atomic(target) as temporary:
            shutil.copyfile(source, temporary)
    result.save(output, overwrite=overwrite)
    discard(checkpoint)
    if job.report:
        from bida.mri.qc import write_page

        write_page(job.page, job.scans[0], job.settings, result, overwrite=True)
    elif is_own_page(job.page):  # of the result that was there before
        job.page.unlink()
    return result.record


def checkpoint_of(job: Job) -> Path:
    """Return where an adaptation that is cut off is kept."""
    return Path(job.output).with_name(f"{stem(job.output)}_adapt.ckpt")


def check_place(job: Job, overwrite: bool) -> Path:
    """Check, before any work, that a job's result can be written; return its path.

    Raises:
        ScanError: A result is there of another scan or other settings, or see `bida.io.files.check_output`.
    """
    if not overwrite and record_of(job.output) is not None:
        raise ScanError(
            f"{job.output}: is there, of another scan or made by other settings; give --overwrite, or another folder"
        )
    return check_output(job.output, overwrite=overwrite, with_record=True)


def told_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures that a cohort is sorted by, of a series its worst volume's; None where there are none."""
    volumes = [volume for volume in record.get("volumes") or () if volume.get("self_check") is not None]
    if volumes:
        record = {**record, **{name: min(volumes, key=_better_db)[name] for name in ("self_check", "noise")}}
    check, noise = record.get("self_check") or {}, record.get("noise") or {}
    return {
        "verdict": record.get("verdict"),
        "better_db": check.get("better_db"),
        "familiarity": None if record.get("scans") else check.get("familiarity"),  # of one scan alone
        "residual_over_noise": (noise.get("residual") or {}).get("over_noise"),
        "snr": noise.get("snr"),
        "warnings": list(record.get("warnings") or ()),
    }


def _better_db(volume: Mapping[str, Any]) -> float:
    return float(volume["self_check"]["better_db"])
