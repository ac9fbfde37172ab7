"""What the widget does with a stack, without napari and Qt: train, check, restore; it can be cancelled."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Event

from bida.errors import SettingsError
from bida.microscopy.settings import OWN_MINUTES, MaskedSettings, own_minutes
from bida.microscopy.stacks.stack import Stack

Tell = Callable[[float, str], None]  # share done of the step at hand, and what it is
SHIPPED = "masked.pt"


class Cancelled(Exception):  # noqa: N818  # nothing went wrong
    """The work was cancelled."""


@dataclass(frozen=True)
class Restored:
    """What came of a job.

    Attributes:
        stack: The finer stack.
        isotropy: The verdict on whether the stack looks alike along z, y and x.
        verdict: What the network is worth on the stack's own planes.
    """

    stack: Stack
    isotropy: str
    verdict: str


@dataclass
class Job:
    """Restore a stack as `bida superres-masked` does by default, in memory.

    Attributes:
        stack: As acquired.
        factor: Plane spacing over voxel size.
        minutes: Of training on the stack's own planes, from the shipped network; 0: that as it is.
        tell: Called after each part of a step.
        cancelled: When it is set, `run` raises `Cancelled` after the part at hand.
        device: As `bida.device.choose_device` takes it.

    Raises:
        SettingsError: The factor or the minutes are out of their range.
    """

    stack: Stack
    factor: float
    minutes: float
    tell: Tell
    cancelled: Event
    device: str = "auto"

    def __post_init__(self) -> None:
        """Check the numbers."""
        self.settings = MaskedSettings(factor=self.factor, device=self.device)
        self.minutes = own_minutes(None, self.minutes)
        if self.stack.data.shape[1] < 2:
            raise SettingsError(f"{self.stack.path}: a stack must have at least 2 planes, got 1; choose another layer")

    def step(self, share: float, what: str) -> None:
        """Tell how far it is, unless it was cancelled.

        Raises:
            Cancelled: It was.
        """
        if self.cancelled.is_set():
            raise Cancelled
        self.tell(min(max(share, 0.0), 1.0), what)

    def run(self) -> Restored:
        """Do it.

        Raises:
            Cancelled: It was cancelled.
            BidaError: The stack cannot be trained on.
        """
        self.step(0, "reading the network")
        from bida.io.released import released_path
        from bida.microscopy.isotropy import asked
        from bida.microscopy.own import OwnTraining, train_on_stack
        from bida.microscopy.restore import fitting_factor, inferer_of, load_masked, restore_stack
        from bida.microscopy.selfcheck import checked, verdict

        prior = load_masked(str(released_path(SHIPPED)), self.settings)
        self.step(0, "asking whether z looks like y and x")
        isotropy = asked(self.stack)[1]
        if self.minutes:
            train_on_stack(prior, self.stack, OwnTraining(self.minutes), report=self.trained)
        self.step(0, "comparing with interpolation")
        made_at = fitting_factor(self.stack, prior, self.settings, self.factor)
        check = checked(self.stack, prior, self.settings, made_at)
        inferer = inferer_of(self.settings, prior, self.factor, made_at)
        inferer.progress = self.restored
        self.step(0, "restoring")
        stack = restore_stack(self.stack, prior, inferer, weights=check.weights if check else None)
        self.step(1, "done")
        return Restored(stack, isotropy, verdict(check))

    def trained(self, done: float, total: float, loss: float) -> None:
        """Tell how far the training is."""
        left = math.ceil(total - done)
        self.step(done / total, f"training on the stack: loss {loss:.3f}, {left // 60}:{left % 60:02d} left")

    def restored(self, done: int, total: int) -> None:
        """Tell how far the restoration is."""
        self.step(done / total, "restoring")


def suggested_factor(spacing: Sequence[float]) -> float:
    """Return the factor that makes voxels (z, y, x) isotropic, to two decimals; 2 where they are already."""
    z, *sides = spacing
    factor = round(z / min(sides), 2)
    return factor if factor > 1 else 2.0


__all__ = ["OWN_MINUTES", "Cancelled", "Job", "Restored", "suggested_factor"]
