"""A 3 x 3 convolution in 8-bit integers on the CPU, by oneDNN.

Numbers are whole multiples of a step, x = step (q - zero), and products are summed exactly (Jacob et al. 2018,
"Quantization and training of neural networks for efficient integer-arithmetic-only inference", eq. 1 to 9). Weights are
symmetric, with a step for each channel of the output.
"""

from __future__ import annotations

from copy import copy
from functools import lru_cache

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

ZERO = 128  # the integer that stands for 0 where numbers have both signs
HIGHEST = 255
# Weights go from -LEVELS to LEVELS. Processors without VNNI sum products by pairs in 16 bits, and cut them off there
# (oneDNN's developer guide, "Nuances of int8 computations"): 2 x 255 x 63 fits.
LEVELS = 63
SMALL, ROUNDED = 2.0**-12, 0.501  # of `exact`: a scale of its weights, and how far rounding may go
ONE = [1, 1]  # stride, padding and dilation
FAILURES = (RuntimeError, NotImplementedError, AttributeError)  # of a PyTorch that has no such convolution


class IntegerConvolution:
    """A convolution of channels-last integers [B, I, H, W] with padding of zeros; steps of input and output are 1.

    Args:
        weight: [O, I, 3, 3], floating; rounded.
        bias: [O].
        zero: integer that stands for 0 in the input.
    """

    def __init__(self, weight: Tensor, bias: Tensor, zero: int = 0) -> None:
        """Round the weights and lay them out as oneDNN wants them."""
        weight = weight.detach().float()
        step = (weight.abs().amax(dim=(1, 2, 3)) / LEVELS).clamp(min=torch.finfo(torch.float32).tiny)
        self._lay_out((weight / step[:, None, None, None]).round().to(torch.int8), step, bias.detach().float(), zero)

    def _lay_out(self, rounded: Tensor, step: Tensor, bias: Tensor, zero: int) -> None:
        self.rounded, self.step, self.bias, self.zero = rounded, step, bias, zero
        self._zeros = torch.zeros(len(rounded), dtype=torch.int32)
        self._packed = torch.ops.onednn.qconv_prepack(rounded, step, 1.0, zero, ONE, ONE, ONE, 1, None)

    def of_outputs(self, some: Tensor) -> IntegerConvolution:
        """Return the convolution of some channels of the output alone, indices [K]."""
        found = copy(self)
        found._lay_out(self.rounded[some], self.step[some], self.bias[some], self.zero)
        return found

    def of_inputs(self, some: Tensor) -> IntegerConvolution:
        """Return the convolution of some channels of the input alone, indices [K], with the weights as rounded here."""
        found = copy(self)
        found._lay_out(self.rounded[:, some], self.step, self.bias, self.zero)
        return found

    def relu(self, x: Tensor) -> Tensor:
        """Return max(0, w x + b), rounded and cut off at `HIGHEST`, [B, O, H, W] of uint8 from uint8."""
        weights, how = (self._packed, self.step, self._zeros), (self.bias, ONE, ONE, ONE, 1)
        to = (1.0, 0, torch.uint8)
        return torch.ops.onednn.qconv2d_pointwise(x, 1.0, self.zero, *weights, *how, *to, "relu", [], "")

    def onto(self, x: Tensor, total: Tensor) -> Tensor:
        """Add w x + b to a total [B, O, H, W] in place, and return it: floating, or uint8 about `ZERO`."""
        weights, how = (self._packed, self.step, self._zeros), (self.bias, ONE, ONE, ONE, 1)
        zero = ZERO if total.dtype == torch.uint8 else 0
        to = (1.0, zero, total.dtype, 1.0, zero)  # of the output, and of the total
        add = torch.ops.onednn.qconv2d_pointwise.binary
        return add(x, 1.0, self.zero, *weights, total, *how, *to, "sum", 1.0, "none", [], "")


def to_integers(x: Tensor) -> Tensor:
    """Return numbers in steps, floating, rounded to uint8 about `ZERO`, in x's layout."""
    return x.clamp(-ZERO, HIGHEST - ZERO).round_().add_(ZERO).to(torch.uint8)


@lru_cache(maxsize=1)
def exact() -> bool:
    """Return whether this PyTorch has the convolution on this CPU, and sums the largest products without an error."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randint(-LEVELS, LEVELS + 1, (32, 32, 3, 3), generator=generator).float()
    weight[:16], weight[:, 0, 0, 0] = LEVELS, LEVELS  # the largest sums there are; and steps of 1
    bias = torch.randint(-1000, 1000, (32,), generator=generator).float()
    x = torch.randint(0, HIGHEST + 1, (1, 32, 8, 8), generator=generator, dtype=torch.uint8)
    x[..., 4:] = HIGHEST
    x, total = (part.contiguous(memory_format=torch.channels_last) for part in (x, torch.ones(1, 32, 8, 8)))
    for zero in (0, ZERO):
        sums = F.conv2d(x.double() - zero, weight.double(), bias.double(), padding=1)
        try:
            found = IntegerConvolution(weight, bias, zero).onto(x, total.clone(memory_format=torch.preserve_format))
            small = IntegerConvolution(SMALL * weight, SMALL * bias, zero)  # sums within the integers, and beyond
            positive, added = small.relu(x), small.onto(x, x.clone(memory_format=torch.preserve_format))
        except FAILURES:
            return False
        ranges = ((positive, SMALL * sums), (added, SMALL * sums + x))
        rounded = all(float((one - wanted.clamp(0, HIGHEST)).abs().max()) <= ROUNDED for one, wanted in ranges)
        if not (torch.equal(found.double(), 1 + sums) and rounded):
            return False
    return True
