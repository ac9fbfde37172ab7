import numpy as np
import pytest
import torch

from bida.baselines import cubic, project
from bida.degradation import SliceGeometry, SliceOperator
from bida.errors import SettingsError
from bida.guide import guide, guide_matrix

GEOMETRIES = [
    SliceGeometry(1, 6, 0.75, 0.75, 30, 0.15),
    SliceGeometry(0, 7, 0.375, 0.3, 18, 0.15, "gaussian"),
    SliceGeometry(2, 5, 1.0, 1.2, 22, 0.225, "box", offset_mm=0.02),
]


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=lambda g: g.profile)
def test_it_is_the_projected_cubic_interpolation(geometry):
    shape = [4, 4, 4]
    shape[geometry.axis] = geometry.slices
    y = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    expected = project(cubic(y, geometry), y, geometry)
    np.testing.assert_allclose(guide(torch.from_numpy(y), geometry).numpy(), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=lambda g: g.profile)
def test_degraded_again_it_is_the_scan(geometry):
    A, G = SliceOperator.build(geometry).matrix, guide_matrix(geometry)
    np.testing.assert_allclose(A @ G, np.eye(geometry.slices), rtol=0, atol=1e-10)
    np.testing.assert_allclose(G.sum(axis=1), 1, rtol=0, atol=1e-10)  # a constant stays one


def test_the_padding_holds_the_outer_voxels():
    geometry = GEOMETRIES[0]
    padded, inside = guide_matrix(geometry.padded(3, 2)), guide_matrix(geometry)
    np.testing.assert_array_equal(padded[3:-2], inside)
    np.testing.assert_array_equal(padded[:3], np.repeat(inside[:1], 3, axis=0))
    np.testing.assert_array_equal(padded[-2:], np.repeat(inside[-1:], 2, axis=0))
    A = SliceOperator.build(geometry.padded(3, 2)).matrix
    np.testing.assert_allclose(A @ padded, np.eye(geometry.slices), rtol=0, atol=1e-10)


def test_another_axis_and_another_number_of_slices():
    geometry = GEOMETRIES[0]
    y = torch.randn(2, 3, geometry.slices)
    assert guide(y, geometry, dim=2).shape == (2, 3, geometry.voxels)
    with pytest.raises(SettingsError, match="axis 1 must hold 6 slices"):
        guide(y, geometry)
