"""Every choice of a run, in one place: the command, the bundle, the plan and the inferer are fed from here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np

from bida.errors import SettingsError
from bida.io.anatomy import POSITIONS, SUBJECTS
from bida.options import documented, option, options_of, yes_or_no
from bida.physics.plan import PlanOptions

# what a number may come as, Python's own type of it, and its name in words
NUMBERS: dict[str, tuple[Any, type, str]] = {
    "int": (Integral, int, "a whole number"),
    "float": (Real, float, "a number"),
}
RENAMED = {"thickness_mm": "thickness", "gap_mm": "gap"}  # options of 0.3
EVERY = "all"  # volumes of a file
DRAW_STEPS = 4  # of a draw, where none are given
AUTO = "auto"
AUTO_MINUTES = 3.0  # of an adaptation that is left to the self-check
# what the mean in one step allows of an option, and why it has no use for the rest; draws take all of it
MEAN_ALLOWS: dict[str, tuple[tuple[Any, ...], str]] = {
    "steps": ((None, 1), "it is made in one step"),
    "fusion": (("final", "step"), "in turns one step would take one plane alone"),
    "eta": ((0.0,), "it has no noise"),
    "guided": ((True,), "one step without the guide is no estimate"),
    "grain": ((False,), "a mean has no grain"),
}
PRESETS: dict[str, dict[str, Any]] = {
    # Gharib et al. 2025: Gaussian operator at inference, 0.2 mm, 16 steps, one draw, volumes averaged at the end, the
    # priors of scans as they are and not shown the scan
    "paper": {
        "profile": "gaussian",
        "spacing": 0.2,
        "steps": 16,
        "samples": 1,
        "fusion": "final",
        "guided": False,
        "grain": True,
        "self_check": False,
        "noise": 0.0,
    },
}


def _plain(name: str, kind: str, value: Any) -> Any:
    """Return a value as JSON can hold it: a path as text, a number as Python's own.

    Raises:
        SettingsError: It is not of the kind that its field says.
    """
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, np.generic):
        value = value.item()
    first = kind.split(" | ")[0]
    if first == "bool":
        return yes_or_no(value, name)
    if first not in NUMBERS or (value is None and "None" in kind):
        return value
    wanted, plain, text = NUMBERS[first]
    if not isinstance(value, wanted) or isinstance(value, bool):
        raise SettingsError(f"{name}: must be {text}, got {value!r}; correct it")
    return plain(value)


@documented
@dataclass(frozen=True)
class SamplerOptions:
    """How a result is made by the priors: the mean of what the scan can come from, in one step, or draws."""

    samples: int = option(
        0,
        "draws, whose mean is the result and whose spread the uncertainty; 0 for the mean of what the scan can come "
        "from, in one step",
        "K",
    )
    steps: int | None = option(None, f"sampling steps of a draw ({DRAW_STEPS}); the mean takes one", "N")
    fusion: str = option(
        "final",
        "how the two planes are joined: final, two volumes averaged at the end; step, one volume, averaged at each "
        "step; alternate, in turns",
        choices=("final", "step", "alternate"),
    )
    eta: float = option(0.0, "noise of the steps, from 0, deterministic, to 1, that of DDPM", "E")
    guided: bool = option(
        True, "show the network the interpolated scan, so that it adds what is missing; the published method does not"
    )
    grain: bool = option(
        False, "draw the noise texture of scans, too, their slices taken as exact; the published method does"
    )
    self_check: bool = option(
        True,
        "measure the priors on the scan's own slices, and lean on interpolation where they do not help",
        words=("on", "off"),
    )
    noise: str | float = option(
        "auto",
        "standard deviation of the noise of a slice, in the scan's intensities; auto: estimated; 0: none, the result's "
        "slices are the scan's exactly",
        "SIGMA",
        words=("auto",),
    )
    seed: int = option(0, "seed of all noise", "N")
    batch_size: int = option(16, "slices at once; changes no result", "N")

    def __post_init__(self) -> None:
        """Make the values plain, and check types and ranges.

        Raises:
            SettingsError: An option is of another type, or out of its range.
        """
        for one in fields(self):  # of those that inherit, too
            object.__setattr__(self, one.name, _plain(one.name, str(one.type), getattr(self, one.name)))
        for name, least in {"steps": 1, "samples": 0, "batch_size": 1, "seed": 0}.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise SettingsError(f"{name}: must be at least {least}, got {value}; raise it")
        fusions = options_of(type(self))["fusion"].choices
        if self.fusion not in fusions:
            raise SettingsError(f"fusion: must be one of {', '.join(fusions)}, got {self.fusion!r}; give one of them")
        if not 0 <= self.eta <= 1:
            raise SettingsError(f"eta: must be from 0 to 1, got {self.eta}; 0 is without noise")
        if self.noise != "auto":
            number = isinstance(self.noise, Real) and not isinstance(self.noise, bool)
            if not number or not 0 <= float(self.noise) < math.inf:
                raise SettingsError(f"noise: must be auto or a number >= 0, got {self.noise!r}; 0 is for none")
            object.__setattr__(self, "noise", float(self.noise))
        if self.grain and self.noise == "auto":
            object.__setattr__(self, "noise", 0.0)  # what the slices hold counts as grain
        if self.grain and float(self.noise) > 0:
            raise SettingsError(
                f"noise: must be 0 or auto where grain is drawn, which is noise itself, got {self.noise:g}; "
                "leave out grain or noise"
            )
        if self.is_mean:
            for name, (allowed, reason) in MEAN_ALLOWS.items():
                if getattr(self, name) not in allowed:
                    raise SettingsError(
                        f"{name}: {getattr(self, name)} is for draws, not for the mean: {reason}; give --samples 1"
                    )

    def check_adaptable(self) -> None:
        """Check that what an adaptation trains is what a run asks.

        Raises:
            SettingsError: It samples without showing the scan to the priors.
        """
        if not self.guided:
            raise SettingsError(
                "adapt: trains the network that is shown the scan, --no-guided samples without it; leave one of "
                "them out"
            )

    @property
    def is_mean(self) -> bool:
        """Whether the result is the mean in one step, and not made of draws."""
        return self.samples == 0

    @property
    def steps_taken(self) -> int:
        """Steps of the mean, or of each draw."""
        return 1 if self.is_mean else self.steps or DRAW_STEPS

    @property
    def runs(self) -> int:
        """How often the priors are gone through: once for the mean, else once for each draw."""
        return max(self.samples, 1)

    @property
    def estimate(self) -> str:
        """What the result is, in words."""
        if self.is_mean:
            return "the mean of what the scan can come from, in one step"
        draws = "one draw" if self.samples == 1 else f"the mean of {self.samples} draws"
        return f"{draws} of {self.steps_taken} step{'s' if self.steps_taken > 1 else ''}"


@documented
@dataclass(frozen=True)
class Settings(SamplerOptions, PlanOptions):
    """Every choice of a run, with its default."""

    volume: str | int | None = option(
        None,
        "volume of several in one scan, from 0; all: every one (times, echoes, b-values), as one 4D result",
        "I",
        words=(EVERY,),
    )
    scale_header: float | None = option(None, "divide the header's voxel sizes and origin by this", "F")
    series: str | None = option(None, "of a DICOM folder with several series: number or UID of the one", "S")
    echo: int | None = option(None, "of a DICOM series with several echoes: which, from 1, the shortest first", "N")
    position: str | None = option(
        None,
        "how the animal lay, of DICOM and ParaVision; default: as the scanner was told",
        choices=POSITIONS,
    )
    subject: str | None = option(
        None,
        "whose axes the result has, of DICOM and ParaVision: A is rostral of a quadruped, the belly's side of a biped; "
        "default: what the scan says",
        choices=tuple(SUBJECTS),
    )
    correct_slices: bool = option(
        True,
        "even out slices that are darker or brighter than their neighbours, and leave empty ones out",
        words=("on", "off"),
    )
    align: bool = option(True, "of combined scans: find where each lies; without, their headers are believed")
    n4: bool = option(True, "divide out the bias field before sampling")
    bias_corrected: bool = option(False, "leave the bias field out of the result")
    adapt: str | float | None = option(
        None,
        "minutes of fine-tuning the priors on the scan's own slices first, kept where the self-check finds a gain; "
        f"auto: {AUTO_MINUTES:g} where the self-check says that it may pay, else none",
        "MINUTES",
        words=(AUTO,),
    )
    device: str = option("auto", "where the network runs: auto, cpu, cuda ...", "NAME")
    dtype: str = option(
        "auto",
        "arithmetic of the network; int8: of the mean in one step, on a CPU; auto: what is fast there",
        choices=("auto", "float32", "bfloat16", "int8"),
    )
    model: str | Path | None = option(None, "other weights than the released ones; 0.3, 0.2, 0.1: those before", "FILE")

    def __post_init__(self) -> None:
        """Check what is given."""
        SamplerOptions.__post_init__(self)
        PlanOptions.__post_init__(self)
        object.__setattr__(self, "volume", _volume(self.volume))
        if self.series is not None:
            object.__setattr__(self, "series", str(self.series))  # a number, from a configuration
        if self.echo is not None and self.echo < 1:
            raise SettingsError(f"echo: must be >= 1, got {self.echo}; the first is 1")
        for name, known in (("position", POSITIONS), ("subject", tuple(SUBJECTS))):
            if getattr(self, name) not in (None, *known):
                raise SettingsError(f"{name}: must be one of {', '.join(known)}, got {getattr(self, name)!r}")
        if self.dtype == "int8" and not self.is_mean:
            raise SettingsError(
                f"dtype: int8 is for the mean in one step, got --samples {self.samples}; give auto, or leave it out"
            )
        self._check_adapt()

    def _check_adapt(self) -> None:
        if self.adapt is None:
            return
        self.check_adaptable()
        if self.adapt == AUTO:
            if not self.self_check:
                raise SettingsError(
                    "adapt: auto is left to the self-check, got it off; give minutes, or leave --self-check on"
                )
            return
        if not isinstance(self.adapt, Real) or isinstance(self.adapt, bool):
            raise SettingsError(f"adapt: must be {AUTO} or a number of minutes, got {self.adapt!r}; correct it")
        if not 0 < self.adapt < math.inf:
            raise SettingsError(f"adapt: minutes must be a number above 0, got {self.adapt:g}; leave it out for none")
        object.__setattr__(self, "adapt", float(self.adapt))

    @property
    def adapt_minutes(self) -> float:
        """Minutes that an adaptation takes at most; 0 for none."""
        return AUTO_MINUTES if self.adapt == AUTO else float(self.adapt or 0.0)

    @classmethod
    def of(cls, preset: str | None = None, **given: Any) -> Settings:
        """Return the settings of a preset, changed by the options that are given; None is as not given.

        Raises:
            SettingsError: The preset or an option does not exist.
        """
        if preset is not None and preset not in PRESETS:
            raise SettingsError(f"preset: must be one of {', '.join(PRESETS)}, got {preset!r}")
        options = {name: value for name, value in given.items() if value is not None}
        check_known([*options])
        chosen = dict(PRESETS.get(preset or "", {}))
        if "factor" in options or "like" in options:
            chosen.pop("spacing", None)  # the grid is the user's own choice then
        return replace(cls(), **{**chosen, **options})


def _volume(given: Any) -> int | str | None:
    """Return which volume is meant: a whole number, whatever the type it came as; `EVERY`; or None."""
    if given is None or given == EVERY:
        return given
    if isinstance(given, Real) and not isinstance(given, bool) and float(given).is_integer():
        return int(float(given))
    raise SettingsError(f"volume: must be a whole number or {EVERY}, got {given!r}; give one of those")


def check_known(names: Sequence[str]) -> None:
    """Check that there is an option of each name.

    Raises:
        SettingsError: There is none; the line says what it is called now, or what may be meant.
    """
    known = [one.name for one in fields(Settings)]
    for name in names:
        if name not in known:
            near = RENAMED.get(name) or next(iter(get_close_matches(name, known, 1)), None)
            raise SettingsError(
                f"{name}: must be an option of bida.Settings, which has none of this name; "
                f"{f'write {near}' if near else 'help(bida.Settings) lists them'}"
            )


def check_alone(settings: Settings) -> None:
    """Check that nothing is asked of one scan that is for several.

    Raises:
        SettingsError: Something is.
    """
    if not settings.align:
        raise SettingsError("--no-align: is for scans that are combined, got one; leave it out")
