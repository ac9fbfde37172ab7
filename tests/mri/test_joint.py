from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from bida.diffusion.prior import CLASSES, PlanePrior
from bida.diffusion.resnet import NetworkPair, SliceResNet
from bida.diffusion.schedule import cosine_alpha_bar
from bida.diffusion.unet import SliceUNet
from bida.mri.joint import JointMeasurement, Shading, passes
from bida.mri.joint_check import layouts
from bida.mri.sampler import BiplanarSampler
from bida.mri.settings import SamplerOptions
from bida.physics.geometry import SliceGeometry
from bida.physics.guide import guide, shown
from bida.physics.joint import LocatedScan
from bida.physics.operators import SliceOperator
from bida.training.batches import joint_guide
from bida.training.geometries import Geometries
from bida.transforms.augment.thicken import ThickenSliced

D = 0.15
SHAPE = (32, 40, 24)
AFFINE = np.diag([D, D, D, 1.0])
MEAN = SamplerOptions(self_check=False)


def truth(shape=SHAPE, seed=0):
    x = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 1.5).astype(np.float32)
    return torch.from_numpy(0.3 * x / x.std())


def located(x, axis, factor=4, noise=0.0, seed=1):
    geometry = SliceGeometry(axis, round(x.shape[axis] / factor), factor * D, factor * D, x.shape[axis], D)
    y = SliceOperator.build(geometry).forward(x)
    y = y + noise * torch.randn(y.shape, generator=torch.Generator().manual_seed(seed))
    return LocatedScan(y, geometry, AFFINE, noise)


def scans(*axes, noise=0.0):
    return [located(truth(), axis, noise=noise, seed=place) for place, axis in enumerate(axes)]


def wild_prior():
    """Return a guided prior drawn at random: what it says is far from any truth."""
    torch.manual_seed(0)
    network = SliceResNet(32, 2, embedding=32, in_channels=9, made=True, spread=True)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    return PlanePrior(NetworkPair(SliceUNet([64], 1, CLASSES, 32, in_channels=2), network), guided=True).eval()


def restored(measurement, prior=None, **options):
    return BiplanarSampler(SamplerOptions(self_check=False, **options)).restore(measurement, prior or wild_prior())


@pytest.mark.parametrize("axes", [(1, 2), (0, 1, 2)])
def test_every_scan_is_given_back_exactly_whatever_the_prior_says(axes):
    measurement = JointMeasurement(scans(*axes))
    found = restored(measurement)
    assert found.residual < 1e-4
    assert float((found.mean - measurement.reference(0.0)).abs().mean()) > 0.01  # the prior had its say
    assert restored(measurement, samples=1, steps=2).residual < 1e-4


def test_noisy_scans_are_given_back_within_their_noise():
    measurement = JointMeasurement(scans(1, 2, noise=0.1))
    x = torch.from_numpy(np.pad(truth().numpy(), measurement.padding))
    assert [left.over_noise for left in measurement.leftovers(x)] == pytest.approx([1, 1], abs=0.05)
    assert all(left.over_noise < 1 for left in measurement.leftovers(restored(measurement).mean))


def test_a_scan_twice_has_less_noise():
    """Two scans of one orientation: the noise of their joint guide is a root of two below that of one."""
    one, two = (JointMeasurement(scans(*axes, noise=0.2)) for axes in ((1,), (1, 1)))
    clean = [JointMeasurement(scans(*axes)).guide for axes in ((1,), (1, 1))]
    left = [float((noisy.guide - exact).std()) for noisy, exact in zip((one, two), clean)]
    assert left[0] / left[1] == pytest.approx(np.sqrt(2), rel=0.1)
    assert one.noise_of(MEAN) == pytest.approx(np.sqrt(2) * two.noise_of(MEAN))


def test_the_planes_are_those_of_what_the_scans_lack():
    assert passes([1]) == [("axial", 1, None), ("sagittal", 1, None)]
    assert passes([1, 2]) == [("sagittal", 1, 2), ("sagittal", 2, 1)]
    three = passes([0, 1, 2])
    assert len(set(three)) == 6
    assert sorted({plane for plane, *_ in three}) == ["axial", "coronal", "sagittal"]


def test_a_lone_scan_is_shown_as_ever():
    scan = scans(1)[0]
    measurement = JointMeasurement([scan], 8, 1)
    (one, other) = measurement.views(0.0, True)
    assert one.shown is not None and other.shown is not None
    expected = shown(scan.y, scan.geometry)
    torch.testing.assert_close(measurement.cropped(one.shown[0]), expected[0], atol=2e-3, rtol=0)
    for channel in (2, 3, 4, 5, 6, 7):
        torch.testing.assert_close(measurement.cropped(one.shown[channel]), expected[channel], atol=1e-5, rtol=0)


def test_the_prior_is_shown_what_it_was_taught():
    """Two scans of a volume that is alike along one axis, and a training crop of its slice."""
    for seed in range(100):
        draw = ThickenSliced("image", factors=(3.0, 6.0))
        draw.set_random_state(seed)
        first, second = (draw.draw_geometry(40) for _ in range(2))
        if first.padded_voxels == first.voxels and second.padded_voxels == second.voxels:
            break
    geometries = Geometries(40, 2, (3.0, 6.0), seed=seed)
    crop = truth((40, 40, 1))[..., 0]
    rows, columns = (SliceOperator.build(one).forward(part, 0) for one, part in ((first, crop), (second, crop.mT)))
    volume = [y[:, :, None].expand(-1, -1, 16).clone() for y in (rows, columns.mT)]
    affine = np.diag([first.voxel_mm] * 3 + [1.0])
    located = [
        LocatedScan(y, replace(g, axis=axis), affine) for axis, (y, g) in enumerate(zip(volume, (first, second)))
    ]
    measurement = JointMeasurement(located, 8, 1)
    view = measurement.views(0.0, True)[0]
    assert view.plane == "axial" and view.axis == 0 and view.shown is not None
    places = (torch.tensor([0]), torch.tensor([1]))
    slices = [torch.nn.functional.pad(y, (0, 0, 0, geometries.operator.shape[1] - len(y))) for y in (rows, columns)]
    taught = joint_guide(geometries, places, (slices[0][None], slices[1][None]), torch.zeros(2, 1))[0]
    seen = torch.stack([*view.shown])[:, :, :, 8]
    torch.testing.assert_close(seen[0], taught, atol=2e-3, rtol=0)
    torch.testing.assert_close(seen[2], geometries.phase[0][:, None].expand(40, 40), atol=1e-4, rtol=0)
    torch.testing.assert_close(seen[7], geometries.phase[1][None, :].expand(40, 40), atol=1e-4, rtol=0)
    made = [float(seen[k].mean()) for k in (3, 5, 6)]
    expected = [float(geometries.made[0, 0]), float(geometries.made[0, 2]), float(geometries.made[1, 0])]
    assert made == pytest.approx(expected, abs=1e-5)


def test_scans_that_contradict_each_other_are_met_half_way():
    one, other = scans(1, 2)
    consistent = JointMeasurement([one, other])
    torn = JointMeasurement([one, replace(other, y=1.1 * other.y)])
    assert consistent.least < 1e-3 < torn.least
    span = float(one.y.max() - one.y.min())
    x = torn.cropped(torn.reference(0.0))
    assert float(x.max() - x.min()) < 2 * span  # and nothing blows up


def test_slices_are_made_thick_as_the_scans_lie():
    cor, ax, sag = (SliceGeometry(axis, 10, 4 * D, 4 * D, 40, D) for axis in (1, 2, 0))
    # coronal slices beside an axial scan: across themselves along R and S
    (layout,) = layouts([(cor, 0.1), (ax, 0.2)], 1, (32, 4, 24))
    assert [(geometry.axis, geometry.slices, noise) for geometry, noise in layout] == [(0, 8, 0.1), (2, 6, 0.2)]
    (three,) = layouts([(cor, 0.0), (ax, 0.0), (sag, 0.0)], 1, (32, 4, 24))
    assert {geometry.axis for geometry, _ in three} == {0, 2}
    twice = layouts([(cor, 0.1), (cor, 0.1)], 1, (32, 4, 24))
    assert [[geometry.axis for geometry, _ in one] for one in twice] == [[0, 0], [2, 2]]


def test_the_self_check_finds_that_a_wild_prior_does_not_help():
    shapes = [located(truth((64, 64, 64)), axis) for axis in (1, 2)]
    found = BiplanarSampler(SamplerOptions()).check(JointMeasurement(shapes), wild_prior())
    assert found is not None and found.slices == 8 and found.plane == "coronal+axial"
    assert found.weight == 0.0 and found.gain_db < 0 < found.better_db  # two scans beat one without any prior


def test_the_guide_of_a_moved_scan_is_nearly_that_of_one_that_lay_still():
    x = truth((48, 48, 48))
    one, other = located(x, 1), located(x, 2)
    still = JointMeasurement([one, other]).guide
    # header and voxels moved alike by whole and half voxels: the same anatomy in another frame
    shift = np.eye(4)
    shift[:3, 3] = (0.5 * D, 0, 0)
    moved = torch.from_numpy(
        np.apply_along_axis(lambda v: np.interp(np.arange(48) + 0.5, np.arange(48), v), 0, other.y.numpy())
    ).float()
    found = JointMeasurement([one, replace(other, y=moved, affine=shift @ other.affine)]).guide
    own = guide(one.y, one.geometry)
    errors = [float((volume - x)[4:-4, 4:-4, 4:-4].square().mean()) for volume in (still, found, own)]
    assert errors[0] < errors[1] < 0.75 * errors[2]


def test_draws_of_noisy_scans_do_not_take_their_noise_in():
    """A prior that finds the truth: draws end near it, though every step looks at noisy slices."""
    x = truth((32, 40, 24))

    class Knowing:
        alpha_bar, stride, prediction, x0_range, guided = cosine_alpha_bar(), 8, "v", (-1.0, 2.0), True

        def predict(self, z, t, plane, guide=None, grain=True, along=0):
            ab = float(self.alpha_bar[t])
            x0 = 0.5 * (guide[:, :1] if guide is not None else z)
            return x0, (z - ab**0.5 * x0) / (1 - ab) ** 0.5

    measurement = JointMeasurement([located(x, axis, noise=0.2, seed=axis) for axis in (1, 2)])
    mean, draw = (restored(measurement, Knowing(), **given).mean for given in ({}, {"samples": 1, "steps": 4}))
    errors = [float((measurement.cropped(one) - x).square().mean()) for one in (mean, draw)]
    assert errors[1] < 1.5 * errors[0]


def test_where_one_scan_saw_background_there_is_nothing():
    """A brain that was extracted: its surroundings are not sampled, however the guide ripples there."""
    x = (truth((32, 32, 32)) - 0.5).clamp(min=-0.9)
    line = (torch.arange(32).float() - 15.5).square()
    ball = line[:, None, None] + line[:, None] + line
    x = torch.where(ball < 9**2, x, -1.0)
    still = JointMeasurement([located(x, 1), located(x, 2)])
    turned = np.eye(4)
    turned[:3, :3] = Rotation.from_euler("z", 3, degrees=True).as_matrix()
    moved = JointMeasurement([located(x, 1), replace(located(x, 2), affine=turned @ AFFINE)])
    for measurement in (still, moved):
        held = measurement.cropped(measurement.held())
        assert bool(held[ball < 7**2].all()) and not bool(held[ball > 18**2].any())
        outline = measurement.cropped(measurement.outline)
        assert float((outline[~held] - outline[0, 0, 0]).abs().max()) == 0.0
    assert int(still.held().sum()) <= int(moved.held().sum())


def test_noise_that_hardly_shows_is_kept():
    def counted(noise):
        return JointMeasurement([located(truth() + 0.5, axis, noise=noise) for axis in (1, 2)]).prior_error()

    assert counted(0.0) == pytest.approx(0.4) and counted(0.02) == pytest.approx(0.4)  # SNR 75
    assert counted(0.5) == pytest.approx(0.1)  # SNR 3
    assert 0.1 < counted(0.12) < 0.4


@pytest.mark.parametrize("turned", [False, True])
def test_slices_of_an_uneven_volume_do_not_contradict_each_other(turned):
    """With the field as it is, in the volume and in what the prior sees; divided out of slices, they do."""
    x = truth()
    field = torch.exp(0.4 * torch.linspace(-1, 1, SHAPE[1])[None, :, None] * torch.linspace(-1, 1, SHAPE[2])).expand(
        SHAPE
    )
    motion = np.eye(4)
    if turned:
        motion[:3, :3], motion[:3, 3] = Rotation.from_euler("xyz", (2, -2, 1), degrees=True).as_matrix(), (0.1, 0, -0.1)
    measured, fields = [], []
    for scan in scans(1, 2):
        moved = replace(scan, affine=(motion if measured else np.eye(4)) @ AFFINE)
        posed = moved.posed(AFFINE, SHAPE)
        measured.append(replace(moved, y=posed.forward((x + 1) * field - 1)))
        fields.append(posed.forward(field.contiguous()))
    found = JointMeasurement(measured, shading=Shading(field, fields, -1.0))
    assert found.operator.turned == turned
    # of the range: exact where nothing is turned
    limit = 2e-3 if turned else 1e-5
    assert max(found.residuals(found.reference(0.0))) < limit
    if not turned:
        even = JointMeasurement(found.scans)
        assert max(even.residuals(even.reference(0.0))) > 5e-3
    made = found.residuals(restored(found).mean)
    assert made[0] < 1e-5 and made[1] < limit


def test_turned_scans_with_noise_are_left_as_the_priors_are_corrected():
    turned = AFFINE.copy()
    turned[:3, :3] = Rotation.from_euler("z", 3, degrees=True).as_matrix() @ AFFINE[:3, :3]
    for noise in (0.0, 0.01):
        first, second = scans(1, 2, noise=noise)
        measurement = JointMeasurement([first, replace(second, affine=turned)])
        x = measurement.reference(noise)
        assert (measurement.finished(x) is x) == (noise > 0)


def test_parts_of_two_views_are_put_together_to_agree_with_exact_scans():
    """Where one of two scans sees a half alone."""
    first, second = scans(1, 2)
    half = replace(second, y=second.y[:16])
    measurement = JointMeasurement([first, half])
    assert measurement.partial
    found = restored(measurement)
    assert found.residual < 1e-4
