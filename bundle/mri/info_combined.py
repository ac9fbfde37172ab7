"""What `bida info --combine` says of several scans: each of them, where it lies, and what they make together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bida.device import choose_device
from bida.diffusion.load import load_prior, prior_of
from bida.mri.combine import check_several, joinable, read
from bida.mri.info import noise_line
from bida.mri.joint import passes
from bida.mri.measurement import ScanMeta
from bida.mri.record import verdict
from bida.mri.sampler import BiplanarSampler
from bida.mri.settings import Settings
from bida.physics.grid import AXES


def information_combined(scans: Sequence[str], settings: Settings, checking: bool = False) -> str:
    """Return the plan of a run that combines scans, in lines of text: each scan, and what they are together.

    Args, Raises: See `information` and `bida.mri.combine.restore_combined`.
    """
    check_several(scans, settings)
    prior = load_prior(prior_of(settings.model), settings.model, choose_device(settings.device), settings.dtype)
    parts = read(scans, settings)  # with the bias field out, as superres compares them
    joined = joinable(parts, settings)
    rows: list[tuple[str, str]] = []
    for part, its in zip(parts, joined.found):
        geometry, meta = part.located.geometry, ScanMeta.of(part.image.meta)
        place = f"moved by {its.shift_mm:.3f} mm and {its.degrees:.2f} degrees, correlation {its.correlation:.3f}"
        rows += [
            ("scan", part.name),
            ("slices", f"{geometry.slices} across {AXES[geometry.axis]}, {geometry.slice_spacing_mm:.4g} mm apart, "
             f"{geometry.thickness_mm:.4g} mm thick ({meta.thickness_from})"),
            ("noise", noise_line(meta.noise_level)),
            ("place", "left out" if its.problem else "of the result" if part is parts[0] else place),
        ]  # fmt: skip
    measurement = joined.measurement(prior.stride)
    first = ScanMeta.of(parts[0].image.meta)
    if checking:
        check = BiplanarSampler(replace(settings, self_check=True)).check(measurement, prior)
        told = verdict(None if check is None else check.record(), several=True)
        rows.append(("self-check", told or "not possible: the slices are too small or too empty"))
    rows += [
        ("result", f"{' x '.join(str(grid.voxels) for grid in first.grids)} voxels of "
         f"{' x '.join(f'{grid.spacing_mm:.4g}' for grid in first.grids)} mm (R, A, S)"),
        ("restored in", f"{', '.join(dict.fromkeys(plane for plane, *_ in passes(measurement.axes)))} planes"),
        *(("note", note) for note in (*first.warnings, *joined.notes)),
    ]  # fmt: skip
    return "\n".join(["combined", *(f"  {name:<18}  {text}" for name, text in rows)])
