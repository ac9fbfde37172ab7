"""Training by the clock: minutes of one's own scan or stack, over released weights or from nothing; taken up where cut.

The rate rises over the first fiftieth of the time and falls to zero with its end; the average over the last steps is
kept.
"""

from __future__ import annotations

import copy
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from bida.device import usable_cores
from bida.errors import SettingsError
from bida.io.weights import read_checkpoint, save_checkpoint
from bida.progress import Report
from bida.training.dataset import CountingSampler
from bida.training.handlers import average_decay, warmup_cosine

WORKERS = 8  # processes that prepare crops for a GPU, at most; one keeps up with a CPU


class Pace(Protocol):
    """How long and how fast to train."""

    @property
    def minutes(self) -> float:
        """Time to spend."""

    @property
    def rate(self) -> float:
        """Largest learning rate."""

    @property
    def pull(self) -> float:
        """Share of the way back to the first weights at each step at the largest rate (Li et al. 2018, L2-SP)."""

    @property
    def batch_size(self) -> int:
        """Crops a step."""

    @property
    def decay(self) -> float:
        """Of the average of the weights."""

    @property
    def save_seconds(self) -> float:
        """Time between checkpoints."""


def train_for(
    network: nn.Module,
    dataset: Dataset,
    how: Pace,
    loss_of: Callable[[dict[str, Tensor]], Tensor],
    made_from: str,
    checkpoint: Path | None = None,
    report: Report | None = None,
    parameters_of: Callable[[Any], Sequence[nn.Parameter]] = lambda network: list(network.parameters()),
    source: str = "scans",
) -> int:
    """Train a network, in place, for a time; it ends with the average of its last weights.

    Args:
        network: With the weights to begin from.
        dataset: Samples by their number, which is training time, any number.
        how: Time and rates.
        loss_of: From a batch on the network's device to the loss, [].
        made_from: Hash of what the run depends on, but for its time.
        checkpoint: File of the state of the run, taken up where it exists and written from time to time.
        report: Called after each step with (seconds done, seconds in all, loss).
        parameters_of: Which of a network's parameters are trained.
        source: What is trained on, for the error.

    Returns:
        Number of steps that it has now been trained for.

    Raises:
        SettingsError: The checkpoint is another run's.
        WeightsError: It is damaged.
    """
    run = _Run(network, how, loss_of, made_from, parameters_of, source)
    if checkpoint is not None and checkpoint.exists():
        run.load(checkpoint)
    sampler = CountingSampler()
    sampler.start = run.step * how.batch_size
    workers = 1 if run.device.type == "cpu" else min(WORKERS, usable_cores())
    loader = DataLoader(
        dataset, how.batch_size, sampler=sampler, num_workers=workers, worker_init_fn=leave_unfetched_batches
    )
    network.train()
    total, saved, last = 60 * how.minutes, run.seconds, time.perf_counter()
    for batch in loader:
        if run.seconds >= total:
            break
        loss = run.train(batch, run.seconds / total)
        now = time.perf_counter()
        run.seconds, last = run.seconds + now - last, now
        if checkpoint is not None and run.seconds - saved >= how.save_seconds:
            run.save(checkpoint)
            saved = run.seconds
        if report is not None:
            report(min(run.seconds, total), total, loss)
    if checkpoint is not None:
        run.save(checkpoint)
    network.load_state_dict(run.average.state_dict())
    network.eval()
    return run.step


def leave_unfetched_batches(worker: int) -> None:
    """Let a process that prepares slices say nothing of a batch that a run which is stopped fetches no more."""
    shown = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not issubclass(kind, ConnectionError):
            shown(kind, error, trace)

    sys.excepthook = hook


class _Run:
    """The state of a run: network, average, optimizer, steps and seconds so far."""

    def __init__(
        self,
        network: nn.Module,
        how: Pace,
        loss_of: Callable[[dict[str, Tensor]], Tensor],
        made_from: str,
        parameters_of: Callable[[Any], Sequence[nn.Parameter]],
        source: str,
    ) -> None:
        self.network, self.how, self.loss_of, self.made_from, self.source = network, how, loss_of, made_from, source
        self.step, self.seconds = 0, 0.0
        self.parameters, self.device = parameters_of(network), next(network.parameters()).device
        self.first = [parameter.detach().clone() for parameter in self.parameters]
        self.average = copy.deepcopy(network).eval()
        self.averaged = parameters_of(self.average)
        self.optimizer = torch.optim.AdamW(self.parameters, lr=how.rate, betas=(0.9, 0.99), weight_decay=0.0)

    def train(self, batch: dict[str, Tensor], progress: float) -> float:
        """Take a step at a share of the time; return its loss."""
        rate = self.how.rate * warmup_cosine(round(1000 * progress), 20, 1000)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad()
        loss = self.loss_of({name: value.to(self.device) for name, value in batch.items()})
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.step += 1
        decay = average_decay(self.step, self.how.decay)
        with torch.no_grad():
            for mine, first, mean in zip(self.parameters, self.first, self.averaged):
                mine.lerp_(first, self.how.pull * rate / self.how.rate)
                mean.lerp_(mine, 1 - decay)
        return float(loss.detach())

    def save(self, path: Path) -> None:
        """Write the state, atomically."""
        state = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        counters = {"step": self.step, "seconds": self.seconds, "made_from": self.made_from}
        save_checkpoint({**state, **counters}, path)

    def load(self, path: Path) -> None:
        """Take up a state."""
        kept = read_checkpoint(path)
        if kept.get("made_from") != self.made_from:
            raise SettingsError(
                f"{path}: a run that is taken up must have the same {self.source}, weights and choices, this one has "
                "others; remove the file to begin anew"
            )
        self.network.load_state_dict(kept["network"])
        self.average.load_state_dict(kept["average"])
        self.optimizer.load_state_dict(kept["optimizer"])
        self.step, self.seconds = int(kept["step"]), float(kept["seconds"])
