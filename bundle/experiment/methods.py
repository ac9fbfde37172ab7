"""The methods that the experiment compares, each described once: how it restores, what it is, how it is drawn.

A new method is one entry of `METHODS`. What restores is imported when it runs, so that names and words come at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bida.errors import SettingsError

if TYPE_CHECKING:
    from bida.mri.settings import Settings
    from bida.physics.geometry import SliceGeometry

Volume = NDArray[np.float32]

TRUTH = "hr"  # what tables call the isotropic scan itself, which stands beside the methods


@dataclass(frozen=True)
class ThickScan:
    """Thick slices simulated from a truth.

    Attributes:
        path: the slices as NIfTI, with a sidecar.
        data: [R, A, S].
        affine: 4 x 4, voxel index to mm.
        geometry: how they lie on the truth's grid.
        truth: the truth's file, whose grid the methods come to; they take nothing else from it.
        truth_shape: the truth's shape.
        truth_affine: the truth's affine.
        others: further scans of the same truth, for methods that take several.
    """

    path: Path
    data: Volume
    affine: NDArray[np.float64]
    geometry: SliceGeometry
    truth: Path
    truth_shape: tuple[int, ...]
    truth_affine: NDArray[np.float64]
    others: tuple[ThickScan, ...] = ()

    @property
    def scans(self) -> tuple[ThickScan, ...]:
        """Return it and the others."""
        return (self, *self.others)


@dataclass(frozen=True)
class Choices:
    """Choices that some methods take, with their defaults.

    Attributes:
        samples: draws of ``bida-draws``, whose mean is taken, at least 1.
        model: weights of the priors; the released ones when None.
        seed: of all noise.
        device: where networks run.
        eclare: command of the published ECLARE.
        timeout_s: limit of an external program, seconds.
        unires: command of a Python in which UniRes is installed.
        unires_strength: weight of its prior.
    """

    samples: int = 4
    model: str | None = None
    seed: int = 0
    device: str = "auto"
    eclare: str = "run-eclare"
    timeout_s: float = 3600.0
    unires: str = "python3"
    unires_strength: float = 10.0


@dataclass(frozen=True)
class Method:
    """One method, in all that the experiment needs to know of it.

    Attributes:
        run: thick slices and choices to a volume [R, A, S] on the truth's grid.
        several: it makes one volume of several scans, which the thick slices then have with them.
        fewest: scans that it needs.
        meaning: what it is, in words, for the report.
        label: its name in tables, figures and sentences, where its key is not said as it is.
        colour: in every figure; those of Okabe and Ito's palette are told apart by colour-blind readers.
        depends_on: names of the choices that change its result.
        cost: seconds for a mouse of 112 x 128 x 80 voxels on two cores, for the progress bar alone.
        by_default: run where no methods are named.
        main: among the few that are looked at closely: it has a column in the montages and labels carried over to its
            volumes (minutes each), and its comparison with the reference is told first.
        note: what the reader of a report must know of it, a sentence or more; empty for nothing.
    """

    run: Callable[[ThickScan, Choices], Volume]
    meaning: str
    label: str = ""
    colour: str = "#7A6A53"
    depends_on: tuple[str, ...] = ()
    cost: float = 1.0
    by_default: bool = True
    main: bool = False
    note: str = ""
    several: bool = False
    fewest: int = 1

    def fingerprint(self, choices: Choices) -> dict[str, Any]:
        """Return what its result depends on, beside the slices."""
        found = {name: getattr(choices, name) for name in self.depends_on}
        if "model" in found:
            from bida.io.weights import sha256, weights_file

            found["model"] = sha256(weights_file(choices.model))
        return found


def _spline(thick: ThickScan, order: int) -> Volume:
    from bida.physics.interpolation import spline

    return spline(thick.data, thick.geometry, order=order)


def _cubic(thick: ThickScan, _: Choices) -> Volume:
    from bida.physics.interpolation import cubic

    return cubic(thick.data, thick.geometry)


def _cubic_projected(thick: ThickScan, choices: Choices) -> Volume:
    from bida.physics.interpolation import project

    return project(_cubic(thick, choices), thick.data, thick.geometry)


def _selfsr(thick: ThickScan, choices: Choices) -> Volume:
    from bida.experiment.baselines.selfsr import SelfSRSettings, self_super_resolve

    settings = SelfSRSettings(seed=choices.seed, device=choices.device)
    return self_super_resolve(thick.data, thick.geometry, settings)


def _eclare(thick: ThickScan, choices: Choices) -> Volume:
    from bida.experiment.baselines.eclare import eclare

    return eclare(
        thick.data,
        thick.affine,
        thick.geometry,
        thick.truth_shape,
        thick.truth_affine,
        command=choices.eclare,
        timeout_s=choices.timeout_s,
    )


def _unires(thick: ThickScan, choices: Choices) -> Volume:
    from bida.experiment.baselines.unires import unires

    return unires(
        [scan.data for scan in thick.scans],
        [scan.affine for scan in thick.scans],
        thick.truth_shape,
        thick.truth_affine,
        command=choices.unires,
        strength=choices.unires_strength,
        timeout_s=choices.timeout_s,
    )


def _least_squares(thick: ThickScan, choices: Choices) -> Volume:
    from bida.io.nifti import ras
    from bida.mri.combine import least_squares

    result = least_squares([scan.path for scan in thick.scans], _settings(thick, choices))
    return ras(result.data, result.affine)[0]


def _restored(thick: ThickScan, choices: Choices, preset: str | None = None, **options: Any) -> Volume:
    """Restore by the priors, as ``bida superres --like TRUTH --no-n4``, several scans joined by ``--combine``."""
    from bida.io.nifti import ras
    from bida.mri.pipeline import restore, superres

    settings = _settings(thick, choices, preset, **options)
    paths = [scan.path for scan in thick.scans]
    result = superres(paths, settings) if thick.others else restore(thick.path, settings)
    return ras(result.data, result.affine)[0]


def _settings(thick: ThickScan, choices: Choices, preset: str | None = None, **options: Any) -> Settings:
    """Return the settings of a run on the truth's grid, whose bias field is divided out.

    The profile is that of the slices, where no preset has its own.
    """
    from bida.mri.settings import Settings

    chosen = {"model": choices.model, "seed": choices.seed, "device": choices.device, "like": str(thick.truth)}
    profile = {} if preset else {"profile": thick.geometry.profile}
    return Settings.of(preset, **{**chosen, "n4": False, **profile, **options})


def _not_run(thick: ThickScan, choices: Choices) -> Volume:
    raise SettingsError("a method that is not of this registry cannot be run")


METHODS: dict[str, Method] = {  # in the order shown
    "nearest": Method(
        lambda thick, _: _spline(thick, 0), "every voxel takes the value of the nearest slice", colour="#999999"
    ),
    "linear": Method(lambda thick, _: _spline(thick, 1), "linear interpolation between slices", colour="#56B4E9"),
    "cubic": Method(_cubic, "cubic B-spline interpolation between slices", colour="#0072B2", main=True),
    "cubic+projection": Method(
        _cubic_projected,
        "cubic, then corrected so that it gives the scan back when it is made thick again",
        colour="#009E73",
    ),
    "selfsr": Method(
        _selfsr,
        "a network trained on nothing but the scan's own sharp directions",
        colour="#CC79A7",
        depends_on=("seed",),
        cost=300,
        main=True,
        note="selfsr is a self-supervised method in the manner of SMORE and ECLARE, written for this comparison; it is "
        "neither of them. The published ECLARE can be compared as the method eclare where it is installed.",
    ),
    "eclare": Method(
        _eclare,
        "the published ECLARE, run as an external program",
        colour="#E69F00",
        depends_on=("eclare",),
        cost=900,
        by_default=False,
        main=True,
    ),
    "unires": Method(
        _unires,
        "the published UniRes, total variation, run as an external program",
        label="UniRes",
        colour="#44AA99",
        depends_on=("unires", "unires_strength"),
        cost=600,
        by_default=False,
        main=True,
        note="UniRes is built for scans of people, on which its units and its strength are set: here lengths are ten "
        "times as long as they are, and the strength is that of --unires-strength.",
        several=True,
    ),
    "least-squares": Method(
        _least_squares,
        "what agrees best with all the scans under their slice profile, without a prior",
        label="least squares",
        colour="#332288",
        cost=10,
        by_default=False,
        main=True,
        note="Least squares is of several scans: for one it would be cubic+projection.",
        several=True,
        fewest=2,
    ),
    "bida-paper": Method(
        lambda thick, choices: _restored(thick, choices, "paper"),
        "one draw of the priors as published: not shown the scan, Gaussian profile, no self-check",
        colour="#F0E442",
        depends_on=("model", "seed"),
        cost=25,
    ),
    "bida-draw": Method(
        lambda thick, choices: _restored(thick, choices, samples=1),
        "one draw of the same priors, by a chain of steps",
        label="bida, one draw",
        colour="#8C510A",
        depends_on=("model", "seed"),
        cost=25,
        several=True,
    ),
    "bida-draws": Method(
        lambda thick, choices: _restored(thick, choices, samples=choices.samples),
        "the mean of several draws of the same priors, as many as --samples says",
        label="bida, mean of draws",
        colour="#E08214",
        depends_on=("samples", "model", "seed"),
        cost=100,
        by_default=False,
        several=True,
    ),
    "bida-bare": Method(
        lambda thick, choices: _restored(thick, choices, samples=0, self_check=False),
        "bida mean without the self-check: the priors alone",
        label="bida mean, no self-check",
        colour="#B2182B",
        depends_on=("model", "seed"),
        cost=10,
        by_default=False,
        several=True,
    ),
    "bida": Method(
        lambda thick, choices: _restored(thick, choices, samples=0),
        "what bida superres gives by default: the mean that two diffusion priors expect under the scan's own slice "
        "profile, in one step",
        label="bida mean",
        colour="#D55E00",
        depends_on=("model", "seed"),
        cost=10,
        main=True,
        several=True,
    ),
}
# what tables of 0.1 name, and what those rows are; their "bida" was the mean of several draws
OLD_NAMES = {"bida-1": "bida-draw", "bida": "bida-draws", "bida-bare": "bida-draws-bare"}
REFERENCES = ("bida", "bida-draws", "bida-draw")  # the first of them that there is, is compared with the others
_TRUTH = Method(
    _not_run,
    "the isotropic scan itself: the truth, from which the thick slices were made",
    colour="#222222",
    cost=30,
    main=True,
)


def by_default() -> tuple[str, ...]:
    """Return the methods that run where none are named."""
    return tuple(name for name, one in METHODS.items() if one.by_default)


def method(name: str) -> Method:
    """Return a method by its name.

    Raises:
        SettingsError: There is no such method.
    """
    if name not in METHODS:
        cure = f"it is {OLD_NAMES[name]} now" if name in OLD_NAMES else "correct it"
        raise SettingsError(f"--methods: must be among {', '.join(METHODS)}, got {name}; {cure}")
    return METHODS[name]


def shown_as(name: str) -> Method:
    """Return what tables and figures say of a method, of the truth, or of a name that this version does not know."""
    return _TRUTH if name == TRUTH else METHODS.get(name, Method(_not_run, ""))


def label_of(name: str) -> str:
    """Return what a method is called in tables, figures and sentences."""
    return shown_as(name).label or name


def reference_of(methods: Sequence[str]) -> str:
    """Return the method that the others are compared with, where none is named: bida's, else the last of them."""
    return next((name for name in REFERENCES if name in methods), methods[-1])
