"""Several scans of one object: the volume that agrees best with all of them.

For scans y_i = A_i x + n_i, the noise of each of standard deviation sigma_i, and an estimate x0 whose error has about
the standard deviation tau everywhere, the likeliest volume is x0 + d, d the minimum of

    sum_i |y_i - A_i (x0 + d)|^2 / sigma_i^2 + |d|^2 / tau^2

(Tikhonov & Arsenin 1977), which closed forms and, on what those leave, conjugate gradients find (Hestenes & Stiefel
1952). Without noise and tau it is the volume nearest to x0 that has all slices. A_i moves the volume to the pose of
scan i (`bida.physics.rigid`), then makes its slices (`bida.physics.operators`). For scans that cross on one grid,
A_i^T A_i acts on one axis each: the sum is diagonal in the products of their eigenvectors (`bida.physics.crossed`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bida.errors import SettingsError
from bida.physics.conjugate_gradients import TOLERANCE, conjugate_gradients
from bida.physics.geometry import Float, SliceGeometry
from bida.physics.operators import SliceOperator, apply_along, exact_dtype
from bida.physics.rigid import RigidMotion

LACKING = 0.2  # standard deviation of what interpolation lacks in tissue, on the prior's scale
LEAST_NOISE = 2e-3  # on the prior's scale: slices of a guide count as having so much, and its matrices invert
SEEN = 0.75  # share of a slice's profile within the volume's field of view from which its voxel counts
FEATHER = 6  # voxels from the edge of a scan's field of view over which its share of the start rises
SAME_SIZE = 0.01  # relative: voxels of scans and volume that differ by less are of one size
TURNED = 0.3  # of the largest eigenvalue: what conjugate gradients start from, where a scan is turned, has no less
# on the prior's scale: how well the slices of a turned scan are predicted, even of the true volume; a cubic spline's
# differ by 0.0025 in tissue of made heads, by 0.009 where there is noise in the truth
TURNED_NOISE = 0.005
ENOUGH = 0.1  # of the noise of scans off the grid, that is left of what should be solved
GIVEN_BACK = 1e-4  # of a scan's range: what `last_steps` may leave of its worst voxel
LAST_STEPS = 8  # at most
LEAST_GAIN = 0.05  # of what is left of turned scans: a step that takes less of it is the last
UNSEEN = 1e-4  # share of a scan below which a place was not seen
TINY = 1e-12  # of the largest eigenvalue: what is below was seen by no scan
Volumes = Sequence[Tensor]


@dataclass(frozen=True)
class PosedScan:
    """A scan, and where it lies in the volume.

    Attributes:
        y: its slices [R, A, S] on its own axes, in-plane voxels as large as those of the volume.
        slices: the operator of its slices, on its own isotropic grid.
        motion: from the volume to that grid.
        noise: standard deviation of a slice's noise, in the units of y; 0 for exact slices.

    Raises:
        SettingsError: slices, operator and motion do not fit each other.
    """

    y: Tensor
    slices: SliceOperator
    motion: RigidMotion
    noise: float = 0.0

    def __post_init__(self) -> None:
        """Check the sizes."""
        grid = [self.slices.geometry.padded_voxels if k == self.axis else n for k, n in enumerate(self.y.shape)]
        if tuple(grid) != self.motion.other:
            raise SettingsError(f"motion: must lead to a grid of {grid} voxels, got {list(self.motion.other)}")

    @property
    def axis(self) -> int:
        """The axis of the scan's own grid along which its slices are thick."""
        return self.slices.axis

    def forward(self, x: Tensor) -> Tensor:
        """Return A x, the slices of a volume [R, A, S]."""
        return self.slices.forward(self.motion.forward(x))

    def adjoint(self, y: Tensor) -> Tensor:
        """Return A^T y, the volume [R, A, S]."""
        return self.motion.adjoint(self.slices.adjoint(y))

    def seen(self) -> Tensor:
        """Return 1 at the voxels of the slices that see nothing but the volume, 0 elsewhere, of the shape of y."""
        inside = self.slices.forward(torch.from_numpy(self.motion.inside()).to(self.y))
        return (inside > SEEN).to(self.y.dtype)


@dataclass(frozen=True)
class LocatedScan:
    """A scan with its place in the world, before there is a common grid.

    Attributes:
        y: its slices [R, A, S] on its own axes, in-plane voxels as large as those of the result, on the prior's scale.
        geometry: of the slices, without padding.
        affine: 4 x 4, index of the scan's own isotropic grid (`geometry`, y's in-plane grid) to mm.
        noise: standard deviation of a slice's noise, in the units of y; 0 for exact slices.
    """

    y: Tensor
    geometry: SliceGeometry
    affine: Float
    noise: float = 0.0

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels of the scan's own isotropic grid."""
        r, a, s = (self.geometry.voxels if k == self.geometry.axis else n for k, n in enumerate(self.y.shape))
        return r, a, s

    def posed(self, affine: Float, shape: Sequence[int]) -> PosedScan:
        """Return the scan as it lies in a volume of a shape and affine, whose voxels are as large.

        Raises:
            SettingsError: voxels are of another size or not at right angles, or the scan is turned too far.
        """
        between = np.linalg.inv(affine) @ self.affine  # own index to the volume's
        U, s, Vt = np.linalg.svd(between[:3, :3])
        if np.abs(s - 1).max() > SAME_SIZE or np.linalg.det(U @ Vt) < 0:
            raise SettingsError(
                f"scan: voxels must be as large as the volume's and at right angles, got {s.min():.3f} to "
                f"{s.max():.3f} times their size; give every scan the same --spacing"
            )
        middle = between[:3, :3] @ ((np.array(self.shape) - 1) / 2) + between[:3, 3]
        motion = RigidMotion(U @ Vt, middle, shape, self.shape)
        return PosedScan(self.y, SliceOperator.build(self.geometry.unpadded()), motion, self.noise)


class JointOperator:
    """The scans of one object as one measurement, with its adjoint and the least-squares correction of an estimate.

    Args:
        scans: at least one.

    Attributes:
        scans: see above.
        seen: of each, 1 where a voxel of its slices sees the volume, see `PosedScan.seen`.
        solved: whether every correction so far was found to its tolerance, not ended after `ITERATIONS`.

    Raises:
        SettingsError: there is none, or no voxel of one lies in the volume.
    """

    def __init__(self, scans: Sequence[PosedScan]) -> None:
        """Find what each scan sees of the volume."""
        if not scans:
            raise SettingsError("scans: must be at least one, got none")
        self.scans, self.seen, self.solved = list(scans), [scan.seen() for scan in scans], True
        for number, mask in enumerate(self.seen):
            if not bool(mask.any()):
                raise SettingsError(
                    f"scan {number + 1}: must lie in the field of view of the first one, got none of it"
                )

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return A_i x of every scan, 0 where it sees more than the volume."""
        return [mask * scan.forward(x) for scan, mask in zip(self.scans, self.seen)]

    def adjoint(self, ys: Volumes) -> Tensor:
        """Return sum_i A_i^T y_i."""
        parts = [scan.adjoint(mask * y) for scan, mask, y in zip(self.scans, self.seen, ys)]
        return torch.stack(parts).sum(dim=0)

    def residuals(self, x: Tensor) -> list[Tensor]:
        """Return y_i - A_i x of every scan, 0 where it sees more than the volume."""
        return [mask * (scan.y - again) for scan, mask, again in zip(self.scans, self.seen, self.forward(x))]

    def weights(self, least: float = LEAST_NOISE) -> list[float]:
        """Return sigma^2 / sigma_i^2 of every scan, sigma the smallest.

        None counts as less than ``least``, nor that of a turned scan as less than `TURNED_NOISE`.
        """
        return [(self.noise(least) / level) ** 2 for level in self._noises(least)]

    def noise(self, least: float = LEAST_NOISE) -> float:
        """Return the standard deviation of the noise of the scan that has the least; see `weights`."""
        return min(self._noises(least))

    def _noises(self, least: float) -> list[float]:
        """Return what each scan counts as having."""
        return [max(scan.noise, least, TURNED_NOISE if scan.motion.turned else 0.0) for scan in self.scans]

    def start(self, volumes: Volumes) -> Tensor:
        """Return the mean of volumes on the scans' own grids, on that of the joint one, which is the first one's.

        Each counts by the weight of its scan, less towards the edges of its field of view; where none counts, the first
        one's holds.
        """
        total, shares = None, None
        for scan, weight, own in zip(self.scans, self.weights(), volumes):
            share = weight * feathered(own)
            inside = share if scan.motion.still else share * torch.from_numpy(scan.motion.inside()).to(own)
            moved, told = scan.motion.adjoint(inside * own), scan.motion.adjoint(inside)
            total, shares = (moved, told) if total is None or shares is None else (total + moved, shares + told)
        assert total is not None and shares is not None
        # a place that a noisy scan alone sees counts for little, but it counts
        known = shares > UNSEEN * min(self.weights())
        return torch.where(known, total / torch.where(known, shares, 1.0), volumes[0])

    def correction(
        self, rest: Volumes, tau: float = math.inf, least: float = LEAST_NOISE, tolerance: float | None = None
    ) -> Tensor:
        """Return d for residuals of an estimate, see the module.

        Args:
            rest: y_i - A_i x0 of every scan, or what of it is to be believed.
            tau: standard deviation of the error of x0; infinity for the smallest d that leaves least squares.
            least: noise that every scan counts as having at least.
            tolerance: of the least squares' gradient over what it was at first, or, where a scan is turned, of what its
                slices leave; by default `TOLERANCE`, or what is `ENOUGH`.
        """
        weights, damping = self.weights(least), (self.noise(least) / tau) ** 2
        if self.turned and damping > 0:
            return self._split(rest, weights, damping, least, tolerance)
        right = self.adjoint([w * r for w, r in zip(weights, rest)])
        if self.aligned:
            return self._aligned_inverse(range(len(self.scans)), weights, damping)(right)
        # a turned scan sees what one that is not would not: nothing may count as unseen
        near = self._aligned_inverse(range(len(self.scans)), weights, TURNED if self.turned else damping)

        def normal(x: Tensor) -> Tensor:
            return self.adjoint([w * y for w, y in zip(weights, self.forward(x))]) + damping * x

        return self._ended(conjugate_gradients(normal, right, near, TOLERANCE if tolerance is None else tolerance))

    def last_steps(self, rest: Volumes, tau: float, least: float = LEAST_NOISE) -> Tensor:
        """Return what brings an estimate nearer to scans without noise, of which some are turned, than `correction`.

        That leaves of turned ones a part of the noise that they count as having. Here conjugate gradients go down the
        squares of what they leave (Hestenes & Stiefel 1952), by changes that straight scans do not show. They end where
        all are given back to `GIVEN_BACK`, or a step takes less than `LEAST_GAIN` of what is left: that is of poses,
        intensities and interpolation not being quite those of the scans, and only detail that is not there meets it.

        Args:
            rest: y_i - A_i x0 of every scan.
            tau: standard deviation of the error of x0, for the straight scans.
            least: noise that every scan counts as having at least.
        """
        lying, others = self._lying(True), self._lying(False)
        damping = (least / tau) ** 2
        inverse = self._aligned_inverse(lying, [1.0] * len(self.scans), damping)
        enough = [GIVEN_BACK * float(self.scans[k].y.max() - self.scans[k].y.min()) for k in others]

        def there(x: Tensor) -> list[Tensor]:
            return [self.seen[k] * self.scans[k].forward(x) for k in others]

        def back(ys: Volumes, places: Sequence[int]) -> Tensor:
            moved = [self.scans[k].adjoint(self.seen[k] * y) for k, y in zip(places, ys)]
            return torch.stack(moved).sum(dim=0)

        d = inverse(back([rest[k] for k in lying], lying))
        left = [rest[k] - made for k, made in zip(others, there(d))]
        way, inner, size = torch.zeros_like(d), math.inf, total_of(left, left)
        for _ in range(LAST_STEPS):
            if all(float(part.abs().max()) <= most for part, most in zip(left, enough)):
                break
            down = back(left, others)
            free = damping * inverse(down)
            before, inner = inner, total_of([down], [free])
            if inner <= 0:
                break
            way = free + (inner / before) * way
            made = there(way)
            length = inner / total_of(made, made)
            d = d + length * way
            left = [part - length * one for part, one in zip(left, made)]
            before_size, size = size, total_of(left, left)
            if size > (1 - LEAST_GAIN) ** 2 * before_size:
                break
        return d

    def _ended(self, found: tuple[Tensor, bool]) -> Tensor:
        """Return what conjugate gradients found, and keep in mind whether they reached their tolerance."""
        x, reached = found
        self.solved = self.solved and reached
        return x

    def _split(
        self, rest: Volumes, weights: Sequence[float], damping: float, least: float, tolerance: float | None
    ) -> Tensor:
        """Return the correction for scans of which some do not lie straight on the volume's own grid.

        With B those that do, and C those that don't, each times the root of its weight, the likeliest volume is

            d = d_B + P C^T z,   d_B = P B^T r_B / damping,   P = damping (B^T B + damping)^-1,
            (C P C^T + damping) z = r_C - C d_B

        by Woodbury's formula. P is closed, so that those that do are met exactly, and what is left of the system is
        what is not yet met of the others: it is solved to `ENOUGH` of their noise.
        """
        lying, others = self._lying(True), self._lying(False)
        inverse = self._aligned_inverse(lying, weights, damping)
        roots = {k: math.sqrt(weights[k]) for k in others}

        def there(x: Tensor) -> Tensor:
            return torch.cat([(roots[k] * self.seen[k] * self.scans[k].forward(x)).flatten() for k in others])

        def parts_of(y: Tensor) -> list[tuple[int, Tensor]]:
            parts = y.split([rest[k].numel() for k in others])
            return [(k, part.reshape(rest[k].shape)) for k, part in zip(others, parts)]

        def back(y: Tensor) -> Tensor:
            moved = [roots[k] * self.scans[k].adjoint(self.seen[k] * part) for k, part in parts_of(y)]
            return torch.stack(moved).sum(dim=0)

        def normal(y: Tensor) -> Tensor:
            return there(damping * inverse(back(y))) + damping * y

        grams = {k: self.scans[k].slices.matrix @ self.scans[k].slices.matrix.T for k in others}
        inverses: dict[int, Float] = {
            k: np.asarray(np.linalg.inv(weights[k] * gram + damping * np.eye(len(gram))), np.float64)
            for k, gram in grams.items()
        }

        def near(y: Tensor) -> Tensor:
            solved = [apply_along(inverses[k], part, self.scans[k].axis).flatten() for k, part in parts_of(y)]
            return torch.cat(solved)

        told = [weights[k] * self.scans[k].adjoint(self.seen[k] * rest[k]) for k in lying]
        start = inverse(torch.stack(told).sum(dim=0)) if told else torch.zeros(self.scans[0].motion.shape).to(rest[0])
        right = torch.cat([(roots[k] * rest[k]).flatten() for k in others]) - there(start)
        if tolerance is None:
            enough = ENOUGH * self.noise(least) * math.sqrt(right.numel())  # the noise of all scans, times their roots
            tolerance = min(enough / max(float(right.norm()), 1e-30), 1.0)
        z = self._ended(conjugate_gradients(normal, right, near, tolerance))
        return start + damping * inverse(back(z))

    def _lying(self, whole: bool) -> list[int]:
        """Return which scans act along their own axis of the volume alone, each slice seen as a whole, or do not."""
        found = []
        for scan, mask in zip(self.scans, self.seen):
            lines = mask.movedim(scan.axis, 0).flatten(1)
            beside = all(kept for axis, kept in enumerate(scan.motion.kept) if axis != scan.axis)
            found.append(beside and not scan.motion.turned and bool((lines == lines[:, :1]).all()))
        return [place for place, lies in enumerate(found) if lies == whole]

    @property
    def aligned(self) -> bool:
        """Whether every scan acts along its own axis of the volume alone, so that all is diagonal."""
        return not self._lying(False)

    @property
    def turned(self) -> bool:
        """Whether a scan is turned against the volume."""
        return any(scan.motion.turned for scan in self.scans)

    def _aligned_inverse(
        self, places: Sequence[int], weights: Sequence[float], damping: float
    ) -> Callable[[Tensor], Tensor]:
        """Return the inverse of sum_i w_i A_i^T A_i + damping of some scans as if none were turned.

        It is exact where all of them are aligned: each A_i^T A_i then acts on one axis, and the sum is diagonal in the
        products of the axes' eigenvectors.
        """
        shape = self.scans[0].motion.shape
        vectors: dict[int, Float] = {}
        values = torch.full(shape, damping, dtype=torch.float64)
        for axis in sorted({self.scans[place].axis for place in places}):
            gram = np.zeros((shape[axis], shape[axis]))
            for place in places:
                scan, mask = self.scans[place], self.seen[place]
                if scan.axis == axis:
                    matrix = scan.slices.matrix @ scan.motion.lines(axis)
                    # slices that see beyond the volume tell nothing of it
                    counted = mask.movedim(axis, 0).flatten(1).amax(dim=1).cpu().double().numpy()
                    gram += weights[place] * (matrix.T * counted) @ matrix
            found, vectors[axis] = np.linalg.eigh(gram)
            size = [-1 if k == axis else 1 for k in range(3)]
            values = values + torch.from_numpy(np.maximum(found, 0.0)).reshape(size)
        # what no scan sees, and nothing damps, stays as it is
        inverse = torch.where(values > TINY * values.max(), values, math.inf).reciprocal()

        def solved(right: Tensor) -> Tensor:
            x = right
            for axis, Q in vectors.items():
                x = apply_along(Q.T, x, axis)
            x = x * inverse.to(x)
            for axis, Q in vectors.items():
                x = apply_along(Q, x, axis)
            return x

        return solved


def total_of(ones: Volumes, others: Volumes) -> float:
    """Return the sum of the products of volumes with others."""
    return sum(float((one * other).sum(dtype=exact_dtype(one.device))) for one, other in zip(ones, others))


def feathered(volume: Tensor) -> Tensor:
    """Return a weight that rises from the faces of a volume [R, A, S] to 1 within `FEATHER` voxels."""
    share = torch.ones_like(volume)
    for axis, n in enumerate(volume.shape):
        away = torch.minimum(torch.arange(n), torch.arange(n).flip(0)).to(volume)
        rise = ((away + 1) / (FEATHER + 1)).clamp(max=1)
        share = share * rise.reshape([n if k == axis else 1 for k in range(3)])
    return share
