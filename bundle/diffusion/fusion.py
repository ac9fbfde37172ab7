"""How the estimates of two planes become one volume: at the end, at each step, or in turns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from typing import ParamSpec, TypeVar

from torch import Tensor

from bida.diffusion.noise import VOLUME_STREAM
from bida.diffusion.sampling import Denoise
from bida.physics.grid import PLANES

P = ParamSpec("P")
T = TypeVar("T")
VolumeDenoiser = Callable[[Tensor, int], tuple[Tensor, Tensor]]  # (x, t) -> (x0, e), as `PlaneDenoiser`


def fused_states(
    fusion: str, planes: Sequence[str], denoisers: Sequence[VolumeDenoiser]
) -> list[tuple[int, str, Denoise]]:
    """List the volume states that a fusion samples and averages: (stream, plane that keys the noise, denoiser)."""

    def single(denoiser: VolumeDenoiser) -> Denoise:
        return lambda x, t, step: denoiser(x, t)

    def averaged(x: Tensor, t: int, step: int) -> tuple[Tensor, Tensor]:
        estimates = [denoiser(x, t) for denoiser in denoisers]
        x0, e = (sum(parts) / len(estimates) for parts in zip(*estimates))
        return x0, e

    def in_turn(x: Tensor, t: int, step: int) -> tuple[Tensor, Tensor]:
        return denoisers[step % len(denoisers)](x, t)

    if fusion == "final":
        # a plane that is seen twice has noise of its own for each
        seen = [list(planes[:place]).count(plane) for place, plane in enumerate(planes)]
        streams = [PLANES.index(plane) + again * (VOLUME_STREAM + 1) for plane, again in zip(planes, seen)]
        return [(stream, plane, single(one)) for stream, plane, one in zip(streams, planes, denoisers)]
    return [(VOLUME_STREAM, "axial", averaged if fusion == "step" else in_turn)]


def counted(progress: Callable[[int, int], None] | None, total: int) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Return a wrapper for denoisers, or other passes, that counts all their calls and reports each to `progress`."""
    done = count(1)

    def report(one_pass: Callable[P, T]) -> Callable[P, T]:
        def reporting(*args: P.args, **kwargs: P.kwargs) -> T:
            result = one_pass(*args, **kwargs)
            if progress is not None:
                progress(next(done), total)
            return result

        return reporting

    return report
