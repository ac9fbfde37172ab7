"""The microscopy convention: where the planes of a stack lie on the isotropic grid."""

import numpy as np
import pytest
import torch

from bida.errors import SettingsError
from bida.microscopy.grid import StackGrid, from_rows, plane_distances, to_rows, voxels_from_planes
from bida.physics.operators import MatrixOperator


@pytest.mark.parametrize("m, F", [(1, 3.0), (2, 1.0), (5, 4.0), (4, 2.5), (5, 2.5), (7, 4 / 3), (9, 1.1), (3, 7.77)])
def test_planes_lie_where_they_were_acquired(m, F):
    grid = StackGrid(m, F)
    assert (grid.voxels, grid.reach) == (int(np.floor((m - 1) * F + 1e-9)) + 1, int(np.ceil((m - 1) * F - 1e-9)) + 1)
    if float(F).is_integer():
        assert grid.voxels == (m - 1) * F + 1 and list(grid.rows) == [i * int(F) for i in range(m)]
    # a ramp, at whose voxel j the value is j, is i F at plane i
    ramp = grid.matrix() @ np.arange(grid.reach)
    np.testing.assert_allclose(ramp, np.arange(m) * F, atol=1e-9)
    np.testing.assert_allclose(grid.matrix().sum(axis=1), 1)
    for i, row in zip(grid.on_grid, grid.rows):
        assert row == pytest.approx(i * F, abs=1e-5)
        assert grid.matrix()[i, row] == 1
    assert grid.on_grid[0] == 0


def test_planes_at_two_and_a_half():
    grid = StackGrid(5, 2.5)
    assert list(grid.on_grid) == [0, 2, 4] and list(grid.rows) == [0, 5, 10]
    assert list(grid.matrix()[1]) == [0, 0, 0.5, 0.5, 0, 0, 0, 0, 0, 0, 0]


def test_a_factor_from_spacings_may_be_rounded():
    assert list(StackGrid(4, 2.5 * (1 + 1e-7)).on_grid) == [0, 2] == list(StackGrid(4, 2.5 * (1 - 1e-7)).on_grid)


@pytest.mark.parametrize("F", [1.0, 1.1, 4 / 3, 2.5, 3.3, 8.0])
def test_every_plane_can_be_met(F):
    """The interpolation has full row rank for F >= 1, so that A A+ y = y."""
    grid = StackGrid(9, F)
    operator = MatrixOperator(grid.matrix(), 1)
    y = torch.randn(2, 9, 3, 4, dtype=torch.float64)
    met = operator.forward(operator.project(torch.randn(2, grid.reach, 3, 4, dtype=torch.float64), y))
    torch.testing.assert_close(met, y, atol=1e-12, rtol=0)


@pytest.mark.parametrize("m, F", [(0, 2.0), (3, 0.9), (3, float("inf")), (3, float("nan"))])
def test_a_bad_grid_is_refused(m, F):
    with pytest.raises(SettingsError, match="factor: must be a number >= 1"):
        StackGrid(m, F)


def test_rows_run_along_z():
    volume = torch.randn(2, 3, 4, 5)  # [C, Z, Y, X]
    assert torch.equal(to_rows(volume, "xz")[1], volume[:, :, 1, :])
    assert torch.equal(to_rows(volume, "yz")[1], volume[:, :, :, 1])
    for plane in ("xz", "yz"):
        assert torch.equal(from_rows(to_rows(volume, plane), plane), volume)
    for function in (to_rows, from_rows):
        with pytest.raises(ValueError, match="plane: must be xz or yz"):
            function(volume, "xy")


def test_interpolation_from_planes_and_distances_from_them():
    positions = np.array([1.0, 3.5, 6.0])
    values = np.array([10.0, 20.0, 0.0])
    found = voxels_from_planes(positions, 8) @ values
    np.testing.assert_allclose(found, [10, 10, 14, 18, 16, 8, 0, 0])
    below, above = plane_distances(positions, 8)
    np.testing.assert_allclose(below, [1, 0, 1, 2, 0.5, 1.5, 0, 1])
    np.testing.assert_allclose(above, [1, 0, 1.5, 0.5, 2, 1, 0, 1])
