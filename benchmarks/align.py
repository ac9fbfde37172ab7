"""Measure how near the alignment of scans comes to true poses, and how it tells scans that must not be joined.

    python benchmarks/align.py DATA/mouse-rtg4510/sub-{15,24}/anat/*_T2w.nii.gz \
        --others DATA/mouse-rtg4510/sub-17/anat/*_T2w.nii.gz

Each isotropic volume is cropped to what is above 0, and made thick along the first of --axes as it is; along every
other one after a motion of up to --shift-mm and --degrees (drawn evenly from two balls), sampled by splines of order 5,
with Rician noise of each SNR (mean in tissue over sigma of a slice; 0: none). Printed in Markdown: median and 90th
percentile of the error of the scan's middle, in voxels, and of its rotation; the range of correlations, the refusals,
and CPU seconds a scan. The first two draws are also made of each file of --others and of the volume in changed
contrasts: `inverted` (bright for dark, air stays), `folded` (the distance from the median) and `root` (the square root,
which hardly differs). Scans of others and of the first two contrasts should be refused. With --csv a row for each scan
goes into a file; those that it has are not measured again.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import torch
from noisy_tables import Rows
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates, spline_filter
from scipy.spatial.transform import Rotation

from bida.mri.align import align
from bida.physics.grid import spacing_of
from bida.physics.joint import LocatedScan
from bida.physics.rician import add_noise_of_snr
from bida.physics.simulate import simulate_slices

COLUMNS = {"volume": "", "shown": "", "snr": "", "draw": "", "axis": "", "voxels": ".3f", "degrees": ".3f",
           "correlation": ".2f", "problem": "", "seconds": ".1f"}  # fmt: skip
MARGIN = 6  # voxels kept around what is above 0
REFUSED = 2  # draws of scans that must be refused

Volume = NDArray[np.float32]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("volumes", nargs="+", type=Path)
    parser.add_argument("--others", nargs="*", type=Path, default=[], help="volumes of other animals, voxels as large")
    parser.add_argument("--axes", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--factor", type=float, default=5.0)
    parser.add_argument("--snr", nargs="+", type=float, default=[0.0, 10.0])
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--shift-mm", type=float, default=0.5)
    parser.add_argument("--degrees", type=float, default=4.0)
    parser.add_argument("--bias", type=float, default=0.0, help="largest relative gain of a linear field of each scan")
    parser.add_argument("--csv", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = Rows(COLUMNS, arguments.csv)
    for draw, file in product(range(arguments.draws), arguments.volumes):
        measure(file, draw, arguments, rows)
    print("\n".join(markdown(rows.frame())))


def measure(file: Path, draw: int, arguments: argparse.Namespace, rows: Rows) -> None:
    """Add what is found of each scan of one volume in one draw of poses."""
    volume, voxel = loaded(file)
    draws = np.random.default_rng(draw)
    poses = [pose(draws, volume.shape, voxel, arguments) for _ in arguments.axes[1:]]
    shown = {"same": volume}
    if draw < REFUSED:
        shown |= changed(volume)
        shown |= {other.name.partition("_")[0]: loaded(other, volume.shape)[0] for other in arguments.others}
    for (name, values), snr in product(shown.items(), arguments.snr):
        key = {"volume": file.name.partition("_")[0], "shown": name, "snr": f"{snr:g}", "draw": draw}
        if rows.has(**key):
            continue
        spline = spline_filter(values, 5)
        scans = [
            scan_of(seen, voxel, axis, snr, 100 * draw + place, arguments)
            for place, (seen, axis) in enumerate(
                zip([volume, *(sampled(spline, matrix, voxel) for matrix in poses)], arguments.axes)
            )
        ]
        start = time.process_time()
        found = align(scans)[1:]
        seconds = (time.process_time() - start) / len(found)
        off = [errors(scan, one.matrix, truth) for scan, one, truth in zip(scans[1:], found, poses)]
        rows.add(*[
            {**key, "axis": scan.geometry.axis, "voxels": mm / voxel, "degrees": degrees,
             "correlation": one.correlation, "problem": one.problem or "", "seconds": seconds}
            for scan, one, (mm, degrees) in zip(scans[1:], found, off)
        ])  # fmt: skip


def loaded(file: Path, shape: tuple[int, ...] | None = None) -> tuple[Volume, float]:
    """Return a volume about the middle of what is above 0, of a shape where one is given, and its voxel size, mm."""
    image = nib.as_closest_canonical(nib.load(file))
    volume = np.asarray(image.dataobj, dtype=np.float32)
    corners = np.argwhere(volume > 0)
    low, high = corners.min(axis=0) - MARGIN, corners.max(axis=0) + 1 + MARGIN
    if shape is None:
        low, high = np.maximum(low, 0), np.minimum(high, volume.shape)
        return volume[tuple(slice(a, b) for a, b in zip(low, high))], float(spacing_of(image.affine)[0])
    around = max(*shape, *volume.shape)
    start = (low + high) // 2 - np.array(shape) // 2 + around
    padded = np.pad(volume, around)
    return padded[tuple(slice(a, a + n) for a, n in zip(start, shape))], float(spacing_of(image.affine)[0])


def changed(volume: Volume) -> dict[str, Volume]:
    """Return a volume in other contrasts."""
    top = float(np.percentile(volume[volume > 0.1 * volume.max()], 98))
    inside = np.clip(volume / (0.15 * top), 0, 1)
    median = float(np.median(volume[volume > 0.3 * top]))
    return {
        "inverted": inside * np.clip(1.1 * top - volume, 0, None),
        "folded": inside * (0.4 * top + np.abs(volume - median)),
        "root": inside * np.sqrt(np.clip(volume, 0, None) * top),
    }


def pose(draws: np.random.Generator, shape: tuple[int, ...], voxel: float, arguments: argparse.Namespace) -> NDArray:
    """Return a rigid matrix, mm, header's world to true world, about the middle of the grid."""
    balls = draws.normal(size=(2, 3))
    balls *= draws.uniform(size=(2, 1)) ** (1 / 3) / np.linalg.norm(balls, axis=1, keepdims=True)
    middle, matrix = (np.array(shape) - 1) / 2 * voxel, np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec(np.radians(arguments.degrees) * balls[0]).as_matrix()
    matrix[:3, 3] = middle + arguments.shift_mm * balls[1] - matrix[:3, :3] @ middle
    return matrix


def sampled(spline: Volume, matrix: NDArray, voxel: float) -> Volume:
    """Return a volume, given by its spline's coefficients, as a scanner sees it whose header is off by a matrix."""
    k = np.stack(np.meshgrid(*[np.arange(n) for n in spline.shape], indexing="ij")) * voxel
    there = np.tensordot(matrix[:3, :3], k, axes=1) + matrix[:3, 3].reshape(3, 1, 1, 1)
    return map_coordinates(spline, there / voxel, order=5, prefilter=False).astype(np.float32)


def scan_of(
    volume: Volume, voxel: float, axis: int, snr: float, seed: int, arguments: argparse.Namespace
) -> LocatedScan:
    """Return the thick slices of a volume, percentiles 1 and 99 at -1 and 1."""
    slope = np.random.default_rng(seed).normal(size=3)
    places = np.meshgrid(*[np.linspace(-1, 1, n) for n in volume.shape], indexing="ij", sparse=True)
    field = 1 + arguments.bias * sum(s * p for s, p in zip(slope / np.abs(slope).sum(), places))
    y, geometry = simulate_slices((volume * field).astype(np.float32), voxel, axis, arguments.factor)
    y, noise = add_noise_of_snr(y, axis, snr, seed) if snr else (y, 0.0)
    low, high = np.percentile(y, (1, 99))
    unit = float(2 / (high - low))
    scaled = torch.from_numpy(((y - low) * unit - 1).astype(np.float32))
    return LocatedScan(scaled, geometry, np.diag([voxel] * 3 + [1.0]), noise * unit)


def errors(scan: LocatedScan, matrix: NDArray, truth: NDArray) -> tuple[float, float]:
    """Return how far the scan's middle is off, mm, and by how much it is turned, degrees."""
    middle = scan.affine @ np.append((np.array(scan.shape) - 1) / 2, 1)
    turn = Rotation.from_matrix(matrix[:3, :3] @ truth[:3, :3].T).magnitude()
    return float(np.linalg.norm((matrix @ middle - truth @ middle)[:3])), float(np.degrees(turn))


def markdown(table: pd.DataFrame) -> Iterator[str]:
    """Yield the lines of a table: a row for each volume, SNR and what the moved scans show."""
    yield "| volume | SNR | shown | scans | voxels off | degrees off | correlation | refused | CPU s a scan |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    for (volume, snr, shown), part in table.groupby(["volume", "snr", "shown"], sort=False):
        off = [f"{part[name].median():.3f}, {part[name].quantile(0.9):.3f}" for name in ("voxels", "degrees")]
        alike = f"{part['correlation'].min():.2f} to {part['correlation'].max():.2f}"
        refused = str(int((part["problem"].fillna("") != "").sum()))
        cells = [volume, snr, shown, str(len(part)), *off, alike, refused, f"{part['seconds'].median():.1f}"]
        yield "| " + " | ".join(str(cell) for cell in cells) + " |"


if __name__ == "__main__":
    main()
