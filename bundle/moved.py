"""Names that moved since 0.1: configurations that were written for it go on working, with a note of the new name."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from types import ModuleType
from typing import Any

# modules that configurations of 0.1 named, and where their names are now
MOVED = {
    "bida.brains": ("bida.training.head_dataset",),
    "bida.dataset": ("bida.training.dataset", "bida.io.bids"),
    "bida.design": ("bida.experiment.design",),
    "bida.eval.brain_unet": ("bida.eval.skullstrip.network",),
    "bida.export": ("bida.diffusion.export",),
    "bida.inferer": ("bida.mri.inferer", "bida.mri.sampler"),
    "bida.masked_prior": ("bida.microscopy.prior",),
    "bida.masked_sources": ("bida.microscopy.dataset",),
    "bida.methods": ("bida.experiment.methods",),
    "bida.pipeline": ("bida.mri.pipeline", "bida.mri.run", "bida.mri.workflow"),
    "bida.prior": ("bida.diffusion.prior",),
    "bida.resnet": ("bida.diffusion.resnet",),
    "bida.scores": ("bida.experiment.metrics",),
    "bida.settings": ("bida.mri.settings",),
    "bida.transforms.acquisition": ("bida.transforms.augment.heads",),
    "bida.transforms.diffuse": ("bida.transforms.augment.diffuse",),
    "bida.transforms.mask_rows": ("bida.microscopy.tasks",),
    "bida.transforms.thicken": ("bida.transforms.augment.thicken",),
    "bida.unet": ("bida.diffusion.unet",),
}


# MONAI transforms of single steps that bida.transforms had, and the file in it where the step is
TRANSFORMS = {
    "BackProjectd": "backproject",
    "CorrectBiasd": "bias",
    "LoadScand": "load",
    "MatchScand": "match",
    "NormalizePercentilesd": "intensity",
    "OrientLiked": "like",
    "PadToNetworkd": "pad",
    "PlanScand": "plan",
    "ResampleInPlaned": "inplane",
}


def biplanar_inferer(
    *, micro_batch: int | None = None, progress: Callable[[int, int], None] | None = None, **given: Any
) -> Any:
    """Return the inferer from single options, as 0.1 took them, with one draw and no self-check as it was there."""
    from bida.mri.inferer import BiplanarInferer
    from bida.mri.settings import SamplerOptions

    options = SamplerOptions(**{"samples": 1, "self_check": False, **given})
    return BiplanarInferer(options, micro_batch=micro_batch, progress=progress)


def built_in() -> tuple[str, ...]:
    """Return the methods that the experiment runs where none are named."""
    from bida.experiment.methods import by_default

    return by_default()


# names that are no longer what they were, and what gives the old ones
CHANGED: dict[tuple[str, str], Callable[[], Any]] = {
    ("bida.inferer", "BiplanarInferer"): lambda: biplanar_inferer,
    ("bida.methods", "BUILT_IN"): built_in,
}


def old_transform(name: str) -> Callable[..., Any]:
    """Return what makes the MONAI transform that `bida.transforms` had under a name, one of `TRANSFORMS`."""
    from bida.physics.plan import PlanOptions
    from bida.transforms.dictionary import Applyd, Stepd

    place = TRANSFORMS[name]
    step = getattr(import_module(f"bida.transforms.{place}"), name.removesuffix("d"))
    wrapper: Any = Applyd if place in ("load", "plan", "like") else Stepd

    def make(keys: Any, *given: Any, allow_missing_keys: bool = False, **named: Any) -> Any:
        made = step(PlanOptions(**named)) if place == "plan" else step(*given, **named)
        return wrapper(keys, made, allow_missing_keys)

    new = f"{wrapper.__name__}(keys, {step.__name__}(...))"
    warnings.warn(f"bida.transforms.{name} is now {new}; write it so", FutureWarning, stacklevel=3)
    return make


class OldNames(MetaPathFinder, Loader):
    """Find a module that moved: each of its names is handed on from where it is now."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the module's spec, None for any other."""
        return spec_from_loader(fullname, self) if fullname in MOVED else None

    def exec_module(self, module: ModuleType) -> None:
        """Let the module look its names up."""
        old, places = module.__name__, MOVED[module.__name__]
        # not a DeprecationWarning, which Python hides here: it is MONAI that imports what a configuration names
        warnings.warn(f"{old} has moved to {' and '.join(places)}; name it there", FutureWarning, stacklevel=2)

        def handed_on(name: str) -> Any:
            if (old, name) in CHANGED:
                return CHANGED[old, name]()
            for place in places:
                if hasattr(import_module(place), name):
                    return getattr(import_module(place), name)
            raise AttributeError(f"module {old!r} has no attribute {name!r}; it has moved to {' and '.join(places)}")

        module.__dict__["__getattr__"] = handed_on


def install() -> None:
    """Let Python find the old names, after all that is really there."""
    if not any(isinstance(finder, OldNames) for finder in sys.meta_path):
        sys.meta_path.append(OldNames())
