"""Which slices of a plane a prior sees, and in which order."""

from itertools import pairwise

import pytest
import torch

from bida.diffusion.prior import CLASSES, SHOWN, PlanePrior
from bida.diffusion.resnet import NetworkPair, SliceResNet
from bida.diffusion.unet import SliceUNet
from bida.mri.denoiser import WATCHED, PlaneDenoiser

SHAPE, INSIDE = (40, 16, 24), (range(4, 35), range(16), range(2, 22))  # of sagittal slices


def sagittal(int8, micro_batch, inside=INSIDE):
    """Return the denoiser of a volume whose first slices are air."""
    torch.manual_seed(0)
    guided = SliceResNet(32, 2, embedding=32, in_channels=1 + SHOWN)
    prior = PlanePrior(NetworkPair(SliceUNet([64], 1, CLASSES, 32, in_channels=2), guided), guided=True).eval()
    y = torch.rand(SHAPE[0], 4, SHAPE[2])
    y[:6] = -1
    held = torch.ones(SHAPE, dtype=torch.bool)
    return PlaneDenoiser(
        prior, "sagittal", y, held, 8, micro_batch, [torch.zeros(SHAPE)] * SHOWN, inside=inside, int8=int8
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
