"""Every volume of a scan of several, each restored by itself, as one result with the scan's axis of time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from bida.errors import OutOfMemoryError, SettingsError
from bida.io.nifti import source_header
from bida.io.scan import IN_MEMORY, volumes_of
from bida.io.volumes import OneVolume
from bida.mri.memory import available_bytes
from bida.mri.result import Result, Stored
from bida.mri.settings import EVERY, Settings
from bida.progress import Progress

# what the record has for each volume; the rest is the same for all and stands once
OWN = ("slices", "noise", "data_consistency", "self_check", "verdict", "warnings", "seconds")
Restore = Callable[[Settings, Progress | None], Result]


def restore_series(
    source: str | Path | nib.Nifti1Pair, settings: Settings, restore: Restore, progress: Progress | None = None
) -> Result:
    """Restore every volume of a scan; of a scan of one, that.

    Args:
        source: The scan: a file, a DICOM folder, a ParaVision scan, or a nibabel NIfTI image.
        settings: Of the run, with ``volume`` as ``all``.
        restore: Restores the one volume that settings name.
        progress: Called with (steps done, steps in all), over all volumes.

    Returns:
        Volumes [X, Y, Z, T], their uncertainty alike, and one record: ``volumes`` lists what each has of its own
        (`OWN`), and what it is where the scan tells; above it stand the largest residuals, the seconds of all, and
        every warning once.

    Raises:
        ScanError: The scan cannot be used, or its volumes do not lie on one grid.
        SettingsError: An option is for one volume.
        OutOfMemoryError: The result is larger than the memory that is free.
    """
    if settings.adapt is not None:
        raise SettingsError(
            f"--adapt: is for one volume, got --volume {EVERY}; adapt to one of them by bida adapt and give --model"
        )
    found = volumes_of(source, series=settings.series, echo=settings.echo)
    count = len(found.parts)
    if count == 1:
        return restore(chosen(settings, found.parts[0]), progress)
    parts = list[Result]()
    for number, one in enumerate(found.parts):
        told = None if progress is None else _share(progress, number, count)
        parts.append(restore(chosen(settings, one), told))
        if number == 0:
            _check_memory(source, parts[0], count)
    stds = [one.std for one in parts if one.std is not None]
    kept = [one.residual for one in parts]
    residual = None if None in kept else SeriesResidual(tuple(one for one in kept if one is not None))
    return Result(
        np.stack([one.data for one in parts], axis=-1),
        parts[0].affine,
        np.stack(stds, axis=-1) if stds else None,
        record_of([one.record for one in parts], settings, [one.name for one in found.parts], found.step_s),
        tuple(dict.fromkeys(warning for one in parts for warning in one.warnings)),
        source_header(source) or found.header(),
        residual,
    )


def chosen(settings: Settings, one: OneVolume) -> Settings:
    """Return the settings of one volume of several."""
    return replace(settings, volume=one.number, echo=settings.echo if one.echo is None else one.echo)


def first_volume(source: str | Path | nib.Nifti1Pair, settings: Settings) -> Settings:
    """Return settings for one volume: as they are, or of the first where they are for every one.

    Raises:
        ScanError: See `bida.io.scan.volumes_of`.
    """
    if settings.volume != EVERY:
        return settings
    return chosen(settings, volumes_of(source, series=settings.series, echo=settings.echo).parts[0])


@dataclass(frozen=True)
class SeriesResidual:
    """Measure volumes [X, Y, Z, T] against their scans: the largest of what each says."""

    parts: tuple[Stored, ...]

    def __call__(self, volume: NDArray) -> float:
        """Return max |A x - y| over the range of y, of the volume where that is largest."""
        return max(one(volume[..., number]) for number, one in enumerate(self.parts))

    def told(self, volume: NDArray, record: Mapping[str, Any]) -> dict[str, Any]:
        """Return the entries of a run's record that say how far a volume [X, Y, Z, T] is from its scans."""
        every = [
            {**own, **one.told(volume[..., number], own)}
            for number, (one, own) in enumerate(zip(self.parts, record["volumes"], strict=True))
        ]
        return {"data_consistency": worst_of([own["data_consistency"] for own in every]), "volumes": every}


def record_of(
    records: Sequence[dict[str, Any]], settings: Settings, names: Sequence[str] = (), step_s: float | None = None
) -> dict[str, Any]:
    """Return one record of those of all volumes, of what each is, and of the seconds from one to the next."""
    told = [{"what": name} if name else {} for name in names] or [{}] * len(records)
    parts = {part: None for one in records for part in one["seconds"]}
    gains = [(one["self_check"]["better_db"], k) for k, one in enumerate(records) if one["self_check"] is not None]
    least = min(gains)[1] if gains else None
    return {
        **records[0],
        "settings": {**records[0]["settings"], "volume": settings.volume, "echo": settings.echo},
        "slices": None,
        "noise": None,
        "self_check": None,
        "data_consistency": worst_of([one["data_consistency"] for one in records]),
        "verdict": None if least is None else f"volume {least}, which gains least: {records[least]['verdict']}",
        "warnings": list(dict.fromkeys(warning for one in records for warning in one["warnings"])),
        "seconds": {part: round(sum(one["seconds"].get(part, 0.0) for one in records), 3) for part in parts},
        **({} if step_s is None else {"volumes_apart_s": step_s}),
        "volumes": [
            {"volume": number, **what, **{name: one[name] for name in OWN}}
            for number, (what, one) in enumerate(zip(told, records, strict=True))
        ],
    }


def worst_of(residuals: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the largest of each residual, None where one is not told."""
    return {
        name: None if any(one[name] is None for one in residuals) else max(one[name] for one in residuals)
        for name in residuals[0]
    }


def _share(progress: Progress, number: int, count: int) -> Progress:
    """Return the progress of one volume of several."""
    return lambda done, total: progress(number * total + done, count * total)


def _check_memory(source: str | Path | nib.Nifti1Pair, first: Result, count: int) -> None:
    """Check that all volumes fit, given the first."""
    each = first.data.nbytes + (0 if first.std is None else first.std.nbytes)
    free = available_bytes()
    needed = 2 * each * (count - 1)  # what is kept, and what is put together at the end
    if free is not None and needed > free:
        named = IN_MEMORY if isinstance(source, nib.Nifti1Pair) else source
        raise OutOfMemoryError(
            f"{named}: {count} volumes need about {needed / 1e9:.1f} GB, got {free / 1e9:.1f} GB free; "
            "give a larger --spacing, or --volume for one at a time"
        )
