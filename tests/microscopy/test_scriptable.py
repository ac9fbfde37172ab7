"""The scripted volume network against the inferer, which it shares only the network with."""

import pytest
import torch

from bida.errors import SettingsError
from bida.io.released import released_path
from bida.microscopy.inferer import MaskedSliceInferer
from bida.microscopy.prior import MaskedPrior
from bida.microscopy.scriptable import ScriptableMean

SIZES = [(2, 1, 1), (3, 20, 17), (4, 13, 22)]


@pytest.fixture(scope="module")
def shipped():
    return MaskedPrior.load(released_path("masked.pt"))


def planes(size, channels=1, batch=1):
    draw = torch.Generator().manual_seed(sum(size))
    return torch.rand(batch, channels, *size, generator=draw)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("factor", [2, 3])
def test_it_gives_what_the_inferer_gives(shipped, size, factor):
    given, network = planes(size, channels=2), torch.jit.script(ScriptableMean(shipped, factor))
    with torch.no_grad():
        got = network(given)
    expected = (MaskedSliceInferer(factor)(2 * given - 1, shipped) + 1) / 2
    between = torch.arange(got.shape[2]) % factor != 0
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)  # sums of some hundred products in float32
    linear = torch.nn.functional.interpolate(given, size=got.shape[2:], mode="trilinear", align_corners=True)
    assert min(size) == 1 or (got - linear)[:, :, between].abs().mean() > 1e-3
    assert torch.equal(got[:, :, ~between], given)


@pytest.mark.parametrize("prediction", ["eps", "x0"])
def test_whatever_the_network_predicts(prediction):
    torch.manual_seed(0)
    prior = MaskedPrior("guided", 1, (8,), 1, prediction=prediction, timesteps=50).eval()
    for parameter in prior.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    given = planes((3, 12, 14))
    with torch.no_grad():
        got = ScriptableMean(prior, 2)(given)
    expected = (MaskedSliceInferer(2)(2 * given - 1, prior) + 1) / 2
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)


def test_stacks_of_a_batch_know_nothing_of_each_other(shipped):
    network, given = ScriptableMean(shipped, 2), planes((3, 12, 10), batch=2)
    given[1] *= 5
    with torch.no_grad():
        torch.testing.assert_close(network(given), torch.cat([network(given[:1]), network(given[1:])]))


@pytest.mark.parametrize("factor", [1, 2.5])
def test_a_factor_that_leaves_planes_between_voxels_is_refused(shipped, factor):
    with pytest.raises(SettingsError, match=rf"factor: must be a whole number from 2 on, got {factor:g}"):
        ScriptableMean(shipped, factor)


def test_another_method_is_refused():
    with pytest.raises(SettingsError, match=r"must be of method guided, .* got msunet"):
        ScriptableMean(MaskedPrior("msunet", 1, (32,), 1), 2)
