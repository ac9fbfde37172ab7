"""Which slices of a plane a prior sees, and in which order."""

from itertools import pairwise

import pytest
import torch

from bida.diffusion.int8 import IntegerPass
from bida.diffusion.prior import CLASSES, SHOWN, PlanePrior
from bida.diffusion.resnet import NetworkPair, SliceResNet
from bida.diffusion.unet import SliceUNet
from bida.integers import exact
from bida.mri.denoiser import WATCHED, PlaneDenoiser

SHAPE, INSIDE = (40, 16, 24), (range(4, 35), range(16), range(2, 22))  # of sagittal slices


def sagittal(int8, micro_batch, inside=INSIDE, batch_size=8):
    """Return the denoiser of a volume whose first slices are air; of 32 channels within a block 8 do nothing."""
    torch.manual_seed(0)
    guided = SliceResNet(32, 2, embedding=32, in_channels=1 + SHOWN)
    with torch.no_grad():
        for parameter in guided.parameters():
            parameter.normal_(std=0.06)
        for block in guided.body:
            block.conv2.weight[:, 8:16] = 0
    prior = PlanePrior(NetworkPair(SliceUNet([64], 1, CLASSES, 32, in_channels=2), guided), guided=True).eval()
    y = torch.rand(SHAPE[0], 4, SHAPE[2])
    y[:6] = -1
    held = torch.ones(SHAPE, dtype=torch.bool)
    return PlaneDenoiser(
        prior, "sagittal", y, held, batch_size, micro_batch, [torch.zeros(SHAPE)] * SHOWN, inside=inside, int8=int8
    )


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("inside", [None, INSIDE])
@pytest.mark.parametrize("micro_batch", [1, 3, 8, 64])
def test_every_slice_of_the_result_is_seen_once_and_no_other(int8, inside, micro_batch):
    found = sagittal(int8, micro_batch, inside)
    slices = [i for cut in found.cuts for i in cut.index.tolist()]
    assert sorted(slices) == list(range(6, 40 if inside is None else 35))
    assert all(1 <= len(cut.index) <= micro_batch for cut in found.cuts)


@pytest.mark.parametrize(("micro_batch", "watched"), [(8, 1), (3, 3), (64, 1)])
def test_channels_are_told_by_slices_of_the_whole_plane(micro_batch, watched):
    """The first and the last that hold something, and what lies evenly between, before all others."""
    found = sagittal(True, micro_batch)
    first = sorted(i for cut in found.cuts[: found.watched] for i in cut.index.tolist())
    assert found.watched == watched and len(first) == WATCHED
    assert (first[0], first[-1]) == (6, 34)
    assert {after - before for before, after in pairwise(first)} == {4}
    assert sagittal(False, micro_batch).watched == 0


@pytest.mark.skipif(not exact(), reason="needs a CPU with exact integer convolutions")
def test_idle_channels_are_left_out_of_what_comes_after_whatever_the_batch_size(monkeypatch):
    passes, made = [], IntegerPass.of
    monkeypatch.setattr(IntegerPass, "of", lambda *args: passes.append(made(*args)) or passes[-1])
    x, results = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1)), []
    for batch_size in (1, 8, 64):
        results.append(sagittal(True, 8, batch_size=batch_size)(x, 999)[0])
        assert [len(first.bias) for first, _ in passes[-1].blocks] == [24, 24]
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])
    expected = sagittal(False, 8)(x, 999)[0]
    assert float((results[0] - expected).square().mean().sqrt()) < 0.03 * float(expected[6:35].std())
    few = sagittal(True, 8, inside=(range(8, 16), *INSIDE[1:]))  # as many as would be looked at
    few(x, 999)
    assert few.watched == 0 and [len(first.bias) for first, _ in passes[-1].blocks] == [32, 32]
