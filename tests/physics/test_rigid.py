import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.spatial.transform import Rotation

from bida.errors import SettingsError
from bida.physics.rigid import RigidMotion, shears_of

POSES = [(0, 0, 0), (4, -3, 2), (0, 0, 5), (-4, 0, 0), (0, 3, 0), (25, -20, 15)]


def turned(*degrees):
    return Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()


def made(shape=(48, 56, 40), sigma=1.2):
    x = gaussian_filter(np.random.default_rng(0).normal(size=shape), sigma)
    return torch.from_numpy(x / x.std())


@pytest.mark.parametrize("pose", POSES)
def test_shears_make_the_rotation_and_the_shift(pose):
    R, shift = turned(*pose), np.array([0.3, -0.7, 1.9])
    at = np.eye(4)
    for shear in shears_of(R, shift):
        one = np.eye(4)
        one[shear.axis, :3] += shear.slopes
        one[shear.axis, 3] = shear.shift
        at = at @ one
    np.testing.assert_allclose(at[:3, :3], R, atol=1e-12)
    np.testing.assert_allclose(at[:3, 3], shift, atol=1e-12)
    assert all(shear.slopes[shear.axis] == 0 for shear in shears_of(R, shift))


@pytest.mark.parametrize("pose", POSES[:5])
def test_a_moved_volume_is_that_of_a_spline_of_high_order(pose):
    x = made()
    motion = RigidMotion(turned(*pose), np.array([24.3, 27.2, 19.7]), x.shape, (32, 40, 28))
    wide = np.pad(x.numpy(), 20, mode="symmetric")
    expected = map_coordinates(wide, motion.places() + 20, order=5, mode="nearest")
    assert np.abs(motion.forward(x).numpy() - expected).std() < 0.004  # a cubic spline is off by 0.006, linear by 0.1


@pytest.mark.parametrize("pose", POSES)
@pytest.mark.parametrize("other", [(32, 40, 28), (60, 41, 33)])
def test_the_adjoint_is_the_adjoint(pose, other):
    rng = np.random.default_rng(1)
    x, v = (torch.from_numpy(rng.normal(size=shape)) for shape in ((48, 55, 40), other))
    motion = RigidMotion(turned(*pose), np.array([22.4, 30.0, 18.7]), x.shape, other)
    one, two = float((motion.forward(x) * v).sum()), float((x * motion.adjoint(v)).sum())
    assert one == pytest.approx(two, abs=1e-9 * x.numel())


def test_whole_voxels_are_a_crop():
    x = made()
    motion = RigidMotion(np.eye(3), np.array([10.5, 20.0, 15.5]), x.shape, (8, 9, 10))
    assert motion.still
    assert torch.equal(motion.forward(x), x[7:15, 16:25, 11:21])
    assert bool(motion.inside().all())


def test_what_lies_outside_is_told():
    motion = RigidMotion(np.eye(3), np.array([0.0, 20.0, 15.0]), (40, 40, 30), (8, 8, 8))
    inside = motion.inside()
    assert not inside[:3].any() and inside[4:].all()


def test_scans_that_are_turned_far_are_refused():
    with pytest.raises(SettingsError, match="at most 30 degrees about an axis, got 40"):
        RigidMotion(turned(0, 0, 40), np.zeros(3), (8, 8, 8), (8, 8, 8))
