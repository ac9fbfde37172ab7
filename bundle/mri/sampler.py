"""Biplanar sampling: two 2D diffusion priors, one scan (Gharib et al., MICCAI 2025)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from bida.diffusion.fusion import counted, fused_states
from bida.diffusion.noise import INITIAL, volume_noise
from bida.diffusion.prior import SlicePrior, relative_alpha_bar
from bida.diffusion.sampling import Noise, sample
from bida.diffusion.schedule import EPS_FLOOR, first_time_above, timestep_pairs
from bida.errors import SettingsError
from bida.mri.denoiser import PlaneDenoiser
from bida.mri.evidence import Evidence, Leftover
from bida.mri.moments import Moments, mean_of
from bida.mri.selfcheck import SelfCheck, averaged_weight
from bida.mri.settings import SamplerOptions
from bida.mri.slice_errors import Restored
from bida.physics.grid import axis_within


@dataclass(frozen=True)
class Restoration:
    """Hold a result.

    Attributes:
        mean: the mean in one step, or the mean of the draws, [R, A, S].
        std: standard deviation over the draws (ddof 1), [R, A, S], or of the mean's error as the network tells it; None
            for one draw, and where it does not.
        residual: max |A mean - y| / (max y - min y).
        check: what the self-check found; None where there was none.
        leftover: of the scan's noise in what the result leaves of the slices; None where they count as exact.
    """

    mean: Tensor
    std: Tensor | None
    residual: float
    check: SelfCheck | None = None
    leftover: Leftover | None = None


@dataclass(frozen=True)
class Draw:
    """Hold one draw, or the mean in one step.

    Attributes:
        volume: [R, A, S].
        weight: of the priors in it, the rest is the guide's.
        spread: standard deviation of the mean's error, [R, A, S], as the network tells it, the root mean square of both
            planes; None for a draw, and where it does not.
    """

    volume: Tensor
    weight: float
    spread: Tensor | None = None


@dataclass(frozen=True)
class Chain:
    """What the priors are asked for: the mean of what a scan can come from, in one step, or draws by several.

    At the highest time a state holds nothing of the scan, so that one step from there gives the prior's mean; it starts
    from the mean of the noise, zero, and has no chance in it. Draws start from noise.

    Attributes:
        pairs: the times (t, t_next) that are visited.
        runs: how often: once for the mean, else once for each draw.
        drawn: whether it is for draws.
    """

    pairs: list[tuple[int, int]]
    runs: int
    drawn: bool

    @classmethod
    def of(cls, options: SamplerOptions, network: SlicePrior) -> Chain:
        """Return what the options ask of a network.

        Raises:
            SettingsError: the mean is asked of a network that is not shown the scan.
        """
        guided = options.guided and network.guided
        if options.is_mean and not guided:
            raise SettingsError(
                "model: the mean in one step needs a prior that is shown the scan, these weights are of one that is "
                "not; give --samples 1"
            )
        signal = relative_alpha_bar(network.alpha_bar) if guided else network.alpha_bar
        start = first_time_above(signal, EPS_FLOOR) if network.prediction == "eps" else None
        pairs = timestep_pairs(options.steps_taken, len(network.alpha_bar), start)
        return cls(pairs, options.runs, not options.is_mean)

    def initial(self, noise: Noise, shape: torch.Size, device: torch.device) -> Tensor:
        """Return x_T of a state, [R, A, S]."""
        return noise(INITIAL) if self.drawn else torch.zeros(shape, device=device)


class BiplanarSampler:
    """Restore an isotropic volume from a scan with the priors of two planes.

    By default it is the mean of what the scan can come from, in one step; draws are made by a chain of steps. Each
    plane that contains the through-plane axis is sampled under the scan's slices, taken as exact (DDNM) or as noisy
    (`bida.diffusion.sampling.NoisyScan`).

    Args:
        options: how the priors are sampled; the defaults when None. A measurement that tells its noise goes before
            theirs, which is on the scan's own intensities where the measurement tells how they were normalised, else
            in its units; "auto" is then none.
        micro_batch: slices that the network sees at once, which the batch size is rounded up to whole ones of; in
            bfloat16 and int8 the result depends on it. By default it is that of the device's kind
            (`bida.mri.content.slices_at_once`).
        progress: called with (calls done, calls in all) after each pass of a plane's or both planes' prior.

    Raises:
        SettingsError: an argument is out of its range.
    """

    def __init__(
        self,
        options: SamplerOptions | None = None,
        *,
        micro_batch: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Keep the options."""
        if micro_batch is not None and micro_batch < 1:
            raise SettingsError(f"micro_batch: must be at least 1, got {micro_batch}")
        self.options, self.micro_batch, self.progress = options or SamplerOptions(), micro_batch, progress

    @torch.no_grad()
    def restore(
        self,
        scan: Evidence,
        network: SlicePrior,
        check: SelfCheck | None = None,
        on_draw: Callable[[Draw], None] | None = None,
    ) -> Restoration:
        """Restore a volume: its mean in one step; or draw, hand each draw on, average.

        Args:
            scan: the scan's slices.
            network: the priors of the planes.
            check: what the self-check found, by whose weight each draw leans on the guide.
            on_draw: called with each draw, as it is made, or with the mean.
        """
        moments = Moments()
        for draw in self.draws(scan, network, 1.0 if check is None else check.weight):
            moments.add(draw.volume)
            if on_draw is not None:
                on_draw(draw)
        noise = scan.noise_of(self.options)
        std = moments.std if self.options.samples > 1 else draw.spread
        leftover = scan.leftover(moments.mean, noise) if noise > 0 else None
        noticed = check and replace(check, weight_of_result=draw.weight)
        return Restoration(moments.mean, std, scan.residual(moments.mean), noticed, leftover)

    @torch.no_grad()
    def draws(self, scan: Evidence, network: SlicePrior, weight: float = 1.0) -> Iterator[Draw]:
        """Yield the mean, or the draws one by one.

        Each is taken towards the interpolation g that agrees with the slices (`bida.physics.consistency`): it is
        g + w (x - g). The weight that is given is that of one plane's prior; w is that of the planes' average, by how
        far the first draw's planes agree (`averaged_weight`). The means of several draws differ by less, so that w is
        then somewhat high.
        """
        reference = None if weight == 1 else scan.reference(scan.noise_of(self.options))
        averaged, told = None, list[Tensor]()
        for volumes in self.sampled(scan, network, None, self.options.fusion, self.progress, told):
            if averaged is None:
                # padding is no part of the result, and no slice sees that of the through-plane axis
                cropped = [scan.cropped(v) for v in volumes]
                averaged = 1.0 if reference is None else averaged_weight(weight, cropped, scan.cropped(reference))
            shares = scan.shares() if self.options.fusion == "final" else None
            x = mean_of(volumes, shares)
            if shares is not None:
                x = scan.agreeing(x)
            del volumes
            spread = root_mean_square(told, shares)
            told.clear()
            if reference is not None and averaged < 1:
                away = (x - reference).mul_(1 - averaged)  # of the prior's result, which may be right
                spread = None if spread is None else spread.mul_(averaged).hypot_(away)
                x = x - away
            yield Draw(scan.finished(x), averaged, spread)

    @torch.no_grad()
    def check(self, scan: Evidence, network: SlicePrior) -> SelfCheck | None:
        """Return what the self-check finds of what a run makes, mean or draws; None where the options leave it out."""
        if not self.options.self_check:
            return None

        def restored(thick: Evidence, plane: str) -> Restored:
            moments, told = Moments(), list[Tensor]()
            for volumes in self.sampled(thick, network, (plane,), told=told):
                moments.add(mean_of(volumes))
            return Restored(moments.mean, root_mean_square(told))

        return scan.self_check(network, restored, scan.noise_of(self.options))

    def sampled(
        self,
        scan: Evidence,
        network: SlicePrior,
        planes: Sequence[str] | None = None,
        fusion: str = "final",
        progress: Callable[[int, int], None] | None = None,
        told: list[Tensor] | None = None,
    ) -> Iterator[list[Tensor]]:
        """Yield the mean, or draws, for a scan: the volumes [R, A, S] to be averaged.

        They are one for each view (`bida.mri.evidence.View`), of the planes where some are given, under the fusion
        "final", else one. Into the list ``told`` goes, for the mean, what each view's network says of the standard
        deviation of its error, [R, A, S].
        """
        options, noise = self.options, scan.noise_of(self.options)
        condition, y, held = scan.condition(noise), scan.outline, scan.held()
        views = scan.views(noise, options.guided and network.guided, planes)
        chain = Chain.of(options, network)
        batches = (options.batch_size, self.micro_batch)
        keep = told is not None and not chain.drawn and getattr(network, "tells_spread", False)
        int8 = not chain.drawn and getattr(network, "int8", False)
        denoisers = []
        for plane, axis, seen in views:
            along = axis_within(plane, axis)
            # where each plane has a volume of its own, no slice is seen by another: the padding is not needed
            inside = scan.unpadded(plane) if fusion == "final" else None
            denoisers.append(
                PlaneDenoiser(network, plane, y, held, *batches, seen, options.grain, along, inside, keep, int8)
            )
        states = fused_states(fusion, [view.plane for view in views], denoisers)
        report = counted(progress, chain.runs * len(states) * len(chain.pairs))
        keyed = partial(volume_noise, scan.shape, padding=scan.padding, device=y.device)
        for draw in range(chain.runs):
            volumes = []
            for stream, plane, denoise in states:
                z = partial(keyed, plane, options.seed, draw, stream)
                volumes.append(
                    sample(
                        chain.initial(z, scan.shape, y.device),
                        report(denoise),
                        chain.pairs,
                        network.alpha_bar,
                        condition,
                        z,
                        options.eta,
                    )
                )
            if keep and told is not None:
                told[:] = [one.spread for one in denoisers if one.spread is not None]
            for one in denoisers:
                one.spread = None
            if draw + 1 == chain.runs:  # what takes memory goes before the result is taken on
                del views, denoisers, states, denoise, held, seen, one
            yield [volumes.pop(0) for _ in range(len(volumes))]


def root_mean_square(told: Sequence[Tensor], shares: Sequence[Tensor] | None = None) -> Tensor | None:
    """Return the root mean square of deviations [R, A, S], each voxel by shares where they are given, in their memory.

    Args:
        told: Of each view; none where nothing is told.
        shares: Of each view, see `bida.mri.evidence.Evidence.shares`.
    """
    return mean_of([one.square_() for one in told], shares).sqrt_() if told else None
