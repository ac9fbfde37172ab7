import numpy as np
import pytest

from bida.physics.geometry import SliceGeometry
from bida.physics.interpolation import cubic, project
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
