"""From several thick-slice scans of one animal to one isotropic volume."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from bida.errors import ScanError, SettingsError
from bida.io.nifti import source_header
from bida.mri.align import Alignment, align, aligned
from bida.mri.joint import EXACT, JointMeasurement
from bida.mri.measurement import Measurement, ScanMeta
from bida.mri.result import Result
from bida.mri.run import Prepared, Source, finished, measured, ready_prior, slices_way, way_of
from bida.mri.settings import Settings
from bida.physics.grid import AXES, spacing_of
from bida.physics.joint import SAME_SIZE, LocatedScan
from bida.progress import Progress, Report
from bida.provenance import Clock
from bida.transforms.backproject import BackProject
from bida.transforms.base import ScanImage, VolumeStep, geometry_of
from bida.transforms.bias import CorrectBias, DivideBias
from bida.transforms.load import LoadScan
from bida.transforms.orient import OrientRAS
from bida.transforms.pad import PadToNetwork
from bida.transforms.way import Record, back

OF_ONE_SCAN = ("axis", "factor")  # options that no two scans share
COARSE = 1.2  # in-plane voxels of another scan over those of the result, from which they blur it
CONTRADICTION = 0.02  # root mean square in tissue, on the prior's scale, that is worth a note


@dataclass(frozen=True)
class Part:
    """One of the scans.

    Attributes:
        name: what notes and errors call it.
        image: its slices in [-1, 1], [1, R, A, S].
        records: of the steps that made them.
        isotropic: A+ y on its own isotropic grid.
        located: the slices in the world.
        sizes_mm: voxels of the scan's own, on R, A, S.
    """

    name: str
    image: ScanImage
    records: list[Record]
    isotropic: ScanImage
    located: LocatedScan
    sizes_mm: tuple[float, ...]

    @property
    def uneven(self) -> bool:
        """Whether the voxels of its isotropic grid are not of one size."""
        sizes = spacing_of(self.isotropic.affine)
        return max(sizes) > (1 + SAME_SIZE) * min(sizes)

    @classmethod
    def of(cls, source: Source, settings: Settings, bias: Sequence[VolumeStep] = ()) -> Part:
        """Read a scan, whose bias field N4 finds, or is known and taken out by steps."""
        image, records = slices_way(settings, bias).there(source)
        step = BackProject()
        isotropic, record = step.forward(image)
        meta = ScanMeta.of(image.meta)
        noise = 0.0 if meta.noise is None else meta.noise * meta.scale
        located = LocatedScan(image.data[0], geometry_of(image), isotropic.affine, noise)
        oriented, _ = OrientRAS().forward(LoadScan.of(settings)(source))
        sizes = spacing_of(oriented.affine)
        return cls(meta.source or "scan", image, [*records, (step, record)], isotropic, located, sizes)


def restore_combined(
    sources: Sequence[Source],
    settings: Settings | None = None,
    progress: Progress | None = None,
    on_draw: Callable[[NDArray[np.float32]], None] | None = None,
    on_adapt: Report | None = None,
    checkpoint: Path | None = None,
) -> Result:
    """Turn scans of one animal and one contrast into one isotropic volume, on the grid of the first.

    Each scan is seen through its own slice profile, at its own place, which is found from its voxels
    (`bida.mri.align`) unless ``settings.align`` is false, and counts by its own noise.

    Args:
        sources: Two scans or more, as `bida.mri.pipeline.restore` takes them.
        settings, progress, on_draw, on_adapt, checkpoint: See there.

    Returns:
        As there; in the record, ``scans`` tells of each.

    Raises:
        ScanError: A scan cannot be used, or does not show what the first shows.
        SettingsError: A setting is out of range, contradicts another, or is for one scan.
        WeightsError: The weights are missing or not what they should be.
    """
    settings = settings or Settings()
    check_several(sources, settings)
    clock = Clock()
    prior = ready_prior(settings, clock)
    parts = read(sources, settings)
    clock.lap("preprocess")
    joined, found, notes = joinable(parts, settings)
    clock.lap("align")
    if len(joined) == 1:
        image, records = way_of(settings, prior.stride).there(sources[0])
        one = measured(image, prior)
        part = Prepared(sources[0], one, [one], image, records)
        alone = finished(part, settings, prior, clock, progress, on_draw, on_adapt, checkpoint)
        scans = [Told(part, its).record() for part, its in zip(parts, found)]
        warnings = (*alone.warnings, *notes)
        return replace(alone, record={**alone.record, "scans": scans, "warnings": list(warnings)}, warnings=warnings)
    first = parts[0]
    pad = PadToNetwork(prior.stride)
    image, record = pad.forward(first.isotropic)
    device = next(prior.parameters()).device
    scan = JointMeasurement([replace(one, y=one.y.to(device)) for one in joined], prior.stride)
    slices = [Measurement(one.y, one.geometry, noise=one.noise) for one in joined]

    def told(volume: Tensor) -> list[dict[str, Any]]:
        return [one.record() for one in Told.of(parts, found, scan, volume)]

    notes += contradictions(parts, scan)
    clock.lap("preprocess")
    part = Prepared(sources[0], scan, slices, image, [*first.records, (pad, record)], told, tuple(notes))
    return finished(part, settings, prior, clock, progress, on_draw, on_adapt, checkpoint)


def least_squares(sources: Sequence[Source], settings: Settings | None = None) -> Result:
    """Return what the scans tell without a prior: the smoothest start, corrected to agree with all of them.

    Args, Raises: See `restore_combined`.
    """
    settings = settings or Settings()
    check_several(sources, settings)
    clock = Clock()
    parts = read(sources, settings)
    joined, found, notes = joinable(parts, settings)
    first, scan = parts[0], JointMeasurement(joined, 1, 1)
    reference = scan.reference(scan.noise_of(settings))
    undone = back(reference, first.isotropic, first.records)
    clock.lap("total")
    record = {"method": "least squares", "scans": [one.record() for one in Told.of(parts, found, scan, reference)]}
    warnings = (*ScanMeta.of(first.image.meta).warnings, *notes, *contradictions(parts, scan))
    record["warnings"] = list(warnings)
    return Result(undone.numpy(), undone.affine, None, record, warnings, source_header(sources[0]))


def check_several(sources: Sequence[Source], settings: Settings) -> None:
    """Check what several scans cannot share.

    Raises:
        SettingsError: There is one scan alone, one twice, or an option is for one scan.
    """
    if len(sources) < 2:
        raise SettingsError(f"combine: must be two scans or more, got {len(sources)}; leave --combine out for one")
    files = [str(Path(one).resolve()) for one in sources if not isinstance(one, nib.Nifti1Pair)]
    for file in files:
        if files.count(file) > 1:
            raise SettingsError(f"{file}: scans to be combined must differ, got it twice; name each once")
    for name in OF_ONE_SCAN:
        if getattr(settings, name) is not None:
            raise SettingsError(
                f"--{name}: is for one scan, got {len(sources)} to combine; leave it out, or give --spacing"
            )


def read(sources: Sequence[Source], settings: Settings) -> list[Part]:
    """Return the scans, the others' in-plane voxels as large as the voxels of the first one's result.

    The bias field of the first one is that of all: N4 finds another field in each, and what is left then contradicts.
    """
    first = Part.of(sources[0], settings)
    bias = [
        DivideBias(record["log_field"], record["affine"])
        for step, record in first.records
        if isinstance(step, CorrectBias)
    ]
    others = replace(settings, spacing=first.located.geometry.voxel_mm, like=None, n4=False)
    if first.uneven:
        raise SettingsError(
            "--like: voxels must be as large on every axis where scans are combined, got others; give another grid"
        )
    parts = [first]
    for source in sources[1:]:
        try:
            parts.append(Part.of(source, others, bias))
        except ScanError as error:
            raise ScanError(f"{error}; or leave it out of --combine") from error
    return told_noise(parts)


def told_noise(parts: Sequence[Part]) -> list[Part]:
    """Return scans none of which counts as exact beside noisy ones, of which it would overrule what they measured.

    One whose noise is too little to matter alone has what was found, one whose noise can't be told as much as the
    noisiest.
    """
    most = max(part.located.noise for part in parts)
    if most <= 0:
        return list(parts)
    found = []
    for part in parts:
        if part.located.noise <= 0:
            meta = ScanMeta.of(part.image.meta)
            level = (meta.noise_level or {}).get("sigma")
            noise = most if level is None else max(float(level) * meta.scale, EXACT)
            part = replace(part, located=replace(part.located, noise=noise))
        found.append(part)
    return found


def contradictions(parts: Sequence[Part], scan: JointMeasurement) -> list[str]:
    """Return notes on scans that do not go together, a sentence each."""
    voxel, notes = parts[0].located.geometry.voxel_mm, []
    for part in parts[1:]:
        coarsest = max(size for axis, size in enumerate(part.sizes_mm) if axis != part.located.geometry.axis)
        if coarsest > COARSE * voxel:
            notes.append(
                f"{part.name}: in-plane voxels of {coarsest:.3g} mm are coarser than the result's {voxel:.3g} mm, and "
                "blur it there: name the finest scan first, and leave this one out where the result is not better"
            )
    if scan.least > CONTRADICTION:
        notes.append(
            f"the scans contradict each other by {50 * scan.least:.0f}% of their range: check slice thicknesses and "
            "positions"
        )
    return notes


def joinable(parts: Sequence[Part], settings: Settings) -> tuple[list[LocatedScan], list[Alignment], list[str]]:
    """Return the scans at their places, what was found of all, and a note on each that is left out.

    Raises:
        ScanError: A scan shows something else than the first.
    """
    found = align([part.located for part in parts], search=settings.align)
    # the first one's own notes are with its image
    notes = [f"{part.name}: {note}" for part in parts[1:] for note in ScanMeta.of(part.image.meta).warnings]
    joined = []
    for part, its in zip(parts, found):
        if its.problem is None:
            joined.append(aligned(part.located, its))
        elif its.refused:
            raise ScanError(f"{part.name}: must show what {parts[0].name} shows, {its.problem}; restore it alone")
        else:
            notes.append(f"{part.name} was left out: {its.problem}")
    return joined, found, notes


@dataclass(frozen=True)
class Told:
    """What the record says of one scan."""

    part: Part
    found: Alignment
    residual: float | None = None
    over_noise: float | None = None

    @classmethod
    def of(cls, parts: Sequence[Part], found: Sequence[Alignment], scan: JointMeasurement, x: Tensor) -> list[Told]:
        """Tell of every scan, given the volume that was made of those that were joined."""
        residuals, leftovers = iter(scan.residuals(x)), iter(scan.leftovers(x))
        told = []
        for part, its in zip(parts, found):
            if its.problem is not None:
                told.append(cls(part, its))
                continue
            left = next(leftovers).over_noise if part.located.noise > 0 else None
            told.append(cls(part, its, next(residuals), left))
        return told

    def record(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        meta, its, geometry = ScanMeta.of(self.part.image.meta), self.found, self.part.located.geometry
        return {
            "source": self.part.name,
            "joined": its.problem is None,
            "problem": its.problem,
            "through_plane_axis": AXES[geometry.axis],
            "slice_geometry": json.loads(geometry.to_json()),
            "slice_thickness_from": meta.thickness_from,
            "noise": meta.noise_level,
            "pose": np.round(its.matrix, 6).tolist(),
            "shift_mm": round(its.shift_mm, 4),
            "degrees": round(its.degrees, 3),
            "correlation": round(its.correlation, 4),
            "gain": round(its.gain, 4),
            "offset": round(its.offset, 4),
            "smooth_gain": [round(value, 5) for value in its.field],
            "residual": None if self.residual is None else float(f"{self.residual:.3g}"),
            "residual_over_noise": self.over_noise,
        }
