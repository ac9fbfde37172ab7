"""Thick slices of an isotropic volume as a file, with the sidecar that says how they lie on its grid."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bida.io.files import sidecar_path, write_json
from bida.io.nifti import source_header, write_volume
from bida.physics.geometry import SliceGeometry
from bida.physics.grid import AXES, AxisGrid, resampled_affine, spacing_of
from bida.physics.rician import add_noise, add_noise_of_snr
from bida.physics.simulate import check_simulation, simulate_slices
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
    """

    geometry: SliceGeometry
    noise: float
    kind: str


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
        overwrite: replace existing files.

    Returns:
        How the slices lie on the source's grid, and the noise that they got.

    Raises:
        ScanError: The source cannot be used, or the output not be written.
        SettingsError: A value is out of its range.
    """
    check_simulation(factor, noise, seed, snr)
    loaded = LoadScan(volume)(source)
    orient = OrientRAS()
    thin, turned = orient.forward(loaded)
    along, spacing = AXES.index(axis), spacing_of(thin.affine)
    slices, geometry = simulate_slices(thin.data[0], spacing[along], along, factor, thickness_mm, profile)
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
    write_volume(output, thick.numpy(), thick.affine, source_header(source), overwrite=overwrite)
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
        "versions": versions(),
    }
    write_json(sidecar_path(output), record, overwrite=overwrite)
    return Simulated(geometry, noise, kind)
