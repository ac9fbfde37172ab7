"""The guided network in 8-bit integers: the mean in one step on a CPU.

What flows from block to block stays in integers, as does what lies within a block, so that a block is two convolutions
and nothing else. The flow's steps are set for each channel, and go into the weights on both sides (Nagel et al. 2019,
"Data-free quantization through weight equalization and bias correction", section 4.1); they come from a floating pass
over a few windows of the slices. First and last convolution, and the sum before the last one, are floating.

The network serves every time, plane and kind of scan, and under the one condition of a pass many of the channels within
its blocks are zero after their ReLU, or next to it. The first slices are computed with all channels, and show which do
something; the others are computed with those alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from bida.diffusion.prior import PlanePrior
from bida.diffusion.resnet import ModulatedBlock, NetworkPair, SliceResNet
from bida.integers import HIGHEST, ZERO, IntegerConvolution, to_integers

# Integers reach so far beyond what the windows have: whole slices reach 1.5 times as far in half of the channels, twice
# as far in the widest one. What is beyond is cut off.
ROOM = 1.5
# Channels within a block that make no more than this share of what it adds to any slice are left out, as many as leave
# whole groups: integer units take so many at once.
LITTLE, GROUP = 2e-3, 8
EVERY = 2  # of rows and columns within a block one is looked at, a quarter of the work


def integer_network(prior: PlanePrior) -> SliceResNet | None:
    """Return the network for slices with a guide, where it can be computed in integers; None where it cannot."""
    network = prior.networks["shared"] if prior.shared and prior.guided else None
    guided = network.guided if isinstance(network, NetworkPair) else network
    return guided if isinstance(guided, SliceResNet) and len(guided.body) > 0 else None


@dataclass(frozen=True)
class Ranges:
    """How far from zero the numbers of a network go.

    Attributes:
        flow: between blocks, each channel, [C].
        within: within each block, after its ReLU, [blocks].
    """

    flow: Tensor
    within: Tensor

    @classmethod
    def of(cls, network: SliceResNet, windows: Sequence[Tensor], emb: Tensor) -> Ranges:
        """Measure them on windows of what the network sees, [B, C, H, W] each, under an embedding [1, E]."""
        found = [cls._of_one(network, window, emb) for window in windows]
        flow, within = (torch.stack(parts).float().amax(dim=0) for parts in zip(*found))
        return cls(flow, within)

    @staticmethod
    def _of_one(network: SliceResNet, x: Tensor, emb: Tensor) -> tuple[Tensor, Tensor]:
        h, flow, within = network.stem(network.folded(x)), [], []
        for block in _blocks(network):
            inner = F.relu(F.conv2d(h, *block.modulated(emb, h.dtype), padding=1))
            flow.append(h.abs().amax(dim=(0, 2, 3)))
            within.append(inner.amax())
            h = torch.add(h, block.conv2(inner), alpha=block.residual)
        return torch.stack(flow).amax(dim=0), torch.stack(within)


def counting(energy: Tensor) -> Tensor:
    """Return which channels count, in order, given what each adds to slices, [N, C].

    All but those that add least to the slice that they do most for, so many that together they add `LITTLE` to no
    slice.
    """
    shares = energy / energy.sum(dim=1, keepdim=True).clamp(min=torch.finfo(energy.dtype).tiny)
    least = torch.argsort(shares.amax(dim=0), stable=True)
    few = int((torch.cumsum(shares[:, least], dim=1).amax(dim=0) <= LITTLE).sum())
    left = math.ceil(max(1, len(least) - few) / GROUP) * GROUP
    return least[-left:].sort().values


class IntegerPass:
    """A `SliceResNet` under one condition, its blocks in integers.

    Calls are not alike: the first few, if so many are asked for, are computed with all channels, those after them with
    the channels that did something in the first.

    Args:
        network: The network.
        windows: Of what it will see, [B, C, H, W] each, for the ranges of its numbers.
        timesteps, class_labels: The time and the class of all slices, [1].
        dtype: Arithmetic of what is floating, ``torch.float32`` or ``torch.bfloat16``.
        watched: How many calls have all channels and are looked at; 0: all have them, and none is.
    """

    @torch.inference_mode()
    def __init__(
        self,
        network: SliceResNet,
        windows: Sequence[Tensor],
        timesteps: Tensor,
        class_labels: Tensor,
        dtype: torch.dtype = torch.float32,
        watched: int = 0,
    ) -> None:
        """Find the ranges, and round the weights."""
        self.network, self.dtype, self.watched = network, dtype, watched
        self._seen: list[Tensor] = []  # what channels added in the calls that are looked at, [B, blocks, C] each
        emb = network.embedded(windows[0], timesteps, class_labels)
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            ranges = Ranges.of(network, windows, emb)
        least = torch.finfo(torch.float32).eps  # a channel that is zero stays zero
        steps = (ROOM / (HIGHEST - ZERO) * ranges.flow).clamp(min=least)  # [C], of the flow
        inner = (ROOM / HIGHEST * ranges.within).clamp(min=least).tolist()  # within the blocks
        self.blocks = []
        for block, step in zip(_blocks(network), inner):
            weight, bias = block.modulated(emb, torch.float32)
            first = IntegerConvolution(weight * steps[:, None, None] / step, bias / step, ZERO)
            weight, bias = _parameters(block.conv2)
            scale = block.residual / steps
            second = IntegerConvolution(weight * (step * scale)[:, None, None, None], bias * scale)
            self.blocks.append((first, second))
        weight, bias = _parameters(network.stem)
        self.stem = _floating(weight / steps[:, None, None, None], bias / steps, dtype)
        ends = [_parameters(end) for end in (network.out, network.spread) if end is not None]
        weight, bias = (torch.cat(parts) for parts in zip(*ends))
        self.out = _floating(weight * steps[:, None, None], bias, dtype)

    @torch.inference_mode()
    def __call__(self, x: Tensor) -> Tensor:
        """Return what the network does for slices and guides [B, C, H, W], float32."""
        stem = F.conv2d(self.network.folded(x).to(self.dtype), *self.stem, padding=1)
        flow, energy, watching = to_integers(stem), [], len(self._seen) < self.watched
        for place, ((first, second), block) in enumerate(zip(self.blocks, _blocks(self.network))):
            inner = first.relu(flow)
            if watching:
                energy.append(_added(inner, block.conv2.weight))
            if place == len(self.blocks) - 1:
                # the sum of the stem and the flow goes further than the flow's integers
                flow = flow.to(self.dtype).sub_(ZERO).add_(stem)
            flow = second.onto(inner, flow)
        if watching:
            self._seen.append(torch.stack(energy, dim=1))
            if len(self._seen) == self.watched:
                self.blocks = self._without_idle()
        out = F.conv2d(flow, *self.out, padding=1).float()
        return torch.cat([self.network.unfold(part) for part in out.split(self.network.out.out_channels, dim=1)], dim=1)

    def _without_idle(self) -> list[tuple[IntegerConvolution, IntegerConvolution]]:
        """Return the blocks with the channels that count in what was looked at."""
        some = [counting(energy) for energy in torch.cat(self._seen).unbind(dim=1)]
        return [(one.of_outputs(mine), two.of_inputs(mine)) for (one, two), mine in zip(self.blocks, some)]

    @classmethod
    def of(
        cls,
        prior: PlanePrior,
        windows: Sequence[tuple[Tensor, Tensor]],
        t: int,
        plane: str,
        grain: bool = True,
        along: int = 0,
        watched: int = 0,
    ) -> IntegerPass:
        """Return the pass of a prior's `integer_network`; see `PlanePrior.estimate`, whose ``network`` it can be.

        Args:
            prior: The prior.
            windows: Of slices [B, 1, H, W] and of their guides [B, 8, H, W].
            t, plane, grain, along: Of all slices.
            watched: As of the class.
        """
        network = integer_network(prior)
        assert network is not None  # `PlanePrior.int8` says so
        seen = [prior.seen(x, t, guide, along) for x, guide in windows]
        return cls(network, seen, *prior.condition(t, plane, True, grain), prior.compute_dtype, watched)


def _blocks(network: SliceResNet) -> list[ModulatedBlock]:
    return cast(list[ModulatedBlock], list(network.body))


def _added(inner: Tensor, weight: Tensor) -> Tensor:
    """Return what each channel within a block adds to slices, mean square in some unit, [B, C].

    Args:
        inner: The channels, [B, C, H, W] of uint8.
        weight: Of the convolution that they go through, [O, C, 3, 3].
    """
    some = inner[..., ::EVERY, ::EVERY].float()
    return some.square().mean(dim=(2, 3)) * weight.square().sum(dim=(0, 2, 3))


def _parameters(convolution: nn.Conv2d) -> tuple[Tensor, Tensor]:
    return convolution.weight, cast(Tensor, convolution.bias)


def _floating(weight: Tensor, bias: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    return weight.to(dtype, memory_format=torch.channels_last), bias.to(dtype)
