"""What an experiment compares: animals, factors, methods and metrics, and the jobs that they make."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from bida.errors import SettingsError
from bida.experiment.methods import METHODS, TRUTH, Choices, by_default, method, shown_as
from bida.experiment.metrics import METRICS, metric
from bida.io.bids import Animal
from bida.options import yes_or_no
from bida.physics.grid import AXES
from bida.physics.slice_profile import measured_thickness

CLEAN = math.inf  # the SNR of slices to which no noise is added
CLEAN_WORD = "clean"  # which is how it is typed, and stands in tables
ONE = "one"  # what stands in tables for the scans of a condition that are the one across the design's own axis
# of the command, where named otherwise
OPTIONS = {
    "output": "out",
    "spacing_mm": "spacing",
    "timeout_s": "timeout",
    "unires_strength": "unires-strength",
}


@dataclass(frozen=True)
class Experiment:
    """What to run.

    Attributes:
        data: BIDS data set of isotropic scans.
        output: folder of the results.
        factors: slice spacings over the voxel size.
        snr: signal-to-noise ratios of the thick slices: the mean in tissue over the standard deviation of the Rician
            noise of one acquired slice; ``clean`` or infinity, as which it is kept, for slices without.
        scans: sets of scans to compare on beside the single one across ``axis``: the through-plane axes of each joined
            by +, as ``A+S`` or ``A+A``. Methods that take one scan get the first of a set.
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
    scans: Sequence[str] = ()
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
        object.__setattr__(self, "n4", yes_or_no(self.n4, "n4"))
        for name in self.methods:
            method(name)
        for name in self.metrics:
            metric(name)
        try:
            object.__setattr__(self, "snr", tuple(snr_of(one) for one in self.snr))
        except ValueError as error:
            raise SettingsError(f"--snr: {error}; give for example clean 20 10") from error
        for one in self.scans:
            if not one or set(one.split("+")) - set(AXES):
                raise SettingsError(f"--scans: must be axes R, A or S joined by +, got {one}; give for example A+S")
        for name in ("factors", "snr", "scans", "methods", "metrics", "strippers"):
            values = getattr(self, name)
            if not (values or name == "scans") or len(set(values)) < len(values):
                raise SettingsError(f"--{name}: must name at least one, each once, got {list(values)}; correct them")
        called = {cell_name(*condition, "") for condition in self.conditions}
        if len(called) < len(set(self.conditions)):
            raise SettingsError(
                f"--factors, --snr: must differ in their first six digits, got {list(self.factors)}, {list(self.snr)}; "
                "results of two would have one name"
            )
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
        strength = self.choices.unires_strength
        if not 0 < strength < math.inf:
            raise SettingsError(f"--unires-strength: must be a number above 0, got {strength}; correct it")
        most = max(condition.number for condition in self.conditions)
        for name in self.methods:
            if METHODS[name].fewest > most:
                raise SettingsError(
                    f"--methods: {name} needs {METHODS[name].fewest} scans, got {most}; give for example --scans A+S"
                )
        from bida.experiment.case import stripper_of  # imported last: it takes seconds

        for name in self.strippers:
            stripper_of(name, self.choices.timeout_s)

    @property
    def conditions(self) -> list[Condition]:
        """Return every factor at every SNR with every set of scans, in the order shown."""
        levels = [snr_of(one) for one in self.snr]
        sets = dict.fromkeys([ONE, *(ONE if scans == self.axis else scans for scans in self.scans)])
        found = [Condition(*one) for one in product(self.factors, levels, sets)]
        return sorted(found, key=lambda one: one.order)

    def given(self, name: str, condition: Condition) -> Condition | None:
        """Return what a method is given of a condition: all of its scans, or the first alone where it takes one.

        None where it needs more of them.
        """
        if condition.number < METHODS[name].fewest:
            return None
        if condition.scans == ONE or METHODS[name].several:
            return condition
        first = condition.scans.split("+")[0]
        return condition._replace(scans=ONE if first == self.axis else first)

    def scans_of(self, condition: Condition) -> list[tuple[str, str]]:
        """Return the through-plane axis of each scan of a condition, and what the scan is called.

        The first across the design's axis is `ONE`, as it is where it stands alone, the second of an axis A2.
        """
        axes = [self.axis] if condition.scans == ONE else condition.scans.split("+")
        counted = [(axis, axes[: place + 1].count(axis)) for place, axis in enumerate(axes)]
        names = [f"{axis}{number if number > 1 else ''}" for axis, number in counted]
        return [(axis, ONE if name == self.axis else name) for axis, name in zip(axes, names)]


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


def cell_name(factor: float, snr: float, scans: str, what: str) -> str:
    """Return what a method's cell, or a file, of a factor, SNR and set of scans is called in messages and folders."""
    noise = "" if snr == CLEAN else f"snr{snr_text(snr)}_"
    return f"{factor:g}x_{noise}{'' if scans == ONE else f'{scans}_'}{what}"


class Condition(NamedTuple):
    """What scans were like: slice spacing over voxel size, SNR (`CLEAN`: no noise added), and their axes (or `ONE`)."""

    factor: float
    snr: float = CLEAN
    scans: str = ONE

    def __str__(self) -> str:
        """Return it as it is printed: 5×, or 5×, SNR 10, scans A+S."""
        noise = "" if self.snr == CLEAN else f", SNR {snr_text(self.snr)}"
        scans = "" if self.scans == ONE else f", scan{'s' * ('+' in self.scans)} {self.scans}"
        return f"{self.factor:g}\u00d7{noise}{scans}"

    @property
    def number(self) -> int:
        """Return how many scans there are."""
        return self.scans.count("+") + 1

    @property
    def order(self) -> tuple[float, float, int, str]:
        """Return what conditions are sorted by: the finest, then the cleanest, then the fewest scans first."""
        return self.factor, -self.snr, *scans_order(self.scans)


def scans_order(scans: str) -> tuple[int, str]:
    """Return what sets of scans are sorted by: the fewest first, the single one of the design before all."""
    return scans.count("+"), "" if scans == ONE else scans


@dataclass(frozen=True)
class Job:
    """One method on one animal in one condition; the truth, scored where that means something, has none."""

    animal: Animal
    method: str
    condition: Condition | None = None

    @property
    def name(self) -> str:
        """Return what it is called in messages and folders."""
        return TRUTH if self.condition is None else cell_name(*self.condition, self.method)

    @property
    def cost(self) -> float:
        """Return about how many seconds it takes, for the progress bar."""
        return shown_as(self.method).cost + 30.0
