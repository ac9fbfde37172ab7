"""Rigid motion of a volume by shears: each moves lines along themselves, by the Fourier shift theorem.

Larkin, Oldfield & Klemm 1997, "Fast Fourier method for the accurate rotation of sampled images"; Unser, Thevenaz &
Yaroslavsky 1995, "Convolution-based interpolation for fast, high-quality rotation of images" (Eq. 5, three shears for
a rotation in a plane). A shift of a periodic, band-limited line loses nothing, so that the adjoint of the motion is
its inverse, and no voxel is blurred as linear or cubic interpolation would.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bida.errors import SettingsError

MAX_DEGREES = 30.0  # of a rotation about one axis: shears reach further beyond the field of view the larger it is
STILL = 1e-3  # voxels: a line that moves less is left where it is
TAPER = 8  # voxels over which either end of a line goes to zero, so that it is periodic


@dataclass(frozen=True)
class Shear:
    """Hold a motion along one axis: x(k) becomes x(k + e_axis (slopes . (k - pivot) + shift)).

    Attributes:
        axis: along which lines move.
        slopes: [3], 0 on the axis.
        shift: voxels.
    """

    axis: int
    slopes: tuple[float, float, float]
    shift: float = 0.0


def shears_of(rotation: NDArray[np.float64], shift: NDArray[np.float64]) -> list[Shear]:
    """Return shears, in the order in which they are applied, whose product maps k to R (k - pivot) + pivot + shift.

    Args:
        rotation: R, 3 x 3.
        shift: [3], voxels.

    Raises:
        SettingsError: a rotation about an axis is above `MAX_DEGREES`.
    """
    parts: list[tuple[int, NDArray[np.float64]]] = []
    for axis, angle in zip((0, 1, 2), _angles(rotation)):
        if abs(math.degrees(angle)) > MAX_DEGREES:
            raise SettingsError(
                f"rotation: must be at most {MAX_DEGREES:g} degrees about an axis, got {math.degrees(angle):.1f}; "
                "scans that lie so far apart are not joined"
            )
        one, other = (k for k in range(3) if k != axis)
        sign = 1.0 if axis != 1 else -1.0  # of a right-handed turn from `one` to `other`
        half, whole = -math.tan(sign * angle / 2), math.sin(sign * angle)
        for along, across, slope in ((one, other, half), (other, one, whole), (one, other, half)):
            slopes = np.zeros(3)
            slopes[across] = slope
            if parts and parts[-1][0] == along:
                slopes = slopes + parts.pop()[1]
            parts.append((along, slopes))
    parts = [part for part in parts if np.abs(part[1]).max() > 0]
    moved = {axis for axis, _ in parts}
    parts += [(axis, np.zeros(3)) for axis in range(3) if axis not in moved and abs(shift[axis]) > 0]
    return _with_shift(parts, np.asarray(shift, dtype=np.float64))


def _angles(rotation: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return a, b, c of R = Rx(a) Ry(b) Rz(c), radians."""
    R = rotation
    return math.atan2(-R[1, 2], R[2, 2]), math.asin(float(np.clip(R[0, 2], -1, 1))), math.atan2(-R[0, 1], R[0, 0])


def _with_shift(parts: Sequence[tuple[int, NDArray[np.float64]]], shift: NDArray[np.float64]) -> list[Shear]:
    """Return shears whose shifts together move the origin by ``shift``."""
    # the product of the maps of the parts before one, in the order of composition, applied to that one's own axis
    before, directions = np.eye(3), []
    for axis, slopes in parts:
        directions.append(before[:, axis].copy())
        map_of = np.eye(3)
        map_of[axis] += slopes
        before = before @ map_of
    last = {axis: place for place, (axis, _) in enumerate(parts)}
    shifts = np.zeros(len(parts))
    if np.abs(shift).max() > 0:
        places = sorted(last.values())
        if len(places) < 3:  # an axis that neither turns nor shifts
            solved, *_ = np.linalg.lstsq(np.stack([directions[p] for p in places], axis=1), shift, rcond=None)
        else:
            solved = np.linalg.solve(np.stack([directions[p] for p in places], axis=1), shift)
        shifts[places] = solved
    return [Shear(axis, (float(s[0]), float(s[1]), float(s[2])), float(t)) for (axis, s), t in zip(parts, shifts)]


class RigidMotion:
    """Sample a volume on another grid of the same voxel size: x(v) = x(R (v - c) + q), and its adjoint.

    Beyond its faces the volume is mirrored. Where R is no rotation at all and the shift is whole voxels, it is a crop.

    Args:
        rotation: R, 3 x 3, index of the other grid to index of the volume.
        centre: q, [3], where the middle of the other grid lies, index of the volume.
        shape: of the volume.
        other: of the other grid.

    Attributes:
        still: whether nothing is turned, and all is moved by whole voxels.
        whole: whether the other grid is that of the volume.
        turned: whether anything is turned.

    Raises:
        SettingsError: see `shears_of`.
    """

    def __init__(
        self, rotation: NDArray[np.float64], centre: NDArray[np.float64], shape: Sequence[int], other: Sequence[int]
    ) -> None:
        """Find the shears, and the canvas that they need."""
        self.rotation, self.centre = np.asarray(rotation, np.float64), np.asarray(centre, np.float64)
        self.shape, self.other = tuple(shape), tuple(other)
        middle = (np.array(other) - 1) / 2
        origin = np.round(self.centre - middle)  # of the other grid, index of the volume before the motion
        delta = self.centre - middle - origin
        # R (k - q + delta) + q at k, the other grid laid at whole voxels
        shears = shears_of(self.rotation, self.rotation @ delta)
        reach = np.zeros(3)
        for shear in shears:
            far = np.abs(np.array(shear.slopes)) @ (np.array(other) / 2 + reach) + abs(shear.shift)
            reach[shear.axis] += far
        self.shears = [s for s in shears if np.abs(s.slopes) @ np.array(other) / 2 + abs(s.shift) > STILL]
        margin = np.ceil(reach).astype(int) + (TAPER if self.shears else 0)
        low = np.minimum(np.minimum(0, origin.astype(int)), origin.astype(int) - margin)
        high = np.maximum(np.array(shape), np.maximum(0, origin.astype(int) + np.array(other)) + margin)
        if not self.shears:
            low, high = origin.astype(int), origin.astype(int) + np.array(other)
        self.canvas = [torch.from_numpy(_mirrored(np.arange(a, b), n)) for a, b, n in zip(low, high, shape)]
        start = (origin - low).astype(int)
        self.window = tuple(slice(a, a + n) for a, n in zip(start.tolist(), other))
        self.pivot = self.centre - low
        self.still = not self.shears
        self.whole = self.still and self.shape == self.other and not origin.any()
        self._shift = delta
        self.turned = any(np.abs(shear.slopes).max() > 0 for shear in self.shears)

    def forward(self, x: Tensor) -> Tensor:
        """Return the volume on the other grid: [R, A, S] of `shape` to that of `other`."""
        canvas = x
        for axis, index in enumerate(self.canvas):
            if not _is_whole(index, self.shape[axis]):
                canvas = canvas.index_select(axis, index.to(x.device))
        for shear in self.shears:
            canvas = _sheared(_tapered(canvas, shear.axis), shear, self.pivot, 1.0)
        return canvas[self.window]

    def adjoint(self, v: Tensor) -> Tensor:
        """Return the adjoint: [R, A, S] of `other` to that of `shape`."""
        canvas = v.new_zeros([len(index) for index in self.canvas])
        canvas[self.window] = v
        for shear in reversed(self.shears):
            canvas = _tapered(_sheared(canvas, shear, self.pivot, -1.0), shear.axis)
        for axis, index in enumerate(self.canvas):
            if not _is_whole(index, self.shape[axis]):
                size = [self.shape[k] if k == axis else n for k, n in enumerate(canvas.shape)]
                canvas = canvas.new_zeros(size).index_add_(axis, index.to(v.device), canvas)
        return canvas

    def lines(self, axis: int) -> NDArray[np.float64]:
        """Return what the motion does along an axis if nothing is turned, [other, shape]."""
        lines = torch.eye(self.shape[axis], dtype=torch.float64)[self.canvas[axis]][:, :, None]
        shift = float(self._shift[axis])
        if abs(shift) > STILL:
            lines = _sheared(_tapered(lines, 0), Shear(0, (0.0, 0.0, 0.0), shift), np.zeros(3), 1.0)
        return lines[self.window[axis], :, 0].numpy()

    def places(self) -> NDArray[np.float64]:
        """Return the index of the volume at each voxel of the other grid, [3, R, A, S]."""
        v = np.stack(np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in self.other], indexing="ij"))
        return np.einsum("ij,jras->iras", self.rotation, v) + self.centre[:, None, None, None]

    def nearest(self, values: Tensor, outside: bool) -> Tensor:
        """Return what a mask [R, A, S] on the other grid has nearest to each voxel of the volume.

        Args:
            values: of bool.
            outside: what voxels beyond the other grid get.
        """
        u = np.stack(np.meshgrid(*[np.arange(n, dtype=np.float64) for n in self.shape], indexing="ij"))
        away = u - self.centre[:, None, None, None]
        v = np.einsum("ji,jras->iras", self.rotation, away) + (np.array(self.other)[:, None, None, None] - 1) / 2
        index = np.rint(v).astype(np.intp)
        limits = np.array(self.other)[:, None, None, None]
        within = ((index >= 0) & (index < limits)).all(axis=0)
        r, a, s = np.clip(index, 0, limits - 1)
        found = values.cpu().numpy()[r, a, s]
        return torch.from_numpy(np.where(within, found, outside)).to(values.device)

    def inside(self) -> NDArray[np.bool_]:
        """Return which voxels of the other grid lie within the volume's field of view, [R, A, S]."""
        limits = np.array(self.shape)[:, None, None, None] - 0.5
        found = self.places()
        return np.asarray(((found > -0.5 - STILL) & (found < limits + STILL)).all(axis=0))


def _is_whole(index: Tensor, size: int) -> bool:
    """Return whether indices are those of a line of ``size`` voxels, in order."""
    return len(index) == size and bool((index == torch.arange(size)).all())


def _mirrored(index: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Return indices mirrored about the faces of a line of ``size`` voxels."""
    folded = np.mod(index, 2 * size)
    return np.where(folded < size, folded, 2 * size - 1 - folded)


def _tapered(x: Tensor, axis: int) -> Tensor:
    """Return x whose lines along an axis go to zero at their ends."""
    n = x.shape[axis]
    away = np.minimum(np.arange(n), np.arange(n)[::-1])
    taper = np.where(away < TAPER, 0.5 - 0.5 * np.cos(np.pi * (away + 0.5) / TAPER), 1.0)
    return x * torch.from_numpy(taper).to(x).reshape([n if k == axis else 1 for k in range(3)])


def _sheared(x: Tensor, shear: Shear, pivot: NDArray[np.float64], sign: float) -> Tensor:
    """Return x after a shear, or, for a sign of -1, after its adjoint."""
    axis, n = shear.axis, x.shape[shear.axis]
    spectrum = torch.fft.rfft(x, dim=axis)
    frequency = 2 * math.pi * torch.fft.rfftfreq(n, dtype=torch.float64)
    real = n // 2 if n % 2 == 0 else None  # of a line of even length the highest frequency has no phase
    others = [k for k in range(3) if k != axis]
    moves = [shear.slopes[k] * (np.arange(x.shape[k]) - pivot[k]) for k in others]
    moves[0] = moves[0] + shear.shift
    if real is not None:
        both = torch.from_numpy(moves[0][:, None] + moves[1][None, :]) * math.pi
        keep = spectrum.select(axis, real).real * torch.cos(both).to(x)
    for other, move in zip(others, moves):
        if np.abs(move).max() > 0:
            angle = sign * frequency[:, None] * torch.from_numpy(move)
            phase = torch.polar(torch.ones_like(angle), angle).to(spectrum)
            shape = [1, 1, 1]
            shape[axis], shape[other] = phase.shape
            spectrum *= (phase if axis < other else phase.T).reshape(shape)
    if real is not None:
        spectrum.select(axis, real).copy_(keep.to(spectrum.dtype))
    return torch.fft.irfft(spectrum, n=n, dim=axis)
