"""Two scans and what they have in common: the slices of one, and what the other predicts of them.

A first pose is found by mutual information of coarse volumes (Mattes et al. 2003; SimpleITK). It is refined on the
slices themselves. Two scans, seen by A_1 and A_2 and thick along n_1 and n_2, have in common what both profiles let
through, so that is compared: with G the guide (`bida.physics.guide`) and M the motion from one grid to the other,

    p = A_2 M G_1 y_1,    q = A_2 M (G_1 A_1) M^-1 G_2 y_2

Scan 1 as scan 2 would see it, and scan 2 as it would look had scan 1 seen it first: of one object they are alike up to
noise, since blurs along n_1 and n_2 commute. Where both are thick along one axis, G_1 is blurred until what aliasing
does between slices is gone, which else draws slices onto slices. The pose that leaves the least
|q - a p - b|^2 in tissue is found by Gauss-Newton steps; residuals that stand out count less (Cauchy's weights; Holland
& Welsch 1977). A scan is compared with every one before it at once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from bida.errors import SettingsError
from bida.physics.consistency import TISSUE
from bida.physics.guide import guide_matrix
from bida.physics.joint import LocatedScan
from bida.physics.operators import SliceOperator, apply_along
from bida.physics.rigid import RigidMotion

Matrix = NDArray[np.float64]

SIGHT = 0.1  # share of what a voxel is made of that may come from outside the other scan's field of view
LEAST_SHARED = 0.1  # of a scan's tissue that must lie in the field of view of those before it
LEAST_VOXELS = 500  # of slices: fewer determine no pose
CAUCHY = 2.385  # robust standard deviations at which a weight is 1/2; loses 5 % where all noise is normal
LOW = 2.0  # FWHM, in slice spacings, of the blur of scans of one orientation
DEGREE = 2  # of the polynomial that N4 leaves between scans: it sees another field in each orientation
FWHM = math.sqrt(8 * math.log(2))  # over the standard deviation of a Gaussian
SEED, BINS = 1, 32  # of random samples; of the joint histogram


class RefusalError(Exception):
    """Say why a scan cannot be joined."""


@dataclass(frozen=True)
class Compared:
    """A scan's slices and what another one predicts of them, at one pose.

    Attributes:
        motions: from the known scan's grid to the other's, and back.
        moved: the known scan's volume on the other's grid.
        p, q: see the module, of the shape of the other's slices.
        seen: where they compare what both fields of view hold, of the same shape.
    """

    motions: tuple[RigidMotion, RigidMotion]
    moved: Tensor
    p: Tensor
    q: Tensor
    seen: Tensor

    @property
    def tissue(self) -> Tensor:
        """Return where either shows tissue."""
        return self.seen & ((self.p > TISSUE) | (self.q > TISSUE))

    @property
    def within(self) -> Tensor:
        """Return where both show tissue."""
        return self.seen & (self.p > TISSUE) & (self.q > TISSUE)


@dataclass(frozen=True)
class Pair:
    """Two scans, of which one's slices are compared with what the other predicts of them.

    Attributes:
        known: the scan whose place is known.
        scan: the other.
    """

    known: LocatedScan
    scan: LocatedScan

    @cached_property
    def operators(self) -> tuple[SliceOperator, SliceOperator]:
        """Return A_1 and A_2."""
        one, other = (SliceOperator.build(scan.geometry.unpadded()) for scan in (self.known, self.scan))
        return one, other

    @cached_property
    def guides(self) -> tuple[Matrix, Matrix]:
        """Return G_1, blurred where both scans are thick along one axis, and G_2."""
        one, other = (guide_matrix(scan.geometry.unpadded()) for scan in (self.known, self.scan))
        if axis_within(self.known, self.scan) == self.known.geometry.axis:
            spacing = max(scan.geometry.slice_spacing_mm for scan in (self.known, self.scan))
            one = gaussian_filter1d(one, LOW * spacing / self.known.geometry.voxel_mm / FWHM, axis=0, mode="nearest")
        return one, other

    def at(self, matrix: Matrix) -> Compared:
        """Compare the scans with the other one moved by a matrix, mm.

        Raises:
            RefusalError: it lies too far away or is turned too far.
        """
        scan = replace(self.scan, affine=matrix @ self.scan.affine)
        try:
            there = scan.posed(self.known.affine, self.known.shape).motion
            back = self.known.posed(scan.affine, scan.shape).motion
        except SettingsError as error:
            raise RefusalError(str(error)) from error
        seen = self._seen(there, back)
        moved, p, q = self._through(there, back, self.known.y, scan.y)
        return Compared((there, back), moved, p, q, seen)

    def noise_at(self, compared: Compared) -> tuple[Tensor, Tensor]:
        """Return p and q of noise alone, a draw of a fixed seed."""
        if self.known.noise == self.scan.noise == 0:
            return torch.zeros_like(compared.p), torch.zeros_like(compared.q)
        generator = torch.Generator().manual_seed(SEED)
        one, other = (s.noise * torch.randn(s.y.shape, generator=generator).to(s.y) for s in (self.known, self.scan))
        _, p, q = self._through(*compared.motions, one, other)
        return p, q

    def _through(self, there: RigidMotion, back: RigidMotion, one: Tensor, other: Tensor) -> tuple[Tensor, ...]:
        """Return M G_1 y_1, p and q of the slices of both."""
        (A_1, A_2), (G_1, G_2) = self.operators, self.guides
        moved = there.forward(apply_along(G_1, one, A_1.axis))
        again = A_1.forward(back.forward(apply_along(G_2, other, A_2.axis)))
        return moved, A_2.forward(moved), A_2.forward(there.forward(apply_along(G_1, again, A_1.axis)))

    def _seen(self, there: RigidMotion, back: RigidMotion) -> Tensor:
        """Return which voxels of the slices hold what both fields of view do."""
        (A_1, A_2), (G_1, _) = self.operators, self.guides
        blind = A_1.forward(1 - torch.from_numpy(back.inside()).to(self.scan.y))
        blind = apply_along(np.abs(G_1) / np.abs(G_1).sum(axis=1, keepdims=True), blind, A_1.axis)
        blind = torch.maximum(there.forward(blind), 1 - torch.from_numpy(there.inside()).to(blind))
        measured = torch.ones(self.scan.geometry.slices, dtype=torch.bool)
        measured[list(self.scan.geometry.missing)] = False
        return (A_2.forward(blind) < SIGHT) & along_axis(measured, A_2.axis)


def monomials(like: Tensor) -> list[Tensor]:
    """Return the monomials up to `DEGREE` of the place in slices, the constant first; they broadcast to [R, A, S]."""
    places = [along_axis(torch.linspace(-1, 1, n), axis).to(like) for axis, n in enumerate(like.shape)]
    powers = [c for c in product(range(DEGREE + 1), repeat=3) if sum(c) <= DEGREE]
    made = [torch.ones_like(like) * places[0] ** i * places[1] ** j * places[2] ** k for i, j, k in powers]
    return made


def along_axis(values: Tensor, axis: int) -> Tensor:
    """Return values [n] along an axis of a volume."""
    return values.reshape([-1 if k == axis else 1 for k in range(3)])


def axis_within(scan: LocatedScan, other: LocatedScan) -> int:
    """Return the axis of a scan's grid that is nearest to the one along which the other is thick."""
    along = np.linalg.inv(scan.affine)[:3, :3] @ other.affine[:3, other.geometry.axis]
    return int(np.abs(along).argmax())


def robust_weights(columns: Matrix, value: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return Cauchy's weights of what is left of values [n] after a least-squares fit of columns [c, n]."""
    rest = value - np.linalg.lstsq(columns @ columns.T, columns @ value, rcond=1e-10)[0] @ columns
    spread = 1.4826 * float(np.median(np.abs(rest - np.median(rest))))
    weights: NDArray[np.float64] = 1 / (1 + (rest / (CAUCHY * max(spread, 1e-6))) ** 2)
    return weights


def check_shared(compared: Sequence[Compared], scan: LocatedScan) -> None:
    """Raise a RefusalError where too little of a scan lies in the field of view of the others."""
    shared = [shared_tissue(one, scan) for one in compared]
    voxels = max(int((one.seen & (scan.y > TISSUE)).sum()) for one in compared)
    if max(shared) < LEAST_SHARED or voxels < LEAST_VOXELS:
        raise RefusalError(
            f"the others see {100 * max(shared):.0f}% of what it shows, less than {100 * LEAST_SHARED:.0f}% "
            f"or {LEAST_VOXELS} voxels of slices; check the positions in the headers"
        )


def shared_tissue(compared: Compared, scan: LocatedScan) -> float:
    """Return the share of a scan's tissue that lies in the other's field of view."""
    shown = scan.y > TISSUE
    return int((compared.seen & shown).sum()) / max(int(shown.sum()), 1)
