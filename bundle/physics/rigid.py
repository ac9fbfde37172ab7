"""Rigid motion of a volume by splines of order 5, with its exact adjoint.

A volume's values are those of a tensor product of B-splines of order 5 at its voxels (Unser, Aldroubi & Eden 1993,
"B-spline signal processing"), mirrored about its outer faces; the motion evaluates it where the other grid's voxels
lie. That blurs what is near the Nyquist frequency only, and does what interpolation in other programs does, where
they do it well: `scipy.ndimage` by ``order=5, mode="reflect"`` is the same to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import BSpline, PPoly
from torch import Tensor

from bida.errors import SettingsError
from bida.physics.operators import apply_along

MAX_DEGREES = 30.0  # of a rotation about one axis: slices turned further are no longer across the volume's axes
STILL = 1e-3  # voxels: a volume of which nothing moves more is left where it is
ORDER = 5
TAPS = ORDER + 1
BEFORE = ORDER // 2  # taps before the voxel that a place lies behind
CHUNK = 1 << 15  # voxels that are evaluated at once, so that their weights stay in the processor's cache


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
        kept: of each axis, whether nothing is turned, and along it the other grid is that of the volume.
        whole: whether the other grid is that of the volume.
        turned: whether anything is turned.

    Raises:
        SettingsError: a rotation about an axis is above `MAX_DEGREES`.
    """

    def __init__(
        self, rotation: NDArray[np.float64], centre: NDArray[np.float64], shape: Sequence[int], other: Sequence[int]
    ) -> None:
        """Find out what the motion is like; what it needs is made when it is first used."""
        self.rotation, self.centre = np.asarray(rotation, np.float64), np.asarray(centre, np.float64)
        self.shape, self.other = tuple(shape), tuple(other)
        _check_angles(self.rotation)
        half = (np.array(other) - 1) / 2
        self.turned = bool((np.abs(self.rotation - np.eye(3)) @ half).max() > STILL)
        self._start = self.centre - half  # of the other grid, index of the volume, if nothing is turned
        self.still = not self.turned and bool(np.abs(self._start - np.round(self._start)).max() <= STILL)
        self.kept = [
            not self.turned and n == m and abs(start) <= STILL
            for n, m, start in zip(self.shape, self.other, self._start)
        ]
        self.whole = all(self.kept)
        self._lines: list[NDArray[np.float64] | None] = [None] * 3
        self._taps: dict[tuple[torch.dtype, torch.device], tuple[Tensor, Tensor]] = {}

    def forward(self, x: Tensor) -> Tensor:
        """Return the volume on the other grid: [R, A, S] of `shape` to that of `other`."""
        if self.whole:
            return x
        if not self.turned:
            for axis in self._changed():
                x = apply_along(self.lines(axis), x, axis)
            return x
        for axis, n in enumerate(self.shape):
            x = apply_along(coefficients(n), x, axis)
        values, out = x.flatten(), []
        for base, weights in self._chunks(x):
            total = torch.zeros_like(weights[0])
            for i, row in enumerate(weights[:TAPS]):
                for j, column in enumerate(weights[TAPS : 2 * TAPS]):
                    line = torch.zeros_like(total)
                    for k, weight in enumerate(weights[2 * TAPS :]):
                        near = values.narrow(0, self._offset(i, j, k), self._reach)
                        line.addcmul_(weight, near.index_select(0, base))
                    total.addcmul_(line, row * column)
            out.append(total)
        return torch.cat(out).reshape(self.other)

    def adjoint(self, v: Tensor) -> Tensor:
        """Return the adjoint: [R, A, S] of `other` to that of `shape`."""
        if self.whole:
            return v
        if not self.turned:
            for axis in self._changed():
                v = apply_along(self.lines(axis).T, v, axis)
            return v
        canvas = v.new_zeros([n + TAPS for n in self.shape])
        values = canvas.view(-1)
        for (base, weights), part in zip(self._chunks(v), v.flatten().split(CHUNK)):
            for i, row in enumerate(weights[:TAPS]):
                for j, column in enumerate(weights[TAPS : 2 * TAPS]):
                    line = part * (row * column)
                    for k, weight in enumerate(weights[2 * TAPS :]):
                        near = values.narrow(0, self._offset(i, j, k), self._reach)
                        near.scatter_add_(0, base, line * weight)
        for axis, n in enumerate(self.shape):
            canvas = apply_along(coefficients(n).T, canvas, axis)
        return canvas

    def lines(self, axis: int) -> NDArray[np.float64]:
        """Return what the motion does along an axis if nothing is turned, [other, shape]."""
        found = self._lines[axis]
        if found is None:
            found = self._lines[axis] = self._line(axis)
        return found

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

    def _line(self, axis: int) -> NDArray[np.float64]:
        """Make `lines`."""
        n, places = self.shape[axis], self._start[axis] + np.arange(self.other[axis])
        if np.abs(places - np.round(places)).max() <= STILL:
            found = np.zeros((len(places), n))
            found[np.arange(len(places)), _mirrored(np.round(places).astype(np.int64), n)] = 1
            return found
        first, part = _base(places, n)
        found = np.zeros((len(places), n + TAPS))
        for k, weight in enumerate(tap_weights(torch.from_numpy(part))):
            found[np.arange(len(places)), first + k] = weight.numpy()
        return found @ coefficients(n)

    def _changed(self) -> list[int]:
        """Return the axes along which the other grid is another one."""
        return [axis for axis, kept in enumerate(self.kept) if not kept]

    @property
    def _reach(self) -> int:
        """Of the coefficients, in one row, those that a first tap may be."""
        return math.prod(n + TAPS for n in self.shape) - self._offset(ORDER, ORDER, ORDER)

    def _offset(self, i: int, j: int, k: int) -> int:
        """Return how far behind the first tap another one lies among the coefficients in one row."""
        _, rows, columns = (n + TAPS for n in self.shape)
        return (i * rows + j) * columns + k

    def _chunks(self, like: Tensor) -> Iterator[tuple[Tensor, list[Tensor]]]:
        """Yield, for `CHUNK` voxels of the other grid at once, their first tap and the weights of all, by axis."""
        key = (like.dtype, like.device)
        if key not in self._taps:
            found = [_base(line.ravel(), n) for line, n in zip(self.places(), self.shape)]
            rows = [first * self._offset(*unit) for (first, _), unit in zip(found, np.eye(3, dtype=int).tolist())]
            parts = torch.from_numpy(np.stack([part for _, part in found])).to(like)
            self._taps[key] = torch.from_numpy(np.sum(rows, axis=0)).to(like.device), parts
        base, parts = self._taps[key]
        for start, part in zip(base.split(CHUNK), parts.split(CHUNK, dim=1)):
            yield start, [weight for line in part for weight in tap_weights(line)]


def _check_angles(rotation: NDArray[np.float64]) -> None:
    """Raise a SettingsError where R = Rx(a) Ry(b) Rz(c) turns too far about an axis."""
    R = rotation
    angles = math.atan2(-R[1, 2], R[2, 2]), math.asin(float(np.clip(R[0, 2], -1, 1))), math.atan2(-R[0, 1], R[0, 0])
    largest = max(abs(math.degrees(angle)) for angle in angles)
    if largest > MAX_DEGREES:
        raise SettingsError(
            f"rotation: must be at most {MAX_DEGREES:g} degrees about an axis, got {largest:.1f}; "
            "scans that lie so far apart are not joined"
        )


def _mirrored(index: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Return indices mirrored about the faces of a line of ``size`` voxels."""
    folded = np.mod(index, 2 * size)
    return np.where(folded < size, folded, 2 * size - 1 - folded)


def _base(places: NDArray[np.float64], size: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the first tap of each place among `coefficients`, and how far behind its voxel it lies, 0 to 1."""
    folded = np.mod(places + 0.5, 2 * size)
    folded = np.where(folded < size, folded, 2 * size - folded) - 0.5
    whole = np.floor(folded).astype(np.int64)
    return whole - BEFORE + TAPS // 2, folded - whole


@cache
def _pieces() -> list[list[float]]:
    """Return the polynomials that the taps' weights are of a place's part of a voxel, the highest power first."""
    pieces = PPoly.from_spline(BSpline.basis_element(np.arange(TAPS + 1), extrapolate=False)).c
    inner = pieces[:, ORDER : ORDER + TAPS] if pieces.shape[1] > TAPS else pieces
    return [[float(value) for value in inner[:, TAPS - 1 - k]] for k in range(TAPS)]


def tap_weights(part: Tensor) -> list[Tensor]:
    """Return the B-spline of each tap at places that lie a part of a voxel, 0 to 1, behind theirs; of any shape."""
    found = []
    for highest, *others in _pieces():
        value = torch.full_like(part, highest)
        for coefficient in others:
            value = value.mul_(part).add_(coefficient)
        found.append(value)
    return found


@cache
def coefficients(size: int) -> NDArray[np.float64]:
    """Return the spline coefficients of a line of ``size`` voxels, three more at either end, [size + 6, size]."""
    index = np.arange(size)
    samples = np.zeros((size, size))
    for k, weight in enumerate(tap_weights(torch.zeros(1, dtype=torch.float64))):
        np.add.at(samples, (index, _mirrored(index + k - BEFORE, size)), float(weight))
    inverse: NDArray[np.float64] = np.asarray(np.linalg.inv(samples), dtype=np.float64)
    return inverse[_mirrored(np.arange(size + TAPS) - TAPS // 2, size)]
