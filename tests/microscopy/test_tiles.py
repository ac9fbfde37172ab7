"""Tiles leave no seam: a network whose reach is within their margin gives what it gives on the whole slice."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from bida.errors import SettingsError
from bida.microscopy.tiles import Tiling, mirrored, tiled


def convolutions():
    """Two 3 x 3 convolutions: a reach of 2 pixels, zeros beyond the border as in the U-Net."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.SiLU(), nn.Conv2d(4, 3, 3, padding=1)).requires_grad_(False)


@pytest.mark.parametrize("shape", [(24, 24), (40, 24), (33, 71), (7, 90), (25, 25)])
@pytest.mark.parametrize("stride", [1, 4])
def test_no_seams(shape, stride):
    network, slices = convolutions(), torch.randn(3, 2, *shape)
    found = tiled(network, slices, Tiling(24, 8, stride), batch_size=5, micro_batch=4)
    whole = Tiling(1 << 10, 0, stride)
    torch.testing.assert_close(found, tiled(network, slices, whole, micro_batch=3), atol=2e-6, rtol=0)


@pytest.mark.parametrize("shift", [4, 8, 12, 20])
def test_shifted_tiles_give_the_same(shift):
    """More surroundings move every tile; what lies away from the border must not notice."""
    network, slices = convolutions(), torch.randn(1, 2, 80, 80)
    here = tiled(network, slices, Tiling(24, 8, 4))[..., shift:, shift:]
    there = tiled(network, slices[..., shift:, shift:], Tiling(24, 8, 4))
    torch.testing.assert_close(here[..., 2:, 2:], there[..., 2:, 2:], atol=2e-6, rtol=0)


@pytest.mark.parametrize("length", [24, 28, 40, 44, 72, 100, 1000])
@pytest.mark.parametrize("tile, overlap, stride", [(24, 8, 4), (24, 12, 4), (24, 0, 1), (24, 4, 2)])
def test_tiles_cover_a_side_and_windows_sum_to_one(length, tile, overlap, stride):
    tiling, total = Tiling(tile, overlap, stride), torch.zeros(length)
    starts = tiling.starts(length)
    assert starts[0] == 0 and starts[-1] == max(0, length - tile) and all(start % stride == 0 for start in starts)
    assert all(0 < b - a <= tile - overlap for a, b in pairwise(starts))
    for k, (start, window) in enumerate(zip(starts, tiling.windows(length))):
        total[start : start + len(window)] += window
        margin = overlap // 4
        assert k == 0 or not window[: max(0, margin - 1)].any()
    torch.testing.assert_close(total, torch.ones(length))


@pytest.mark.parametrize("length, padded, expected", [
    (4, 7, [0, 1, 2, 3, 2, 1, 0]), (3, 8, [0, 1, 2, 1, 0, 1, 2, 1]), (1, 4, [0, 0, 0, 0]), (2, 4, [0, 1, 0, 1]),
])  # fmt: skip
def test_mirror(length, padded, expected):
    assert mirrored(length, padded).tolist() == expected


def test_batches_change_nothing():
    network, slices = convolutions(), torch.randn(5, 2, 50, 30)
    found = [tiled(network, slices, Tiling(24, 8), batch_size=size, micro_batch=4) for size in (1, 7, 64)]
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


def test_the_same_tiles_meet_whatever_the_batch():
    """A network that mixes its batch would tell."""
    slices = torch.randn(5, 2, 50, 30)
    found = [
        tiled(lambda x: x + x.mean(), slices, Tiling(24, 8), batch_size=size, micro_batch=4) for size in (1, 7, 64)
    ]
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


def test_the_network_sees_one_shape():
    shapes = set()

    def network(x):
        shapes.add(tuple(x.shape))
        return x

    slices = torch.randn(3, 1, 50, 13)
    torch.testing.assert_close(tiled(network, slices, Tiling(24, 8, 4), micro_batch=4), slices, atol=1e-6, rtol=0)
    assert shapes == {(4, 1, 24, 16)}


@pytest.mark.parametrize("sizes", [(24, 13, 1), (22, 4, 4), (24, 6, 4), (0, 0, 1)])
def test_sizes_that_do_not_fit_are_refused(sizes):
    with pytest.raises(SettingsError, match=r"tile: |overlap: "):
        Tiling(*sizes)
