import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, map_coordinates, spline_filter1d
from scipy.spatial.transform import Rotation

from bida.errors import SettingsError
from bida.physics.crossed import crossed_correction, gram_spectrum
from bida.physics.geometry import SliceGeometry
from bida.physics.guide import guide
from bida.physics.joint import LACKING, JointOperator, LocatedScan
from bida.physics.operators import SliceOperator

D = 0.15
SHAPE = (24, 30, 20)
AFFINE = np.diag([D, D, D, 1.0])


def geometry(axis, factor=5, shape=SHAPE):
    return SliceGeometry(axis, round(shape[axis] / factor), factor * D, factor * D, shape[axis], D)


def truth(seed=0, shape=SHAPE):
    x = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 1.5)
    return torch.from_numpy(x / x.std())


def located(x, axis, factor=5, noise=0.0, seed=1):
    one = geometry(axis, factor, x.shape)
    y = SliceOperator.build(one).forward(x)
    y = y + noise * torch.randn(y.shape, generator=torch.Generator().manual_seed(seed), dtype=y.dtype)
    return LocatedScan(y, one, AFFINE, noise)


def joint(scans, affine=AFFINE, shape=SHAPE):
    return JointOperator([scan.posed(affine, shape) for scan in scans])


def moved(scan, degrees=(3, -2, 1), mm=(0.1, -0.2, 0.05)):
    motion = np.eye(4)
    motion[:3, :3], motion[:3, 3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix(), mm
    return replace(scan, affine=motion @ scan.affine)


@pytest.mark.parametrize("pose", [False, True])
def test_the_adjoint_of_several_scans_is_the_adjoint(pose):
    scans = [located(truth(), 1), located(truth(), 2)]
    operator = joint([scans[0], moved(scans[1]) if pose else scans[1]])
    x = truth(3)
    ys = [torch.randn(scan.y.shape, dtype=torch.float64) for scan in scans]
    one = sum(float((a * b).sum()) for a, b in zip(operator.forward(x), ys))
    assert one == pytest.approx(float((x * operator.adjoint(ys)).sum()), rel=1e-9)
    assert bool(operator.seen[0].all())
    assert bool(operator.seen[1].all()) != pose  # a part of a scan that is moved lies outside


def test_exact_scans_are_given_back_exactly():
    operator = joint([located(truth(), 1), located(truth(), 2), located(truth(), 0)])
    x0 = operator.start([guide(scan.y, scan.slices.geometry) for scan in operator.scans])
    x = x0 + operator.correction(operator.residuals(x0))
    span = float(operator.scans[0].y.max() - operator.scans[0].y.min())
    assert all(float(rest.abs().max()) < 1e-4 * span for rest in operator.residuals(x))
    alone = [float((guide(s.y, s.slices.geometry) - truth()).square().mean()) for s in operator.scans]
    assert float((x - truth()).square().mean()) < 0.5 * min(alone)


def test_the_correction_is_that_of_the_dense_least_squares():
    shape = (10, 10, 4)
    scans = [located(truth(0, shape), 0, noise=0.2), located(truth(0, shape), 1, noise=0.1)]
    operator = joint(scans, shape=shape)
    x0 = truth(5, shape)
    d = operator.correction(operator.residuals(x0), LACKING, tolerance=1e-9)
    rows, right = [], []
    for scan in scans:
        own, other = SliceOperator.build(scan.geometry).matrix, np.eye(10)
        plane = np.kron(own, other) if scan.geometry.axis == 0 else np.kron(other, own)
        rows.append(np.kron(plane, np.eye(4)) / scan.noise)
        right.append((scan.y - SliceOperator.build(scan.geometry).forward(x0)).numpy().ravel() / scan.noise)
    rows.append(np.eye(400) / LACKING)
    right.append(np.zeros(400))
    expected, *_ = np.linalg.lstsq(np.concatenate(rows), np.concatenate(right), rcond=None)
    np.testing.assert_allclose(d.numpy().ravel(), expected, atol=1e-6)
    # the closed form for scans across each other
    matrices = [SliceOperator.build(scan.geometry).matrix for scan in scans]
    (Q0, v0), (Q1, v1) = (gram_spectrum(matrix) for matrix in matrices)
    weights = operator.weights()
    back = operator.adjoint([w * r for w, r in zip(weights, operator.residuals(x0))]).permute(2, 0, 1)
    values = torch.from_numpy(weights[0] * v0[:, None] + weights[1] * v1)
    closed = crossed_correction(back, torch.from_numpy(Q0), torch.from_numpy(Q1), values, operator.noise())
    torch.testing.assert_close(closed.permute(1, 2, 0), d, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("pose", [((4, -3, 2), (0.1, -0.15, 0.05)), ((0, 0, 0), (0.05, 0.14, -0.05))], ids=str)
def test_the_correction_of_a_moved_scan_is_that_of_the_dense_least_squares(pose):
    """With the motion by scipy's splines of each unit volume, mirrored about its faces (oracle)."""
    shape, size = (6, 7, 10), 420
    scans = [located(truth(0, shape), 0, noise=0.2), moved(located(truth(1, shape), 2, noise=0.1), *pose)]
    operator = joint(scans, shape=shape)
    x0 = truth(5, shape)
    between = np.linalg.inv(AFFINE) @ scans[1].affine
    k = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"))
    places = np.einsum("ij,jras->iras", between[:3, :3], k) + between[:3, 3].reshape(3, 1, 1, 1) + 20
    lines = [spline_filter1d(np.pad(np.eye(n), ((20, 20), (0, 0)), mode="symmetric"), 5, axis=0) for n in shape]
    rows = []
    for unit, (r, a, s) in zip(np.eye(size).reshape(size, *shape), np.ndindex(shape)):
        spline = np.einsum("i,j,k->ijk", lines[0][:, r], lines[1][:, a], lines[2][:, s])
        there = map_coordinates(spline, places, order=5, prefilter=False)
        made = [
            SliceOperator.build(scan.geometry).forward(torch.from_numpy(x)) for scan, x in zip(scans, (unit, there))
        ]
        rows.append([y.numpy().ravel() * mask.numpy().ravel() for y, mask in zip(made, operator.seen)])
    matrices = [np.stack([row[one] for row in rows], axis=1) / scans[one].noise for one in (0, 1)]
    y = [(scan.y * mask).numpy().ravel() / scan.noise for scan, mask in zip(scans, operator.seen)]
    right = [one - A @ x0.numpy().ravel() for one, A in zip(y, matrices)]
    expected, *_ = np.linalg.lstsq(
        np.concatenate([*matrices, np.eye(size) / LACKING]), np.concatenate([*right, np.zeros(size)]), rcond=None
    )
    d = operator.correction(operator.residuals(x0), LACKING, tolerance=1e-9)
    np.testing.assert_allclose(d.numpy().ravel(), expected, atol=1e-6)
    assert 0.3 < float(operator.seen[1].mean()) < 1 and np.abs(expected).max() > 0.1
    # as it is solved by default: what is left is far less than the noise
    near = operator.correction(operator.residuals(x0), LACKING)
    assert float((near - d).square().mean().sqrt()) < 0.02 * float(d.square().mean().sqrt())


def test_the_likeliest_volume_of_a_gaussian_prior_is_found():
    """Two orthogonal scans, a white Gaussian prior about x0: the correction is the posterior mean's (oracle)."""
    shape, tau = (10, 10, 6), 0.5
    rng = np.random.default_rng(0)
    x0 = truth(2, shape)
    x = x0 + tau * torch.from_numpy(rng.normal(size=shape))
    scans = [located(x, 0, noise=0.1, seed=3), located(x, 1, noise=0.1, seed=4)]
    operator = joint(scans, shape=shape)
    found = x0 + operator.correction(operator.residuals(x0), tau, tolerance=1e-9)
    other = x0 + operator.correction(operator.residuals(x0), 3 * tau, tolerance=1e-9)
    less = x0 + operator.correction(operator.residuals(x0), tau / 3, tolerance=1e-9)
    errors = [float((one - x).square().mean()) for one in (found, other, less, x0)]
    assert errors[0] == min(errors)


def test_noisier_scans_count_for_less():
    x = truth()
    scans = [located(x, 1, noise=0.5), located(x, 1, noise=0.05, seed=2)]
    operator = joint(scans)
    assert operator.weights() == pytest.approx([0.01, 1.0])
    d = operator.correction([scan.y for scan in operator.scans])  # from zero: the weighted mean of the slices
    again = SliceOperator.build(scans[0].geometry).forward(d)
    expected = (scans[0].y * 0.01 + scans[1].y) / 1.01
    assert float((again - expected).abs().max()) < 1e-3
    alike = joint([replace(scans[0], noise=0.0), replace(scans[1], noise=0.0)])
    assert alike.weights() == [1.0, 1.0] and not math.isinf(alike.noise())


def test_what_a_scan_sees_beyond_the_volume_counts_for_nothing():
    x = truth()
    scan = located(x, 1)
    beside = AFFINE.copy()
    beside[0, 3] = -8 * D  # 8 voxels to the left
    operator = joint([scan, replace(scan, affine=beside)])
    assert not bool(operator.seen[1][:8].any()) and bool(operator.seen[1][8:].all())
    assert not bool(operator.residuals(torch.zeros(SHAPE, dtype=torch.float64))[1][:8].any())
    beside[0, 3] = -100 * D
    with pytest.raises(SettingsError, match="scan 2: must lie in the field of view of the first one, got none"):
        joint([scan, replace(scan, affine=beside)])


def test_voxels_of_another_size_are_refused():
    with pytest.raises(SettingsError, match="must be as large as the volume's and at right angles"):
        replace(located(truth(), 1), affine=np.diag([D, 1.1 * D, D, 1])).posed(AFFINE, SHAPE)


@pytest.mark.parametrize("pose", [((0, 0, 0), (0.07, 0.05, -0.06)), ((3, -2, 1), (0.1, -0.2, 0.05))])
@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_scans_off_the_grid_are_solved_as_well(pose, noise):
    """Shifted by parts of a voxel, or turned: the gradient of the least squares vanishes, in few steps."""
    x = truth()
    # exact slices of the volume in that pose
    scans = [located(x, 1, noise=noise), moved(located(x, 2, noise=noise), *pose), located(x, 0, noise=noise)]
    posed = [scan.posed(AFFINE, SHAPE) for scan in scans]
    y = [one.forward(x) + noise * (one.y - one.y.mean()) for one in posed]
    operator = JointOperator([replace(one, y=values.float()) for one, values in zip(posed, y)])
    steps = []
    motion = operator.scans[1].motion
    forward = motion.forward
    motion.forward = lambda v: steps.append(1) or forward(v)
    x0 = torch.zeros(SHAPE)
    rest = operator.residuals(x0)
    steps.clear()
    d = operator.correction(rest, LACKING)
    turned = bool(pose[0][0])
    assert operator.turned == turned and len(steps) < 40
    weights, damping = operator.weights(), (operator.noise() / LACKING) ** 2
    gradient = operator.adjoint([w * r for w, r in zip(weights, operator.residuals(d))]) - damping * d
    first = operator.adjoint([w * r for w, r in zip(weights, rest)])
    assert float(gradient.norm()) < (2e-3 if turned else 1e-4) * float(first.norm())
    if not noise:
        span = float(operator.scans[0].y.max() - operator.scans[0].y.min())
        assert all(float(r.square().mean().sqrt()) < (0.03 if turned else 1e-3) * span for r in operator.residuals(d))


@pytest.mark.parametrize("shift", [0.0, 0.4 * D])
def test_straight_scans_whose_slices_reach_over_the_volume_are_solved_in_closed_form(shift):
    """Their own grids are longer than the volume, or lie between its voxels, along their own axes alone."""
    x = truth(0, (24, 28, 22))
    first = located(x, 1, noise=0.1)
    over = [replace(geometry(2, shape=x.shape), slices=5, voxels=25), replace(geometry(0, shape=x.shape), voxels=25)]
    scans = [first]
    for one in over:
        where = AFFINE.copy()
        where[one.axis, 3] = shift - D * (one.voxels - x.shape[one.axis]) // 2
        y = torch.zeros([one.slices if k == one.axis else n for k, n in enumerate(x.shape)], dtype=x.dtype)
        scans.append(LocatedScan(y, one, where, 0.1))
    operator = joint(scans, shape=x.shape)
    operator.scans = [replace(one, y=one.forward(x)) for one in operator.scans]
    assert operator.aligned and not any(scan.motion.whole for scan in operator.scans[1:])
    rest, damping = operator.residuals(torch.zeros_like(x)), (operator.noise() / LACKING) ** 2
    d = operator.correction(rest, LACKING)
    gradient = operator.adjoint([w * r for w, r in zip(operator.weights(), operator.residuals(d))]) - damping * d
    assert float(gradient.abs().max()) < 1e-9 * float(operator.adjoint(rest).abs().max())


def turned_beside_straight(gain=1.0):
    """Return a truth, an operator of three scans of it without noise, one turned, and what they correct nothing to."""
    x = truth()
    posed = [one.posed(AFFINE, SHAPE) for one in (located(x, 1), moved(located(x, 2)), located(x, 0))]
    operator = JointOperator([replace(one, y=(gain if one.motion.turned else 1) * one.forward(x)) for one in posed])
    x0 = torch.zeros_like(x)
    return x, operator, x0 + operator.correction(operator.residuals(x0), 0.4, 5e-4)


def worst(operator, x):
    spans = [float(scan.y.max() - scan.y.min()) for scan in operator.scans]
    return [float(rest.abs().max()) / span for rest, span in zip(operator.residuals(x), spans)]


def test_last_steps_bring_a_volume_nearer_to_a_turned_scan_without_noise():
    x, operator, x1 = turned_beside_straight()
    x2 = x1 + operator.last_steps(operator.residuals(x1), 0.4, 5e-4)
    before, after = worst(operator, x1), worst(operator, x2)
    assert before[1] > 7e-4 and after[1] < 5e-4
    assert max(after[0], after[2]) < 1e-6  # which the first correction does not reach
    assert float((x2 - x).norm()) < float((x1 - x).norm())


def test_last_steps_end_where_scans_contradict_each_other(monkeypatch):
    """To meet slices a hundredth brighter to the end takes detail that is not there."""
    x, operator, x1 = turned_beside_straight(gain=1.01)
    x2 = x1 + operator.last_steps(operator.residuals(x1), 0.4, 5e-4)
    assert max(worst(operator, x2)[::2]) < 1e-5
    monkeypatch.setattr("bida.physics.joint.LAST_STEPS", 60)
    monkeypatch.setattr("bida.physics.joint.LEAST_GAIN", 0.0)
    x3 = x1 + operator.last_steps(operator.residuals(x1), 0.4, 5e-4)
    errors = [float((one - x).norm()) for one in (x1, x2, x3)]
    assert errors[1] < 1.001 * errors[0] and errors[2] > 1.1 * errors[0]


def test_what_is_not_found_in_time_is_told():
    shape = (8, 10, 10)
    x = truth(0, shape)
    operator = joint([located(x, 1), moved(located(x, 2))], shape=shape)
    rest = operator.residuals(torch.zeros(shape, dtype=torch.float64))
    assert operator.solved
    operator.correction(rest, LACKING)
    assert operator.solved
    operator.correction(rest, LACKING, tolerance=1e-14)
    assert not operator.solved


@pytest.mark.parametrize("noises", [(0.1, 0.0), (0.1, 0.02), (0.0, 0.1)])
def test_what_one_scan_alone_sees_starts_from_its_own_guide(noises):
    """However much less it counts than the other one."""
    x = truth()
    first, second = (located(x, axis, noise=noise) for axis, noise in zip((1, 2), noises))
    half = replace(second, y=second.y[:12], affine=AFFINE)  # the left half alone
    operator = joint([first, half])
    own = guide(first.y, first.geometry)
    start = operator.start([own, guide(half.y, half.geometry)])
    torch.testing.assert_close(start[12:], own[12:], atol=1e-9, rtol=0)
    assert not torch.allclose(start[:12], own[:12], atol=1e-3)
