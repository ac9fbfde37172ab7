from dataclasses import replace

import numpy as np
import pytest
import torch

from bida.physics.geometry import SliceGeometry
from bida.physics.interpolation import cubic, filled, filling_matrix, project, spline
from bida.physics.operators import SliceOperator


@pytest.fixture
def geometry():
    return SliceGeometry(axis=1, slices=12, slice_spacing_mm=0.75, thickness_mm=0.75, voxels=60, voxel_mm=0.15)


def test_cubic_is_the_cubic_that_was_sampled(geometry):
    """A B-spline of degree 3 reproduces polynomials of degree 3 away from the ends, where the boundary rule shows."""

    def polynomial(z):
        return 2 + 0.7 * z - 0.4 * z**2 + 0.1 * z**3

    column = polynomial(geometry.slice_centres_mm())
    slices = np.broadcast_to(column[None, :, None], (3, 12, 4)).astype(np.float32)
    volume = cubic(slices, geometry)
    assert volume.shape == (3, 60, 4)
    inner = slice(25, 35)
    np.testing.assert_allclose(volume[0, inner, 0], polynomial(geometry.voxel_centres_mm())[inner], rtol=5e-3)


def test_projection_has_the_slices_and_moves_least(geometry):
    rng = np.random.default_rng(0)
    slices = rng.random((3, 12, 4)).astype(np.float32)
    start = rng.random((3, 60, 4)).astype(np.float32)
    found = project(start, slices, geometry.padded(2, 3))
    A = SliceOperator.build(geometry).matrix
    np.testing.assert_allclose(np.einsum("ij,rjs->ris", A, found), slices, atol=1e-5)
    moved = found - start
    null = np.eye(60) - np.linalg.pinv(A) @ A
    np.testing.assert_allclose(np.einsum("ij,rjs->ris", null, moved), 0, atol=1e-5)


@pytest.mark.parametrize("order", [0, 1, 3])
@pytest.mark.parametrize("missing", [(4,), (0, 11), (5, 6, 8), (0, 1)])
def test_missing_slices_are_filled_in(missing, order):
    F, held = filling_matrix(12, missing, order), np.setdiff1d(np.arange(12), missing)
    np.testing.assert_array_equal(F[held], np.eye(12)[held])
    assert not F[:, list(missing)].any()
    np.testing.assert_allclose(F.sum(axis=1), 1, rtol=0, atol=1e-12)
    inside = [k for k in missing if held[0] < k < held[-1]]
    z = np.arange(12.0)
    if order == 3:
        cube = (z - 3) ** 3 - z**2
        np.testing.assert_allclose((F @ cube)[inside], cube[inside], rtol=0, atol=1e-9)
    if order >= 1:
        np.testing.assert_allclose((F @ z)[inside], z[inside], rtol=0, atol=1e-12)
    else:
        assert np.abs((F @ z)[inside] - z[inside]).max(initial=0) <= 2 and set(np.unique(F)) == {0, 1}
    for k in set(missing) - set(inside):  # beyond the outermost slices nothing is known: the nearest one's value
        assert (F @ z)[k] == z[held[0] if k < held[0] else held[-1]]


def test_filled_takes_any_axis_and_leaves_the_others(geometry):
    y = torch.randn(2, 12, 3, generator=torch.Generator().manual_seed(0))
    assert filled(y, geometry) is y
    gap = replace(geometry, missing=(3, 7))
    spoilt = y.clone()
    spoilt[:, [3, 7]] = float("nan")
    found = filled(spoilt, gap)
    assert found.dtype == y.dtype and torch.equal(found[:, list(gap.acquired)], y[:, list(gap.acquired)])
    expected = np.einsum("ij,rjs->ris", filling_matrix(12, (3, 7)), y.numpy())
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-6)
    assert torch.equal(filled(spoilt.mT, gap, dim=2).mT, found)


@pytest.mark.parametrize("order", [0, 1, 3])
def test_a_spline_overlooks_missing_slices(geometry, order):
    y = np.random.default_rng(0).random((3, 12, 4)).astype(np.float32)
    gap = replace(geometry, missing=(5,))
    filled_in = np.einsum("ij,rjs->ris", filling_matrix(12, (5,), min(order, 1)), y).astype(np.float32)
    y[:, 5] = np.nan
    np.testing.assert_allclose(spline(y, gap, order), spline(filled_in, geometry, order), rtol=0, atol=1e-6)
