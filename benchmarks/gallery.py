"""Draw the pictures of docs/gallery.md, of the built-in synthetic brain: python benchmarks/gallery.py docs

A minute or two on one core; it needs no data.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

import bida
from bida.drawing import GivenVolume
from bida.eval import psnr
from bida.mri.preview import preview
from bida.mri.synthetic_brain import synthetic_brain
from bida.physics.geometry import SliceGeometry
from bida.physics.grid import AxisGrid, resampled_affine
from bida.physics.interpolation import cubic
from bida.physics.rician import tissue

VOXEL_MM = 0.15
FACTOR = 5.0
THIN = (VOXEL_MM,) * 3
Image = tuple[NDArray, NDArray, SliceGeometry]  # slices [R, A, S], their affine, how they lie


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the pictures go")
    folder: Path = parser.parse_args().folder
    truth, affine = synthetic_brain(VOXEL_MM)
    coronal, axial, sagittal = (scan(truth, affine, axis, snr=20.0, seed=axis) for axis in (1, 2, 0))
    mean = restored(coronal)

    draws = {"cubic": cubic(coronal[0], coronal[2]), "bida, the mean": mean.data, "one draw": drawn(coronal).data}
    draw(folder / "gallery_draws.png", draws, truth, {"3 x uncertainty of the mean": 3 * mean.std})

    scans = {"one scan": mean.data, "two scans": restored(coronal, axial).data}
    scans["three scans"] = restored(coronal, axial, sagittal).data
    draw(folder / "gallery_scans.png", scans, truth)

    noisy = scan(truth, affine, 1, snr=10.0, seed=3)
    noise = {"cubic, SNR 10": cubic(noisy[0], noisy[2]), "--noise 0": restored(noisy, noise=0).data}
    noise["bida, noise estimated"] = restored(noisy).data
    draw(folder / "gallery_noise.png", noise, truth)


def scan(truth: NDArray, affine: NDArray, axis: int, snr: float, seed: int) -> Image:
    """Return thick slices of the brain along an axis, with a scanner's noise."""
    slices, geometry = bida.simulate(truth, VOXEL_MM, axis, FACTOR, snr=snr, seed=seed)
    grids = [AxisGrid(size, VOXEL_MM) for size in truth.shape]
    grids[axis] = AxisGrid(geometry.slices, geometry.slice_spacing_mm)
    return slices, resampled_affine(affine, truth.shape, THIN, grids), geometry


def restored(*scans: Image, noise: float | str = "auto") -> bida.Result:
    """Return the mean of what scans can come from, on the grid of the truth."""
    images = [nib.Nifti1Image(slices, affine) for slices, affine, _ in scans]
    if len(images) == 1:
        return bida.superres(images[0], n4=False, noise=noise)
    return bida.superres(images, n4=False, noise=noise, align=False)


def drawn(one: Image) -> bida.Result:
    """Return one draw."""
    return bida.superres(one[0], affine=one[1], n4=False, samples=1)


def draw(
    path: Path, volumes: Mapping[str, NDArray], truth: NDArray, others: Mapping[str, NDArray] | None = None
) -> None:
    """Draw volumes beside the truth, with their PSNR in tissue against it; others without."""
    data_range, inside = float(np.subtract(*np.percentile(truth, [99, 1]))), tissue(truth, 1)
    scores = {name: psnr(volume, truth, data_range, inside) for name, volume in volumes.items()}
    panels: dict[str, GivenVolume] = {name: (volume, THIN) for name, volume in {**volumes, **(others or {})}.items()}
    preview(path, {**panels, "truth": (truth, THIN)}, psnr=scores)
    print(path, {name: round(score, 2) for name, score in scores.items()})


if __name__ == "__main__":
    main()
