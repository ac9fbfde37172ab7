"""What the training configuration needs beyond MONAI and ignite: the learning rate, clipping, resuming, export."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from ignite.handlers import Checkpoint, DiskSaver, EMAHandler
from monai.engines import IterationEvents
from torch import nn
from tqdm import tqdm

from bida.diffusion.prior import PlanePrior
from bida.errors import SettingsError
from bida.io.weights import load_weights, save_weights
from bida.training.dataset import CountingSampler


def warmup_cosine(step: int, warmup: int, total: int) -> float:
    """Return the learning rate's factor: a linear rise over ``warmup`` steps, then half a cosine to 0 at ``total``."""
    if step < warmup:
        return (step + 1) / warmup
    progress = min(1.0, (step - warmup) / max(1, total - warmup))
    return 0.5 * (1.0 + float(torch.cos(torch.tensor(torch.pi * progress))))


def warmup_cosine_scheduler(
    optimizer: torch.optim.Optimizer, warmup: int, total: int
) -> torch.optim.lr_scheduler.LambdaLR:
    """Return the scheduler of ``warmup_cosine``; a resumed run may name another ``total``."""
    if not 0 <= warmup < total:
        raise SettingsError(
            f"warmup: must be at least 0 and below the {total} steps of the run, got {warmup}; lower it"
        )
    return torch.optim.lr_scheduler.LambdaLR(optimizer, partial(warmup_cosine, warmup=warmup, total=total))


class Autocast(nn.Module):
    """Run a network under autocast, on the CPU too, where MONAI's engines know CUDA alone; float32 out.

    Args:
        network: The network; its own state dict is the one to keep.
        dtype: ``float32`` or ``bfloat16``.
    """

    def __init__(self, network: nn.Module, dtype: str) -> None:
        """Keep both."""
        super().__init__()
        self.network, self.dtype = network, getattr(torch, dtype)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the network's output in float32."""
        with torch.autocast(x.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return self.network(x).float()


class GradientClipper:
    """Clip the norm of the network's gradient before each step of the optimizer."""

    def __init__(self, network: nn.Module, max_norm: float) -> None:
        """Take the network and the largest norm that passes."""
        self.network, self.max_norm = network, max_norm

    def attach(self, engine: Engine) -> None:
        """Run after every backward pass."""
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Scale the gradients down to ``max_norm``."""
        nn.utils.clip_grad_norm_(self.network.parameters(), self.max_norm)


def average_decay(step: int, decay: float) -> float:
    """Return the share of the average kept at step i, min(decay, (1 + i) / (10 + i)): the start is forgotten."""
    return min(decay, (1 + step) / (10 + step))


class WeightAverage:
    """Exponential moving average of the network, ignite's, as a handler of a MONAI trainer.

    The share kept (``average_decay``) depends on the step alone, so that a resumed run goes on as it would have.

    Args:
        network: The network in training.
        decay: Share of the average kept at each step.
    """

    NAME = "average_momentum"  # of the engine's state variable from which ignite takes the share of the new weights

    def __init__(self, network: nn.Module, decay: float = 0.999) -> None:
        """Copy the network."""
        self.decay = decay
        self.handler = EMAHandler(network, momentum=1 - decay)
        self.network: nn.Module = self.handler.ema_model

    def attach(self, engine: Engine) -> None:
        """Update after every iteration."""
        self.handler.attach(engine, name=self.NAME)
        engine.add_event_handler(Events.ITERATION_STARTED, self.set_momentum)

    def set_momentum(self, engine: Engine) -> None:
        """Set the share of the new weights."""
        setattr(engine.state, self.NAME, 1 - average_decay(engine.state.iteration, self.decay))


class ResumeSampler:
    """Set the sampler to the first sample that the (resumed) run has not seen; put it after the checkpoint's loader."""

    def __init__(self, sampler: CountingSampler, batch_size: int) -> None:
        """Take the sampler and the batch size of one process."""
        self.sampler, self.batch_size = sampler, batch_size

    def attach(self, engine: Engine) -> None:
        """Run once, when the engine starts and the checkpoint is loaded."""
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Count from the samples that the finished iterations have used."""
        self.sampler.start = engine.state.iteration * self.batch_size * self.sampler.world


class TrainingBar:
    """A bar over all the steps of the run, with the loss and the time left; ignite's starts anew with every epoch."""

    def attach(self, engine: Engine) -> None:
        """Open the bar when the run starts (or resumes), move it after every step, close it at the end."""
        engine.add_event_handler(Events.STARTED, self.open)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.step)
        engine.add_event_handler(Events.COMPLETED, lambda _: self.bar.close())

    def open(self, engine: Engine) -> None:
        """Start at the steps that are done."""
        total = (engine.state.max_epochs or 0) * (engine.state.epoch_length or 0)
        self.bar = tqdm(total=total, initial=engine.state.iteration, desc="training", unit="step", mininterval=1.0)

    def step(self, engine: Engine) -> None:
        """Move on by one step."""
        output: Any = engine.state.output
        self.bar.set_postfix(loss=f"{output['loss'].item():.4f}", refresh=False)
        self.bar.update()


Progress = TrainingBar  # its name in configurations of 0.1


class ReportValidation:
    """Print the validation metric above the progress bar."""

    def __init__(self, scheduler: torch.optim.lr_scheduler.LRScheduler, name: str = "loss") -> None:
        """Take the learning rate's scheduler, which counts the steps, and the metric's name."""
        self.scheduler, self.name = scheduler, name

    def attach(self, engine: Engine) -> None:
        """Run after every validation."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Print one line."""
        value = engine.state.metrics[self.name]
        tqdm.write(f"step {self.scheduler.last_epoch}: validation {self.name} {value:.4f}")


class ExportWeights:
    """Write the averaged network's weights, half precision, after every epoch; the run's product at any time."""

    def __init__(self, network: nn.Module, path: str | Path) -> None:
        """Take the averaged network and the file to write."""
        self.network, self.path = network, Path(path)

    def attach(self, engine: Engine) -> None:
        """Run after every epoch."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Write the file atomically."""
        save_weights(self.network, self.path)


class Checkpoints:
    """Save the state of the run after every epoch, and take up the newest state of the folder when the run starts.

    A run that is taken up with another number of epochs goes on under the learning rate of the new length.

    Args:
        state: What makes up the run, by name; the trainer's own counters are added.
        folder: Where the files ``checkpoint_<iteration>.pt`` are.
        keep: How many of the newest are kept.
    """

    def __init__(self, state: Mapping[str, Any], folder: str | Path, keep: int = 2) -> None:
        """Name what is saved, and where."""
        self.state, self.folder, self.keep = dict(state), Path(folder), keep

    def attach(self, engine: Engine) -> None:
        """Load when the engine starts, save after every epoch."""
        state = {**self.state, "trainer": engine}
        saver = DiskSaver(str(self.folder), create_dir=True, require_empty=False)
        save = Checkpoint(state, saver, n_saved=self.keep, global_step_transform=lambda *_: engine.state.iteration)
        engine.add_event_handler(Events.STARTED, self.load)
        engine.add_event_handler(Events.EPOCH_COMPLETED, save)

    def newest(self) -> Path | None:
        """Return the newest checkpoint, None where there is none."""
        found = sorted(self.folder.glob("checkpoint_*.pt"), key=lambda path: int(path.stem.split("_")[1]))
        return found[-1] if found else None

    def load(self, engine: Engine) -> None:
        """Load every state; the length of the run stays the configuration's."""
        path = self.newest()
        if path is None:
            return
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        state = {**self.state, "trainer": engine}
        missing = sorted(set(state) - set(checkpoint))
        if missing:
            raise SettingsError(f"{path}: a checkpoint must hold {', '.join(missing)}, it does not; use another folder")
        epochs, length = engine.state.max_epochs, engine.state.epoch_length
        if checkpoint["trainer"]["epoch_length"] != length:
            raise SettingsError(
                f"{path}: steps_per_epoch must be the run's own {checkpoint['trainer']['epoch_length']} to resume it, "
                f"got {length}; use another folder"
            )
        for name, target in state.items():
            target.load_state_dict(checkpoint[name])
        engine.state.max_epochs = epochs
        tqdm.write(f"resumed from {path}")


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
            network.set_uncertainty()  # was measured for other weights
    return network.to(device)


def local_device() -> torch.device:
    """Return this process's device under torchrun: its own GPU, or the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    torch.cuda.set_device(device)
    return device


def names(given: str | Sequence[str]) -> list[str]:
    """Return folders or files as a list; a string may name several, separated by commas."""
    return [part.strip() for part in given.split(",")] if isinstance(given, str) else list(given)
