"""Scans made for `noisy.py`: volumes that are their own truth, thick slices of them, lesions, and figures of merit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dct
from scipy.ndimage import distance_transform_edt

from bida.eval import brick_index, psnr, slice_borders
from bida.experiment.methods import ThickScan
from bida.experiment.truth import ISOTROPIC, PERCENTILES
from bida.io.files import sidecar_path, stem, write_json
from bida.io.nifti import write_volume
from bida.physics.geometry import SliceGeometry
from bida.physics.grid import AxisGrid, resampled_affine, spacing_of
from bida.physics.rician import add_noise, sigma_of_snr, tissue
from bida.physics.simulate import simulate_slices
from bida.transforms.load import LoadScan
from bida.transforms.orient import OrientRAS

Volume = NDArray[np.float32]
SEED = 0  # of noise: the same for every method, with and without lesions
RADII = (4.5, 3.0, 2.0, 1.5, 1.0)  # of lesions, voxels, the largest first: it is the hardest to place
MARGIN = 2.0  # voxels of tissue around a lesion
APART = 8.0  # voxels between the surfaces of two lesions
FAR = 10.0  # voxels from every lesion: where nothing should change


@dataclass(frozen=True)
class Truth:
    """A volume that is its own truth.

    Attributes:
        name: the file's, without suffix.
        path: NIfTI in RAS.
        data: [R, A, S].
        affine: 4 x 4, voxel index to mm.
        axis: through-plane axis of the slices to be made of it.
        inside: its tissue, [R, A, S].
    """

    name: str
    path: Path
    data: Volume
    affine: NDArray[np.float64]
    axis: int
    inside: NDArray[np.bool_]

    @property
    def data_range(self) -> float:
        """Intensity between the 1st and the 99th percentile."""
        low, high = np.percentile(self.data, PERCENTILES)
        return float(high - low)


def read_truth(source: Path, axis: int, folder: Path, crop: int | None = None) -> Truth:
    """Read an isotropic volume, or a cube of `crop` voxels about the middle of its tissue, and write it as RAS."""
    image, _ = OrientRAS().forward(LoadScan()(source))
    data, affine = np.ascontiguousarray(image.numpy()), np.array(image.affine)
    sizes = spacing_of(affine)
    if max(sizes) > ISOTROPIC * min(sizes):
        raise SystemExit(f"{source}: truth must be isotropic, got {sizes} mm; give another volume")
    if crop is not None:
        middle = np.median(np.argwhere(tissue(data, axis)), axis=0)
        start = [int(np.clip(m - crop // 2, 0, max(n - crop, 0))) for m, n in zip(middle, data.shape)]
        data = np.ascontiguousarray(data[tuple(slice(a, a + crop) for a in start)])
        affine[:3, 3] += affine[:3, :3] @ start
    path = folder / f"{stem(source)}_truth.nii.gz"
    write_volume(path, data, affine, overwrite=True)
    return Truth(stem(source), path, data, affine, axis, tissue(data, axis))


def noise_of(truth: Truth, factor: float, snr: float) -> float:
    """Return sigma of a slice for an SNR in the tissue of the slices, in the truth's intensities; 0 for inf."""
    if math.isinf(snr):
        return 0.0
    slices, _ = simulate_slices(truth.data, spacing_of(truth.affine)[truth.axis], truth.axis, factor)
    return sigma_of_snr(slices, snr, tissue(slices, truth.axis))


def snr_of(text: str) -> float:
    """Read an SNR; clean is no noise."""
    return math.inf if text == "clean" else float(text)


def snr_name(snr: float) -> str:
    return "clean" if math.isinf(snr) else f"{snr:g}"


def thick_scan(
    truth: Truth,
    data: Volume,
    factor: float,
    sigma: float,
    path: Path,
    axis: int | None = None,
    seed: int = SEED,
    margin: int = 0,
) -> ThickScan:
    """Write thick slices (SLR, as thick as they are apart) of data on a truth's grid, with Rician noise and a sidecar.

    Each slice has noise of its own. They are across the truth's axis where none is given. Data may show a margin of so
    many voxels more at either end of that axis.
    """
    sizes, axis = spacing_of(truth.affine), truth.axis if axis is None else axis
    slices, geometry = simulate_slices(data, sizes[axis], axis, factor, margin=margin)
    if sigma > 0:
        slices = add_noise(slices, sigma, seed)
    shape = truth.data.shape
    grids = [AxisGrid(n, size) for n, size in zip(shape, sizes)]
    grids[axis] = AxisGrid(geometry.slices, geometry.slice_spacing_mm)
    affine = resampled_affine(truth.affine, shape, sizes, grids)
    write_volume(path, slices, affine, overwrite=True)
    sidecar = {"SliceThickness": geometry.thickness_mm, "SpacingBetweenSlices": geometry.slice_spacing_mm}
    write_json(sidecar_path(path), sidecar, overwrite=True)
    return ThickScan(path, slices, affine, geometry, truth.path, shape, truth.affine)


def bricks(volume: Volume, truth: Truth, geometry: SliceGeometry) -> float:
    """Return the brick index in the truth's tissue."""
    borders = slice_borders(geometry.slice_centres_mm(), geometry.voxel_centres_mm())
    return brick_index(volume, truth.axis, borders, truth.inside)


def quality(volume: Volume, truth: Truth) -> float:
    """Return the PSNR in tissue against the truth without noise, dB."""
    return psnr(volume, truth.data, truth.data_range, truth.inside)


def detail(volume: Volume, truth: Volume, axis: int, factor: float) -> float:
    """Return how much of a truth's structure finer than its slices along the axis a volume has, <v, t> / <t, t>.

    Of the cosines along the axis those count that are above 1 / (2 factor) cycles a voxel, the Nyquist frequency of
    the slices. What a volume has there that is not the truth's, as bars or noise, counts for nothing.
    """
    first = math.floor(truth.shape[axis] / factor) + 1  # cosine k has k / (2 n) cycles a voxel
    one, other = (
        np.moveaxis(dct(part.astype(np.float64), axis=axis, norm="ortho"), axis, 0)[first:] for part in (volume, truth)
    )
    return float((one * other).sum() / np.square(other).sum())


@dataclass(frozen=True)
class Lesion:
    """A ball of tissue that is brighter or darker.

    Attributes:
        centre: voxels, [R, A, S].
        radius: voxels, to half of the contrast.
        sign: 1 for bright, -1 for dark.
    """

    centre: tuple[float, float, float]
    radius: float
    sign: int

    def share(self, shape: Sequence[int]) -> Volume:
        """Return how much of each voxel it is, [R, A, S], 0 to 1: its edge is soft over half a voxel to either side."""
        away = sum((g - c) ** 2 for g, c in zip(np.ogrid[tuple(slice(n) for n in shape)], self.centre))
        return np.clip(self.radius + 0.5 - np.sqrt(away), 0, 1).astype(np.float32)


def place_lesions(inside: NDArray[np.bool_], seed: int) -> list[Lesion]:
    """Place a bright and a dark lesion of each radius of `RADII` deep in tissue and apart, at random, without overlap.

    What has no room is left out.
    """
    draw = np.random.default_rng(seed)
    depth, away = distance_transform_edt(inside), np.full(inside.shape, np.inf)
    placed = list[Lesion]()
    for radius in RADII:
        for sign in (1, -1):
            room = np.argwhere((depth >= radius + MARGIN) & (away >= radius + APART))
            if not len(room):
                continue
            # off the voxels' centres, so that lesions lie on slices in every way
            r, a, s = (float(c) for c in draw.choice(room) + draw.uniform(-0.5, 0.5, 3))
            placed.append(Lesion((r, a, s), radius, sign))
            grids = np.ogrid[tuple(slice(n) for n in inside.shape)]
            distance = np.sqrt(sum((g - c) ** 2 for g, c in zip(grids, placed[-1].centre))) - radius
            away = np.minimum(away, distance)
    return placed


def with_lesions(truth: Truth, lesions: Sequence[Lesion], contrast: float) -> Volume:
    """Return the truth with lesions of a contrast, a share of the tissue's mean; no voxel falls below 0."""
    mean = float(truth.data[truth.inside].mean(dtype=np.float64))
    changed = truth.data + contrast * mean * sum(one.sign * one.share(truth.data.shape) for one in lesions)
    return np.maximum(changed, np.minimum(truth.data, 0))


def recovered(change: Volume, true_change: Volume, lesion: Lesion) -> float:
    """Return how much of a lesion's contrast a change of the result has, <change, lesion> / <lesion, lesion>."""
    where = lesion.share(change.shape) > 0
    one, other = (part[where].astype(np.float64) for part in (change, true_change))
    return float((one * other).sum() / np.square(other).sum())


def far_from(lesions: Sequence[Lesion], inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the tissue that is more than `FAR` voxels from every lesion."""
    touched = np.any([one.share(inside.shape) > 0 for one in lesions], axis=0)
    return np.asarray((distance_transform_edt(~touched) > FAR) & inside)
