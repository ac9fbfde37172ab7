import subprocess
import sys

import numpy as np
import pytest
import torch

from bida.physics.grid import (
    NORMAL,
    PLANES,
    AxisGrid,
    axis_within,
    from_slices,
    isotropic_axis,
    planes_containing,
    resampled_affine,
    to_slices,
)


@pytest.mark.parametrize(
    "axis, planes", [(0, ("axial", "coronal")), (1, ("axial", "sagittal")), (2, ("coronal", "sagittal"))]
)
def test_planes_contain_their_axis(axis, planes):
    assert planes_containing(axis) == planes
    assert all(NORMAL[plane] != axis for plane in planes)


@pytest.mark.parametrize("plane", PLANES)
def test_an_axis_is_found_within_the_slices(plane):
    volume = torch.empty(2, 3, 4)
    for axis in (k for k in range(3) if k != NORMAL[plane]):
        assert to_slices(volume, plane).shape[2 + axis_within(plane, axis)] == volume.shape[axis]


def test_there_is_no_fourth_axis():
    with pytest.raises(ValueError, match="got 3"):
        planes_containing(3)


@pytest.mark.parametrize("plane, index", [("sagittal", (2, 1, 3)), ("coronal", (1, 2, 3)), ("axial", (3, 1, 2))])
def test_slices_have_the_remaining_axes_in_ras_order(plane, index):
    """The slice holds the voxel (r, a, s) = (1, 2, 3) or so at the place that the convention says."""
    volume = torch.arange(5 * 6 * 7).reshape(5, 6, 7)
    slices = to_slices(volume, plane)
    n, h, w = index
    axes = [NORMAL[plane], *(a for a in range(3) if a != NORMAL[plane])]
    voxel = [0, 0, 0]
    for axis, value in zip(axes, index):
        voxel[axis] = value
    assert slices.shape == (volume.shape[axes[0]], 1, volume.shape[axes[1]], volume.shape[axes[2]])
    assert slices[n, 0, h, w] == volume[tuple(voxel)]


@pytest.mark.parametrize("plane", PLANES)
def test_slices_and_back_is_the_same_memory(plane):
    volume = torch.randn(5, 6, 7)
    back = from_slices(to_slices(volume, plane), plane)
    assert torch.equal(back, volume)
    assert back.data_ptr() == volume.data_ptr()


def test_wrong_ranks_are_refused():
    with pytest.raises(ValueError, match=r"\[R, A, S\]"):
        to_slices(torch.zeros(1, 2, 3, 4), "axial")
    with pytest.raises(ValueError, match=r"\[N, 1, H, W\]"):
        from_slices(torch.zeros(2, 3, 4), "axial")


@pytest.mark.parametrize(
    "slices, spacing, target, voxels",
    [
        (58, 0.375, 0.15, 145),
        (29, 0.75, 0.15, 145),
        (20, 0.5, 0.2, 50),
        (3, 0.5, 0.4, 4),  # 3.75 is rounded up
        (13, 0.5, 0.2, 33),  # 32.5: a half is rounded up
        (13, float(np.float32(0.5)), float(np.float32(0.2)), 33),  # and so it is as a header stores it
        (3, 0.1, 0.2, 2),
    ],
)
def test_isotropic_axis(slices, spacing, target, voxels):
    assert isotropic_axis(slices, spacing, target) == AxisGrid(voxels, target, 0.0)


@pytest.mark.parametrize("bad", [(0, 0.5, 0.2), (5, 0.0, 0.2), (5, 0.5, -0.2), (5, float("nan"), 0.2)])
def test_isotropic_axis_needs_positive_sizes(bad):
    with pytest.raises(ValueError, match="must be positive"):
        isotropic_axis(*bad)


def oblique_sheared_affine(rng, spacing):
    directions = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    directions[:, 1] += 0.2 * directions[:, 0]  # a shear
    directions /= np.linalg.norm(directions, axis=0)
    affine = np.eye(4)
    affine[:3, :3] = directions * spacing
    affine[:3, 3] = rng.normal(size=3) * 20
    return affine


def test_resampled_affine_puts_every_point_where_it_was():
    """A point z mm from the centre of the field of view along each axis has one place in the world in both grids."""
    rng = np.random.default_rng(0)
    shape, spacing = np.array([131, 21, 96]), np.array([0.1, 0.75, 0.2])
    affine = oblique_sheared_affine(rng, spacing)
    grids = [AxisGrid(88, 0.15), AxisGrid(105, 0.15, offset_mm=-0.31), AxisGrid(128, 0.15, offset_mm=0.07)]
    new = resampled_affine(affine, shape, spacing, grids)
    n = np.array([grid.voxels for grid in grids])
    offset = np.array([grid.offset_mm for grid in grids])
    for _ in range(20):
        j = rng.uniform(0, n)
        z = (j - (n - 1) / 2) * 0.15 + offset
        i = z / spacing + (shape - 1) / 2
        expected, got = affine @ [*i, 1], new @ [*j, 1]
        assert np.allclose(got, expected, rtol=0, atol=1e-12), f"{got} != {expected}"
    assert np.allclose(np.linalg.norm(new[:3, :3], axis=0), 0.15)


def test_resampled_affine_to_its_own_grid_is_the_identity():
    affine = oblique_sheared_affine(np.random.default_rng(1), [0.1, 0.2, 0.5])
    grids = [AxisGrid(40, 0.1), AxisGrid(30, 0.2), AxisGrid(20, 0.5)]
    assert np.allclose(resampled_affine(affine, (40, 30, 20), (0.1, 0.2, 0.5), grids), affine, rtol=0, atol=1e-14)


def test_resampled_affine_needs_three_axes():
    with pytest.raises(ValueError, match="three sizes"):
        resampled_affine(np.eye(4), (4, 4), (1, 1, 1), [AxisGrid(4, 1.0)] * 3)


def test_a_scan_is_planned_without_torch():
    code = "import sys, bida.physics.plan; print(sorted({'torch', 'monai'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
