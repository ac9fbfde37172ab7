"""From several thick-slice scans of one animal to one isotropic volume."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bida.errors import ScanError, SettingsError
from bida.io.nifti import source_header
from bida.mri.align import Alignment, align, aligned, placed_by
from bida.mri.joint import EXACT, MINIMUM, JointMeasurement
from bida.mri.joint_slices import Shading, StoredScans
from bida.mri.measurement import Measurement, ScanMeta
from bida.mri.result import Result
from bida.mri.run import Prepared, finished, measured, ready_prior, slices_way, way_of
from bida.mri.settings import EVERY, Settings
from bida.mri.source import Source
from bida.physics.conjugate_gradients import ITERATIONS
from bida.physics.grid import AXES, spacing_of
from bida.physics.joint import SAME_SIZE, LocatedScan
from bida.progress import Progress, Report
from bida.provenance import Clock
from bida.transforms.backproject import BackProject
from bida.transforms.base import ScanImage, geometry_of
from bida.transforms.bias import CorrectBias, DivideBias, level_in_tissue
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
        bias: what was divided out of all scans; None for nothing.
        field: its values at the slices of this one, [R, A, S].
    """

    name: str
    image: ScanImage
    records: list[Record]
    isotropic: ScanImage
    located: LocatedScan
    sizes_mm: tuple[float, ...]
    bias: DivideBias | None = None
    field: Tensor | None = None

    @property
    def zero(self) -> float:
        """What intensity 0 is among its slices in [-1, 1]."""
        low, high = ScanMeta.of(self.image.meta).intensity_range
        return -1 - 2 * low / (high - low)

    @property
    def measured(self) -> LocatedScan:
        """The slices before the bias field was divided out of them."""
        if self.field is None:
            return self.located
        scan, y = self.located, (self.located.y - self.zero) * self.field + self.zero
        return replace(scan, y=y, noise=scan.noise * level_in_tissue(y.numpy(), self.field.numpy()))

    @property
    def uneven(self) -> bool:
        """Whether the voxels of its isotropic grid are not of one size."""
        sizes = spacing_of(self.isotropic.affine)
        return max(sizes) > (1 + SAME_SIZE) * min(sizes)

    @classmethod
    def of(cls, source: Source, settings: Settings, bias: DivideBias | None = None) -> Part:
        """Read a scan, whose bias field N4 finds, or is known."""
        image, records = slices_way(settings, [] if bias is None else [bias]).there(source)
        found = [record for step, record in records if isinstance(step, CorrectBias)]
        if found:
            bias = DivideBias(found[0]["log_field"], found[0]["affine"])
        field = None if bias is None else torch.from_numpy(bias.field(image))
        step = BackProject()
        isotropic, record = step.forward(image)
        meta = ScanMeta.of(image.meta)
        noise = 0.0 if meta.noise is None else meta.noise * meta.scale
        located = LocatedScan(image.data[0], geometry_of(image), isotropic.affine, noise)
        oriented, _ = OrientRAS().forward(LoadScan.of(settings)(source))
        sizes = spacing_of(oriented.affine)
        records = [*records, (step, record)]
        return cls(meta.source or "scan", image, records, isotropic, located, sizes, bias, field)


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
    joined = joinable(parts, settings)
    found, notes = joined.found, joined.notes
    clock.lap("align")
    if len(joined.scans) == 1:
        image, records = way_of(settings, prior.stride).there(sources[0])
        one = measured(image, prior)
        part = Prepared(sources[0], one, [one], image, records)
        alone = finished(part, settings, prior, clock, progress, on_draw, on_adapt, checkpoint)
        scans = [Told(part, its).record() for part, its in zip(parts, found)]
        return noted(replace(alone, record={**alone.record, "scans": scans}), notes)
    first = parts[0]
    pad = PadToNetwork(prior.stride)
    image, record = pad.forward(first.isotropic)
    device = next(prior.parameters()).device
    scan = joined.measurement(prior.stride, device=device)
    slices = [Measurement(one.y, one.geometry, noise=one.noise) for one in scan.scans]

    def told(volume: Tensor) -> list[dict[str, Any]]:
        return [one.record() for one in Told.of(parts, found, scan, volume)]

    notes = [*notes, *contradictions(parts, scan)]
    clock.lap("preprocess")
    part = Prepared(sources[0], scan, slices, image, [*first.records, (pad, record)], told, tuple(notes))
    result = finished(part, settings, prior, clock, progress, on_draw, on_adapt, checkpoint)
    stored = StoredScans.of(joined.scans, joined.shading, first.isotropic, first.records, result.affine)
    return noted(replace(result, residual=stored), unsolved(scan))


def noted(result: Result, notes: Sequence[str]) -> Result:
    """Return a result with more notes, in its record too."""
    warnings = (*result.warnings, *notes)
    return replace(result, record={**result.record, "warnings": list(warnings)}, warnings=warnings)


def unsolved(scan: JointMeasurement) -> list[str]:
    """Return a note where the volume that agrees with all scans was not found to its tolerance."""
    if scan.operator.solved:
        return []
    return [
        f"the volume that agrees with all scans was sought in {ITERATIONS} steps, and not found as exactly as it "
        "should be: residual in the record says how well each scan is given back"
    ]


def least_squares(sources: Sequence[Source], settings: Settings | None = None) -> Result:
    """Return what the scans tell without a prior: the smoothest start, corrected to agree with all of them.

    Args, Raises: See `restore_combined`.
    """
    settings = settings or Settings()
    check_several(sources, settings)
    clock = Clock()
    parts = read(sources, settings)
    joined = joinable(parts, settings)
    first, scan = parts[0], joined.measurement(1, 1)
    reference = scan.reference(scan.noise_of(settings))
    undone = back(reference, first.isotropic, first.records)
    clock.lap("total")
    record = {
        "method": "least squares",
        "scans": [one.record() for one in Told.of(parts, joined.found, scan, reference)],
    }
    warnings = (*ScanMeta.of(first.image.meta).warnings, *joined.notes, *contradictions(parts, scan), *unsolved(scan))
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
    if settings.volume == EVERY:
        raise SettingsError(f"--combine: is for one volume of each scan, got --volume {EVERY}; give a number from 0")
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
    others = replace(settings, spacing=first.located.geometry.voxel_mm, like=None, n4=False)
    if first.uneven:
        raise SettingsError(
            "--like: voxels must be as large on every axis where scans are combined, got others; give another grid"
        )
    parts = [first]
    for source in sources[1:]:
        try:
            parts.append(Part.of(source, others, first.bias))
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


@dataclass(frozen=True)
class Joined:
    """Scans at their places.

    Attributes:
        scans: those that are joined, as they were measured.
        found: what was found of all.
        notes: on each that is left out, a sentence each.
        shading: what the prior does not see of them; None for nothing.
    """

    scans: list[LocatedScan]
    found: list[Alignment]
    notes: list[str]
    shading: Shading | None

    def measurement(
        self, multiple: int, minimum: int = MINIMUM, device: torch.device | None = None
    ) -> JointMeasurement:
        """Return them as the sampler sees them."""
        shading = self.shading if device is None or self.shading is None else self.shading.to(device)
        scans = self.scans if device is None else [replace(one, y=one.y.to(device)) for one in self.scans]
        return JointMeasurement(scans, multiple, minimum, shading)


def joinable(parts: Sequence[Part], settings: Settings) -> Joined:
    """Find where the scans lie, and which can be joined.

    Raises:
        ScanError: A scan shows something else than the first.
    """
    found = align([part.located for part in parts], search=settings.align)
    # the first one's own notes are with its image
    notes = [f"{part.name}: {note}" for part in parts[1:] for note in ScanMeta.of(part.image.meta).warnings]
    for part, its in zip(parts, found):
        if its.problem is not None and its.refused:
            raise ScanError(f"{part.name}: must show what {parts[0].name} shows, {its.problem}; restore it alone")
        if its.problem is not None:
            notes.append(f"{part.name} was left out: {its.problem}")
    return without_shading(parts, found, notes, settings.align)


def without_shading(parts: Sequence[Part], found: Sequence[Alignment], notes: list[str], search: bool) -> Joined:
    """Return scans at their places with intensities like the first one's, and the field that the prior does not see.

    The last steps to the places, and the intensities, are found of the scans as they were measured: those of one animal
    through one field do not contradict each other, as they do once it is divided out of each, at places that their
    headers tell. What else a coil does is in `Alignment.field`.
    """
    known = [place for place, its in enumerate(found) if its.problem is None]
    first, told = parts[0], list(found)
    if first.bias is None:
        return Joined([aligned(parts[place].located, found[place]) for place in known], told, notes, None)
    measured = [parts[place].measured for place in known]
    there = [replace(scan, affine=found[place].matrix @ scan.affine) for place, scan in zip(known, measured)]
    for place, scan, its in zip(known, measured, align(there, search=search, near=True)):
        # where the field is so strong that only scans without it can be compared, what was found of those holds
        if its.problem is None:
            moved = placed_by(scan, its.matrix @ found[place].matrix)
            its = replace(its, matrix=moved.matrix, shift_mm=moved.shift_mm, degrees=moved.degrees)
            told[place] = replace(its, correlation=found[place].correlation)
    volume = torch.ones_like(first.isotropic.data)
    step, record = next((step, record) for step, record in first.records if isinstance(step, CorrectBias))
    image = step.backward(replace(first.isotropic, data=volume), {**record, "restore": 1})
    fields = [first.bias.field(replace(parts[k].image, affine=told[k].matrix @ parts[k].image.affine)) for k in known]
    shading = Shading(image.data[0], [torch.from_numpy(field) for field in fields], first.zero)
    return Joined([aligned(scan, told[place]) for place, scan in zip(known, measured)], told, notes, shading)


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
