"""A 2D U-Net for fast sampling on a CPU: half resolution inside, matrix-unit widths, no attention.

Every operation but the plain 3 x 3 convolution is a cost: the image enters through a 2 x 2 pixel-unshuffle, channel
counts are multiples of 64, a residual block holds one normalisation and one activation for its two convolutions, and
skip connections are summed through 1 x 1 convolutions rather than concatenated. Normalisation is over the channels of
one pixel, so that the result at a pixel depends on its neighbourhood alone, not on how much background or padding the
slice happens to hold.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn


def timestep_embedding(timesteps: Tensor, channels: int, max_period: float = 10_000.0) -> Tensor:
    """Embed diffusion times as sines and cosines (Vaswani et al. 2017, section 3.5).

    Args:
        timesteps: Tensor [B].
        channels: Even number of features.
        max_period: Longest wavelength, in steps.

    Returns:
        Tensor [B, channels], float32.
    """
    half = channels // 2
    frequency = torch.exp(-math.log(max_period) * torch.arange(half, device=timesteps.device) / half)
    angle = timesteps.float()[:, None] * frequency[None, :]
    return torch.cat([angle.cos(), angle.sin()], dim=1)


def zero(module: nn.Module) -> None:
    """Set a module's parameters to zero, so that the block it ends starts as the identity."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)


class ModulatedNorm(nn.Module):
    """Normalise each pixel over its channels, with scale and shift set by the embedding (Perez et al. 2018, FiLM)."""

    def __init__(self, channels: int, embedding: int) -> None:
        """Make the projection from ``embedding`` features to a scale and a shift per channel."""
        super().__init__()
        self.channels = channels
        self.modulation = nn.Linear(embedding, 2 * channels)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """Return the modulated x [B, C, H, W]; ``emb`` is [B, E], or [1, E] where the whole batch shares it."""
        scale, shift = self.modulation(emb).to(x.dtype).chunk(2, dim=1)
        pixels = x.permute(0, 2, 3, 1)  # [B, H, W, C], contiguous for channels_last
        if emb.shape[0] == 1:  # sampling: one time and plane for all, so the modulation is the norm's own affine map
            return F.layer_norm(pixels, (self.channels,), 1 + scale[0], shift[0]).permute(0, 3, 1, 2)
        pixels = F.layer_norm(pixels, (self.channels,))
        return torch.addcmul(shift[:, None, None], pixels, 1 + scale[:, None, None]).permute(0, 3, 1, 2)


class ResidualBlock(nn.Module):
    """``x + conv(silu(conv(norm(x))))``, the last convolution starting at zero."""

    def __init__(self, channels: int, embedding: int) -> None:
        """Make a block of two 3 x 3 convolutions."""
        super().__init__()
        self.norm = ModulatedNorm(channels, embedding)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        zero(self.conv2)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """Map x [B, C, H, W] to the same shape."""
        return x + self.conv2(F.silu(self.conv1(self.norm(x, emb))))


class Stage(nn.ModuleList):
    """The residual blocks of one resolution."""

    def __init__(self, channels: int, blocks: int, embedding: int) -> None:
        """Make the blocks."""
        super().__init__(ResidualBlock(channels, embedding) for _ in range(blocks))

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """Run x [B, C, H, W] through the blocks."""
        for block in self:
            x = block(x, emb)
        return x


class SliceUNet(nn.Module):
    """Predict noise, image or velocity of a noised slice, for any of the planes.

    The call has the signature of MONAI's ``DiffusionModelUNet``, which can stand in its place.

    Args:
        channels: Width of each level, from half resolution down; each level halves the resolution.
        blocks: Residual blocks a level, on the way down and again on the way up.
        num_class_embeds: Number of classes (planes, and what `PlanePrior` makes of them) to be conditioned on.
        embedding: Features of the time and class embedding.
        in_channels: Channels of the input: the noised slice, and its guide where the prior has one.
        out_channels: Channels of the output.
    """

    def __init__(
        self,
        channels: Sequence[int] = (64, 128, 256),
        blocks: int = 2,
        num_class_embeds: int = 3,
        embedding: int = 256,
        in_channels: int = 1,
        out_channels: int = 1,
    ) -> None:
        """Make the network; its output starts at zero."""
        super().__init__()
        self.channels = tuple(channels)
        self.stride = 2 ** len(self.channels)
        self.embedding = embedding
        self.time = nn.Sequential(nn.Linear(embedding, embedding), nn.SiLU(), nn.Linear(embedding, embedding))
        self.plane = nn.Embedding(num_class_embeds, embedding)
        self.stem = nn.Conv2d(4 * in_channels, self.channels[0], 3, padding=1)

        pairs = list(zip(self.channels[:-1], self.channels[1:]))
        self.down = nn.ModuleList(Stage(width, blocks, embedding) for width in self.channels)
        self.downsample = nn.ModuleList(nn.Conv2d(fine, coarse, 2, stride=2) for fine, coarse in pairs)
        self.upsample = nn.ModuleList(nn.Conv2d(coarse, fine, 1) for fine, coarse in pairs)
        self.skip = nn.ModuleList(nn.Conv2d(width, width, 1) for width in self.channels)
        self.up = nn.ModuleList(Stage(width, blocks, embedding) for width in self.channels)
        self.out = nn.Conv2d(self.channels[0], 4 * out_channels, 3, padding=1)
        zero(self.out)

    def forward(self, x: Tensor, timesteps: Tensor, class_labels: Tensor | None = None) -> Tensor:
        """Return the prediction for a batch of slices.

        Args:
            x: Noised slices [B, in_channels, H, W]; H and W multiples of ``stride``.
            timesteps: Integer times [B], or [1] where the whole batch shares one.
            class_labels: Class [B] or [1]; the first one when absent.

        Returns:
            Tensor [B, out_channels, H, W].

        Raises:
            ValueError: H or W is not a multiple of ``stride``.
        """
        if x.shape[-1] % self.stride or x.shape[-2] % self.stride:
            raise ValueError(f"slices must be multiples of {self.stride} pixels, got {tuple(x.shape[-2:])}; pad them")
        if class_labels is None:
            class_labels = torch.zeros_like(timesteps)
        emb = F.silu(self.time(timestep_embedding(timesteps, self.embedding)) + self.plane(class_labels))
        h = F.pixel_unshuffle(x, 2).contiguous(memory_format=torch.channels_last)  # [B, 4 in_channels, H/2, W/2]
        h = self.stem(h)
        skips = []
        for i, stage in enumerate(self.down):
            if i:
                h = self.downsample[i - 1](h)
            h = stage(h, emb)
            skips.append(h)
        for i in reversed(range(len(self.up))):
            if i < len(self.up) - 1:
                h = F.interpolate(self.upsample[i](h), scale_factor=2, mode="nearest")
            h = self.up[i](h + self.skip[i](skips[i]), emb)
        return F.pixel_shuffle(self.out(h), 2)
