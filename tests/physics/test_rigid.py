import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.spatial.transform import Rotation

from bida.errors import SettingsError
from bida.physics.rigid import RigidMotion

POSES = [(0, 0, 0), (4, -3, 2), (0, 0, 5), (-4, 0, 0), (0, 3, 0), (25, -20, 15)]


def turned(*degrees):
    return Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()


def made(shape=(48, 56, 40), sigma=1.2):
    x = gaussian_filter(np.random.default_rng(0).normal(size=shape), sigma)
    return torch.from_numpy(x / x.std())


@pytest.mark.parametrize("pose", POSES[:5])
@pytest.mark.parametrize("shape", [(48, 56, 40), (5, 56, 40)])
def test_a_moved_volume_is_that_of_scipys_splines(pose, shape):
    """To rounding, beyond the faces too, where it is mirrored."""
    x = made(shape)
    motion = RigidMotion(turned(*pose), np.array(shape) / 2 + (0.3, -0.8, -0.3), x.shape, (32, 70, 28))
    wide = np.pad(x.numpy(), 40, mode="symmetric")  # scipy's prefilter is not exact on short lines
    expected = map_coordinates(wide, motion.places() + 40, order=5, mode="reflect")
    np.testing.assert_allclose(motion.forward(x).numpy(), expected, atol=1e-9)
    assert float((motion.forward(x.float()) - torch.from_numpy(expected)).abs().max()) < 1e-5


@pytest.mark.parametrize("pose", POSES)
@pytest.mark.parametrize("other", [(32, 40, 28), (60, 41, 33)])
def test_the_adjoint_is_the_adjoint(pose, other):
    rng = np.random.default_rng(1)
    x, v = (torch.from_numpy(rng.normal(size=shape)) for shape in ((48, 55, 40), other))
    motion = RigidMotion(turned(*pose), np.array([22.4, 30.0, 18.7]), x.shape, other)
    one, two = float((motion.forward(x) * v).sum()), float((x * motion.adjoint(v)).sum())
    assert one == pytest.approx(two, rel=1e-10, abs=1e-9)


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
