"""What a restoration of a stack and a comparison of methods are told, checked as far as no stack or weights are needed.

Nothing heavy is imported here, so that a wrong option is answered at once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bida.errors import SettingsError, WeightsError
from bida.io.files import check_exists, check_output
from bida.microscopy.stacks.paths import check_stack
from bida.options import documented, option

if TYPE_CHECKING:
    from bida.microscopy.stacks.stack import Stack

JOINED = ("step", "alternate")  # one volume for both planes
TEXTURED = "textured"  # what the average of draws adds to the mean, as strong as makes planes look like acquired ones
WHOLE = (*JOINED, TEXTURED)  # that need all of the volume at once
FUSIONS = {
    **dict.fromkeys(("final", TEXTURED, *JOINED), ("xz", "yz")),
    "single-xz": ("xz",),
    "single-yz": ("yz",),
}
INTERPOLATIONS = {"nearest": 0, "linear": 1, "cubic": 3}  # order of the B-spline along z
TRUTH = "truth"  # its lines hold the floor of the distances
CROP_SIDE = 48  # pixels; at 2x, 4x and 8x 24, 36 and 42 rows are masked


@documented
@dataclass(frozen=True)
class MaskedSettings:
    """Every choice of a restoration; see `MaskedSliceInferer`."""

    factor: float | None = option(
        None, "plane spacing over voxel size, any number from 1 on; default: isotropic voxels", "F"
    )
    spacing_um: float | None = option(
        None, "voxel size along z of the result, um; in place of --factor", "UM", flag="spacing"
    )
    steps: int | None = option(
        None, "sampling steps; guided: 1, the default, is the mean, more are a draw; diffusion: 16 by default", "N"
    )
    as_factor: float | None = option(
        None,
        "restore the mean as of planes so many voxels apart, at least the factor, and bring that to the factor; "
        "guided, of draws textured ones alone; default: measured on the stack, one more than the factor or above, "
        "up to 8",
        "F",
    )
    fusion: str | None = option(
        None,
        "how xz and yz slices are joined, or one of them alone; textured: draws of guided weights alone, and their "
        "default, else final; msunet: not alternate; e2e: neither step nor alternate",
        choices=tuple(FUSIONS),
    )
    eta: float = option(0.0, "noise of the steps, from 0, deterministic, to 1, of diffusion alone", "E")
    blur: bool = option(False, "smooth the result by 3 x 3 x 3 voxels; no plane stays exact")
    self_check: bool = option(
        True,
        "leave rows of planes out, restore them, and lean on interpolation where that is no gain",
        words=("on", "off"),
    )
    noise: str = option(
        "0,0",
        "clean planes of noise first, of variance A s + B around a signal s, in the stack's numbers; auto: estimated, "
        "channel by channel; 0,0: acquired planes are kept exactly",
        "A,B",
    )
    seed: int = option(0, "seed of all that is drawn: noise of diffusion and msunet, patches and crops", "N")
    tile: int = option(128, "side of the tiles that the network sees, pixels", "N")
    overlap: int = option(32, "pixels that tiles share, at most half a tile", "N")
    batch_size: int = option(16, "tiles at once; changes no result", "N")
    device: str = option("auto", "auto, cpu, cuda ...", "NAME")
    dtype: str = option("auto", "arithmetic of the network", choices=("auto", "float32", "bfloat16"))

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            SettingsError: A value is out of its range.
        """
        if self.factor is not None and not 1 <= self.factor < math.inf:
            raise SettingsError(f"factor: must be a number >= 1, got {self.factor}")
        if self.spacing_um is not None and not 0 < self.spacing_um < math.inf:
            raise SettingsError(f"spacing: must be above 0 um, got {self.spacing_um:g}")
        if self.as_factor is not None and not max(1, self.factor or 1) <= self.as_factor < math.inf:
            raise SettingsError(
                f"as_factor: must be at least the factor of {self.factor or 1:g}, got {self.as_factor:g}"
            )
        told_noise(self.noise)
        counts = {} if self.steps is None else {"steps": self.steps}
        check_sampling(self.fusion, self.eta, self.seed, **counts, batch_size=self.batch_size)
        check_tile(self.tile, self.overlap)

    def factor_for(self, stack: Stack) -> float:
        """Return the factor for a stack: as asked for, or that of voxels as long along z as pixels are.

        Raises:
            SettingsError: Both factor and spacing are given, or the spacing, or that of the pixels, makes no planes.
        """
        if self.factor is not None and self.spacing_um is not None:
            raise SettingsError(
                f"factor: it or the spacing must be given, not both, got {self.factor:g} and {self.spacing_um:g}"
            )
        if self.factor is not None:
            return float(self.factor)
        z, *sides = stack.spacing_um
        if self.spacing_um is not None and self.spacing_um > z:
            raise SettingsError(
                f"{stack.path}: the spacing must be above 0 and at most that of the planes, "
                f"{z:g} um, got {self.spacing_um:g}"
            )
        if self.spacing_um is None and not min(sides) < z:
            raise SettingsError(
                f"{stack.path}: planes must be farther apart than pixels to be brought to isotropic voxels, got {z:g} "
                f"and {min(sides):g} um; give --factor, or --voxel-um where the file's sizes are wrong"
            )
        return z / (min(sides) if self.spacing_um is None else self.spacing_um)


def told_noise(text: str) -> tuple[float, float] | None:
    """Return the noise that is told, (a, b) of the variance a s + b around a signal s; None of ``auto``.

    Raises:
        SettingsError: It is neither ``auto`` nor two numbers, or noise that falls with the signal or is nowhere.
    """
    if text == "auto":
        return None
    try:
        a, b = map(float, text.split(","))
    except ValueError:
        a = b = math.nan
    if not 0 <= a < math.inf or not math.isfinite(b) or (a == 0 and b < 0):
        raise SettingsError(
            f"noise: must be auto, or A,B with A at least 0, and B where A is 0, got {text!r}; 0,0 is for none"
        )
    return a, b


def check_sampling(fusion: str | None, eta: float, seed: int, **counts: int) -> None:
    """Check how slices are sampled; `counts` are what there must be at least 1 of.

    Raises:
        SettingsError: A value is out of its range.
    """
    for name, value in counts.items():
        if value < 1:
            raise SettingsError(f"{name}: must be at least 1, got {value}")
    if seed < 0:
        raise SettingsError(f"seed: must be at least 0, got {seed}")
    if fusion is not None and fusion not in FUSIONS:
        raise SettingsError(f"fusion: must be one of {', '.join(FUSIONS)}, got {fusion!r}")
    if not 0 <= eta <= 1:
        raise SettingsError(f"eta: must be from 0 to 1, got {eta}")


def check_tile(tile: int, overlap: int) -> None:
    """Check the side of tiles and what they share.

    Raises:
        SettingsError: The tiles share more than half, or less than nothing.
    """
    if overlap < 0:
        raise SettingsError(f"overlap: must be at least 0, got {overlap}")
    if tile < max(1, 2 * overlap):
        raise SettingsError(f"tile: must be at least twice the overlap of {overlap}, got {tile}")


@dataclass(frozen=True)
class MaskedExperiment:
    """What to compare.

    Attributes:
        truth: An isotropic stack, or ``FILE[START:STOP]``, see `load_stack`.
        output: Folder of the results.
        factors: Integer factors; every F-th plane is kept.
        methods: Names of `INTERPOLATIONS`, and ``NAME=FILE`` for weights.
        block_mean, clip_percentile, voxel_um, frames_are_z: See `load_stack`.
        overwrite: Replace the results of an earlier run.
        settings: Of the restorations.
        panel: Compare XZ and YZ slices with the truth's, see `SlicePanel`.
        inception_weights, inception_sha256: A local file and its hash, see `InceptionFeatures`; they add SliceFID.
        crops: So many crops with masked rows are restored, too, see `Crops`.
    """

    truth: str
    output: str
    factors: Sequence[int] = (4, 8)
    methods: Sequence[str] = tuple(INTERPOLATIONS)
    block_mean: int = 1
    clip_percentile: float | None = None
    voxel_um: Sequence[float] | None = None
    frames_are_z: bool = False
    overwrite: bool = False
    settings: MaskedSettings = field(default_factory=MaskedSettings)
    panel: bool = True
    inception_weights: str | None = None
    inception_sha256: str | None = None
    crops: int = 0

    def __post_init__(self) -> None:
        """Check the factors, the methods' names and what belongs together."""
        wrong = [factor for factor in self.factors if factor < 2]
        if wrong or not self.factors:
            raise SettingsError(f"factors: must be integers from 2 on, got {list(self.factors)}")
        names = [method.partition("=")[0] for method in self.methods]
        for method in self.methods:
            name, _, weights = method.partition("=")
            if bool(weights) == (name in INTERPOLATIONS):
                raise SettingsError(
                    f"methods: must be {', '.join(INTERPOLATIONS)} or NAME=FILE with weights, got {method!r}"
                )
        if len({*names, TRUTH}) <= len(names):
            raise SettingsError(f"methods: every name must be used once and none be {TRUTH}, got {', '.join(names)}")
        if (self.inception_weights is None) != (self.inception_sha256 is None):
            raise SettingsError(
                f"--inception-weights and --inception-sha256: must be given together, "
                f"got {self.inception_weights} and {self.inception_sha256}"
            )
        check_percentile(self.clip_percentile)
        if self.crops:
            for factor in self.factors:
                check_crop_factor(factor)

    @property
    def weights(self) -> dict[str, str]:
        """The weights' file of each method that has one, by the method's name."""
        return {name: file for name, _, file in (method.partition("=") for method in self.methods) if file}

    @property
    def pictures(self) -> Mapping[int, Path]:
        """The picture of each factor."""
        return {factor: Path(self.output) / f"masked_{factor}x.png" for factor in self.factors}

    def check_inputs(self) -> None:
        """Check that the files named are there.

        Raises:
            ScanError: The truth, or the Inception network, is not.
            WeightsError: Weights are not.
        """
        check_stack(self.truth)
        for file in self.weights.values():
            check_weights(file)
        if self.inception_weights is not None:
            check_exists(self.inception_weights)

    def check_outputs(self) -> None:
        """Check that the results can be written into their folder, which is there.

        Raises:
            ScanError: Results of an earlier run are there, and ``overwrite`` is not given.
        """
        folder = Path(self.output)
        for file in (folder / "masked.csv", folder / "masked.json", *self.pictures.values()):
            check_output(file, overwrite=self.overwrite, suffixes=(".csv", ".json", ".png"))


FROM_NOTHING = "none"  # in place of weights
OWN_MINUTES = 10.0  # of training on a stack for which no weights are named


def own_minutes(model: str | None, minutes: float | None) -> float:
    """Return how long to train on the stack itself before it is restored.

    Args:
        model: Weights, `FROM_NOTHING`, or None for those that are shipped.
        minutes: As given; None: `OWN_MINUTES`, and nothing where weights are named.

    Raises:
        SettingsError: They are out of their range, or a network that has learned nothing would stay so.
    """
    if minutes is None:
        return OWN_MINUTES if model in (None, FROM_NOTHING) else 0.0
    if not 0 <= minutes < math.inf:
        raise SettingsError(f"--minutes: must be a number from 0 on, got {minutes:g}")
    if model == FROM_NOTHING and minutes == 0:
        raise SettingsError("--minutes: must be above 0 with --model none, which knows nothing, got 0; leave it out")
    return minutes


def check_weights(path: str | Path) -> None:
    """Check that a weights file is there.

    Raises:
        WeightsError: It is not.
    """
    if not Path(path).is_file():
        raise WeightsError(f"{path}: weights must exist, none found; check --model, or train some (train-masked)")


def check_percentile(percentile: float | None) -> None:
    """Check the percentile that channels are clipped at; None clips nothing.

    Raises:
        SettingsError: It is out of its range.
    """
    if percentile is not None and not 0 < percentile <= 100:
        raise SettingsError(f"clip_percentile: must be above 0 and at most 100, got {percentile}")


def check_crop_factor(factor: int) -> None:
    """Check that a factor divides the rows of `Crops`.

    Raises:
        SettingsError: It does not.
    """
    if CROP_SIDE % factor:
        raise SettingsError(f"factors: must divide the {CROP_SIDE} rows of the crops, got {factor}; leave --crops out")
