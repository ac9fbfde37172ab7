"""A mark stays at its place on the whole way from a scan to its result: any orientation, tilt, size, gap or overlap."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from conftest import world
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from bida.mri.run import way_of
from bida.mri.settings import Settings
from bida.transforms.way import back

CODES = ["".join(one) for axes in itertools.permutations(("RL", "AP", "SI")) for one in itertools.product(*axes)]
NEAR = 0.05  # voxels of the scan
SIGMA_MM = 0.75
RADIUS_MM = 1.2
SETTINGS = Settings(n4=False, noise=0, correct_slices=False, profile="gaussian")  # whose slices' centres lie on voxels


def blob(points: NDArray[np.float64], place: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.exp(-(((points - place.reshape(3, 1, 1, 1)) / SIGMA_MM) ** 2).sum(0) / 2)


def made(number: int, folder: Path) -> tuple[Path, NDArray[np.float64], nib.Nifti1Image]:
    """Write a scan of one blob; return its path, the blob's place and the image."""
    rng = np.random.default_rng(number)
    sizes = np.array([rng.uniform(0.12, 0.2), rng.uniform(0.12, 0.2), rng.uniform(0.45, 0.7)])
    shape = rng.integers([30, 30, 15], [42, 42, 20])
    turn = Rotation.from_euler("xyz", rng.uniform(-25, 25, 3), degrees=True).as_matrix()
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag(sizes)
    affine[:3, 3] = rng.uniform(-5, 5, 3) - affine[:3, :3] @ (shape - 1) / 2
    place = affine[:3] @ [*((shape - 1) / 2 + rng.uniform(-1, 1, 3)), 1]
    thickness = sizes[2] * rng.choice([0.6, 0.8, 1.0, 1.4])  # gap, none, overlap
    values = np.zeros(shape)
    for share in np.linspace(-0.5, 0.5, 9):
        moved = affine.copy()
        moved[:3, 3] += turn[:, 2] * share * thickness
        values += blob(world(shape, moved), place)
    codes = CODES[number % len(CODES)]
    change = nib.orientations.ornt_transform(nib.io_orientation(affine), nib.orientations.axcodes2ornt(codes))
    image = nib.Nifti1Image(
        nib.apply_orientation(values, change).astype(np.float32),
        affine @ nib.orientations.inv_ornt_aff(change, tuple(shape)),
    )
    image.header.set_xyzt_units("mm")
    nib.save(image, folder / f"{number}.nii")
    (folder / f"{number}.json").write_text(json.dumps({"SliceThickness": thickness}))
    return folder / f"{number}.nii", place, image


def centre_of(values: NDArray[np.float64], affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return where the brightest blob is, mm: the centroid of a ball that is moved to its own centroid."""
    points = world(values.shape, affine)
    centre = affine[:3] @ [*np.unravel_index(int(values.argmax()), values.shape), 1]
    for _ in range(30):
        apart = np.sqrt(((points - centre.reshape(3, 1, 1, 1)) ** 2).sum(0))
        weights = (values - values.min()) * np.clip(1 - (apart / RADIUS_MM) ** 2, 0, None)
        centre = (points * weights).sum((1, 2, 3)) / weights.sum()
    return centre


def check(number: int, folder: Path) -> None:
    """Go there and back, and look where the blob is in the result."""
    path, place, scan = made(number, folder)
    image, records = way_of(SETTINGS).there(path)
    found = back(image.data[0], image, records)
    centre = centre_of(found.numpy().astype(np.float64), found.affine)
    off = np.linalg.solve(scan.affine[:3, :3], centre - place)
    assert np.abs(off).max() < NEAR, (number, off)
    assert nib.aff2axcodes(found.affine) == nib.aff2axcodes(scan.affine)
    middle = found.affine @ [*((np.array(found.shape) - 1) / 2), 1]
    np.testing.assert_allclose(middle, scan.affine @ [*((np.array(scan.shape) - 1) / 2), 1], atol=1e-4)


@pytest.mark.parametrize("number", range(0, 48, 5))
def test_a_mark_stays_at_its_place(number: int, tmp_path: Path) -> None:
    check(number, tmp_path)


@pytest.mark.slow
def test_a_mark_stays_at_its_place_in_all_orientations(tmp_path: Path) -> None:
    for number in range(192):
        check(number, tmp_path)
