"""How long a run will take on this machine."""

from __future__ import annotations

import time

import torch

from bida.prior import PlanePrior
from bida.settings import Settings
from bida.volume import NORMAL


def synchronise(device: torch.device) -> None:
    """Wait for the device, so that a clock tells what it took."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def time_estimate(prior: PlanePrior, shape: tuple[int, ...], planes: tuple[str, str], settings: Settings) -> float:
    """Return the seconds that sampling takes, from the time of one micro-batch of each plane."""
    total = 0.0
    for plane in planes:
        height, width = (shape[axis] for axis in range(3) if axis != NORMAL[plane])
        batch = torch.zeros(8, 1, height, width, device=next(prior.parameters()).device)
        prior.predict(batch, 500, plane)
        synchronise(batch.device)
        start = time.perf_counter()
        prior.predict(batch, 500, plane)
        synchronise(batch.device)
        total += (time.perf_counter() - start) * shape[NORMAL[plane]] / len(batch)
    return total * settings.steps * settings.samples
