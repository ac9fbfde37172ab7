"""Biplanar sampling: two 2D diffusion priors, one scan (Gharib et al., MICCAI 2025), as a MONAI inferer."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer
from torch import Tensor

from bida.diffusion.fusion import FUSIONS, counted, fused_states
from bida.diffusion.noise import INITIAL, volume_noise
from bida.diffusion.prior import SlicePrior, relative_alpha_bar
from bida.diffusion.sampling import DDNM, Condition, DDNMPlus, sample
from bida.diffusion.schedule import EPS_FLOOR, first_time_above, timestep_pairs
from bida.errors import SettingsError
from bida.mri.content import CONSTANT, content
from bida.mri.denoiser import PlaneDenoiser
from bida.mri.measurement import Measurement, Padding
from bida.mri.moments import Moments, mean_of
from bida.mri.selfcheck import SelfCheck, averaged_weight, self_check
from bida.physics.geometry import SliceGeometry
from bida.physics.grid import axis_within, planes_containing
from bida.physics.guide import guide, shown
from bida.physics.operators import SliceOperator


@dataclass(frozen=True)
class Restoration:
    """Hold the result of K draws.

    Attributes:
        mean: mean of the draws, like the inputs.
        std: standard deviation over the draws (ddof 1), like the inputs; None for one draw.
        residual: max |A mean - y| / (max y - min y).
        check: what the self-check found; None where there was none.
    """

    mean: Tensor
    std: Tensor | None
    residual: float
    check: SelfCheck | None = None


@dataclass(frozen=True)
class Draw:
    """Hold one draw.

    Attributes:
        volume: [R, A, S].
        weight: of the priors in it, the rest is the guide's.
    """

    volume: Tensor
    weight: float


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
        self_check: measure the prior on the scan's own slices first, and draw the result towards the guide where the
            prior does not help (`bida.mri.selfcheck`).
        guided: show a guided prior the interpolated scan (`bida.physics.guide`); others take none.
        grain: let a guided prior draw the grain of scans; else clean tissue.
        progress: called with (calls done, calls in all) after each pass of a plane's or both planes' prior.

    Raises:
        SettingsError: an argument is out of its range.
    """

    def __init__(
        self,
        steps: int = 4,
        samples: int = 1,
        fusion: str = "final",
        eta: float = 0.0,
        noise: float = 0.0,
        seed: int = 0,
        batch_size: int = 16,
        micro_batch: int = 8,
        self_check: bool = False,
        guided: bool = True,
        grain: bool = False,
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
        self.self_check, self.guided, self.grain = self_check, guided, grain

    def __call__(  # type: ignore[override]  # a prior is more than the callable that MONAI's signature asks for
        self,
        inputs: Tensor,
        network: SlicePrior,
        *,
        geometry: SliceGeometry | None = None,
        padding: Padding | None = None,
    ) -> Tensor:
        """Return the mean of the draws, see `restore`.

        What the self-check found goes as JSON (`self_check`) into the meta of the inputs and of the result: MONAI's
        `Invertd` gives a result the meta of its inputs.
        """
        found = self.restore(inputs, network, geometry, padding)
        for image in (inputs, found.mean):
            if isinstance(image, MetaTensor):
                image.meta["self_check"] = json.dumps(found.check and found.check.record())
        return found.mean

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
        scan = Measurement.of(inputs, network.stride, geometry, padding)
        moments = Moments()
        check = self.check(inputs, network, geometry, padding) if self.self_check else None
        for draw in self.draws(inputs, network, geometry, padding, 1.0 if check is None else check.weight):
            moments.add(draw.volume)
        check = check and replace(check, weight_of_result=draw.weight)
        std = _like(moments.std, inputs) if self.samples > 1 else None
        y, again = scan.y, SliceOperator.build(scan.geometry).forward(moments.mean)
        residual = float((again - y).abs().max() / (y.max() - y.min()).clamp(min=CONSTANT))
        return Restoration(_like(moments.mean, inputs), std, residual, check)

    @torch.no_grad()
    def draws(
        self,
        inputs: Tensor,
        network: SlicePrior,
        geometry: SliceGeometry | None = None,
        padding: Padding | None = None,
        weight: float = 1.0,
    ) -> Iterator[Draw]:
        """Yield the draws one by one; arguments as for `restore`.

        Each is drawn towards the guide g (`bida.physics.guide`), g + w (x - g). The weight that is given is that of one
        plane's prior; w is that of the planes' average, by how far the first draw's planes agree (`averaged_weight`).
        The means of several draws differ by less, so that w is then somewhat high.
        """
        scan = Measurement.of(inputs, network.stride, geometry, padding)
        planes, noise = planes_containing(scan.geometry.axis), self.noise * scan.scale
        A, reference = SliceOperator.build(scan.geometry), guide(scan.y, scan.geometry)
        averaged = None
        for volumes in self.sampled(scan, network, planes, self.samples, self.fusion, noise, self.progress):
            if averaged is None:
                # padding is no part of the result, and no slice sees that of the through-plane axis
                averaged = averaged_weight(weight, [scan.cropped(v) for v in volumes], scan.cropped(reference))
            x = mean_of(volumes)
            if averaged < 1:
                # where DDNM+ keeps away from a noisy scan, what was measured stays as it left it: A x
                g = reference + A.pinv(A.forward(x) - scan.y) if noise else reference
                x = g + averaged * (x - g)
            yield Draw(x, averaged)

    @torch.no_grad()
    def check(
        self,
        inputs: Tensor,
        network: SlicePrior,
        geometry: SliceGeometry | None = None,
        padding: Padding | None = None,
    ) -> SelfCheck | None:
        """Return what the self-check finds, as many draws averaged as in a run; see `restore`."""
        scan = Measurement.of(inputs, network.stride, geometry, padding)

        def restored(thick: Tensor, own: SliceGeometry, plane: str) -> Tensor:
            moments = Moments()
            for volumes in self.sampled(Measurement(thick, own), network, (plane,), self.samples):
                moments.add(mean_of(volumes))
            return moments.mean

        return self_check(scan.inside(), scan.geometry, network, restored)

    def sampled(
        self,
        scan: Measurement,
        network: SlicePrior,
        planes: Sequence[str],
        samples: int,
        fusion: str = "final",
        noise: float = 0.0,
        progress: Callable[[int, int], None] | None = None,
    ) -> Iterator[list[Tensor]]:
        """Yield draws for a scan by the priors of some planes: the volumes [R, A, S] whose mean is the result.

        They are one for each plane under the fusion "final", else one. The noise is in the units of the scan's y.
        """
        y, geometry = scan.y, scan.geometry
        A = SliceOperator.build(geometry)
        condition: Condition = DDNMPlus(A, y, noise) if noise else DDNM(A, y)
        seen = shown(y, geometry) if self.guided and network.guided else None
        signal = network.alpha_bar if seen is None else relative_alpha_bar(network.alpha_bar)
        start = first_time_above(signal, EPS_FLOOR) if network.prediction == "eps" else None
        pairs = timestep_pairs(self.steps, len(network.alpha_bar), start)
        batches, held = (self.batch_size, self.micro_batch), content(y, A)
        denoisers = [
            PlaneDenoiser(network, plane, y, held, *batches, seen, self.grain, axis_within(plane, geometry.axis))
            for plane in planes
        ]
        states = fused_states(fusion, planes, denoisers)
        report = counted(progress, samples * len(states) * len(pairs))
        shape = torch.Size(geometry.padded_voxels if k == geometry.axis else size for k, size in enumerate(y.shape))
        keyed = partial(volume_noise, shape, padding=scan.padding, device=y.device)
        for draw in range(samples):
            volumes = []
            for stream, plane, denoise in states:
                drawn = partial(keyed, plane, self.seed, draw, stream)
                x_T = drawn(INITIAL)
                volumes.append(sample(x_T, report(denoise), pairs, network.alpha_bar, condition, drawn, self.eta))
            yield volumes


def _like(volume: Tensor, inputs: Tensor) -> Tensor:
    """Return a volume [R, A, S] as [1, 1, R, A, S], with the inputs' metadata where they have any."""
    result = volume.reshape(inputs.shape)
    return MetaTensor(result).copy_meta_from(inputs) if isinstance(inputs, MetaTensor) else result
