import math

import numpy as np
import pytest
import torch
from conftest import inferer_of
from monai.data import DataLoader, Dataset, MetaTensor
from monai.engines import SupervisedEvaluator
from torch import nn

from bida.diffusion.noise import INITIAL, VOLUME_STREAM, volume_noise
from bida.diffusion.prior import PlanePrior, relative_alpha_bar
from bida.diffusion.sampling import DDNM, NoisyScan, sample
from bida.diffusion.schedule import EPS_FLOOR, cosine_alpha_bar, timestep_pairs
from bida.errors import SettingsError
from bida.mri.content import CONSTANT, PIXELS
from bida.mri.denoiser import PlaneDenoiser
from bida.mri.measurement import Measurement
from bida.mri.sampler import Chain
from bida.mri.settings import SamplerOptions
from bida.physics.geometry import SliceGeometry
from bida.physics.grid import PLANES, planes_containing
from bida.physics.guide import guide
from bida.physics.operators import SliceOperator

SHAPE = (20, 24, 12)
SHARE = {"axial": 0.9, "coronal": 0.7, "sagittal": 0.4}  # of the guide in the mean of the guided ones
VARIANCE = {"axial": 0.02, "coronal": 0.05, "sagittal": 0.01}  # of the pointwise priors; x0 stays inside [-1, 1]


def wiener(x, ab, variance):
    """Denoise for the prior N(0, variance) in every voxel."""
    x0 = math.sqrt(ab) * variance / (ab * variance + 1 - ab) * x
    return x0, (x - math.sqrt(ab) * x0) / math.sqrt(1 - ab)


class PointwisePrior:
    """White Gaussian prior of another variance for each plane: it sees no neighbours, so volumes can check it."""

    alpha_bar = cosine_alpha_bar()
    stride = 4
    prediction = "v"
    x0_range = (-1.0, 2.0)
    guided = False

    def __init__(self):
        self.seen = []

    def predict(self, x, t, plane):
        self.seen.append((plane, t, x.clone()))
        return wiener(x, float(self.alpha_bar[t]), VARIANCE[plane])


class TinyNet(nn.Module):
    """Two convolutions that mix a neighbourhood, the time and the plane."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 1, 3, padding=1)
        self.stride = 4

    def forward(self, x, timesteps, class_labels):
        shift = (timesteps / 1000 + class_labels).to(x.dtype)[:, None, None, None]
        return self.last(torch.nn.functional.silu(self.first(x) + shift))


def geometry_of(axis, shape=SHAPE, factor=2.5):
    slices = math.ceil(shape[axis] / factor)
    return SliceGeometry(
        axis=axis, slices=slices, slice_spacing_mm=0.2 * factor, thickness_mm=0.5, voxels=shape[axis], voxel_mm=0.2
    )


def scan_of(geometry, shape=SHAPE, seed=0):
    """Return A+ y [1, 1, R, A, S] of a random volume that stays within the prior's intensities."""
    A = SliceOperator.build(geometry)
    x = 0.2 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return A.pinv(A.forward(x))[None, None]


def expected_draw(fusion, geometry, inputs, draw=0, eta=0.0, sigma_y=0.0, steps=4):
    """Fuse by hand, on whole volumes."""
    A = SliceOperator.build(geometry)
    y = A.forward(inputs[0, 0])
    condition = NoisyScan(A, y, sigma_y) if sigma_y else DDNM(A, y)
    planes = planes_containing(geometry.axis)
    alpha_bar = cosine_alpha_bar()

    def estimate(x, t, plane):
        return wiener(x, float(alpha_bar[t]), VARIANCE[plane])

    def run(denoise, stream, noise_plane):
        def noise(step):
            return volume_noise(SHAPE, noise_plane, 5, draw, stream, step)

        return sample(noise(INITIAL), denoise, timestep_pairs(steps), alpha_bar, condition, noise, eta)

    if fusion == "final":
        volumes = [run(lambda x, t, step, p=p: estimate(x, t, p), PLANES.index(p), p) for p in planes]
        return (volumes[0] + volumes[1]) / 2
    if fusion == "alternate":
        return run(lambda x, t, step: estimate(x, t, planes[step % 2]), VOLUME_STREAM, "axial")

    def both(x, t, step):
        (x0, e), (other_x0, other_e) = (estimate(x, t, plane) for plane in planes)
        return (x0 + other_x0) / 2, (e + other_e) / 2

    return run(both, VOLUME_STREAM, "axial")


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("fusion", ["final", "step", "alternate"])
@pytest.mark.parametrize("eta, sigma_y", [(0.0, 0.0), (0.8, 0.1)])
def test_fusions_are_their_definitions(axis, fusion, eta, sigma_y):
    geometry = geometry_of(axis)
    inputs = scan_of(geometry)
    inferer = inferer_of(steps=4, fusion=fusion, eta=eta, noise=sigma_y, seed=5, micro_batch=8)
    got = inferer(inputs, PointwisePrior(), geometry=geometry)
    expected = expected_draw(fusion, geometry, inputs, eta=eta, sigma_y=sigma_y)
    torch.testing.assert_close(got[0, 0], expected, rtol=0, atol=2e-6)  # float32 sums of values below 4


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("fusion", ["final", "step", "alternate"])
def test_the_result_degrades_to_the_scan(axis, fusion):
    geometry = geometry_of(axis)
    inputs = scan_of(geometry)
    result = inferer_of(steps=3, samples=2, fusion=fusion).restore(
        Measurement.of(inputs, PlanePrior(TinyNet()).stride, geometry), PlanePrior(TinyNet())
    )
    A = SliceOperator.build(geometry)
    y = A.forward(inputs[0, 0])
    residual = ((A.forward(result.mean) - y).abs().max() / (y.max() - y.min())).item()
    assert residual <= 1e-5
    assert result.residual == pytest.approx(residual, rel=1e-6)
    assert A.forward(result.std).abs().max() > 0.01  # the draws do differ


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("fusion", ["final", "step"])
def test_the_batch_size_does_not_change_a_byte(fusion, dtype):
    geometry = geometry_of(1)
    inputs = scan_of(geometry)
    inputs[:, :, 3] = inputs[:, :, 8] = 0.0  # skipped slices, so that micro-batches do not follow the slices' numbers
    prior = PlanePrior(TinyNet(), dtype=dtype)
    results = [
        inferer_of(steps=3, fusion=fusion, batch_size=size)(inputs, prior, geometry=geometry) for size in (1, 7, 64)
    ]
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_the_batch_size_does_not_change_what_the_network_sees():
    """The same slices meet in the same micro-batch, so that no kernel can tell."""
    geometry, seen = geometry_of(1), []
    for size in (1, 7, 20, 64):
        prior = PointwisePrior()
        inferer_of(steps=1, batch_size=size, micro_batch=8)(scan_of(geometry), prior, geometry=geometry)
        seen.append([x for _, _, x in prior.seen])
    for other in seen[1:]:
        assert len(other) == len(seen[0])
        assert all(torch.equal(x, y) for x, y in zip(seen[0], other))


def test_the_network_sees_whole_micro_batches_and_what_is_left():
    prior, geometry = PointwisePrior(), geometry_of(1)
    inferer = inferer_of(steps=1, batch_size=20, micro_batch=8)
    inferer(scan_of(geometry), prior, geometry=geometry)
    shapes = [(plane, *x.shape) for plane, _, x in prior.seen]
    axial, sagittal = [("axial", n, 1, 20, 24) for n in (8, 4)], [("sagittal", n, 1, 24, 12) for n in (8, 8, 4)]
    assert shapes == axial + sagittal


def test_a_device_that_holds_more_sees_more_slices_at_once(monkeypatch):
    geometry = geometry_of(1)
    usual = inferer_of(steps=2, micro_batch=None)(scan_of(geometry), PointwisePrior(), geometry=geometry)
    results = []
    monkeypatch.setitem(PIXELS, "cpu", 20 * 24 * 12 - 1)
    for size in (1, 7, 64):  # axial slices have 20 x 24 pixels and are 12, sagittal ones 24 x 12 and 20
        prior = PointwisePrior()
        inferer = inferer_of(steps=2, batch_size=size, micro_batch=None)
        results.append(inferer(scan_of(geometry), prior, geometry=geometry))
        shapes = [(plane, *x.shape) for plane, _, x in prior.seen]
        assert shapes == [("axial", 6, 1, 20, 24)] * 4 + [("sagittal", 10, 1, 24, 12)] * 4
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])
    assert torch.allclose(results[0], usual, atol=1e-6)


class ExactGuidedPrior(PointwisePrior):
    """The prior N(m, v) in every voxel, m a share of the guide that differs between planes; it keeps its times."""

    guided = True

    def predict(self, x, t, plane, guide=None, grain=True, along=0):
        ab = float(self.alpha_bar[t])
        m = SHARE[plane] * guide[:, :1]
        x0, e = wiener(x - math.sqrt(ab) * m, ab, VARIANCE[plane])
        self.seen.append((plane, t, x.clone()))
        return m + x0, e


@pytest.mark.parametrize("fusion", ["final", "step"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_mean_is_that_of_the_priors_with_what_was_measured(axis, fusion):
    """For a Gaussian prior that is A+ y + (I - A+ A) m, whatever the seed, and it takes one pass a plane."""
    geometry = geometry_of(axis)
    inputs, passes = scan_of(geometry), []
    y, A, planes = SliceOperator.build(geometry).forward(inputs[0, 0]), SliceOperator.build(geometry), []
    results = []
    for seed in (0, 9):
        prior = ExactGuidedPrior()
        inferer = inferer_of(samples=0, seed=seed, fusion=fusion, progress=lambda *done: passes.append(done))
        results.append(inferer.restore(Measurement.of(inputs, 4, geometry), prior))
        assert {t for _, t, _ in prior.seen} == {999}
        planes = list(dict.fromkeys(plane for plane, _, _ in prior.seen))
    assert torch.equal(results[0].mean, results[1].mean)
    assert results[0].std is None
    assert passes[-1] == ((2, 2) if fusion == "final" else (1, 1)) and len(passes) == 2 * passes[-1][1]
    assert sorted(planes) == sorted(planes_containing(axis))
    m = sum(SHARE[plane] * guide(y, geometry) for plane in planes) / 2
    torch.testing.assert_close(results[0].mean, A.project(m, y), rtol=0, atol=1e-5)


def test_many_draws_come_to_the_mean():
    """One step from pure noise differs from the mean by the noise alone, which averages out."""
    geometry = geometry_of(1)
    scan, prior = Measurement.of(scan_of(geometry), 4, geometry), ExactGuidedPrior()
    mean = inferer_of(samples=0).restore(scan, prior).mean
    off = [(inferer_of(samples=k, steps=8).restore(scan, prior).mean - mean).square().mean().sqrt() for k in (1, 64)]
    assert off[1] < off[0] / 6  # 1 / 8 expected


def test_the_mean_needs_a_prior_that_is_shown_the_scan():
    geometry = geometry_of(1)
    with pytest.raises(SettingsError, match=r"model: the mean in one step needs a prior .*; give --samples 1"):
        inferer_of(samples=0)(scan_of(geometry), PointwisePrior(), geometry=geometry)


def test_draws_give_mean_and_standard_deviation():
    geometry = geometry_of(2)
    inputs = scan_of(geometry)
    inferer = inferer_of(steps=3, samples=3, seed=5)
    measured, prior = Measurement.of(inputs, 4, geometry), PointwisePrior()
    draws = np.stack([draw.volume.numpy() for draw in inferer.draws(measured, prior)])
    for k, draw in enumerate(draws):
        expected = expected_draw("final", geometry, inputs, draw=k, steps=3)
        assert np.allclose(draw, expected, rtol=0, atol=2e-6)
    result = inferer.restore(measured, prior)
    assert np.allclose(result.mean, draws.mean(axis=0), rtol=0, atol=1e-6)
    assert np.allclose(result.std, draws.std(axis=0, ddof=1), rtol=0, atol=1e-6)
    assert inferer_of(steps=1).restore(measured, prior).std is None


def test_constant_slices_skip_the_network():
    geometry = geometry_of(1)
    inputs = scan_of(geometry)
    inputs[:, :, :6] = SliceOperator.build(geometry).pinv(torch.full((6, geometry.slices, SHAPE[2]), -1.2))
    prior = PointwisePrior()
    result = inferer_of(steps=8, fusion="final").restore(Measurement.of(inputs, prior.stride, geometry), prior)
    real = [int(x.flatten(1).any(dim=1).sum()) for plane, _, x in prior.seen if plane == "sagittal"]
    assert sum(real) == 8 * (SHAPE[0] - 6)
    assert {x.shape[0] for plane, _, x in prior.seen if plane == "sagittal"} == {8, (SHAPE[0] - 6) % 8}
    y, held = SliceOperator.build(geometry).forward(inputs[0, 0]), torch.ones(SHAPE, dtype=torch.bool)
    sagittal = PlaneDenoiser(prior, "sagittal", y, held, 8, 8)
    x0 = sagittal(torch.randn(SHAPE), 500)[0]
    assert torch.allclose(x0[:6], torch.tensor(-1.2), rtol=0, atol=CONSTANT)
    assert result.residual <= 1e-5


def test_a_skipped_slice_explains_its_state():
    """x = sqrt(ab) x0 + sqrt(1 - ab) e holds for what the network does not see."""
    y, x = torch.full((4, 3, 5), 0.25), torch.randn(4, 6, 5)
    prior = PointwisePrior()
    x0, e = PlaneDenoiser(prior, "sagittal", y, torch.ones(4, 6, 5, dtype=torch.bool), 8, 8)(x, 500)
    ab = float(prior.alpha_bar[500])
    assert prior.seen == []
    torch.testing.assert_close(math.sqrt(ab) * x0 + math.sqrt(1 - ab) * e, x, rtol=0, atol=1e-6)
    assert x0.unique().tolist() == [0.25]


def test_the_clean_estimate_is_clipped_and_the_noise_is_not():
    class Loud(PointwisePrior):
        def predict(self, x, t, plane):
            return torch.full_like(x, 3.0), torch.full_like(x, -3.0)

    everywhere = torch.ones(4, 8, 5, dtype=torch.bool)
    x0, e = PlaneDenoiser(Loud(), "axial", torch.randn(4, 4, 5), everywhere, 8, 8)(torch.zeros(4, 8, 5), 500)
    assert x0.unique().tolist() == [Loud.x0_range[1]]
    assert e.unique().tolist() == [-3.0]


@pytest.mark.parametrize("fusion", ["final", "step", "alternate"])
def test_the_noise_does_not_depend_on_the_padding(fusion):
    """A prior that sees no neighbours gives the same inside, whatever was padded around it."""
    geometry = geometry_of(1)
    inputs = scan_of(geometry)
    inferer = inferer_of(steps=3, fusion=fusion, eta=0.5)
    bare = inferer(inputs, PointwisePrior(), geometry=geometry)
    in_plane = np.pad(inputs.numpy(), ((0, 0), (0, 0), (3, 1), (0, 0), (2, 2)), mode="reflect")
    padded = torch.from_numpy(np.pad(in_plane, ((0, 0), (0, 0), (0, 0), (1, 3), (0, 0))))
    meta = {"slice_geometry": [geometry.padded(1, 3).to_json()], "padding": ["[[3, 1], [1, 3], [2, 2]]"]}
    got = inferer(MetaTensor(padded, meta=meta), PointwisePrior())
    torch.testing.assert_close(got.as_tensor()[:, :, 3:-1, 1:-3, 2:-2], bare, rtol=0, atol=2e-6)


def test_slices_of_the_padding_skip_the_network_and_change_no_byte(monkeypatch):
    """Where each plane has a volume of its own they are no part of the result; else they are."""
    geometry = geometry_of(1)
    padded = torch.from_numpy(np.pad(scan_of(geometry).numpy(), ((0, 0), (0, 0), (16, 12), (0, 0), (8, 12)), "reflect"))
    scan = Measurement.of(padded, 4, geometry, [(16, 12), (0, 0), (8, 12)])

    def run(fusion: str) -> tuple[torch.Tensor, int]:
        prior = PointwisePrior()
        found = inferer_of(steps=2, fusion=fusion).restore(scan, prior)
        return scan.cropped(found.mean), len(prior.seen)

    skipping = {fusion: run(fusion) for fusion in ("final", "step", "alternate")}
    monkeypatch.setattr(Measurement, "unpadded", lambda scan, plane: (range(1000),) * 3)
    for fusion, (volume, calls) in skipping.items():
        whole, all_calls = run(fusion)
        assert torch.equal(volume, whole)
        assert calls < all_calls if fusion == "final" else calls == all_calls


def test_a_network_that_predicts_the_noise_starts_where_there_is_signal():
    prior, geometry = PointwisePrior(), geometry_of(1)
    prior.prediction = "eps"
    inferer_of(steps=2)(scan_of(geometry), prior, geometry=geometry)
    first = prior.seen[0][1]
    assert prior.alpha_bar[first] > 1e-4 >= prior.alpha_bar[first + 1]


@pytest.mark.parametrize("fusion, total", [("final", 12), ("step", 6), ("alternate", 6)])
def test_progress_counts_to_its_total(fusion, total):
    calls, geometry = [], geometry_of(1)
    inferer = inferer_of(steps=3, samples=2, fusion=fusion, progress=lambda done, in_all: calls.append((done, in_all)))
    inferer(scan_of(geometry), PointwisePrior(), geometry=geometry)
    assert calls == [(k, total) for k in range(1, total + 1)]


def test_a_metatensor_keeps_its_metadata():
    geometry = geometry_of(1)
    affine = torch.diag(torch.tensor([0.2, 0.2, 0.2, 1.0], dtype=torch.float64))
    inputs = MetaTensor(scan_of(geometry), affine=affine, meta={"slice_geometry": geometry.to_json(), "name": "m1"})
    mean = inferer_of(steps=2, samples=2)(inputs, PointwisePrior())
    assert isinstance(mean, MetaTensor)
    assert mean.meta["name"] == "m1"
    assert torch.equal(mean.affine, affine)
    plain = inferer_of(steps=2, samples=2)(inputs.as_tensor(), PointwisePrior(), geometry=geometry)
    assert type(plain) is torch.Tensor
    assert torch.equal(plain, mean.as_tensor())


@pytest.mark.parametrize("guided", [False, True])
def test_a_network_of_the_noise_starts_where_it_can_tell_the_signal(monkeypatch, guided):
    geometry, starts = geometry_of(1), []

    def sampled(x, denoise, pairs, *rest):
        starts.append(pairs[0][0])
        return x

    monkeypatch.setattr("bida.mri.sampler.sample", sampled)
    for prediction in ("v", "eps"):
        prior = PlanePrior(TinyNet(), prediction, guided=True)
        inferer_of(steps=2, guided=guided)(scan_of(geometry), prior, geometry=geometry)
    (first, _, later, _), alpha_bar = starts, prior.alpha_bar
    if guided:
        assert Chain.of(SamplerOptions(), prior).pairs == [(later, -1)]
    signal = relative_alpha_bar(alpha_bar) if guided else alpha_bar  # of what is diffused: with a guide, what it lacks
    assert first == 999
    assert signal[later] > EPS_FLOOR >= signal[later + 1]


def test_it_serves_a_monai_evaluator():
    geometry = geometry_of(1)
    image = MetaTensor(scan_of(geometry)[0], meta={"slice_geometry": geometry.to_json()})
    inferer, prior = inferer_of(steps=2), PlanePrior(TinyNet())
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset([{"image": image, "label": image}]), batch_size=1),
        network=prior,
        inferer=inferer,
        decollate=True,
    )
    evaluator.run()
    pred = evaluator.state.output[0]["pred"]
    assert isinstance(pred, MetaTensor)
    assert pred.meta["slice_geometry"] == geometry.to_json()
    assert torch.equal(pred.as_tensor(), inferer(image[None], prior).as_tensor()[0])


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"steps": 0}, "steps: must be at least 1, got 0"),
        ({"samples": -1}, "samples: must be at least 0, got -1"),
        ({"batch_size": 0}, "batch_size: must be at least 1, got 0"),
        ({"micro_batch": -1}, "micro_batch: must be at least 1, got -1"),
        ({"fusion": "mean"}, "fusion: must be one of final, step, alternate, got 'mean'"),
        ({"eta": 1.5}, "eta: must be from 0 to 1, got 1.5"),
        ({"noise": -0.1}, "noise: must be auto or a number >= 0, got -0.1"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(SettingsError, match=message):
        inferer_of(**settings)


def test_inputs_that_do_not_fit_are_refused():
    geometry, prior, inferer = geometry_of(1), PointwisePrior(), inferer_of(steps=2)
    inputs = scan_of(geometry)
    with pytest.raises(SettingsError, match="geometry: must be given"):
        inferer(inputs, prior)
    with pytest.raises(SettingsError, match=r"must be one volume \[1, 1, R, A, S\], got shape \(1, 20, 24, 12\)"):
        inferer(inputs[0], prior, geometry=geometry)
    with pytest.raises(SettingsError, match="axis R must be a multiple of 4 for this network, got 18; pad it"):
        inferer(inputs[:, :, :18], prior, geometry=geometry)
    with pytest.raises(SettingsError, match="must hold 24 voxels"):
        inferer(inputs[:, :, :, :20], prior, geometry=geometry)
