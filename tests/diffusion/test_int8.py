"""The guided network in integers against itself in float32."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from bida.diffusion import int8
from bida.diffusion.int8 import EVERY, GROUP, LITTLE, ROOM, IntegerPass, Ranges, counting, integer_network
from bida.diffusion.prior import CLASSES, PlanePrior
from bida.diffusion.resnet import NetworkPair, SliceResNet
from bida.diffusion.unet import SliceUNet
from bida.integers import exact

here = pytest.mark.skipif(not exact(), reason="needs a CPU with exact integer convolutions")
TIME, CLASS = torch.tensor([999]), torch.tensor([9])


def network_of(**options):
    """Return a guided network drawn at random, of three blocks that all count."""
    torch.manual_seed(1)
    network = SliceResNet(32, 3, embedding=32, in_channels=9, **options)
    for name, parameter in network.named_parameters():
        nn.init.normal_(parameter, std=0.3 / parameter[0].numel() ** 0.5 if "modulation" in name else 0.06)
    return network.eval()


def slices(count=3, seed=0):
    """Return what a network sees, smooth as slices are, [N, 9, 24, 32]."""
    x = torch.randn(count, 9, 24, 32, generator=torch.Generator().manual_seed(seed))
    return nn.functional.avg_pool2d(x, 5, 1, 2, count_include_pad=False) * 5


def pair_of(network):
    bare = SliceUNet([64], 1, CLASSES, 32, in_channels=2)
    return PlanePrior(NetworkPair(bare, network), guided=True).eval()


@here
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("options", [{}, {"made": True, "spread": True}])
def test_it_is_near_the_network_in_float32(options, dtype):
    network, x = network_of(**options), slices()
    x[:, network.first : network.past] = x[:1, network.first : network.past].mean(dim=(2, 3), keepdim=True)
    with torch.inference_mode():
        expected = network(x, TIME, CLASS)
        flow = network.stem(network.folded(x))
        assert float((network(x, TIME, CLASS) - network.unfold(network.out(2 * flow))[:, :1]).std()) > 0.1
    found = IntegerPass(network, [x[:2]], TIME, CLASS, dtype)(x)
    assert found.shape == expected.shape and found.dtype == torch.float32
    # a step of the flow is ROOM / 127 of its largest value, some 4 standard deviations: 0.05 of one. The rounding of
    # each of four states is 0.3 steps, that of the weights likewise: some 1.5% of what is told; weights of 5 bits: 3%
    for part, whole in zip(found.unbind(1), expected.unbind(1)):
        assert float((part - whole).square().mean().sqrt() / whole.std()) < 0.02


@here
def test_it_depends_on_time_class_and_how_slices_were_made():
    network, x = network_of(made=True), slices()
    first = IntegerPass(network, [x], TIME, CLASS)(x)
    other = x.clone()
    other[:, network.first : network.past] += 1
    assert not torch.equal(IntegerPass(network, [x], torch.tensor([10]), CLASS)(x), first)
    assert not torch.equal(IntegerPass(network, [x], TIME, torch.tensor([10]))(x), first)
    assert not torch.equal(IntegerPass(network, [other], TIME, CLASS)(x), first)
    assert torch.equal(IntegerPass(network, [x], TIME, CLASS)(x), first)


@torch.no_grad()
def test_ranges_are_those_of_the_blocks():
    """What hooks hear while the network runs as ever."""
    network, windows = network_of(), [slices(2), slices(1, seed=5)]
    flow, within = torch.zeros(32), torch.zeros(3)

    def hear(place):
        def block(module, given, out):
            flow.copy_(torch.maximum(flow, given[0].abs().amax(dim=(0, 2, 3))))

        def second(module, given):
            within[place] = max(float(within[place]), float(given[0].max()))

        return block, second

    for place, one in enumerate(network.body):
        block, second = hear(place)
        one.register_forward_hook(block)
        one.conv2.register_forward_pre_hook(second)
    for x in windows:
        network(x, TIME, CLASS)
    found = Ranges.of(network, windows, network.embedded(windows[0], TIME, CLASS))
    torch.testing.assert_close(found.flow, flow, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.within, within, rtol=1e-5, atol=1e-5)


def test_channels_count_but_for_the_least_that_do_little_together():
    energy = torch.rand(64, generator=torch.Generator().manual_seed(0)) + 0.5
    assert torch.equal(counting(energy[None]), torch.arange(64))
    silent = torch.randperm(64, generator=torch.Generator().manual_seed(1))[: 3 * GROUP + 1]
    energy[silent] = 0
    found = counting(energy[None])
    assert len(found) == 64 - 3 * GROUP and torch.equal(found, found.sort().values)
    assert {*range(64)} - {*silent.tolist()} < {*found.tolist()}  # one silent one fills a group
    energy[silent] = 0.9 * LITTLE * energy.sum() / len(silent)
    assert torch.equal(counting(energy[None]), found)
    energy[silent] *= 3
    assert len(counting(energy[None])) == 64 - GROUP
    assert len(counting(torch.zeros(1, 64))) == GROUP


@here
def test_channels_within_a_block_that_are_silent_are_left_out_and_change_nothing():
    network, x = network_of(), slices()
    whole = IntegerPass(network, [x], TIME, CLASS)(x)
    with torch.no_grad():
        for block in network.body:
            block.conv2.weight[:, 3 : 3 + GROUP] = 0
    found = IntegerPass(network, [x], TIME, CLASS, watched=1)
    assert [len(first.bias) for first, _ in found.blocks] == [32] * 3
    before = found(x)
    assert [len(first.bias) for first, _ in found.blocks] == [32 - GROUP] * 3
    assert torch.equal(found(x), before)
    with torch.inference_mode():
        expected = network(x, TIME, CLASS)
    assert float((found(x) - expected).square().mean().sqrt() / expected.std()) < 0.02
    assert not torch.allclose(found(x), whole, atol=0.1)


def test_what_one_slice_alone_needs_counts():
    """Slices each of which needs channels of its own, however many others there are and however dim it is."""
    energy = torch.full((8, 64), 1e-6)
    for k in range(8):
        energy[k, 4 * k : 4 * k + 4] = 10.0**-k
        energy[k] *= 10.0**-k
    energy[:, 32:] = 0
    found = counting(energy)
    assert found.tolist() == list(range(32))
    energy[5, 40] = 2 * LITTLE * energy[5].sum()
    assert 40 in counting(energy) and len(counting(energy)) == 32 + GROUP
    energy[5, 40] = 0.5 * LITTLE * energy[5].sum()
    assert torch.equal(counting(energy), found)
    energy[5, 41:44] = energy[5, 40]  # together too much, in this slice
    assert len(counting(energy)) == 32 + GROUP


@here
def test_what_is_looked_at_are_the_first_calls(monkeypatch):
    network, x = network_of(), slices()
    energy, other = torch.zeros(3, 32), torch.zeros(3, 32)
    energy[:, :16], other[:2, :16], other[2, 16:] = 1, 1, 1
    kept = []
    for watched in (0, 1, 2):
        found = IntegerPass(network, [x], TIME, CLASS, watched=watched)
        for seen in (energy, other, other):
            monkeypatch.setattr(int8, "_added", lambda inner, weight, seen=seen: seen)
            found(x)
        kept.append([len(first.bias) for first, _ in found.blocks])
    assert kept == [[32] * 3, [16] * 3, [32] * 3]


@torch.no_grad()
def test_what_each_channel_adds_is_told():
    inner = torch.randint(0, 256, (2, 4, 10, 12), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    weight = torch.randn(5, 4, 1, 1, generator=torch.Generator().manual_seed(1))
    added = [F.conv2d(inner[:, [c], ::EVERY, ::EVERY].float(), weight[:, [c]]) for c in range(4)]
    energy = torch.stack([part.square().sum(dim=1).mean(dim=(1, 2)) for part in added], dim=1)
    torch.testing.assert_close(int8._added(inner, weight), energy)


@here
def test_channels_that_are_zero_stay_zero():
    network, x = network_of(), slices()
    with torch.no_grad():
        for part in (network.stem, *(block.conv2 for block in network.body)):
            part.weight[5], part.bias[5] = 0, 0
        expected = network(x, TIME, CLASS)
    found = IntegerPass(network, [x], TIME, CLASS)(x)
    assert float((found - expected).square().mean().sqrt() / expected.std()) < 0.02


@here
def test_what_is_far_beyond_the_windows_is_cut_off_and_not_wrapped():
    network, x = network_of(), slices()
    with torch.inference_mode():
        emb = network.embedded(x, TIME, CLASS)
        ranges = Ranges.of(network, [x], emb)
        assert float(Ranges.of(network, [4 * x], emb).flow.max()) > 2 * ROOM * float(ranges.flow.max())
        expected = network(4 * x, TIME, CLASS)
    found = IntegerPass(network, [x], TIME, CLASS)(4 * x)
    # what is cut off loses amplitude; a number that wraps around would change its sign
    assert float(torch.corrcoef(torch.stack([found.flatten(), expected.flatten()]))[0, 1]) > 0.9


def test_which_networks_there_are_integers_for():
    network = network_of()
    assert integer_network(pair_of(network)) is network
    assert integer_network(PlanePrior(network, guided=True)) is network
    for other in (PlanePrior(network), PlanePrior(SliceUNet([64], 1, CLASSES, 32), guided=True)):
        assert integer_network(other) is None
    planes = {plane: network_of() for plane in ("axial", "coronal", "sagittal")}
    assert integer_network(PlanePrior(planes, guided=True)) is None


@here
@pytest.mark.parametrize("along", [0, 1])
def test_a_prior_estimates_by_it(along):
    prior = pair_of(network_of(made=True, spread=True))
    x, guide = slices()[:, :1], slices(seed=3)[:, :8]
    expected = prior.estimate(x, 999, "axial", guide, False, along)
    found = prior.estimate(
        x, 999, "axial", guide, False, along, IntegerPass.of(prior, [(x, guide)], 999, "axial", False, along)
    )
    assert not torch.equal(found.x0, expected.x0)
    for one, other in zip(found, expected):
        assert one.shape == other.shape
    for one, other in ((found.x0, expected.x0), (found.spread.log(), expected.spread.log())):
        assert float((one - other).square().mean().sqrt() / other.std()) < 0.02
