"""The prior's networks as TorchScript takes them; a `PlanePrior` asks for them where it is scripted."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from bida.physics.guide import SHOWN

CHANNELS = {"bare": 2, "guided": 1 + SHOWN}  # the noised slice and zero; what a guide lacks and the guide


class ScriptablePrior(nn.Module):
    """The networks of a released prior, as TorchScript can take them, under the names of the prior's weights.

    The U-Net walks over lists of modules, which cannot be scripted: it is traced. The choice between it and the guided
    network depends on the class, which cannot be traced: it is scripted. Arithmetic is that of the inputs.

    Args:
        prior: A `bida.diffusion.prior.PlanePrior` of a `bida.diffusion.resnet.NetworkPair`; the new one shares its
            weights, and takes others by ``load_state_dict``.
    """

    def __init__(self, prior: Any) -> None:
        """Trace what has to be."""
        super().__init__()
        pair = prior.networks["shared"]
        with quiet():  # two slices of different times: a trace of one would take one time for all
            bare = torch.jit.trace(pair.bare, example_inputs(CHANNELS["bare"], pair.stride), check_trace=False)
        self.networks = nn.ModuleDict({"shared": type(pair)(bare, pair.guided)})
        for name, buffer in prior.named_buffers(recurse=False):
            self.register_buffer(name, buffer)
        self.last, self.default = len(prior.alpha_bar) - 1, prior.default_class

    def forward(self, x: Tensor, timesteps: Tensor | None = None, classes: Tensor | None = None) -> Tensor:
        """Return the prediction [B, 1 or 2, H, W] for x [B, 9, H, W]; times and classes as the prior takes them."""
        if timesteps is None:
            timesteps = torch.full((1,), self.last, device=x.device)
        if classes is None:
            classes = torch.full((1,), self.default, device=x.device)
        return self.networks["shared"](x, timesteps, classes)


def example_inputs(channels: int, stride: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return two slices of four by six strides, their times and classes."""
    return torch.rand(2, channels, 4 * stride, 6 * stride), torch.tensor([100, 900]), torch.tensor([0, 7])


@contextmanager
def quiet() -> Iterator[None]:
    """Keep back what PyTorch's exporters say about themselves; errors are raised all the same."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
