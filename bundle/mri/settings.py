"""Every choice of a run, in one place: the command, the bundle, the plan and the inferer are fed from here."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np

from bida.errors import SettingsError
from bida.options import documented, option, options_of
from bida.physics.plan import PlanOptions

# what a number or a yes or no may come as, Python's own type of it, and its name in words
NUMBERS: dict[str, tuple[Any, type, str]] = {
    "bool": (bool, bool, "True or False"),
    "int": (Integral, int, "a whole number"),
    "float": (Real, float, "a number"),
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
    if first not in NUMBERS or (value is None and "None" in kind):
        return value
    wanted, plain, text = NUMBERS[first]
    if not isinstance(value, wanted) or (isinstance(value, bool) and plain is not bool):
        raise SettingsError(f"{name}: must be {text}, got {value!r}; correct it")
    return plain(value)


@documented
@dataclass(frozen=True)
class SamplerOptions:
    """How the priors are sampled."""

    steps: int = option(4, "sampling steps", "N")
    samples: int = option(1, "draws to average; more: less error, more time", "K")
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
    grain: bool = option(False, "draw the noise texture of scans, too; the published method does")
    self_check: bool = option(
        True,
        "measure the priors on the scan's own slices, and lean on interpolation where they do not help",
        words=("on", "off"),
    )
    noise: float = option(
        0.0, "standard deviation of the scan's noise, in its intensities; above 0: DDNM+ instead of DDNM", "SIGMA"
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
        for name, least in {"steps": 1, "samples": 1, "batch_size": 1, "seed": 0}.items():
            if getattr(self, name) < least:
                raise SettingsError(f"{name}: must be at least {least}, got {getattr(self, name)}; raise it")
        fusions = options_of(type(self))["fusion"].choices
        if self.fusion not in fusions:
            raise SettingsError(f"fusion: must be one of {', '.join(fusions)}, got {self.fusion!r}; give one of them")
        if not 0 <= self.eta <= 1:
            raise SettingsError(f"eta: must be from 0 to 1, got {self.eta}; 0 is without noise")
        if not 0 <= self.noise < math.inf:
            raise SettingsError(f"noise: must be a number >= 0, got {self.noise}; 0 is for none")


@documented
@dataclass(frozen=True)
class Settings(SamplerOptions, PlanOptions):
    """Every choice of a run, with its default."""

    volume: int | None = option(None, "volume of a 4D file, from 0", "I")
    scale_header: float | None = option(None, "divide the header's voxel sizes and origin by this", "F")
    n4: bool = option(True, "divide out the bias field before sampling")
    bias_corrected: bool = option(False, "leave the bias field out of the result")
    adapt: float | None = option(None, "minutes of fine-tuning the priors on the scan's own slices first", "MINUTES")
    device: str = option("auto", "where the network runs: auto, cpu, cuda ...", "NAME")
    dtype: str = option("auto", "arithmetic of the network", choices=("auto", "float32", "bfloat16"))
    model: str | Path | None = option(None, "other weights than the released ones", "FILE")

    def __post_init__(self) -> None:
        """Check what is given."""
        SamplerOptions.__post_init__(self)
        PlanOptions.__post_init__(self)
        if self.adapt is not None and not 0 < self.adapt < float("inf"):
            raise SettingsError(f"adapt: minutes must be a number above 0, got {self.adapt:g}; leave it out for none")

    @classmethod
    def of(cls, preset: str | None = None, **given: Any) -> Settings:
        """Return the settings of a preset, changed by the options that are given; None is as not given.

        Raises:
            SettingsError: The preset or an option does not exist.
        """
        if preset is not None and preset not in PRESETS:
            raise SettingsError(f"preset: must be one of {', '.join(PRESETS)}, got {preset!r}")
        options = {name: value for name, value in given.items() if value is not None}
        unknown = sorted(options.keys() - {field.name for field in fields(cls)})
        if unknown:
            raise SettingsError(f"settings: must be known ones, got {', '.join(unknown)}; see bida.Settings")
        chosen = dict(PRESETS.get(preset or "", {}))
        if "factor" in options or "like" in options:
            chosen.pop("spacing", None)  # the grid is the user's own choice then
        return replace(cls(), **{**chosen, **options})
