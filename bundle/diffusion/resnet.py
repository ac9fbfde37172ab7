"""The network that is shown the guide: flat, narrow, without normalisation, in the manner of EDSR (Lim et al. 2017).

What a guide lacks is found in its neighbourhood, and is nearly linear in it: a normalisation would take away the
amplitudes, and wide, coarse levels learn few animals by heart. Time, class and how the slices were made (their factor,
noise and thickness) set scale and shift of every block.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from bida.diffusion.prior import is_guided
from bida.diffusion.unet import timestep_embedding, zero
from bida.physics.guide import MADE

FOLD = 2  # pixels along each side that are folded into channels: a quarter of the work, twice the field of view
RESIDUAL = 0.5  # of a block's result is added, for stability at the learning rate used (Lim et al. 2017 take 0.1)


class ModulatedBlock(nn.Module):
    """``x + RESIDUAL conv(relu((1 + scale) conv(x) + shift))``, modulated by the embedding (Perez et al. 2018)."""

    def __init__(self, channels: int, embedding: int) -> None:
        """Make a block of two 3 x 3 convolutions; at first the embedding changes nothing."""
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.modulation = nn.Linear(embedding, 2 * channels)
        self.residual = RESIDUAL  # TorchScript knows attributes, but no constants of a module
        zero(self.modulation)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """Map x [B, C, H, W] to the same shape; emb is [B, E] or [1, E]."""
        if emb.shape[0] == 1:  # sampling: one time and class for all go into the convolution
            weight, bias = self.modulated(emb, x.dtype)
            h = F.conv2d(x, weight, bias, padding=1)
        else:
            scale, shift = self._modulation(emb, x.dtype)
            h = torch.addcmul(shift[:, :, None, None], self.conv1(x), 1 + scale[:, :, None, None])
        return torch.add(x, self.conv2(F.relu(h, inplace=True)), alpha=self.residual)

    def modulated(self, emb: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Return weight [C, C, 3, 3] and bias [C] of the first convolution with an embedding [1, E] in them."""
        scale, shift = self._modulation(emb, dtype)
        gain = 1 + scale[0]
        bias = self.conv1.bias
        assert bias is not None  # TorchScript takes it for optional
        return self.conv1.weight * gain[:, None, None, None], bias * gain + shift[0]

    def _modulation(self, emb: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        scale, shift = self.modulation(emb).to(dtype).chunk(2, dim=1)
        return scale, shift


class SliceResNet(nn.Module):
    """Predict noise, image or velocity of a noised slice; the call is that of `bida.diffusion.unet.SliceUNet`.

    Weights with fewer input channels, or without the layers of `made` and `spread`, are taken too: what is new starts
    at zero, and the prediction is theirs.

    Args:
        channels: width of every layer; multiples of 32 fill a matrix unit.
        blocks: residual blocks of two 3 x 3 convolutions.
        num_class_embeds: number of classes to be conditioned on.
        embedding: features of the time and class embedding.
        in_channels: channels of the input, the noised slice and its guide.
        made: how the slices were made, the channels `bida.physics.guide.MADE` of a guide, reaches every block.
        spread: the output has a second channel, the logarithm of the standard deviation of the error of the first. It
            is made of features that it has no influence on.
    """

    stride = FOLD

    def __init__(
        self,
        channels: int = 64,
        blocks: int = 8,
        num_class_embeds: int = 12,
        embedding: int = 128,
        in_channels: int = 5,
        made: bool = False,
        spread: bool = False,
    ) -> None:
        """Make the network; its output starts at zero."""
        super().__init__()
        self.embedding, self.in_channels = embedding, in_channels
        self.first, self.past = 1 + MADE.start, 1 + MADE.stop  # of the channels of x; TorchScript knows no slices
        self.time = nn.Sequential(nn.Linear(embedding, embedding), nn.SiLU(), nn.Linear(embedding, embedding))
        self.plane = nn.Embedding(num_class_embeds, embedding)
        self.made: nn.Sequential | None = None
        if made:
            self.made = nn.Sequential(
                nn.Linear(MADE.stop - MADE.start, embedding), nn.SiLU(), nn.Linear(embedding, embedding)
            )
            zero(self.made[-1])
        self.fold, self.unfold = nn.PixelUnshuffle(FOLD), nn.PixelShuffle(FOLD)
        self.stem = nn.Conv2d(in_channels * FOLD**2, channels, 3, padding=1)
        self.body = nn.ModuleList(ModulatedBlock(channels, embedding) for _ in range(blocks))
        self.out = nn.Conv2d(channels, FOLD**2, 3, padding=1)
        zero(self.out)
        self.spread: nn.Conv2d | None = None
        if spread:
            self.spread = nn.Conv2d(channels, FOLD**2, 3, padding=1)
            zero(self.spread)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Let weights of fewer inputs and layers grow, their prediction unchanged."""
        stem = state_dict.get(f"{prefix}stem.weight")
        more = 0 if stem is None else self.stem.in_channels - stem.shape[1]
        if stem is not None and more > 0:
            state_dict[f"{prefix}stem.weight"] = F.pad(stem, (0, 0, 0, 0, 0, more))
        own = self.state_dict()
        for name in own:
            if name.startswith(("made.", "spread.")):
                state_dict.setdefault(f"{prefix}{name}", own[name])
        told = state_dict.get(f"{prefix}made.0.weight")
        if self.made is not None and told is not None and told.shape[1] < own["made.0.weight"].shape[1]:
            state_dict[f"{prefix}made.0.weight"] = F.pad(told, (0, own["made.0.weight"].shape[1] - told.shape[1]))
        super()._load_from_state_dict(state_dict, prefix, *args)

    def forward(self, x: Tensor, timesteps: Tensor, class_labels: Tensor) -> Tensor:
        """Return the prediction [B, 1, H, W]; with `spread` [B, 2, H, W].

        Args:
            x: Slices and guides [B, C, H, W], H and W even; channels beyond in_channels are not looked at.
            timesteps: Times, [B], or [1] where the whole batch shares one, and how its slices were made.
            class_labels: Classes, [B] or [1].
        """
        emb = self.embedded(x, timesteps, class_labels)
        stem = self.stem(self.folded(x))
        h = stem
        for block in self.body:
            h = block(h, emb)
        h = stem + h
        out = self.unfold(self.out(h))
        if self.spread is None:
            return out
        return torch.cat([out, self.unfold(self.spread(h.detach()))], dim=1)

    def embedded(self, x: Tensor, timesteps: Tensor, class_labels: Tensor) -> Tensor:
        """Return the embedding [B, E] or [1, E] of times, classes and how slices were made; see `forward`."""
        condition = self.time(timestep_embedding(timesteps, self.embedding)) + self.plane(class_labels)
        if self.made is not None:
            told = x[: timesteps.shape[0], self.first : self.past].mean(dim=(2, 3))
            condition = condition + self.made(told)
        return F.silu(condition)

    def folded(self, x: Tensor) -> Tensor:
        """Return what the first convolution sees of x, [B, FOLD^2 C, H / FOLD, W / FOLD], channels last."""
        return self.fold(x[:, : self.in_channels]).contiguous(memory_format=torch.channels_last)


class NetworkPair(nn.Module):
    """One network for slices with a guide and another for those without, told apart by their class.

    Args:
        bare: Sees the noised slice, and zero for a guide: two channels.
        guided: Sees the slice less its guide, and the guide.
    """

    def __init__(self, bare: nn.Module, guided: nn.Module) -> None:
        """Keep both."""
        super().__init__()
        self.bare, self.guided = bare, guided
        self.stride = max(getattr(network, "stride", 8) for network in (bare, guided))

    def forward(self, x: Tensor, timesteps: Tensor, class_labels: Tensor) -> Tensor:
        """Return the prediction [B, 1, H, W], or what the guided network returns, for x with its guide; see there.

        Classes may be on the host, where the choice by them waits for no device.
        The network without a guide tells no spread: where slices of both kinds are mixed, theirs is zero.
        """
        shown = is_guided(class_labels).expand(len(x))
        class_labels = class_labels.to(x.device)
        if bool(shown.all()):
            return self.guided(x, timesteps, class_labels)
        if not bool(shown.any()):
            return self.bare(x[:, :2], timesteps, class_labels)
        times, classes = timesteps.expand(len(x)), class_labels.expand(len(x))
        guided = self.guided(x[shown], times[shown], classes[shown])
        out = guided.new_zeros(len(x), guided.shape[1], x.shape[2], x.shape[3])
        out[shown], out[~shown, :1] = guided, self.bare(x[~shown, :2], times[~shown], classes[~shown])
        return out
