"""Labels on the grid of a result."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from conftest import MakeScan, world
from nibabel.affines import apply_affine

from bida.cli.parser import main
from bida.mri.labels import labels_on_grid, plain_type
from bida.mri.run import way_of
from bida.mri.settings import Settings
from bida.physics.grid import AxisGrid, resampled_affine, spacing_of


def octants(shape: tuple[int, ...], affine: np.ndarray) -> np.ndarray:
    """Return labels that say where a voxel lies: one more for each axis on whose positive side of a point it is."""
    centre = apply_affine(affine, (np.asarray(shape) - 1) / 2) + np.array([0.1, -0.2, 0.15])
    sides = world(shape, affine) > centre.reshape(3, 1, 1, 1)
    return 3_000_000 * (1 + sides[0] + 2 * sides[1] + 4 * sides[2])


@pytest.mark.parametrize("codes", ["RAS", "LPI", "SAR", "IRP"])
@pytest.mark.parametrize("factor", [None, 3.1])
def test_every_voxel_has_the_label_of_the_nearest_one(make_scan: MakeScan, codes: str, factor: float | None) -> None:
    path = make_scan(codes=codes, tilt_deg=15, values=octants, dtype=np.int32)
    found = labels_on_grid(path, Settings(factor=factor))
    image = nib.load(path)
    there = world(found.data.shape, found.affine).reshape(3, -1).T
    at = apply_affine(np.linalg.inv(image.affine), there)
    sure = (np.abs(at - np.floor(at) - 0.5) > 1e-3).all(axis=1)  # halfway between two voxels either is right
    index = np.clip(np.rint(at), 0, np.array(image.shape) - 1).astype(int)
    expected = np.asarray(image.dataobj)[tuple(index.T)]
    assert sure.mean() > 0.5
    np.testing.assert_array_equal(found.data.ravel()[sure], expected[sure])
    assert nib.aff2axcodes(found.affine) == tuple(codes) and found.data.dtype == np.int32


@pytest.mark.parametrize("like", [False, True])
def test_the_grid_is_that_of_the_result(make_scan: MakeScan, tmp_path: Path, like: bool) -> None:
    scan = make_scan(codes="LSA", tilt_deg=7, name="scan.nii.gz")
    labels = make_scan(codes="LSA", tilt_deg=7, values=octants, dtype=np.int32, name="labels.nii.gz")
    settings = Settings(
        like=str(make_scan((30, 40, 27), (0.1, 0.15, 0.1), tilt_deg=7, name="like.nii.gz")) if like else None
    )
    image, _ = way_of(settings, 1).there(scan)
    found = labels_on_grid(labels, settings)
    if like:
        np.testing.assert_array_equal(found.affine, nib.load(str(settings.like)).affine)
        assert found.data.shape == nib.load(str(settings.like)).shape
        return
    read = nib.load(scan)
    ras = nib.as_closest_canonical(read)
    grids = [AxisGrid(**grid) for grid in json.loads(image.meta["target_grids"])]
    expected = resampled_affine(ras.affine, ras.shape, spacing_of(ras.affine), grids)
    turned = nib.as_closest_canonical(nib.Nifti1Image(found.data, found.affine))
    np.testing.assert_allclose(turned.affine, expected, atol=1e-9)
    assert turned.shape == tuple(grid.voxels for grid in grids)


def test_the_command_writes_them_with_their_type(make_scan: MakeScan, tmp_path: Path, capsys) -> None:
    path, out = make_scan(values=octants, dtype=np.int32), tmp_path / "out.nii.gz"
    assert main(["superres", str(path), str(out), "--labels"]) == 0
    image = nib.load(out)
    assert image.get_data_dtype() == np.int32 and set(np.unique(image.dataobj)) == set(
        np.unique(nib.load(path).dataobj)
    )
    assert json.loads((tmp_path / "out.json").read_text())["interpolation"] == "nearest"
    assert main(["superres", str(path), str(out), "--labels", "--overwrite", "--samples", "4", "--keep-dtype"]) == 2
    assert "--labels: takes the options of the grid alone, got --samples, --keep-dtype" in capsys.readouterr().err


def test_types_that_few_readers_take() -> None:
    assert plain_type(np.array([0, 3_000_000_000])).dtype == np.uint32
    assert plain_type(np.array([-1, 40_000])).dtype == np.int32
    assert plain_type(np.array([1.5])).dtype == np.float64
