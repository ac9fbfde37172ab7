"""What the benchmarks find that is gained on slices made thick in their plane."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import ModuleType

import numpy as np
import pytest
import torch
from conftest import ROOT, load_benchmark
from torch import Tensor

from bida.mri.measurement import Measurement
from bida.physics.consistency import cubic, interpolated
from bida.physics.geometry import SliceGeometry

Way = Callable[[Tensor, SliceGeometry], Tensor]


@pytest.fixture(scope="module")
def trust() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        return load_benchmark("trust")


class By:
    """A sampler that gives what a way makes of thick slices, and something else of no weight in the mean."""

    def __init__(self, way: Way) -> None:
        self.way = way

    def sampled(self, scan: Measurement, prior: object, planes: tuple[str, ...]) -> Iterator[list[Tensor]]:
        found = self.way(scan.y, scan.geometry)
        yield from ([found + 0.1], [found - 0.1])  # two draws, whose mean counts


@pytest.mark.parametrize(("way", "index"), [(cubic, 0), (interpolated, 1)])
def test_what_gain_is_held_against_gains_nothing(trust: ModuleType, way: Way, index: int) -> None:
    sharp = torch.from_numpy(np.random.default_rng(0).uniform(-0.5, 1, (32, 3, 40)).astype(np.float32))
    geometry = SliceGeometry(1, 3, 0.8, 0.8, 32, 0.2)
    gains = trust.gains(By(way), None, sharp, geometry)
    assert gains[index] == pytest.approx(0, abs=1e-4)  # of float32 sums
    assert gains[1 - index] != pytest.approx(0, abs=0.01)
    better = trust.gains(By(lambda y, own: sharp), None, sharp, geometry)
    assert min(better) > 40
