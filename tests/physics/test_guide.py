from dataclasses import replace

import numpy as np
import pytest
import torch

from bida.errors import SettingsError
from bida.physics.geometry import SliceGeometry
from bida.physics.guide import NOISE_UNIT, guide, guide_matrix, shown, slice_phase
from bida.physics.interpolation import cubic, project
from bida.physics.operators import SliceOperator

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


@pytest.mark.parametrize(
    "geometry", [*GEOMETRIES, GEOMETRIES[0].padded(3, 2)], ids=lambda g: f"{g.profile}{g.pad_before}"
)
def test_what_is_shown_says_what_was_measured_and_where(geometry):
    shape = [4, 4, 4]
    shape[geometry.axis] = geometry.slices
    y = torch.from_numpy(np.random.default_rng(0).standard_normal(shape).astype(np.float32))
    g, measured, phase, factor, noise, share, *second = shown(y, geometry, noise=0.05)
    assert torch.equal(g, guide(y, geometry))
    torch.testing.assert_close(measured, SliceOperator.build(geometry).pinv(y))
    torch.testing.assert_close(2 ** (2 * factor), torch.full_like(g, geometry.factor))
    torch.testing.assert_close(noise * NOISE_UNIT, torch.full_like(g, 0.05))
    torch.testing.assert_close(1 + share, torch.full_like(g, geometry.thickness_mm / geometry.slice_spacing_mm))
    assert len(second) == 2 and not any(bool(part.any()) for part in second)  # there is no second scan
    inside = phase.movedim(geometry.axis, -1)[0, 0]
    assert inside.shape == (geometry.padded_voxels,)
    assert torch.equal(phase, inside.reshape([-1 if k == geometry.axis else 1 for k in range(3)]).expand_as(g))


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=lambda g: g.profile)
def test_the_phase_is_one_at_slice_centres_and_minus_one_between_them(geometry):
    """Brute force: the distance of every voxel to the nearest slice, a share of the spacing."""
    padded = geometry.padded(2, 3)
    z = geometry.voxel_centres_mm()
    distance = np.abs(z[:, None] - geometry.slice_centres_mm()).min(axis=1) / geometry.slice_spacing_mm
    near = distance <= 0.5  # beyond the last slices the wave goes on
    np.testing.assert_allclose(slice_phase(padded)[2:-3][near], np.cos(2 * np.pi * distance)[near], atol=1e-9)


@pytest.mark.parametrize("missing", [(2,), (0, 4), (1, 2)])
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=lambda g: g.profile)
def test_missing_slices_have_no_part_in_it(geometry, missing):
    gap = replace(geometry.padded(3, 2), missing=missing)
    A, G, held = SliceOperator.build(gap).matrix, guide_matrix(gap), list(gap.acquired)
    assert not G[:, list(missing)].any()
    np.testing.assert_allclose((A @ G)[held], np.eye(gap.slices)[held], rtol=0, atol=1e-10)
    np.testing.assert_allclose(G.sum(axis=1), 1, rtol=0, atol=1e-10)
    y = torch.randn(3, gap.slices, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    if geometry.axis != 1:
        y = y.movedim(1, geometry.axis)
    expected = project(cubic(y.numpy().astype(np.float32), gap.unpadded()), y.numpy().astype(np.float32), gap)
    got = guide(y, gap).narrow(gap.axis, 3, gap.voxels)
    np.testing.assert_allclose(got.numpy(), expected, rtol=0, atol=5e-6)


def test_a_gap_in_a_line_changes_no_guide():
    """What is linear along the axis is filled in exactly; A+ y says that nothing was measured in the gap."""
    whole = GEOMETRIES[0]
    y = (1 + 0.3 * torch.from_numpy(whole.slice_centres_mm())).reshape(1, -1, 1).expand(2, -1, 3)
    gap = replace(whole, missing=(2,))
    lost = y.clone()
    lost[:, 2] = 0
    g, measured, *_ = shown(lost, gap)
    assert torch.equal(g, guide(lost, gap))
    torch.testing.assert_close(measured, SliceOperator.build(gap).pinv(y))
    # but for what holding the guide to slice 2 itself adds, a slice's profile being no point
    torch.testing.assert_close(g, guide(y, whole), rtol=0, atol=0.01)
    for with_gap, without in zip(shown(lost, gap)[2:], shown(y, whole)[2:]):
        assert torch.equal(with_gap, without)
