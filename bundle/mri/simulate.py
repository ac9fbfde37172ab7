"""Thick slices of an isotropic volume as a file, with the sidecar that says how they lie on its grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from bida.errors import SettingsError
from bida.io.files import recorded
from bida.io.nifti import source_header, write_volume
from bida.physics.geometry import Float, SliceGeometry
from bida.physics.grid import AXES, AxisGrid, resampled_affine, spacing_of
from bida.physics.rician import add_noise, add_noise_of_snr
from bida.physics.simulate import check_motion, check_simulation, margin_of, moved, random_motion, simulate_slices
from bida.provenance import versions
from bida.transforms.base import ScanImage
from bida.transforms.load import LoadScan
from bida.transforms.orient import OrientRAS


@dataclass(frozen=True)
class Simulated:
    """What was simulated.

    Attributes:
        geometry: how the slices lie on the source's grid.
        noise: standard deviation of the noise of one slice, in intensity units.
        kind: of that noise, ``rician`` or ``gaussian``; empty without noise.
        motion: 4 x 4, mm: where the header says p, the slices show what the source has at M p; None where it lay still.
    """

    geometry: SliceGeometry
    noise: float
    kind: str
    motion: Float | None = None


def simulate_file(
    source: str | Path,
    output: str | Path,
    factor: float,
    axis: str = "A",
    thickness_mm: float | None = None,
    profile: str = "slr",
    noise: float = 0.0,
    seed: int = 0,
    volume: int | None = None,
    *,
    snr: float | None = None,
    motion: Float | None = None,
    overwrite: bool = False,
) -> Simulated:
    """Write the thick slices that a scanner would have made of an isotropic volume, and a JSON sidecar.

    Args:
        source: the isotropic volume.
        output: NIfTI file to write, in the source's orientation.
        factor: slice spacing over voxel size.
        axis: through-plane axis, ``R``, ``A`` or ``S``.
        thickness_mm: slice thickness (FWHM), mm; the slice spacing when None.
        profile: ``slr``, ``gaussian``, ``box`` or a file.
        noise: standard deviation of Gaussian noise to add, in intensity units.
        seed: seed of the noise.
        volume: which volume of a 4D file.
        snr: instead of `noise`, Rician noise as a scanner gives it to each slice, in the background too: the mean
            in what `bida.physics.rician.tissue` finds over its standard deviation.
        motion: of the source before it is made thick (see `bida.physics.simulate.moved`), which the header of the
            slices does not tell, but the sidecar.
        overwrite: replace existing files.

    Returns:
        How the slices lie on the source's grid, and the noise that they got.

    Raises:
        ScanError: The source cannot be used, or the output not be written.
        SettingsError: A value is out of its range.
    """
    check_simulation(factor, noise, seed, snr)
    loaded = LoadScan(volume, labels=None)(source)  # phantoms are made of even patches, too
    orient = OrientRAS()
    thin, turned = orient.forward(loaded)
    along, spacing = AXES.index(axis), spacing_of(thin.affine)
    margin, shown = 0, thin.data[0]
    if motion is not None:  # slices at the ends see what moved into them
        margin = margin_of(thin.shape[along], factor)
        shown = torch.from_numpy(moved(thin.numpy(), thin.affine, motion, along, margin))
    slices, geometry = simulate_slices(shown, spacing[along], along, factor, thickness_mm, profile, margin=margin)
    kind = "gaussian" if noise > 0 else ""
    if snr is not None:
        kind = "rician"
        slices, noise = add_noise_of_snr(slices, along, snr, seed)
    elif noise > 0:
        slices = add_noise(slices, noise, seed, kind)
    grids = [AxisGrid(size, step) for size, step in zip(thin.shape, spacing)]
    grids[along] = AxisGrid(geometry.slices, geometry.slice_spacing_mm)
    affine = resampled_affine(thin.affine, thin.shape, spacing, grids)
    thick = orient.backward(ScanImage(slices[None], affine), turned)
    record = {
        "SliceThickness": geometry.thickness_mm,
        "SpacingBetweenSlices": geometry.slice_spacing_mm,
        "Simulated": True,
        "source": str(source),
        "slice_geometry": {**vars(geometry)},
        "noise": noise,
        "noise_kind": kind or None,
        "snr": snr,
        "seed": seed,
        "hr_shape": list(thin.shape),
        "hr_affine": thin.affine.tolist(),
        **({} if motion is None else {"motion": motion.tolist()}),
        "versions": versions(),
    }
    with recorded(output, record, overwrite=overwrite) as temporary:
        write_volume(temporary, thick.numpy(), thick.affine, source_header(source))
    return Simulated(geometry, noise, kind, motion)


def simulate_set(
    source: str | Path,
    outputs: Sequence[str | Path],
    factor: float,
    axes: Sequence[str],
    thickness_mm: float | None = None,
    profile: str = "slr",
    noise: float = 0.0,
    seed: int = 0,
    volume: int | None = None,
    *,
    snr: float | None = None,
    move: tuple[float, float] | None = None,
    overwrite: bool = False,
) -> list[Simulated]:
    """Write several scans of one isotropic volume, each across an axis and with noise of its own.

    Args:
        source: the isotropic volume.
        outputs: a NIfTI file a scan.
        factor: see `simulate_file`, as for all that is not named here.
        axes: the through-plane axis of each.
        thickness_mm: of all of them.
        profile: of all of them.
        noise: of each.
        seed: the first scan's noise is that of `simulate_file`, every other one's follows from the seed and its place.
        volume: which volume of a 4D file.
        snr: of each.
        move: largest shift, mm, and turn, degrees, about the middle of the field of view, by which the object has
            moved in every scan but the first (`bida.physics.simulate.random_motion`).
        overwrite: replace existing files.

    Returns:
        What each is like, in the order given.

    Raises:
        ScanError: The source cannot be used, or an output not be written.
        SettingsError: A value is out of its range, or there are not as many outputs as axes.
    """
    if len(outputs) != len(axes) or not axes:
        raise SettingsError(f"outputs must be as many as axes, at least one, got {len(outputs)} and {len(axes)}")
    if move is not None:
        check_motion(*move)
    made = []
    for place, (output, axis) in enumerate(zip(outputs, axes)):
        own = seed if place == 0 else _seed_of(seed, place, "noise")
        motion = None
        if move is not None and place > 0:
            motion = random_motion(*move, _middle(source, volume), _seed_of(seed, place, "motion"))
        given = (factor, axis, thickness_mm, profile, noise, own, volume)
        made.append(simulate_file(source, output, *given, snr=snr, motion=motion, overwrite=overwrite))
    return made


def _seed_of(seed: int, place: int, what: str) -> int:
    """Return the seed of a scan's noise or motion, which is no other scan's, nor that of another seed."""
    return int(np.random.SeedSequence([seed, place, len(what)]).generate_state(1)[0])


def _middle(source: str | Path, volume: int | None) -> Float:
    """Return the middle of a scan's field of view, mm."""
    scan = LoadScan(volume, labels=None)(source)  # phantoms are made of even patches, too
    middle: Float = (scan.affine @ [*(np.array(scan.shape) - 1) / 2, 1.0])[:3]
    return middle
