"""What an experiment compares: animals, factors, methods and metrics, and the jobs that they make."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

from bida.errors import SettingsError
from bida.experiment.methods import TRUTH, Choices, by_default, method, shown_as
from bida.experiment.metrics import METRICS, metric
from bida.io.bids import Animal
from bida.physics.grid import AXES
from bida.physics.slice_profile import measured_thickness

CLEAN = math.inf  # the SNR of slices to which no noise is added
CLEAN_WORD = "clean"  # which is how it is typed, and stands in tables
OPTIONS = {"output": "out", "spacing_mm": "spacing", "timeout_s": "timeout"}  # of the command, where named otherwise


@dataclass(frozen=True)
class Experiment:
    """What to run.

    Attributes:
        data: BIDS data set of isotropic scans.
        output: folder of the results.
        factors: slice spacings over the voxel size.
        snr: signal-to-noise ratios of the thick slices: the mean in tissue over the standard deviation of the Rician
            noise of one acquired slice; ``clean`` or infinity, as which it is kept, for slices without.
        methods: names in ``bida.experiment.methods.METHODS``.
        metrics: names in ``bida.experiment.metrics.METRICS``.
        subjects: BIDS labels; those of ``split`` when None.
        split: value of the column ``split`` in participants.tsv; ``val`` when None and there is such a column.
        axis: through-plane axis, ``R``, ``A`` or ``S``.
        spacing_mm: voxel size to which the scans are resampled first; their own when None.
        n4: divide the scans' bias field out first, as the paper does.
        profile: slice profile of simulation and restoration.
        strippers: skull strippers, see ``bida.eval.make_stripper``.
        atlases: how many animals of the data set's training split carry their labels over; 0: none.
        jobs: how many run at once, each in a process of its own.
        choices: what single methods take.
    """

    data: Path
    output: Path
    factors: Sequence[float] = (2.5, 5.0)
    snr: Sequence[float | str] = (CLEAN,)
    methods: Sequence[str] = by_default()
    metrics: Sequence[str] = tuple(METRICS)
    subjects: Sequence[str] | None = None
    split: str | None = None
    axis: str = "A"
    spacing_mm: float | None = None
    n4: bool = True
    profile: str = "slr"
    strippers: Sequence[str] = ("builtin",)
    atlases: int = 3
    jobs: int = 1
    choices: Choices = field(default_factory=Choices)

    def __post_init__(self) -> None:
        """Check what can be checked before any work.

        Raises:
            SettingsError: A name is unknown, or a number out of its range.
        """
        for name in self.methods:
            method(name)
        for name in self.metrics:
            metric(name)
        try:
            object.__setattr__(self, "snr", tuple(snr_of(one) for one in self.snr))
        except ValueError as error:
            raise SettingsError(f"--snr: {error}; give for example clean 20 10") from error
        for name in ("factors", "snr", "methods", "metrics", "strippers"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise SettingsError(f"--{name}: must name at least one, each once, got {list(values)}; correct them")
        if min(self.factors) <= 1:
            raise SettingsError(f"--factors: must be above 1, got {min(self.factors):g}; give for example 2.5 5")
        measured_thickness(self.profile)
        if self.axis not in AXES:
            raise SettingsError(f"--axis: must be R, A or S, got {self.axis}; give the through-plane axis")
        for name, value, least in (
            ("jobs", self.jobs, 1),
            ("atlases", self.atlases, 0),
            ("samples", self.choices.samples, 1),
            ("seed", self.choices.seed, 0),
        ):
            if value < least:
                raise SettingsError(f"--{name}: must be at least {least}, got {value}; correct it")
        from bida.experiment.case import stripper_of  # imported last: it takes seconds

        for name in self.strippers:
            stripper_of(name, self.choices.timeout_s)

    @property
    def conditions(self) -> list[Condition]:
        """Return every factor at every SNR, in the order shown."""
        levels = [snr_of(one) for one in self.snr]
        return sorted((Condition(f, snr) for f in self.factors for snr in levels), key=lambda one: one.order)


def command_line(experiment: Experiment) -> str:
    """Return the command that repeats an experiment, with the options that are not the default."""
    words = ["bida", "evaluate"]
    for source in (experiment, experiment.choices):
        for given in fields(source):
            value = getattr(source, given.name)
            several = isinstance(value, Sequence) and not isinstance(value, str)
            if given.name == "choices" or given.default == (tuple(value) if several else value):
                continue
            name = OPTIONS.get(given.name, given.name)
            word = snr_text if name == "snr" else _word
            words += ["--no-n4"] if name == "n4" else [f"--{name}", *map(word, value if several else [value])]
    return shlex.join(words)


def _word(value: Any) -> str:
    """Return a value as it is typed: 5, not 5.0, where that is the same number."""
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)


def snr_of(given: float | str) -> float:
    """Return an SNR from a number or a text; `CLEAN` for ``clean`` and for an empty text.

    Raises:
        ValueError: It is no number above 0.
    """
    found = CLEAN if given in (CLEAN_WORD, "") else float(given)
    if not found > 0:
        raise ValueError(f"an SNR must be above 0 or {CLEAN_WORD}, got {given}")
    return found


def snr_text(snr: float) -> str:
    """Return an SNR as it is typed and stands in tables."""
    return CLEAN_WORD if snr == CLEAN else _word(float(snr))


def cell_name(factor: float, snr: float, what: str) -> str:
    """Return what a method's cell, or a file, of a factor and SNR is called in messages and folders."""
    noise = "" if snr == CLEAN else f"snr{snr_text(snr)}_"
    return f"{factor:g}x_{noise}{what}"


def threads_each(jobs: int) -> int:
    """Return how many threads each of several processes takes, so that together they fill the machine."""
    from bida.device import usable_cores

    return max(1, usable_cores() // jobs)


class Condition(NamedTuple):
    """What slices were like: their spacing over the voxel size, and their SNR, `CLEAN` for no noise added."""

    factor: float
    snr: float = CLEAN

    def __str__(self) -> str:
        """Return it as it is printed: 5×, or 5×, SNR 10."""
        return f"{self.factor:g}\u00d7" + ("" if self.snr == CLEAN else f", SNR {snr_text(self.snr)}")

    @property
    def order(self) -> tuple[float, float]:
        """Return what conditions are sorted by: the finest first, and of each the cleanest first."""
        return self.factor, -self.snr


@dataclass(frozen=True)
class Job:
    """One method on one animal at one factor and SNR; the truth, scored where that means something, has no factor."""

    animal: Animal
    method: str
    factor: float | None = None
    snr: float = CLEAN

    @property
    def name(self) -> str:
        """Return what it is called in messages and folders."""
        return TRUTH if self.factor is None else cell_name(self.factor, self.snr, self.method)

    @property
    def cost(self) -> float:
        """Return about how many seconds it takes, for the progress bar."""
        return shown_as(self.method).cost + 30.0
