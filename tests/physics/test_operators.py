import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from bida.errors import SettingsError
from bida.physics.geometry import SliceGeometry
from bida.physics.operators import SliceOperator
from bida.physics.slice_profile import NAMED

D = 0.15  # mm
FACTORS = (2, 2.5, 3.333, 4.7, 5, 8)
PROFILES = (*NAMED, "file")
SIZES = (63, 64)
THICKNESS = {"gap": 0.6, "full": 1.0, "overlap": 1.3}  # of the slice spacing
CASES = [
    *itertools.product(PROFILES, FACTORS, SIZES, THICKNESS, [(0, 0)]),
    *itertools.product(PROFILES, FACTORS, SIZES, ["full"], [(3, 8)]),
]

EPS64 = 1e-12  # 63 x 64 products of order 1 in float64, condition numbers below 5
EPS32 = 2e-6  # sums are kept in float64, so a result is off by a few roundings of float32 (6e-8) of its range


@pytest.fixture(scope="module")
def lopsided(tmp_path_factory):
    """A measured profile: skewed, uneven, with a shoulder; about 0.9 mm wide."""
    file = tmp_path_factory.mktemp("profile") / "measured.txt"
    file.write_text("-0.7 0\n-0.45 0.6\n-0.2 1\n0.1 0.95\n0.35 0.8\n0.5 0.2\n0.9 0\n")
    return str(file)


def geometry(profile="slr", factor=2.5, voxels=64, ratio=1.0, pad=(0, 0), axis=1, slices=None, offset=0.0):
    spacing = factor * D
    m = math.ceil(voxels / factor) if slices is None else slices
    return SliceGeometry(axis, m, spacing, ratio * spacing, voxels, D, profile, offset, *pad)


@pytest.fixture(scope="module", params=CASES, ids=lambda case: "-".join(map(str, case)))
def op(request, lopsided):
    profile, factor, voxels, thickness, pad = request.param
    if profile == "file":
        # as wide as 6 voxels whatever T says: a factor below 5 would make slices that cannot be told apart
        factor, profile = factor + 4, lopsided
    return SliceOperator.build(geometry(profile, factor, voxels, THICKNESS[thickness], pad))


def close(got, expected, tolerance):
    got, expected = np.asarray(got), np.asarray(expected)
    worst = np.abs(got - expected).max() / max(np.abs(expected).max(), 1e-30)
    assert worst < tolerance, f"relative difference {worst:.2e}\ngot {got}\nexpected {expected}"


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def test_penrose(op):
    A, P = op.matrix, op.pinv_matrix
    close(A @ P @ A, A, EPS64)
    close(P @ A @ P, P, EPS64)
    close((A @ P).T, A @ P, EPS64)
    close((P @ A).T, P @ A, EPS64)


def test_full_rank_means_a_pinv_is_the_identity(op):
    assert op.rank == op.geometry.slices
    close(op.matrix @ op.pinv_matrix, np.eye(op.rank), EPS64)


def test_adjoint(op):
    g = op.geometry
    x, y = normal(3, g.padded_voxels, 4), normal(3, g.slices, 4, seed=1)
    left, right = float((op.forward(x) * y).sum()), float((x * op.adjoint(y)).sum())
    assert left == pytest.approx(right, rel=1e-11, abs=1e-12 * float(x.norm() * y.norm())), (left, right)


def test_rows_sum_to_one(op):
    close(op.matrix.sum(axis=1), np.ones(op.geometry.slices), EPS64)


def test_columns_of_padding_are_zero(op):
    g = op.geometry
    inner = slice(g.pad_before, g.pad_before + g.voxels)
    assert np.array_equal(op.matrix[:, inner], SliceOperator.build(g.unpadded()).matrix)
    for padding in (slice(0, g.pad_before), slice(g.pad_before + g.voxels, None)):
        assert not op.matrix[:, padding].any()
        assert not op.pinv_matrix[padding].any()


def test_linear(op):
    x, z = normal(2, op.geometry.padded_voxels, 3), normal(2, op.geometry.padded_voxels, 3, seed=1)
    close(op.forward(2.5 * x - z), 2.5 * op.forward(x) - op.forward(z), EPS64)


def test_project(op):
    x, y = normal(2, op.geometry.padded_voxels, 3), normal(2, op.geometry.slices, 3, seed=1)
    once = op.project(x, y)
    close(op.forward(once), y, EPS64)
    close(op.project(once, y), once, EPS64)
    # the correction is in the range of A^T: nothing that the slices cannot see has moved
    moved = once - x
    close(op.pinv(op.forward(moved)), moved, EPS64)


def test_range_coordinates(op):
    x, y = normal(2, op.geometry.padded_voxels, 3), normal(2, op.geometry.slices, 3, seed=1)
    c = op.to_range(x)
    assert c.shape == (2, op.rank, 3)
    close(op.from_range(c), op.pinv(op.forward(x)), EPS64)
    close(op.to_range(op.from_range(c)), c, EPS64)
    scaled = torch.from_numpy(op.U.T / op.singular_values[:, None]) @ y.movedim(1, -2)
    close(op.to_range(op.pinv(y)), scaled, EPS64)


def test_float32(op):
    x, y = normal(2, op.geometry.padded_voxels, 3), normal(2, op.geometry.slices, 3, seed=1)
    for method, args in ((op.forward, (x,)), (op.adjoint, (y,)), (op.pinv, (y,)), (op.project, (x, y))):
        got = method(*(a.float() for a in args))
        assert got.dtype == torch.float32
        close(got.double(), method(*args), EPS32)
    again = op.forward(op.project(x.float(), y.float()))
    close(again, y.float(), EPS32)


@pytest.mark.parametrize("shape, dim", [((13, 64, 7), None), ((64, 5), 0), ((2, 3, 64, 4), 2), ((1, 5, 6, 64), -1)])
def test_dim(shape, dim):
    op = SliceOperator.build(geometry())
    along = op.axis if dim is None else dim
    x = normal(*shape)
    expected = np.apply_along_axis(lambda line: op.matrix @ line, along, x.numpy())
    y = op.forward(x, dim)
    close(y, expected, EPS64)
    close(op.pinv(y, dim), np.apply_along_axis(lambda line: op.pinv_matrix @ line, along, y.numpy()), EPS64)
    assert op.project(x, y, dim).shape == x.shape
    assert y.is_contiguous()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_changes_nothing(dtype):
    op = SliceOperator.build(geometry(pad=(2, 6)))
    x, y = normal(4, 72, 5, dtype=torch.float32), normal(4, 26, 5, seed=1, dtype=torch.float32)
    calls = [(op.forward, (x,)), (op.adjoint, (y,)), (op.pinv, (y,)), (op.project, (x, y)), (op.to_range, (x,))]
    for method, args in calls:
        expected = method(*args)
        with torch.autocast("cpu", dtype=dtype):
            got = method(*args)
        assert got.dtype == torch.float32
        assert torch.equal(got, expected)


@pytest.mark.parametrize("setting", ["high", "medium"])
def test_reduced_matmul_precision_changes_nothing(setting):
    op = SliceOperator.build(geometry())
    x, y = normal(40, 64, 50, dtype=torch.float32), normal(40, 26, 50, seed=1, dtype=torch.float32)
    expected = op.project(x, y)
    torch.set_float32_matmul_precision(setting)
    try:
        assert torch.equal(op.project(x, y), expected)
    finally:
        torch.set_float32_matmul_precision("highest")


def test_types_in_and_out():
    op = SliceOperator.build(geometry())
    x = normal(3, 64, 2)
    assert op.forward(x.to(torch.bfloat16)).dtype == torch.float32
    assert op.forward(torch.ones(3, 64, 2, dtype=torch.int16)).dtype == torch.float32
    meta = op.forward(MetaTensor(x.float()))
    assert type(meta) is torch.Tensor
    with pytest.raises(SettingsError, match="must be real"):
        op.forward(x.to(torch.complex64))


def test_gradient_of_forward_is_the_adjoint():
    op = SliceOperator.build(geometry())
    x, y = normal(3, 64, 2).requires_grad_(), normal(3, 26, 2, seed=1)
    (op.forward(x) * y).sum().backward()
    close(x.grad, op.adjoint(y), EPS64)


def test_too_much_overlap_loses_rank_and_keeps_penrose():
    op = SliceOperator.build(geometry("gaussian", 2.0, 64, 5.0))
    A, P = op.matrix, op.pinv_matrix
    assert op.rank < op.geometry.slices
    close(A @ P @ A, A, 3e-6)  # what is cut off is below 1e-6 of the largest singular value
    close(P @ A @ P, P, 1e-8)
    x, y = normal(2, 64, 3), op.forward(normal(2, 64, 3, seed=1))
    close(op.forward(op.project(x, y)), y, 1e-5)


def test_build_is_cached():
    assert SliceOperator.build(geometry()) is SliceOperator.build(geometry())
    assert SliceOperator.build(geometry()) is not SliceOperator.build(geometry(pad=(1, 0)))


def test_slice_outside_the_grid_is_refused(tmp_path):
    with pytest.raises(SettingsError, match=r"got slice 0 at -5\.25 mm; give a grid that covers the scan"):
        SliceOperator(geometry("slr", 5, 40, slices=15))
    away = tmp_path / "away.txt"
    away.write_text("90 1\n91 1\n")
    with pytest.raises(SettingsError, match="every slice must reach into the voxel grid"):
        SliceOperator(geometry(str(away)))


@pytest.mark.parametrize("method, size", [("forward", "64 voxels"), ("adjoint", "26 slices"), ("pinv", "26 slices")])
@pytest.mark.parametrize("shape, dim", [((3, 9, 3), None), ((9,), None), ((3, 3), 5)])
def test_shape_errors_say_expected_and_got(method, size, shape, dim):
    with pytest.raises(SettingsError) as caught:
        getattr(SliceOperator.build(geometry()), method)(torch.zeros(shape), dim)
    assert f"must hold {size}, got a tensor of shape {shape}" in str(caught.value)


def test_project_demands_matching_slices():
    op = SliceOperator.build(geometry())
    with pytest.raises(SettingsError, match=r"shape of A x, \(2, 26, 3\), got \(1, 26, 3\)"):
        op.project(torch.zeros(2, 64, 3), torch.zeros(1, 26, 3))


@pytest.mark.parametrize("pad", [(0, 0), (3, 8)])
@pytest.mark.parametrize("missing", [(2,), (0, 5, 6), (4, 12)])
def test_a_missing_slice_is_a_row_that_is_not_there(missing, pad):
    """Oracle: numpy's pseudo-inverse of the matrix without those rows."""
    whole = SliceOperator.build(geometry(factor=5, pad=pad))
    found = SliceOperator.build(dataclasses.replace(whole.geometry, missing=missing))
    held = list(found.geometry.acquired)
    short = whole.matrix[held]
    assert found.matrix.shape == whole.matrix.shape and found.pinv_matrix.shape == whole.pinv_matrix.shape
    assert found.rank == len(held) and found.U.shape == (whole.geometry.slices, len(held))
    np.testing.assert_array_equal(found.matrix[held], short)
    close(found.pinv_matrix[:, held], np.linalg.pinv(short), EPS64)
    for zeros in (found.matrix[list(missing)], found.pinv_matrix[:, list(missing)].T, found.U[list(missing)]):
        assert not zeros.any()
    close(found.U @ np.diag(found.singular_values) @ found.Vt, found.matrix, EPS64)
    x, y = normal(3, whole.geometry.padded_voxels, 4), normal(3, whole.geometry.slices, 4, seed=1)
    other = y.clone()
    other[:, list(missing)] = 1e6  # what is there is of no account
    assert torch.equal(found.pinv(y), found.pinv(other))
    projected = found.project(x, y)
    close(projected, found.project(x, other), EPS64 * 1e6)
    again = found.forward(projected)
    close(again[:, held], y[:, held], EPS64)
    assert not again[:, list(missing)].any()
    close(found.from_range(found.to_range(x)), found.pinv(found.forward(x)), EPS64)


def test_what_only_a_missing_slice_saw_is_the_priors():
    whole = geometry("box", 5, 60)
    found = SliceOperator.build(dataclasses.replace(whole, missing=(6,)))
    x, y = normal(2, 60, 3), normal(2, 12, 3, seed=1)
    projected = found.project(x, y)
    assert torch.equal(projected[:, 30:35], x[:, 30:35])
    assert (projected[:, :30] - x[:, :30]).abs().min() > 0


def test_the_residual_is_that_of_slices_that_were_measured():
    found = SliceOperator.build(dataclasses.replace(geometry(factor=5), missing=(3,)))
    y = normal(2, 13, 3)
    x = found.project(normal(2, 64, 3, seed=1), y)
    y[:, 3] = 1e3
    assert found.residual(x, y) < EPS64
    y[1, 5, 2] += 0.5
    held = y[:, list(found.geometry.acquired)]
    assert found.residual(x, y) == pytest.approx(0.5 / float(held.max() - held.min()))
    assert found.residual(x.mT, y.mT, dim=2) == pytest.approx(found.residual(x, y))
    assert found.residual(x, y, least=100.0) == pytest.approx(0.005)
