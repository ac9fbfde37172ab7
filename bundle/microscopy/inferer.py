"""Masked slices: an isotropic volume from a microscopy stack (Jiang et al. 2024, MSDSR), as a MONAI inferer."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count

import numpy as np
import torch
from monai.inferers import Inferer
from torch import Tensor

from bida.diffusion.fusion import counted, fused_states
from bida.diffusion.noise import INITIAL, VOLUME_STREAM, volume_noise
from bida.diffusion.prediction import estimates
from bida.diffusion.sampling import DDNM, MaskedRows, sample
from bida.diffusion.schedule import EPS_FLOOR, first_time_above, timestep_pairs
from bida.errors import SettingsError
from bida.microscopy.grid import (
    STACK_PLANES,
    StackGrid,
    from_rows,
    plane_distances,
    to_rows,
    voxels_from_planes,
)
from bida.microscopy.prior import UNIT, MaskedPrior, guided_input, with_mask
from bida.microscopy.settings import FUSIONS, JOINED, TEXTURED, check_sampling
from bida.microscopy.texture import textured
from bida.microscopy.tiles import Tiling, tiled
from bida.microscopy.volumes import blurred, doubled, resampled
from bida.physics.grid import NORMAL
from bida.physics.operators import MatrixOperator

Z = 1  # the axis of a stack [C, Z, Y, X]


class RowDenoiser:
    """Denoise a stack by its slices of one plane, the acquired planes written back first.

    Args:
        prior: The network, of method ``diffusion`` or ``msunet``.
        plane: ``xz`` or ``yz``.
        known: The acquired planes on the grid.
        limits: (lowest, highest) value of each channel, [C, 1, 1, 1], that the clean estimate is clipped to.
        tiles: From the network's input of every slice to its output, see `tiled`.
    """

    def __init__(
        self,
        prior: MaskedPrior,
        plane: str,
        known: MaskedRows,
        limits: tuple[Tensor, Tensor],
        tiles: Callable[[Callable[[Tensor], Tensor], Tensor], Tensor],
    ) -> None:
        """Keep all."""
        self.prior, self.plane, self.known, self.limits, self.tiles = prior, plane, known, limits, tiles

    def __call__(self, x: Tensor, t: int) -> tuple[Tensor, Tensor]:
        """Return (x0, e) of a stack x [C, Z, Y, X] at time t."""
        slices = to_rows(self.known.write(x), self.plane)
        seen = slices
        if self.prior.mask_channel:
            mask = torch.zeros(x.shape[Z], device=x.device)
            mask[torch.as_tensor(self.known.rows, device=x.device)] = 1
            seen = with_mask(slices, mask)
        times = torch.full((1,), t, device=x.device)
        out = self.tiles(lambda batch: self.prior(batch, times), seen)
        x0, e = estimates(slices, out, float(self.prior.alpha_bar[t]), self.prior.prediction)
        return from_rows(x0, self.plane).clamp(*self.limits), from_rows(e, self.plane)


class GuidedRows:
    """Denoise what the linear interpolation of a stack lacks, by the stack's slices of one plane.

    Args:
        prior: The network, of method ``guided``.
        plane: ``xz`` or ``yz``.
        known: The acquired planes on the grid, which lack nothing.
        limits: (lowest, highest) of what may be lacking, [1, Z, Y, X], that the clean estimate is clipped to.
        tiles: See `RowDenoiser`.
        guide: The interpolation, [1, Z, Y, X].
        distances: Of each voxel along z from the planes below and above it, [2, Z].
    """

    def __init__(
        self,
        prior: MaskedPrior,
        plane: str,
        known: MaskedRows,
        limits: tuple[Tensor, Tensor],
        tiles: Callable[[Callable[[Tensor], Tensor], Tensor], Tensor],
        guide: Tensor,
        distances: Tensor,
    ) -> None:
        """Keep all."""
        self.prior, self.plane, self.known, self.limits, self.tiles = prior, plane, known, limits, tiles
        self.guide, self.distances = guide, distances

    def __call__(self, x: Tensor, t: int) -> tuple[Tensor, Tensor]:
        """Return (x0, e) of a stack x [1, Z, Y, X] at time t."""
        slices = to_rows(self.known.write(x), self.plane)
        seen = guided_input(slices, to_rows(self.guide, self.plane), self.distances)
        times = torch.full((1,), t, device=x.device)
        out = self.tiles(lambda batch: self.prior(batch, times), seen)
        x0, e = estimates(slices, out, float(self.prior.alpha_bar[t]), self.prior.prediction)
        return from_rows(x0, self.plane).clamp(*self.limits), from_rows(e, self.plane)


@dataclass(frozen=True)
class _Part:
    """What is restored at once: how its planes are joined, limits of the values, the first slice, and who is told."""

    fusion: str
    limits: tuple[Tensor, Tensor]
    first: int
    progress: Callable[[int, int], None] | None


class MaskedSliceInferer(Inferer):
    """Restore the voxels between the planes of a stack, slice by slice of the planes that contain z.

    Args:
        factor: F >= 1, plane spacing over voxel size. With ``e2e`` weights a power of 2.
        steps: Sampling steps, of ``diffusion`` and ``guided`` weights alone; None: 16, and 1 of ``guided`` weights,
            which is the mean of what the planes can come from, as more are a draw of it.
        fusion: ``final``: a volume from the xz and one from the yz slices, of independent noise, averaged (the paper);
            ``textured``: the mean, and as much of what that average adds to it, and of noise, as makes planes look like
            acquired ones (`bida.microscopy.texture`), of ``guided`` weights in several steps alone; ``step``: one
            volume, the estimates of both planes averaged at each step; ``alternate``: one volume, the planes take
            turns; ``single-xz``, ``single-yz``: one plane alone.
        eta: 0 is deterministic given the initial noise, 1 has the noise of DDPM.
        seed: Of the noise.
        tile: Side of the tiles that the network sees, pixels, a multiple of its stride.
        overlap: Of neighbouring tiles, pixels, a multiple of the network's stride.
        blur: Smooth the result by a Gaussian of 3 x 3 x 3 voxels; acquired planes are smoothed as well.
        batch_size: Tiles gathered at once; the result does not depend on it.
        micro_batch: Tiles that the network sees at once.
        progress: Called with (calls done, calls in all) after each pass over a volume.
        as_factor: Restore at this factor, at least F, and bring the volume to F by linear interpolation; None: F. Of
            the mean by ``guided`` weights alone, see `bida.microscopy.likeness`.

    Raises:
        SettingsError: An argument is out of its range.
    """

    def __init__(
        self,
        factor: float,
        steps: int | None = None,
        fusion: str = "final",
        eta: float = 0.0,
        seed: int = 0,
        tile: int = 128,
        overlap: int = 32,
        blur: bool = False,
        batch_size: int = 16,
        micro_batch: int = 8,
        progress: Callable[[int, int], None] | None = None,
        as_factor: float | None = None,
    ) -> None:
        """Check the settings."""
        super().__init__()
        counts = {} if steps is None else {"steps": steps}
        check_sampling(fusion, eta, seed, **counts, batch_size=batch_size, micro_batch=micro_batch)
        StackGrid(1, factor)  # checks it
        if as_factor is not None and not factor <= as_factor < math.inf:
            raise SettingsError(f"as_factor: must be at least the factor of {factor:g}, got {as_factor:g}")
        self.as_factor = factor if as_factor is None else as_factor
        self.factor, self.steps, self.fusion, self.eta, self.seed = factor, steps, fusion, eta, seed
        self.tile, self.overlap, self.blur = tile, overlap, blur
        self.batch_size, self.micro_batch, self.progress = batch_size, micro_batch, progress

    @torch.no_grad()
    def __call__(  # type: ignore[override]  # a prior is more than the callable that MONAI's signature asks for
        self, inputs: Tensor, network: MaskedPrior
    ) -> Tensor:
        """Return the restored stack [1, C, n, Y, X], n = floor((m-1) F) + 1.

        Args:
            inputs: The acquired planes, normalised as in training, [1, C, m, Y, X].
            network: Weights of any method.

        Raises:
            SettingsError: The inputs, the factor and the network do not fit each other.
        """
        apart = network.method == "guided"
        if inputs.ndim != 5 or inputs.shape[0] != 1 or (inputs.shape[1] != network.image_channels and not apart):
            raise SettingsError(
                f"inputs: must be [1, {network.image_channels}, Z, Y, X] for this network, got {tuple(inputs.shape)}"
            )
        y = inputs[0]
        made = self._textured if self.fusion == TEXTURED else self._restored
        restored = made(y, network, _Part(self.fusion, range_of(y), 0, self.progress))
        return (blurred(restored) if self.blur else restored)[None]

    @torch.no_grad()
    def slices(self, y: Tensor, network: MaskedPrior, plane: str, first: int, limits: tuple[Tensor, Tensor]) -> Tensor:
        """Return what some slices of one plane become, as a part of a stack that is not at hand as a whole.

        The volume of a fusion without a joined state is the average of its planes', each made of such parts; it is not
        blurred. A result does not depend on where a stack is parted, at multiples of `micro_batch` slices.

        Args:
            y: The acquired planes of the part, [C, m, Y, X]: of ``xz`` slices all of X, of ``yz`` slices all of Y.
            network: Weights of any method.
            plane: ``xz`` or ``yz``.
            first: Index in the whole stack of the first slice, a multiple of `micro_batch`.
            limits: (lowest, highest) value of each channel of the whole stack, [C, 1, 1, 1].

        Returns:
            [C, n, Y, X].
        """
        axis = 2 if plane == "xz" else 3
        parts = []
        for start in range(0, y.shape[axis], self.micro_batch):  # alike for any part, to the last bit
            part = _Part(f"single-{plane}", limits, first + start, None)
            one = y.narrow(axis, start, min(self.micro_batch, y.shape[axis] - start)).contiguous()
            parts.append(self._restored(one, network, part))
        return torch.cat(parts, dim=axis)

    def _textured(self, y: Tensor, network: MaskedPrior, part: _Part) -> Tensor:
        """Return a stack [C, n, Y, X], its mean with the texture of a draw."""
        steps = steps_of(self.steps, network.method)
        if network.method != "guided" or steps == 1:
            raise SettingsError(
                f"fusion: must be textured for guided weights in several steps alone, got {network.method} in {steps}"
            )
        grid, at_factor = StackGrid(y.shape[1], self.factor), self.as_factor == self.factor
        done, passes = count(1), 2 * len(y) * (steps + (1 if at_factor else 2))

        def told(*_: int) -> None:
            if part.progress is not None:
                part.progress(next(done), passes)

        one = replace(part, fusion="final", progress=told)
        mean, own, drawn = (self._part_of(1, self.as_factor), self._part_of(1), self._part_of(steps))
        m = mean._restored(y, network, one)
        d = drawn._restored(y, network, one) - (m if at_factor else own._restored(y, network, one))
        away = torch.from_numpy(np.abs(np.subtract.outer(np.arange(grid.voxels), grid.positions)).min(axis=1))
        (low, high), chance = part.limits, torch.Generator().manual_seed(self.seed)
        result = torch.stack([textured(*channel, away, chance) for channel in zip(m, d, y)]).clamp(low, high)
        between = acquired(y, grid).between
        if between is None:
            return result
        beyond = result[:, -1:].expand(-1, grid.reach - grid.voxels, -1, -1)
        return between.operator.project(torch.cat([result, beyond], dim=Z), y)[:, : grid.voxels]

    def _part_of(self, steps: int, as_factor: float | None = None) -> MaskedSliceInferer:
        """Return the inferer of a mean in one step, or of the average of draws."""
        ways = (self.tile, self.overlap, False, self.batch_size, self.micro_batch)
        return MaskedSliceInferer(self.factor, steps, "final", self.eta, self.seed, *ways, as_factor=as_factor)

    def _restored(self, y: Tensor, network: MaskedPrior, part: _Part) -> Tensor:
        grid, finer = (StackGrid(y.shape[1], factor) for factor in (self.factor, self.as_factor))
        if finer != grid and (network.method != "guided" or steps_of(self.steps, network.method) > 1):
            raise SettingsError(
                f"as_factor: must be left out but for guided weights in one step, got {self.as_factor:g}"
            )
        made = {"guided": self._guided, "e2e": self._doubled}.get(network.method, self._sampled)
        volume = made(y, network, finer, part)
        if finer != grid:
            volume = resampled(volume, self.as_factor / self.factor, grid.voxels)
        return volume[:, : grid.voxels]

    def _tiles(self, network: MaskedPrior) -> Callable[[Callable[[Tensor], Tensor], Tensor], Tensor]:
        tiling = Tiling(self.tile, self.overlap, network.stride)
        return partial(tiled, tiling=tiling, batch_size=self.batch_size, micro_batch=self.micro_batch)

    def _sampled(self, y: Tensor, network: MaskedPrior, grid: StackGrid, part: _Part) -> Tensor:
        """Return a stack [C, reach, Y, X] by sampling, or in one pass where the method is ``msunet``."""
        known = acquired(y, grid)
        planes = FUSIONS[part.fusion]
        denoisers = [RowDenoiser(network, plane, known, part.limits, self._tiles(network)) for plane in planes]
        fusion = part.fusion if part.fusion in JOINED else "final"
        states = fused_states(fusion, [STACK_PLANES[plane] for plane in planes], denoisers)
        alpha_bar = network.alpha_bar
        if network.method == "msunet":
            if part.fusion == "alternate":
                raise SettingsError("fusion: must not be alternate with msunet weights, which have one turn; take step")
            pairs = [(0, -1)]
        else:
            pairs = visited_times(network, self.steps)
        report = counted(part.progress, len(states) * len(pairs))
        shape = (y.shape[0], grid.reach, *y.shape[2:])
        total = torch.zeros(shape, device=y.device)
        for stream, plane, denoise in states:
            drawn = partial(stack_noise, shape, plane, self.seed, 0, stream, device=y.device, first=part.first)
            total += sample(drawn(INITIAL), report(denoise), pairs, alpha_bar, known, drawn, self.eta)
        return total / len(states)

    def _guided(self, y: Tensor, network: MaskedPrior, grid: StackGrid, part: _Part) -> Tensor:
        """Return a stack [C, reach, Y, X], each channel by itself: its interpolation and what that lacks."""
        planes, pairs = FUSIONS[part.fusion], visited_times(network, self.steps)
        fusion = part.fusion if part.fusion in JOINED else "final"
        matrix = torch.from_numpy(voxels_from_planes(grid.positions, grid.reach)).to(y)
        guide = torch.einsum("ij,cjyx->ciyx", matrix, y)
        back = torch.einsum("ij,cjyx->ciyx", torch.from_numpy(grid.matrix()).to(y), guide)
        lacking = (y - back) / UNIT  # of the interpolation, where planes lie between voxels; zero elsewhere
        distances = torch.from_numpy(plane_distances(grid.positions, grid.reach)).to(y)
        states = len(planes) if fusion == "final" else 1
        report = counted(part.progress, len(y) * states * len(pairs))
        result = torch.empty_like(guide)
        for channel in range(len(y)):
            own = slice(channel, channel + 1)
            known, g = acquired(lacking[own], grid), guide[own]
            low, high = (end[own] for end in part.limits)
            limits = (low - g) / UNIT, (high - g) / UNIT
            made = partial(GuidedRows, network, known=known, limits=limits, tiles=self._tiles(network), guide=g)
            denoisers = [made(plane=plane, distances=distances) for plane in planes]
            total = torch.zeros_like(g)
            for stream, plane, denoise in fused_states(fusion, [STACK_PLANES[plane] for plane in planes], denoisers):
                stream += channel * (VOLUME_STREAM + 1)
                drawn = partial(stack_noise, g.shape, plane, self.seed, 0, stream, device=y.device, first=part.first)
                first = torch.zeros_like(g) if len(pairs) == 1 else drawn(INITIAL)
                total += sample(first, report(denoise), pairs, network.alpha_bar, known, drawn, self.eta)
            result[own] = g + UNIT * total / states
        return result

    def _doubled(self, y: Tensor, network: MaskedPrior, grid: StackGrid, part: _Part) -> Tensor:
        """Return a stack [C, reach, Y, X] by doubling its planes until the factor is reached."""
        doublings = round(self.factor).bit_length() - 1
        if 2**doublings != self.factor:
            raise SettingsError(f"factor: must be a power of 2 with e2e weights, got {self.factor:g}")
        if part.fusion in JOINED:
            raise SettingsError("fusion: must be final, single-xz or single-yz with e2e weights, which have no steps")
        planes, tiles, times = (
            FUSIONS[part.fusion],
            self._tiles(network),
            torch.zeros(1, dtype=torch.long, device=y.device),
        )

        def middle(pairs: Tensor) -> Tensor:
            return tiles(lambda batch: network(batch, times), pairs)

        double = counted(part.progress, len(planes) * doublings)(doubled)
        total = torch.zeros((y.shape[0], grid.reach, *y.shape[2:]), device=y.device)
        for plane in planes:
            rows = to_rows(y, plane)
            for _ in range(doublings):
                rows = double(rows, middle)
            total += from_rows(rows, plane)
        return total / len(planes)


def range_of(y: Tensor) -> tuple[Tensor, Tensor]:
    """Return the lowest and the highest value of each channel of a stack [C, Z, Y, X], each [C, 1, 1, 1]."""
    return y.amin(dim=(1, 2, 3), keepdim=True), y.amax(dim=(1, 2, 3), keepdim=True)


def steps_of(steps: int | None, method: str) -> int:
    """Return the sampling steps of a method: those given, or by default the mean in one step where it has one."""
    return steps if steps is not None else 1 if method == "guided" else 16


def visited_times(network: MaskedPrior, steps: int | None) -> list[tuple[int, int]]:
    """Return the times that sampling visits, each with the next one; steps as `MaskedSliceInferer` takes them."""
    start = first_time_above(network.alpha_bar, EPS_FLOOR) if network.prediction == "eps" else None
    return timestep_pairs(steps_of(steps, network.method), len(network.alpha_bar), start)


def acquired(y: Tensor, grid: StackGrid) -> MaskedRows:
    """Return the condition that planes [C, m, Y, X] put on a stack [C, reach, Y, X]."""
    between = None
    if len(grid.on_grid) < grid.planes:
        between = DDNM(MatrixOperator(grid.matrix(), Z), y)
    return MaskedRows(grid.rows, y[:, torch.as_tensor(grid.on_grid, device=y.device)], Z, between)


def stack_noise(
    shape: Sequence[int],
    plane: str,
    seed: int,
    draw: int,
    stream: int,
    step: int,
    device: torch.device | str = "cpu",
    first: int = 0,
) -> Tensor:
    """Return the noise of a microscopy stack [C, Z, Y, X], float32: `volume_noise` with a stream a channel.

    ``first`` is the index of the first slice of the plane in the stack that this is a part of.
    """
    c, z, y, x = shape
    before = [(0, 0)] * 3
    before[NORMAL[plane]] = (-first, 0)  # slices are counted from the whole stack's
    streams = (stream + channel * (VOLUME_STREAM + 1) for channel in range(c))
    volumes = [volume_noise((x, y, z), plane, seed, draw, own, step, before, device) for own in streams]
    return torch.stack(volumes).permute(0, 3, 2, 1)
