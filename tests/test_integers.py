"""The convolution in integers against one in float64, which holds every sum of such integers exactly."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from bida import integers
from bida.integers import HIGHEST, LEVELS, ZERO, IntegerConvolution, exact, to_integers

here = pytest.mark.skipif(not exact(), reason="needs a CPU with exact integer convolutions")


def channels_last(x):
    return x.contiguous(memory_format=torch.channels_last)


def made(zero, seed=0):
    """A convolution of 32 to 48 channels, its input, and what it is in float64."""
    generator = torch.Generator().manual_seed(seed)
    weight, bias = (torch.randn(shape, generator=generator) for shape in ((48, 32, 3, 3), (48,)))
    x = channels_last(torch.randint(0, HIGHEST + 1, (2, 32, 9, 12), generator=generator, dtype=torch.uint8))
    convolution = IntegerConvolution(weight / 8, bias, zero)
    rounded = convolution.rounded.double() * convolution.step.double()[:, None, None, None]
    return convolution, x, F.conv2d(x.double() - zero, rounded, bias.double(), padding=1)


@here
@pytest.mark.parametrize("zero", [0, ZERO])
def test_it_is_the_convolution_of_rounded_weights(zero):
    convolution, x, expected = made(zero)
    assert (expected.abs() > HIGHEST).any()  # some are cut off
    found = convolution.relu(x)
    assert found.dtype == torch.uint8 and found.is_contiguous(memory_format=torch.channels_last)
    # rounding to the nearest; float32 may take the other of two that are equally near
    torch.testing.assert_close(found.double(), expected.clamp(0, HIGHEST), atol=0.5001, rtol=0)
    total = channels_last(torch.randn(expected.shape))
    before = total.clone()
    assert convolution.onto(x, total) is total or torch.equal(convolution.onto(x, before.clone()), total)
    torch.testing.assert_close(total.double(), expected + before, atol=1e-3, rtol=1e-6)


@here
def test_it_adds_to_integers_about_their_zero():
    convolution, x, expected = made(0)
    total = channels_last(torch.randint(0, HIGHEST + 1, expected.shape, dtype=torch.uint8))
    wanted = (expected + total).clamp(0, HIGHEST)
    torch.testing.assert_close(convolution.onto(x, total.clone()).double(), wanted, atol=0.5001, rtol=0)


@here
def test_weights_are_rounded_with_a_step_for_each_channel():
    weight = torch.randn(4, 8, 3, 3) * torch.tensor([1e-3, 1.0, 50.0, 0.0])[:, None, None, None]
    found = IntegerConvolution(weight, torch.zeros(4))
    assert found.rounded.abs().amax(dim=(1, 2, 3)).tolist() == [LEVELS] * 3 + [0]
    back = found.rounded * found.step[:, None, None, None]
    assert ((back - weight).abs() <= 0.5001 * found.step[:, None, None, None]).all()


@here
def test_channels_that_are_kept_give_what_they_gave():
    """Of the output as they were; of the input what the sum is without the others."""
    convolution, x, _ = made(0)
    outputs, inputs = torch.tensor([1, 7, 8, 40]), torch.arange(4, 28)
    before = convolution.relu(x)
    assert torch.equal(convolution.of_outputs(outputs).relu(x), before[:, outputs])
    silent = x.clone(memory_format=torch.preserve_format)
    silent[:, :4], silent[:, 28:] = 0, 0
    expected = convolution.relu(silent)
    assert torch.equal(convolution.of_inputs(inputs).relu(channels_last(x[:, inputs])), expected)
    assert not torch.equal(expected, before) and torch.equal(convolution.relu(x), before)


def test_numbers_are_rounded_and_cut_off():
    steps = torch.tensor([-1e6, -128.4, -0.6, -0.4, 0.0, 0.4, 0.6, 126.8, 1e6])
    expected = [0, 0, ZERO - 1, ZERO, ZERO, ZERO, ZERO + 1, HIGHEST, HIGHEST]
    for dtype in (torch.float32, torch.bfloat16):
        assert to_integers(steps.to(dtype)).tolist() == expected
    whole = torch.arange(-128, 128)
    assert torch.equal(to_integers(whole.bfloat16()).int(), (whole + ZERO).int())


class Wrong(IntegerConvolution):
    """One sum is off by one."""

    def onto(self, x, total):
        out = super().onto(x, total)
        out[0, 3, 2, 2] += 1
        return out


class WrongPositive(IntegerConvolution):
    """What is rounded to integers is lost."""

    def relu(self, x):
        return torch.zeros_like(super().relu(x))


class WrongSum(IntegerConvolution):
    """What integers are added to is lost."""

    def onto(self, x, total):
        out = super().onto(x, total)
        return out if out.is_floating_point() else torch.full_like(out, ZERO)


class Missing(IntegerConvolution):
    def __init__(self, *args):
        raise RuntimeError("Didn't find kernel")


@pytest.mark.parametrize(
    "kind", [pytest.param(one, marks=here) for one in (Wrong, WrongPositive, WrongSum)] + [Missing]
)
def test_what_is_not_exact_or_not_there_is_not_used(monkeypatch, kind):
    monkeypatch.setattr(integers, "IntegerConvolution", kind)
    exact.cache_clear()
    assert not exact()
    exact.cache_clear()
