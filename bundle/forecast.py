"""How long a run will take on this machine."""

from __future__ import annotations

import time

import torch

from bida.diffusion.prior import SHOWN, PlanePrior
from bida.physics.grid import NORMAL
from bida.selfcheck import WINDOW
from bida.settings import Settings

MICRO_BATCH = 8  # slices, as the sampler gives them to the network


def synchronise(device: torch.device) -> None:
    """Wait for the device, so that a clock tells what it took."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def time_estimate(prior: PlanePrior, shape: tuple[int, ...], planes: tuple[str, str], settings: Settings) -> float:
    """Return the seconds that sampling takes, with adaptation and self-check, from the time of a few micro-batches.

    That is of whole slices: where there is background to skip, it takes less.
    """
    total = 0.0
    for plane in planes:
        height, width = (shape[axis] for axis in range(3) if axis != NORMAL[plane])
        once = micro_batch_seconds(prior, plane, height, width, settings.guided)
        total += once * shape[NORMAL[plane]] / MICRO_BATCH
    if settings.self_check:  # one micro-batch along each of two axes
        height, width = sorted(min(size, WINDOW) for size in shape)[-2:]
        total += 2 * micro_batch_seconds(prior, planes[0], height, width, settings.guided)
    return total * settings.steps * settings.samples + 60 * (settings.adapt or 0.0)


def micro_batch_seconds(prior: PlanePrior, plane: str, height: int, width: int, guided: bool) -> float:
    """Return the seconds that the prior takes for a micro-batch of slices, with a guide or without."""
    batch = torch.zeros(MICRO_BATCH, 1, height, width, device=next(prior.parameters()).device)
    shown = batch.repeat(1, SHOWN, 1, 1) if guided and prior.guided else None
    prior.predict(batch, 500, plane, shown)
    synchronise(batch.device)
    start = time.perf_counter()
    prior.predict(batch, 500, plane, shown)
    synchronise(batch.device)
    return time.perf_counter() - start
