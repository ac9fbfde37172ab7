"""The network that weights are of: its shape, prediction and schedule as the file says them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from bida.device import dtype_choice
from bida.diffusion.int8 import integer_network
from bida.diffusion.prior import CLASSES, PlanePrior, kind_of
from bida.diffusion.resnet import FOLD, NetworkPair, SliceResNet
from bida.diffusion.unet import SliceUNet
from bida.errors import SettingsError
from bida.io.weights import Weights, check_size, load_weights, misfits, read_weights, weights_file

READ = "weights_read"  # where a prior keeps what `prior_of` read, until `load_prior` takes it


def prior_of(model: str | Path | None = None) -> PlanePrior:
    """Return the network that weights are of, not yet loaded.

    Args:
        model: Weights file, which says width and depth of the guided network, the prediction and the schedule. None:
            the released one.

    Raises:
        WeightsError: See ``bida.io.weights.read_weights``, or the file says no such network.
    """
    weights = read_weights(model)
    state = weights.state
    with misfits(weights.file):
        with torch.device("meta"), _Unset():
            check_size(_pair_of(state), state)
        prediction, timesteps, schedule = kind_of(state["kind"])
        with _Unset():  # all of them are read
            prior = PlanePrior(_pair_of(state), prediction, timesteps, guided=True, schedule=schedule)
    vars(prior)[READ] = weights
    return prior


class _Unset(TorchFunctionMode):
    """Set no new weights: they are read from a file, and on the meta device that would load PyTorch's compiler."""

    SETS = (torch.nn.init.normal_, torch.nn.init.uniform_, torch.nn.init.kaiming_uniform_)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call a function, unless it sets weights."""
        kwargs = kwargs or {}
        return kwargs.get("tensor", *args[:1]) if func in self.SETS else func(*args, **kwargs)


def _pair_of(state: Mapping[str, Tensor]) -> NetworkPair:
    guided = SliceResNet(num_class_embeds=CLASSES, **shape_of(state, "networks.shared.guided."))
    return NetworkPair(SliceUNet(num_class_embeds=CLASSES, in_channels=2), guided)


def load_prior(prior: PlanePrior, model: str | Path | None, device: torch.device | str, dtype: str) -> PlanePrior:
    """Load weights into a prior, ready to sample; their SHA-256 stays with it as ``weights_sha256``.

    Raises:
        WeightsError: See ``bida.io.weights.load_weights``.
        SettingsError: See ``bida.device.dtype_choice``.
    """
    read: Weights | None = vars(prior).pop(READ, None)
    same = read is not None and read.file == weights_file(model)
    prior.weights_sha256 = load_weights(prior, read if same else model)
    place = torch.device(device)  # MONAI Label names devices
    integers = integer_network(prior) is not None
    if dtype == "int8" and not integers:
        raise SettingsError(f"dtype: int8 needs weights of a guided residual network, got {model}; use auto")
    choice = dtype_choice(dtype, place, int8=integers)
    prior.int8 = choice.dtype == "int8"
    return prior.to(place).eval().set_dtype(choice.floating)


def shape_of(state: Mapping[str, Tensor], prefix: str) -> dict[str, Any]:
    """Return the shape of the `SliceResNet` whose weights a state dict holds under a prefix; {} for none."""
    stem = state.get(f"{prefix}stem.weight")
    if stem is None:
        return {}
    body = {key.split(".")[0] for name in state if (key := name.removeprefix(f"{prefix}body.")) != name}
    return {
        "channels": stem.shape[0],
        "blocks": len(body),
        "in_channels": stem.shape[1] // FOLD**2,
        "made": f"{prefix}made.0.weight" in state,
        "spread": f"{prefix}spread.weight" in state,
    }
