"""How a training begins: its seed, its device, the network and its weights."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from ignite.engine import Engine
from monai.utils.misc import set_determinism
from torch import nn

from bida.diffusion.prior import PlanePrior
from bida.errors import SettingsError
from bida.io.claim import claimed
from bida.io.files import make_folder
from bida.io.weights import load_weights


def alone(output_dir: str | Path) -> AbstractContextManager[None]:
    """Have a training's folder for this run alone, see `bida.io.claim.claimed`."""
    return claimed(make_folder(output_dir) / "model.pt")


def check_alone(output_dir: str | Path, rank: int = 0) -> None:
    """Check, before any work, that no other run writes to a training's folder.

    Args:
        output_dir: The folder, which is made where it is missing.
        rank: Of this process; the first one of a run looks for all.

    Raises:
        ScanError: Another one does, or it cannot be written.
    """
    if rank == 0:
        with alone(output_dir):
            pass


def run_alone(trainer: Engine, output_dir: str | Path, rank: int = 0) -> None:
    """Run a trainer, and let no other run write to its folder meanwhile; arguments and errors as `check_alone`."""
    with alone(output_dir) if rank == 0 else nullcontext():
        trainer.run()


def prepare(
    network: nn.Module, device: torch.device, initial_weights: str | Path | None = None, unguided: float = 1.0
) -> nn.Module:
    """Move a network to its device, with the weights of a file where one is named.

    Args:
        network: To be trained.
        device: Where it goes.
        initial_weights: File to start from.
        unguided: Share of the slices that the network for slices without a guide sees.

    Raises:
        SettingsError: That network would stay as it starts, zero.
        WeightsError: The file does not fit.
    """
    if initial_weights is None and unguided <= 0:
        raise SettingsError(
            f"unguided: must be above 0 without initial_weights, got {unguided:g}: what serves --no-guided would stay "
            "untrained; set unguided=0.2, or initial_weights to a file with a trained network"
        )
    if initial_weights is not None:
        load_weights(network, initial_weights)
        if isinstance(network, PlanePrior):
            for drawn in (True, False):  # were measured for other weights
                network.set_uncertainty(drawn=drawn)
    return network.to(device)


def set_seed(seed: int, deterministic: bool = True) -> None:
    """Set the seed of all chance; where runs need not be alike, cuDNN may take the fastest convolutions it finds."""
    set_determinism(seed=seed)
    if not deterministic:
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = False, True


def local_device() -> torch.device:
    """Return this process's device under torchrun: its own GPU, or the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    torch.cuda.set_device(device)
    return device


def names(given: str | Path | Sequence[str | Path]) -> list[str]:
    """Return folders or files as a list; a string may name several, separated by commas, a path is one."""
    if isinstance(given, str):
        return [part.strip() for part in given.split(",")]
    return [str(given)] if isinstance(given, Path) else [str(one) for one in given]
