"""The network of the self-supervised super-resolution: plain, small, and shaped for the matrix units of a processor."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from bida.diffusion.resnet import FOLD, RESIDUAL
from bida.diffusion.unet import zero


class ResidualBlock(nn.Module):
    """``x + RESIDUAL conv(relu(conv(x)))``, without normalisation (Lim et al. 2017, EDSR)."""

    def __init__(self, channels: int) -> None:
        """Make a block of two 3 x 3 convolutions."""
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map x [B, C, H, W] to the same shape."""
        return x + RESIDUAL * self.conv2(F.relu(self.conv1(x)))


class SelfSRNetwork(nn.Module):
    """Sharpen images along their rows' axis (H); what it adds to the first input channel starts at zero.

    Args:
        inputs: channels of the input, interpolations of one image.
        channels: width of every layer; multiples of 32 fill a matrix unit.
        blocks: residual blocks of two 3 x 3 convolutions.
    """

    def __init__(self, inputs: int = 2, channels: int = 64, blocks: int = 8) -> None:
        """Make the network."""
        super().__init__()
        self.stem = nn.Conv2d(inputs * FOLD**2, channels, 3, padding=1)
        self.body = nn.Sequential(*(ResidualBlock(channels) for _ in range(blocks)))
        self.out = nn.Conv2d(channels, FOLD**2, 3, padding=1)
        zero(self.out)

    def forward(self, x: Tensor) -> Tensor:
        """Return the sharp images [B, 1, H, W] of x [B, K, H, W], of any height and width."""
        height, width = x.shape[-2:]
        even = F.pad(x, (0, -width % FOLD, 0, -height % FOLD), mode="replicate")
        h = F.pixel_unshuffle(even, FOLD).contiguous(memory_format=torch.channels_last)
        h = self.stem(h)
        h = h + self.body(h)
        return x[:, :1] + F.pixel_shuffle(self.out(h), FOLD)[..., :height, :width]
