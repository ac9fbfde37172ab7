import numpy as np
import pytest
import torch
from torch import nn

from bida.diffusion.prediction import diffuse, prediction_target
from bida.diffusion.prior import (
    CLASSES,
    GUIDE_RANGE,
    SPREAD,
    PlanePrior,
    condition_class,
    is_guided,
    relative_alpha_bar,
    with_guide,
)
from bida.diffusion.resnet import NetworkPair, SliceResNet
from bida.diffusion.schedule import alpha_bar_of
from bida.diffusion.unet import SliceUNet
from bida.physics.grid import PLANES
from bida.physics.guide import MADE, SHOWN


class Oracle(nn.Module):
    """Return the exact target of a known clean slice and noise, whatever it is shown."""

    stride = 1

    def __init__(self, target):
        super().__init__()
        self.target = target

    def forward(self, x, timesteps, class_labels=None):
        return self.target


def small_unet() -> SliceUNet:
    torch.manual_seed(0)
    network = SliceUNet(channels=(64, 64), blocks=1, embedding=32)
    for parameter in network.parameters():  # the layers that start at zero would hide mistakes
        if not parameter.abs().sum():
            nn.init.normal_(parameter, std=0.05)
    return network


@pytest.mark.parametrize("t", [0, 400, 999])
@pytest.mark.parametrize("prediction", ["v", "eps", "x0"])
def test_predict_recovers_slice_and_noise(prediction, t):
    x0, noise = torch.randn(2, 3, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(t))
    prior = PlanePrior(nn.Identity(), prediction)
    ab = prior.alpha_bar[t].expand(3)
    prior.networks["shared"] = Oracle(prediction_target(x0, noise, ab, prediction))
    found_x0, found_e = prior.predict(diffuse(x0, noise, ab), t, "coronal")
    # float32 output of the network; eps divides by sqrt(alpha-bar), x0 by sqrt(1 - alpha-bar)
    scale = {"v": 1, "eps": ab[0] ** -0.5, "x0": (1 - ab[0]) ** -0.5}[prediction]
    torch.testing.assert_close(found_x0.double(), x0, atol=2e-6 * float(scale), rtol=1e-5)
    torch.testing.assert_close(found_e.double(), noise, atol=2e-6 * float(scale), rtol=1e-5)


def test_one_time_for_all_is_the_same_as_one_each():
    network = small_unet()
    x = torch.randn(4, 1, 24, 32)
    each = network(x, torch.full((4,), 321), torch.full((4,), 2))
    shared = network(x, torch.tensor([321]), torch.tensor([2]))
    torch.testing.assert_close(shared, each, atol=1e-5, rtol=1e-5)


def test_one_time_for_all_is_the_same_as_one_each_in_the_guided_network():
    torch.manual_seed(0)
    network, x = SliceResNet(32, 2), torch.randn(4, 5, 24, 32)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.05)
    each = network(x, torch.full((4,), 321), torch.full((4,), 2))
    shared = network(x, torch.tensor([321]), torch.tensor([2]))
    assert each.std() > 0.05
    torch.testing.assert_close(shared, each, atol=1e-5, rtol=1e-5)


def test_planes_differ():
    network = small_unet()
    x = torch.randn(1, 1, 16, 16)
    outputs = [network(x, torch.tensor([500]), torch.tensor([index])) for index in range(3)]
    assert not torch.allclose(outputs[0], outputs[1])
    assert not torch.allclose(outputs[1], outputs[2])


def test_network_is_local():
    """What lies far away, background or padding, must not change a pixel's result."""
    network = small_unet()
    x = torch.randn(1, 1, 32, 128)
    far = x.clone()
    far[..., 96:] = -1
    times, planes = torch.tensor([300]), torch.tensor([0])
    a, b = network(x, times, planes), network(far, times, planes)
    torch.testing.assert_close(a[..., :32], b[..., :32], atol=1e-6, rtol=1e-5)
    assert not torch.allclose(a[..., 96:], b[..., 96:])


def test_a_network_for_each_plane():
    networks = {plane: Oracle(torch.full((1, 1, 4, 4), float(index))) for index, plane in enumerate(PLANES)}
    prior = PlanePrior(networks, "x0")
    for index, plane in enumerate(PLANES):
        assert prior.predict(torch.zeros(1, 1, 4, 4), 10, plane)[0].unique().tolist() == [index]
    with pytest.raises(ValueError, match="a network for each of axial, coronal, sagittal is needed, got axial"):
        PlanePrior({"axial": networks["axial"]})


def test_mixed_planes_in_one_batch():
    networks = {plane: Oracle(torch.full((1, 1, 4, 4), float(index))) for index, plane in enumerate(PLANES)}
    out = PlanePrior(networks)(torch.zeros(3, 1, 4, 4), torch.tensor([5]), torch.tensor([2, 0, 1]))
    assert out[:, 0, 0, 0].tolist() == [2, 0, 1]


def test_monai_unet_takes_its_place():
    from monai.networks.nets import DiffusionModelUNet

    network = DiffusionModelUNet(
        spatial_dims=2, in_channels=1, out_channels=1, num_res_blocks=1, channels=(8, 8), norm_num_groups=4,
        attention_levels=(False, False), num_head_channels=8, num_class_embeds=3,
    )  # fmt: skip
    prior = PlanePrior(network)
    x = torch.randn(2, 1, 16, 16)
    x0, e = prior.predict(x, 700, "sagittal")
    ab = float(prior.alpha_bar[700])
    torch.testing.assert_close(ab**0.5 * x0 + (1 - ab) ** 0.5 * e, x, atol=1e-5, rtol=1e-5)
    loss = ((prior(x, torch.tensor([1, 500]), torch.tensor([0, 2])) - x) ** 2).mean()
    loss.backward()
    assert any(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in prior.parameters())


def test_weights_of_another_prediction_are_refused():
    state = PlanePrior(small_unet(), "eps").state_dict()
    with pytest.raises(RuntimeError, match="the weights predict eps over 1000 cosine steps, this prior v over 1000"):
        PlanePrior(small_unet(), "v").load_state_dict(state)
    PlanePrior(small_unet(), "eps").load_state_dict(state)


def test_weights_of_another_schedule_are_refused_and_the_oldest_have_the_cosine():
    state = PlanePrior(small_unet(), schedule="linear").state_dict()
    with pytest.raises(RuntimeError, match="predict v over 1000 linear steps, this prior v over 1000 cosine"):
        PlanePrior(small_unet()).load_state_dict(state)
    state["kind"] = state["kind"][:2]  # as they were before there was a choice
    PlanePrior(small_unet()).load_state_dict(state)
    assert torch.equal(PlanePrior(small_unet(), schedule="linear").alpha_bar, alpha_bar_of("linear", 1000))


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="prediction must be one of v, eps, x0, got 'w'"):
        PlanePrior(nn.Identity(), "w")
    with pytest.raises(ValueError, match="dtype must be float32 or bfloat16, got 'half'"):
        PlanePrior(nn.Identity(), dtype="half")
    with pytest.raises(ValueError, match=r"multiples of 4 pixels, got \(10, 16\)"):
        small_unet()(torch.zeros(1, 1, 10, 16), torch.tensor([0]))


class Listener(nn.Module):
    """Keeps what it is shown and told."""

    stride = 1

    def forward(self, x, timesteps, class_labels=None):
        self.seen, self.told = x, class_labels
        return x[:, :1]


def test_classes_are_all_different():
    found = [condition_class(p, guided, grain) for p in range(3) for guided in (False, True) for grain in (True, False)]
    assert sorted(found) == list(range(CLASSES))
    assert [condition_class(p, False, True) for p in range(3)] == [0, 1, 2]  # those of a prior without a guide


@pytest.mark.parametrize("grain", [True, False])
def test_a_guided_prior_is_shown_the_guide_and_told_of_it(grain):
    listener = Listener()
    prior = PlanePrior(listener, guided=True)
    x, guide = torch.randn(2, 1, 8, 8), 3 * torch.randn(2, 4, 8, 8)
    prior.predict(x, 500, "sagittal", guide, grain)
    shown, ab = guide.clamp(*GUIDE_RANGE), float(prior.alpha_bar[500])
    gain = (ab * SPREAD**2 + 1 - ab) ** 0.5
    torch.testing.assert_close(listener.seen[:, :1], (x - ab**0.5 * shown[:, :1]) / gain)
    assert torch.equal(listener.seen[:, 1:], shown)
    assert listener.told.tolist() == [condition_class(2, True, grain)]
    prior.predict(x, 500, "sagittal", None, grain)
    assert torch.equal(listener.seen, with_guide(x, None)) and listener.seen[:, 1].abs().max() == 0
    assert listener.told.tolist() == [condition_class(2, False, grain)]
    PlanePrior(listener).predict(x, 500, "sagittal")
    assert listener.seen.shape[1] == 1 and listener.told.tolist() == [2]


def test_a_guided_prior_may_have_a_network_for_each_plane():
    networks = {plane: Listener() for plane in PLANES}
    prior = PlanePrior(networks, guided=True)
    x = torch.randn(2, 1, 8, 8)
    prior.predict(x, 10, "coronal", x.repeat(1, 4, 1, 1), False)
    assert networks["coronal"].told.tolist() == [condition_class(1, True, False)] * 2
    assert not hasattr(networks["axial"], "told")


def test_weights_whose_uncertainty_nobody_measured_leave_it_as_it_is():
    prior = PlanePrior(small_unet())
    state = prior.state_dict()
    state |= {"uncertainty_scale": torch.tensor(2.0), "uncertainty_floor": torch.tensor(0.5)}
    prior.load_state_dict(state)
    np.testing.assert_allclose(prior.uncertainty(np.array([0.0, 2.0]), 6.0), [3.0, 5.0])
    del state["uncertainty_scale"], state["uncertainty_floor"]
    prior.load_state_dict(state)
    np.testing.assert_allclose(prior.uncertainty(np.array([0.0, 2.0]), 6.0), [0.0, 2.0])


@pytest.mark.parametrize("t", [0, 120, 999])
@pytest.mark.parametrize("prediction", ["v", "x0"])
def test_predict_recovers_slice_and_noise_from_what_the_guide_lacks(prediction, t):
    draw = torch.Generator().manual_seed(t)
    guide = torch.randn(3, 4, 8, 8, generator=draw).clamp(*GUIDE_RANGE)
    x0 = guide[:, :1] + SPREAD * torch.randn(3, 1, 8, 8, generator=draw)
    noise = torch.randn(3, 1, 8, 8, generator=draw)
    prior = PlanePrior(nn.Identity(), prediction, guided=True)
    ab = prior.alpha_bar[t].expand(3)
    target = prediction_target((x0 - guide[:, :1]) / SPREAD, noise, relative_alpha_bar(ab), prediction)
    prior.networks["shared"] = Oracle(target)
    found_x0, found_e = prior.predict(diffuse(x0, noise, ab), t, "coronal", guide, True)
    # at t = 0 float32's rounding of x_t is divided by sqrt(1 - ab) = 0.006, at t = 999 by sqrt(ab') = 1e-5
    torch.testing.assert_close(found_x0, x0, atol=2e-4, rtol=1e-4)
    torch.testing.assert_close(found_e, noise, atol=2e-3, rtol=1e-3)


def test_the_relative_schedule_is_that_of_the_state():
    """Karras et al. 2022, Table 1, with sigma_data = SPREAD: c_skip and c_out of x_t / sqrt(ab) about the guide."""
    ab = PlanePrior(nn.Identity()).alpha_bar[::111]
    sigma2, relative = (1 - ab) / ab, relative_alpha_bar(ab)
    torch.testing.assert_close(relative, SPREAD**2 / (SPREAD**2 + sigma2))
    c_out = (sigma2.sqrt() * SPREAD) / (SPREAD**2 + sigma2).sqrt()
    torch.testing.assert_close(SPREAD * (1 - relative).sqrt(), c_out)


def test_the_pair_sends_each_slice_to_its_network():
    bare, guided = Oracle(None), Oracle(None)
    bare.forward = lambda x, timesteps, class_labels: x[:, :1] + timesteps[:, None, None, None]
    guided.forward = lambda x, timesteps, class_labels: x[:, 2:3] - class_labels[:, None, None, None]
    pair, x = NetworkPair(bare, guided), torch.randn(12, 5, 4, 4)
    times, classes = torch.arange(12), torch.arange(12)
    out = pair(x, times, classes)
    for index in range(12):
        shown = bool(is_guided(classes[index : index + 1]))
        assert shown == (index in (3, 4, 5, 9, 10, 11))
        assert torch.equal(out[index, 0], x[index, 2] - index if shown else x[index, 0] + index)
    alone = pair(x, torch.tensor([7]), torch.tensor([4]))
    assert torch.equal(alone, x[:, 2:3] - 4)


def test_the_flat_network_is_local_and_knows_time_and_class():
    torch.manual_seed(0)
    network = SliceResNet(channels=32, blocks=2, embedding=32)
    for parameter in network.parameters():
        if not parameter.abs().sum():
            nn.init.normal_(parameter, std=0.05)
    x = torch.randn(2, 5, 32, 64)
    times, classes = torch.tensor([10, 700]), torch.tensor([3, 9])
    out = network(x, times, classes)
    assert out.shape == (2, 1, 32, 64)
    for index in range(2):
        one = network(x[index : index + 1], times[index : index + 1], classes[index : index + 1])
        torch.testing.assert_close(one, out[index : index + 1], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(network(x, times, torch.tensor([3, 4]))[1], out[1])
    assert not torch.allclose(network(x, torch.tensor([10, 500]), classes)[1], out[1])
    far = x.clone()
    far[..., 40:] = -1  # the stem, four convolutions and the last reach 12 pixels
    torch.testing.assert_close(network(far, times, classes)[..., :26], out[..., :26], atol=1e-5, rtol=1e-5)


def test_the_network_sees_the_thick_axis_as_the_first():
    listener = Listener()
    prior = PlanePrior(listener, guided=True)
    x, guide = torch.randn(2, 1, 8, 12), torch.randn(2, 4, 8, 12).clamp(*GUIDE_RANGE)
    along_w = prior.predict(x, 300, "axial", guide, True, along=1)
    assert torch.equal(listener.seen[:, 1:], guide.mT)
    along_h = prior.predict(x.mT.contiguous(), 300, "axial", guide.mT.contiguous(), True, along=0)
    assert all(torch.equal(a, b.mT) for a, b in zip(along_w, along_h))


def filled_network(**options):
    torch.manual_seed(1)
    network = SliceResNet(channels=32, blocks=2, embedding=32, **options)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.05)
    return network


def test_older_weights_grow_and_predict_what_they_did():
    old, new = filled_network(), SliceResNet(32, 2, embedding=32, in_channels=1 + SHOWN, made=True, spread=True)
    new.load_state_dict(old.state_dict())
    x, times, classes = torch.randn(2, 1 + SHOWN, 16, 16), torch.tensor([10, 700]), torch.tensor([3, 9])
    out = new(x, times, classes)
    assert out.shape == (2, 2, 16, 16)
    torch.testing.assert_close(out[:, :1], old(x, times, classes), atol=1e-6, rtol=1e-6)
    assert not out[:, 1:].any()  # a standard deviation of 1 until it is learned
    with pytest.raises(RuntimeError, match="size mismatch"):
        SliceResNet(32, 2, embedding=32).load_state_dict(new.state_dict(), strict=False)


def test_how_slices_were_made_reaches_every_block():
    """A stem that is blind to noise: the prediction changes with it all the same, by the blocks' modulation."""
    network = filled_network(in_channels=1 + SHOWN, made=True)
    with torch.no_grad():
        network.stem.weight[:, 4 * (1 + MADE.start) :] = 0
    x, times, classes = torch.randn(3, 1 + SHOWN, 16, 16), torch.tensor([999]), torch.tensor([3])
    x[:, 1 + MADE.start :] = 0.5
    noisy = x.clone()
    noisy[:, 2 + MADE.start] = 2.0
    assert not torch.allclose(network(noisy, times, classes), network(x, times, classes), atol=1e-4)
    each = network(noisy, times.expand(3), classes.expand(3))
    torch.testing.assert_close(network(noisy, times, classes), each, atol=1e-5, rtol=1e-5)


def test_the_spread_has_no_influence_on_what_it_is_made_of():
    network = filled_network(in_channels=1 + SHOWN, made=True, spread=True)
    x, times, classes = torch.randn(2, 1 + SHOWN, 16, 16), torch.tensor([10, 700]), torch.tensor([3, 9])
    network(x, times, classes)[:, 1:].sum().backward()
    touched = {
        name for name, parameter in network.named_parameters() if parameter.grad is not None and parameter.grad.any()
    }
    assert touched == {"spread.weight", "spread.bias"}


def test_an_estimate_comes_with_the_spread_of_its_error():
    network = filled_network(in_channels=1 + SHOWN, made=True, spread=True)
    prior = PlanePrior(NetworkPair(SliceUNet([64], 1, CLASSES, 32, in_channels=2), network), guided=True).eval()
    assert prior.tells_spread
    guide = torch.rand(2, SHOWN, 16, 24)
    found = prior.estimate(torch.zeros(2, 1, 16, 24), 999, "axial", guide)
    x0, e = prior.predict(torch.zeros(2, 1, 16, 24), 999, "axial", guide)
    assert torch.equal(found.x0, x0) and torch.equal(found.e, e)
    assert found.spread.shape == x0.shape and bool((found.spread > 0).all())
    z = torch.cat([-(prior.alpha_bar[999] ** 0.5 * guide[:, :1]).float(), guide], dim=1)
    out = prior(z, torch.tensor([999]), torch.tensor([condition_class(0, True, True)]))
    torch.testing.assert_close(found.spread, SPREAD * out[:, 1:].exp(), atol=1e-3, rtol=1e-3)
    turned = prior.estimate(torch.zeros(2, 1, 24, 16), 999, "axial", guide.mT, along=1)
    torch.testing.assert_close(turned.spread, found.spread.mT)
    assert prior.estimate(torch.zeros(2, 1, 16, 24), 999, "axial").spread is None  # without a guide
    plain = PlanePrior(NetworkPair(SliceUNet([64], 1, CLASSES, 32, in_channels=2), filled_network()), guided=True)
    assert not plain.tells_spread and plain.estimate(torch.zeros(2, 1, 16, 24), 9, "axial", guide).spread is None


def test_mean_and_draws_have_an_uncertainty_of_their_own():
    prior = PlanePrior(nn.Identity())
    prior.set_uncertainty(7.0, 0.5)
    prior.set_uncertainty(2.0, 0.0, drawn=False, noise=0.5)
    assert prior.uncertainty(np.array(3.0), 2.0) == pytest.approx(np.hypot(21.0, 1.0))
    assert prior.uncertainty(np.array(3.0), 2.0, drawn=False) == pytest.approx(6.0)
    assert prior.uncertainty(np.array(3.0), 2.0, drawn=False, noise=16.0) == pytest.approx(10.0)
    older = {name: value for name, value in prior.state_dict().items() if "spread" not in name}
    loaded = PlanePrior(nn.Identity())
    loaded.load_state_dict(older)
    assert float(loaded.uncertainty_scale) == 7.0 and float(loaded.spread_scale) == 1.0
