"""Biplanar sampling: two 2D diffusion priors, one scan (Gharib et al., MICCAI 2025), as a MONAI inferer."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer
from torch import Tensor

from bida.biplanar import CONSTANT, FUSIONS, PlaneDenoiser, SlicePrior, fused_states
from bida.degradation import SliceGeometry, SliceOperator
from bida.errors import SettingsError
from bida.moments import Moments
from bida.noise import INITIAL, NO_PADDING, volume_noise
from bida.samplers import DDNM, Condition, DDNMPlus, Denoise, sample
from bida.schedule import first_time_above, timestep_pairs
from bida.volume import AXES, planes_containing

EPS_FLOOR = 1e-4  # alpha-bar from which a network that predicts the noise can tell the signal

Padding = Sequence[tuple[int, int]]


@dataclass(frozen=True)
class Restoration:
    """Hold the result of K draws.

    Attributes:
        mean: mean of the draws, like the inputs.
        std: standard deviation over the draws (ddof 1), like the inputs; None for one draw.
        residual: max |A mean - y| / (max y - min y).
    """

    mean: Tensor
    std: Tensor | None
    residual: float


class BiplanarInferer(Inferer):
    """Restore an isotropic volume from the pseudo-inverse of a scan with the priors of two planes.

    The inputs are A+ y, from which y = A (A+ y). Each plane that contains the through-plane axis is sampled with DDNM,
    or DDNM+ where the scan's noise is given.

    Args:
        steps: number of sampling steps.
        samples: number of draws, K.
        fusion: "final": a volume a plane, of independent noise, averaged at the end (the paper); "step": one volume,
            the planes' estimates averaged at each step; "alternate": one volume, the planes take turns.
        eta: 0 is deterministic given the initial noise, 1 has the noise of DDPM.
        noise: standard deviation of the scan's noise, on the scan's own intensities where the inputs' meta tells how
            they were normalised (`intensity_low`, `intensity_high`), else in the inputs' units; 0 keeps A x = y
            exactly.
        seed: of the noise.
        batch_size: slices gathered at once, rounded up to whole micro-batches; the result does not depend on it.
        micro_batch: slices that the network sees at once; in bfloat16 the result depends on it.
        progress: called with (calls done, calls in all) after each pass of a plane's or both planes' prior.

    Raises:
        SettingsError: an argument is out of its range.
    """

    def __init__(
        self,
        steps: int = 16,
        samples: int = 1,
        fusion: str = "final",
        eta: float = 0.0,
        noise: float = 0.0,
        seed: int = 0,
        batch_size: int = 16,
        micro_batch: int = 8,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Check the settings."""
        super().__init__()
        counts = {"steps": steps, "samples": samples, "batch_size": batch_size, "micro_batch": micro_batch}
        for name, value in counts.items():
            if value < 1:
                raise SettingsError(f"{name}: must be at least 1, got {value}")
        if seed < 0:
            raise SettingsError(f"seed: must be at least 0, got {seed}")
        if fusion not in FUSIONS:
            raise SettingsError(f"fusion: must be one of {', '.join(FUSIONS)}, got {fusion!r}")
        if not 0 <= eta <= 1:
            raise SettingsError(f"eta: must be from 0 to 1, got {eta}")
        if not 0 <= noise < math.inf:
            raise SettingsError(f"noise: must be a number >= 0, got {noise}")
        self.steps, self.samples, self.fusion, self.eta, self.noise = steps, samples, fusion, eta, noise
        self.seed, self.batch_size, self.micro_batch, self.progress = seed, batch_size, micro_batch, progress

    def __call__(  # type: ignore[override]  # a prior is more than the callable that MONAI's signature asks for
        self,
        inputs: Tensor,
        network: SlicePrior,
        *,
        geometry: SliceGeometry | None = None,
        padding: Padding | None = None,
    ) -> Tensor:
        """Return the mean of the draws; see `restore`."""
        return self.restore(inputs, network, geometry, padding).mean

    @torch.no_grad()
    def restore(
        self,
        inputs: Tensor,
        network: SlicePrior,
        geometry: SliceGeometry | None = None,
        padding: Padding | None = None,
    ) -> Restoration:
        """Restore a volume.

        Args:
            inputs: A+ y on the padded grid, normalised as the prior's training data, [1, 1, R, A, S].
            network: the priors of the planes.
            geometry: of the scan's slices; from `inputs.meta["slice_geometry"]` (JSON) when not given.
            padding: (before, after) on each axis, so that the noise does not depend on it; from
                `inputs.meta["padding"]` (JSON) when not given, else the geometry's alone.

        Raises:
            SettingsError: the inputs, the geometry and the network do not fit each other.
        """
        geometry = geometry or _geometry_of(inputs)
        A = SliceOperator.build(geometry)
        y = A.forward(_volume(inputs, network.stride))
        moments = Moments()
        for x in self.draws(inputs, network, geometry, padding):
            moments.add(x)
        std = _like(moments.std, inputs) if self.samples > 1 else None
        residual = float((A.forward(moments.mean) - y).abs().max() / (y.max() - y.min()).clamp(min=CONSTANT))
        return Restoration(_like(moments.mean, inputs), std, residual)

    @torch.no_grad()
    def draws(
        self,
        inputs: Tensor,
        network: SlicePrior,
        geometry: SliceGeometry | None = None,
        padding: Padding | None = None,
    ) -> Iterator[Tensor]:
        """Yield the draws one by one, [R, A, S]; arguments as for `restore`."""
        geometry = geometry or _geometry_of(inputs)
        padding = _with_geometry(padding or _padding_of(inputs), geometry)
        pinv_y = _volume(inputs, network.stride)
        A = SliceOperator.build(geometry)
        y = A.forward(pinv_y)
        condition: Condition = DDNMPlus(A, y, self.noise * _scale_of(inputs)) if self.noise else DDNM(A, y)
        start = first_time_above(network.alpha_bar, EPS_FLOOR) if network.prediction == "eps" else None
        pairs = timestep_pairs(self.steps, len(network.alpha_bar), start)
        planes = planes_containing(geometry.axis)
        denoisers = [PlaneDenoiser(network, plane, y, self.batch_size, self.micro_batch) for plane in planes]
        states = fused_states(self.fusion, planes, denoisers)
        report = self._reporter(self.samples * len(states) * len(pairs))
        keyed = partial(volume_noise, pinv_y.shape, padding=padding, device=pinv_y.device)
        for draw in range(self.samples):
            total = torch.zeros_like(pinv_y)
            for stream, plane, denoise in states:
                noise = partial(keyed, plane, self.seed, draw, stream)
                x_T = noise(INITIAL)
                total += sample(x_T, report(denoise), pairs, network.alpha_bar, condition, noise, self.eta)
            yield total / len(states)

    def _reporter(self, total: int) -> Callable[[Denoise], Denoise]:
        """Return a wrapper for denoisers that counts all their calls and reports each to `progress`."""
        done = count(1)

        def report(denoise: Denoise) -> Denoise:
            def reporting(x: Tensor, t: int, step: int) -> tuple[Tensor, Tensor]:
                estimate = denoise(x, t, step)
                if self.progress is not None:
                    self.progress(next(done), total)
                return estimate

            return reporting

        return report


def _volume(inputs: Tensor, stride: int) -> Tensor:
    """Return the volume [R, A, S], float32 and plain, of inputs [1, 1, R, A, S]."""
    if inputs.ndim != 5 or inputs.shape[:2] != (1, 1):
        raise SettingsError(f"inputs: must be one volume [1, 1, R, A, S], got shape {tuple(inputs.shape)}")
    for axis, size in zip(AXES, inputs.shape[2:]):
        if size % stride:
            raise SettingsError(
                f"inputs: axis {axis} must be a multiple of {stride} for this network, got {size}; pad it"
            )
    return inputs.as_subclass(Tensor)[0, 0].float()


def _meta(inputs: Tensor, key: str) -> Any:
    """Return an entry of a MetaTensor's metadata, out of the list that collation made of it; None when absent."""
    value = inputs.meta.get(key) if isinstance(inputs, MetaTensor) else None
    return value[0] if isinstance(value, list | tuple) and len(value) == 1 else value


def _geometry_of(inputs: Tensor) -> SliceGeometry:
    text = _meta(inputs, "slice_geometry")
    if text is None:
        raise SettingsError("geometry: must be given, or be in the inputs' metadata as slice_geometry, got neither")
    return SliceGeometry.from_json(text)


def _scale_of(inputs: Tensor) -> float:
    """Return the inputs' units a unit of the scan's intensities, 1 where their meta does not tell."""
    low, high = _meta(inputs, "intensity_low"), _meta(inputs, "intensity_high")
    return 1.0 if low is None or high is None else 2.0 / float(high - low)


def _padding_of(inputs: Tensor) -> Padding:
    text = _meta(inputs, "padding")
    return NO_PADDING if text is None else [(int(before), int(after)) for before, after in json.loads(text)]


def _with_geometry(padding: Padding, geometry: SliceGeometry) -> Padding:
    """Return the padding of the three axes, the through-plane one as the geometry has it."""
    full = list(padding)
    full[geometry.axis] = (geometry.pad_before, geometry.pad_after)
    return full


def _like(volume: Tensor, inputs: Tensor) -> Tensor:
    """Return a volume [R, A, S] as [1, 1, R, A, S], with the inputs' metadata where they have any."""
    result = volume.reshape(inputs.shape)
    return MetaTensor(result).copy_meta_from(inputs) if isinstance(inputs, MetaTensor) else result
