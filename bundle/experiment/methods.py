"""The methods that the experiment compares: thick slices in, a volume on the truth's grid out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bida.errors import SettingsError
from bida.io.nifti import ras
from bida.mri.settings import Settings
from bida.physics.geometry import SliceGeometry
from bida.physics.interpolation import cubic, project, spline

Volume = NDArray[np.float32]


@dataclass(frozen=True)
class Slices:
    """Thick slices simulated from a truth.

    Attributes:
        path: the slices as NIfTI, with a sidecar.
        data: [R, A, S].
        affine: 4 x 4, voxel index to mm.
        geometry: how they lie on the truth's grid.
        truth: the truth's file, whose grid the methods come to; they take nothing else from it.
        hr_shape: the truth's shape.
        hr_affine: the truth's affine.
    """

    path: Path
    data: Volume
    affine: NDArray[np.float64]
    geometry: SliceGeometry
    truth: Path
    hr_shape: tuple[int, ...]
    hr_affine: NDArray[np.float64]


@dataclass(frozen=True)
class Choices:
    """Choices that some methods take, with their defaults.

    Attributes:
        samples: draws of ``bida``, whose mean is taken.
        model: weights of the priors; the released ones when None.
        seed: of all noise.
        device: where networks run.
        eclare: command of the published ECLARE.
        timeout_s: limit of an external program, seconds.
    """

    samples: int = 4
    model: str | None = None
    seed: int = 0
    device: str = "auto"
    eclare: str = "run-eclare"
    timeout_s: float = 3600.0


@dataclass(frozen=True)
class Method:
    """One method.

    Attributes:
        run: slices and choices to a volume [R, A, S] on the truth's grid.
        depends_on: names of the choices that change its result.
        cost: seconds for a mouse of 112 x 128 x 80 voxels on two cores, for the progress bar alone.
    """

    run: Callable[[Slices, Choices], Volume]
    depends_on: tuple[str, ...] = ()
    cost: float = 1.0

    def fingerprint(self, choices: Choices) -> dict[str, Any]:
        """Return what its result depends on, beside the slices."""
        found = {name: getattr(choices, name) for name in self.depends_on}
        if "model" in found:
            from bida.io.weights import released_path, sha256

            found["model"] = sha256(choices.model or released_path("model.pt"))
        return found


def _cubic_projected(slices: Slices, _: Choices) -> Volume:
    return project(cubic(slices.data, slices.geometry), slices.data, slices.geometry)


def _selfsr(slices: Slices, choices: Choices) -> Volume:
    from bida.experiment.baselines.selfsr import SelfSRSettings, self_super_resolve

    settings = SelfSRSettings(seed=choices.seed, device=choices.device)
    return self_super_resolve(slices.data, slices.geometry, settings)


def _restored(slices: Slices, choices: Choices, preset: str | None = None, **options: Any) -> Volume:
    """Restore by the priors, as ``bida superres --like TRUTH --no-n4``: the truth's bias field is divided out."""
    from bida.mri.pipeline import restore

    chosen = {"model": choices.model, "seed": choices.seed, "device": choices.device, "like": str(slices.truth)}
    result = restore(slices.path, Settings.of(preset, **{**chosen, "n4": False, **options}))
    return ras(result.data, result.affine)[0]


def _eclare(slices: Slices, choices: Choices) -> Volume:
    from bida.experiment.baselines.eclare import eclare

    return eclare(
        slices.data,
        slices.affine,
        slices.geometry,
        slices.hr_shape,
        slices.hr_affine,
        command=choices.eclare,
        timeout_s=choices.timeout_s,
    )


METHODS: dict[str, Method] = {
    "nearest": Method(lambda slices, _: spline(slices.data, slices.geometry, order=0)),
    "linear": Method(lambda slices, _: spline(slices.data, slices.geometry, order=1)),
    "cubic": Method(lambda slices, _: cubic(slices.data, slices.geometry)),
    "cubic+projection": Method(_cubic_projected),
    "selfsr": Method(_selfsr, ("seed",), cost=300),
    "bida-paper": Method(lambda slices, choices: _restored(slices, choices, "paper"), ("model", "seed"), cost=25),
    "bida-1": Method(
        lambda slices, choices: _restored(slices, choices, samples=1, profile=slices.geometry.profile),
        ("model", "seed"),
        cost=25,
    ),
    "bida": Method(
        lambda slices, choices: _restored(slices, choices, samples=choices.samples, profile=slices.geometry.profile),
        ("samples", "model", "seed"),
        cost=100,
    ),
    "bida-bare": Method(
        lambda slices, choices: _restored(
            slices, choices, samples=choices.samples, profile=slices.geometry.profile, self_check=False
        ),
        ("samples", "model", "seed"),
        cost=100,
    ),
    "eclare": Method(_eclare, ("eclare",), cost=900),
}
BUILT_IN = tuple(name for name in METHODS if name not in ("bida-bare", "eclare"))


def method(name: str) -> Method:
    """Return a method by its name.

    Raises:
        SettingsError: There is no such method.
    """
    if name not in METHODS:
        raise SettingsError(f"--methods: must be among {', '.join(METHODS)}, got {name}; correct it")
    return METHODS[name]
