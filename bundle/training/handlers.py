"""What the training configuration needs beyond MONAI and ignite: the learning rate, clipping, resuming, export."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from ignite.handlers import Checkpoint, EMAHandler
from ignite.handlers.checkpoint import BaseSaveHandler
from monai.engines import IterationEvents
from torch import nn

from bida.errors import SettingsError
from bida.io.files import make_folder
from bida.io.weights import misfits, read_checkpoint, save_checkpoint, save_weights
from bida.progress import bar, say
from bida.training.batches import ThickBatches
from bida.training.dataset import CountingSampler


def warmup_cosine(step: int, warmup: int, total: int) -> float:
    """Return the learning rate's factor: a linear rise over ``warmup`` steps, then half a cosine to 0 at ``total``."""
    if step < warmup:
        return (step + 1) / warmup
    progress = min(1.0, (step - warmup) / max(1, total - warmup))
    return 0.5 * (1.0 + float(torch.cos(torch.tensor(torch.pi * progress))))


class WarmupCosine:
    """The factor of the learning rate over a run of so many steps, or of so many minutes.

    A scheduler keeps with its state what stands in ``__dict__``: the seconds that a run has had, so that one that was
    cut off goes on where it was, under the length that it is given now.
    """

    __slots__ = ("__dict__", "minutes", "total", "warmup")

    def __init__(self, warmup: int, total: int, minutes: float | None = None) -> None:
        """Take the steps of the rise, and the steps or the minutes of the run."""
        self.warmup, self.total, self.minutes = warmup, total, minutes
        self.seconds = 0.0

    @property
    def share(self) -> float | None:
        """Share of the minutes that have passed; None where steps count."""
        return None if self.minutes is None else self.seconds / (60 * self.minutes)

    def __call__(self, step: int) -> float:
        """Return the factor at a step."""
        if self.share is None or step < self.warmup:
            return warmup_cosine(step, self.warmup, self.total)
        return warmup_cosine(round(1e6 * self.share), 0, 10**6)


def warmup_cosine_scheduler(
    optimizer: torch.optim.Optimizer, warmup: int, total: int, minutes: float | None = None
) -> torch.optim.lr_scheduler.LambdaLR:
    """Return the scheduler of ``warmup_cosine``; a resumed run may name another ``total`` or other ``minutes``."""
    if not 0 <= warmup < total:
        raise SettingsError(
            f"warmup: must be at least 0 and below the {total} steps of the run, got {warmup}; lower it"
        )
    if minutes is not None and not 0 < minutes < math.inf:
        raise SettingsError(f"minutes: must be a number above 0, got {minutes:g}; leave it out to train by steps")
    return torch.optim.lr_scheduler.LambdaLR(optimizer, WarmupCosine(warmup, total, minutes))


class StopInTime:
    """End a run whose scheduler counts minutes when they are over, as if its last epoch were complete.

    Args:
        scheduler: Of `warmup_cosine_scheduler`.
    """

    def __init__(self, scheduler: torch.optim.lr_scheduler.LambdaLR) -> None:
        """Take the scheduler's clock."""
        self.clock = cast(WarmupCosine, scheduler.lr_lambdas[0])

    def attach(self, engine: Engine) -> None:
        """Count from the start, and look after every step."""
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.step)

    def start(self, engine: Engine) -> None:
        """Start the clock; a run that has had its time ends with its first step."""
        self.last = time.perf_counter()

    def step(self, engine: Engine) -> None:
        """Add the time since the last step, validation and checkpoints included."""
        now = time.perf_counter()
        seconds, self.last = self.clock.seconds + now - self.last, now
        # processes of one run have one time, so that they learn at one rate and end with the same step
        self.clock.seconds = float(idist.all_reduce(seconds, "MAX"))
        if self.clock.share is not None and self.clock.share >= 1:
            engine.state.max_epochs = engine.state.epoch
            engine.terminate_epoch()


class SpreadLoss(nn.Module):
    """Squared error of the prediction, and the likelihood of its error's spread where the network tells one.

    The second channel s is the logarithm of a standard deviation, learned by the Gaussian likelihood of the error e,
    e^2 exp(-2 s) / 2 + s (Nix & Weigend 1994), in which e is given: the prediction is as without it.

    Args:
        weight: Of the spread's part, so that what is far out does not fill the gradient whose norm is clipped.
    """

    def __init__(self, weight: float = 0.05) -> None:
        """Take the weight."""
        super().__init__()
        self.weight = weight

    def forward(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the loss, [], of outputs [B, 1 or 2, H, W] for targets [B, 1, H, W]."""
        square = (output[:, :1] - target).square()
        if output.shape[1] == 1:
            return square.mean()
        s = output[:, 1:].clamp(-6, 6)
        return square.mean() + self.weight * (square.detach() * torch.exp(-2 * s) / 2 + s).mean()


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


class ResumeBatches:
    """Let batches that are made one by one go on where the (resumed) run is; put it after the checkpoint's loader."""

    def __init__(self, batches: ThickBatches) -> None:
        """Take the batches."""
        self.batches = batches

    def attach(self, engine: Engine) -> None:
        """Run once, when the engine starts and the checkpoint is loaded."""
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Leave out the batches that the finished iterations have used."""
        self.batches.start = engine.state.iteration


class TrainingBar:
    """A bar over all the steps or minutes of the run, with loss and time left; ignite's starts anew with every epoch.

    Args:
        scheduler: Of `warmup_cosine_scheduler`, whose minutes the bar shows where it counts some; None for steps.
    """

    def __init__(self, scheduler: torch.optim.lr_scheduler.LambdaLR | None = None) -> None:
        """Take the scheduler's clock."""
        self.clock = None if scheduler is None else cast(WarmupCosine, scheduler.lr_lambdas[0])

    def attach(self, engine: Engine) -> None:
        """Open the bar when the run starts (or resumes), move it after every step, close it at the end."""
        engine.add_event_handler(Events.STARTED, self.open)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.step)
        engine.add_event_handler(Events.COMPLETED, lambda _: self.bar.close())

    def open(self, engine: Engine) -> None:
        """Start at the steps, or the seconds, that are done."""
        if self.clock is not None and self.clock.minutes is not None:
            total, unit = round(60 * self.clock.minutes), "s"
        else:
            total, unit = (engine.state.max_epochs or 0) * (engine.state.epoch_length or 0), "step"
        self.bar = bar(total=total, initial=self._done(engine), desc="training", unit=unit, mininterval=1.0)

    def step(self, engine: Engine) -> None:
        """Move on by one step."""
        output: Any = engine.state.output
        self.bar.set_postfix(loss=f"{output['loss'].item():.4f}", step=engine.state.iteration, refresh=False)
        self.bar.update(min(self._done(engine), self.bar.total) - self.bar.n)

    def _done(self, engine: Engine) -> int:
        timed = self.clock is not None and self.clock.minutes is not None
        return int(self.clock.seconds) if timed and self.clock is not None else engine.state.iteration


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
        say(f"step {self.scheduler.last_epoch}: validation {self.name} {value:.4f}")


class ExportWeights:
    """Write the averaged network's weights, half precision, after every epoch; the run's product at any time.

    It stands after the checkpoint's loader.
    """

    def __init__(self, network: nn.Module, path: str | Path) -> None:
        """Take the averaged network and the file to write."""
        self.network, self.path = network, Path(path)

    def attach(self, engine: Engine) -> None:
        """Run after every epoch, and when a run is taken up that may have ended before its last file was written."""
        engine.add_event_handler(Events.STARTED, self.take_up)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def take_up(self, engine: Engine) -> None:
        """Write the file of the state that was loaded."""
        if engine.state.iteration:
            self(engine)

    def __call__(self, engine: Engine) -> None:
        """Write the file atomically."""
        save_weights(self.network, self.path)


class AtomicSaver(BaseSaveHandler):
    """Write and remove ignite's checkpoints; one that is not whole never has its name, or stays.

    Args:
        folder: Where they go.
    """

    def __init__(self, folder: Path) -> None:
        """Make the folder."""
        self.folder = make_folder(folder)

    def __call__(self, checkpoint: Mapping[str, Any], filename: str, metadata: Mapping[str, Any] | None = None) -> None:
        """Write a file."""
        if idist.get_rank() == 0:
            save_checkpoint(checkpoint, self.folder / filename)

    def remove(self, filename: str) -> None:
        """Remove a file."""
        if idist.get_rank() == 0:
            (self.folder / filename).unlink(missing_ok=True)


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
        save = Checkpoint(
            state, AtomicSaver(self.folder), n_saved=self.keep, global_step_transform=lambda *_: engine.state.iteration
        )
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
        checkpoint = read_checkpoint(path)
        state = {**self.state, "trainer": engine}
        missing = sorted(set(state) - set(checkpoint))
        if missing:
            raise SettingsError(f"{path}: a checkpoint must hold {', '.join(missing)}, it does not; use another folder")
        epochs, length = engine.state.max_epochs, engine.state.epoch_length
        own = dict(checkpoint["trainer"]).get("epoch_length")
        if own != length:
            raise SettingsError(
                f"{path}: steps_per_epoch must be the run's own {own} to resume it, got {length}; use another folder"
            )
        for name, target in state.items():
            with misfits(path):
                target.load_state_dict(checkpoint[name])
        engine.state.max_epochs = epochs
        say(f"resumed from {path}")
