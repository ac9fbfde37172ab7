"""Alignment of several scans of one animal: where each lies in the world of the first, and its gain.

A first pose is found by mutual information of coarse volumes (Mattes et al. 2003; SimpleITK). It is refined on the
slices themselves. Two scans, seen by A_1 and A_2 and thick along n_1 and n_2, have in common what both profiles let
through, so that is compared: with G the guide (`bida.physics.guide`) and M the motion from one grid to the other,

    p = A_2 M G_1 y_1,    q = A_2 M (G_1 A_1) M^-1 G_2 y_2

Scan 1 as scan 2 would see it, and scan 2 as it would look had scan 1 seen it first: of one object they are alike up to
noise, since blurs along n_1 and n_2 commute. Where both are thick along one axis, G_1 is blurred until what aliasing
does between slices is gone, which else draws slices onto slices. The pose that leaves the least
|q - a p - b|^2 in tissue is found by Gauss-Newton steps; residuals that stand out count less (Cauchy's weights; Holland
& Welsch 1977). A scan is compared with every one before it at once.

Whether two scans show the same is told by the correlation of p and q about their local means, which smooth gains do not
touch, over what noise leaves of it. Where it is low, the joint histogram tells another contrast from another animal: of
one animal, either is a function of the other, though not a line (correlation ratio; Roche et al. 1998).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, gaussian_filter1d
from scipy.spatial.transform import Rotation
from torch import Tensor

from bida.errors import SettingsError
from bida.eval.registration import RAS_TO_LPS, itk_grid
from bida.physics.consistency import TISSUE
from bida.physics.guide import guide_matrix
from bida.physics.joint import LocatedScan
from bida.physics.operators import SliceOperator, apply_along
from bida.physics.rigid import RigidMotion

if TYPE_CHECKING:
    import SimpleITK

Matrix = NDArray[np.float64]

MAX_SHIFT_MM, MAX_DEGREES = 5.0, 15.0  # an animal that moved further within a session was taken out between scans
FAR_MM = 1.0  # centres of tissue further apart are worth a second search, from where they meet
SIGHT = 0.1  # share of what a voxel is made of that may come from outside the other scan's field of view
LEAST_SHARED = 0.1  # of a scan's tissue that must lie in the field of view of those before it
LEAST_VOXELS = 500  # of slices: fewer determine no pose
STEPS = 12  # Gauss-Newton steps at most; from where the search ends three to eight are taken
STILL = 0.01  # voxels: a step that moves no voxel further is the last one
CONVERGED = 0.1  # voxels: so much may the last step move one, else the refinement has failed
LARGEST_STEP = 3.0  # voxels
CAUCHY = 2.385  # robust standard deviations at which a weight is 1/2; loses 5 % where all noise is normal
LOW = 2.0  # FWHM, in slice spacings, of the blur of scans of one orientation
AIR = -1.0  # on the prior's scale; what smooth gains leave as it is
DEGREE = 2  # of the polynomial that N4 leaves between scans: it sees another field in each orientation
FIELD_LIMIT = 1.5  # of that field, which air does not determine
LEAST_FOR_FIELD = 0.5  # of a scan's tissue that must be shared for the field to be told in all of it
WINDOW = 0.5  # slice spacings: standard deviation of the window of local means
FWHM = math.sqrt(8 * math.log(2))  # over the standard deviation of a Gaussian
SEED, BINS = 1, 32  # of the search's samples; of the joint histogram
# of simulated thick scans (5x) one animal had 0.99 and more down to SNR 5, another animal at most 0.38; of real ones
# (rat EPI, 1 mm) two runs 0.97 and more, other animals at most 0.75, other contrasts of one session 0.84
LEAST_CORRELATION = 0.9
UNSURE = 0.3  # by how much less is asked where what is compared were noise alone; in proportion to its share
OTHER_CONTRAST = 0.15  # by how much the squared correlation ratio exceeds the squared correlation in another contrast
LEAST_RATIO = 0.3  # of the squared correlation ratio, from which contrasts are said to differ


@dataclass(frozen=True)
class Alignment:
    """What was found of one scan.

    Attributes:
        matrix: 4 x 4 rigid, mm, RAS: world as the scan's header says to world of the first scan.
        shift_mm: how far that moves the scan's middle.
        degrees: how far it turns the scan, about any axis.
        correlation: of the scan's slices with what the others predict of them, -1 to 1: in tissue, about the mean of
            their surroundings, over what noise would leave of it.
        gain, offset: bring its intensities to those of the first: gain y + offset.
        field: coefficients of what bias correction left between the scans, see `smooth_field`; 1 alone: nothing.
        problem: why it cannot be joined, in plain words, else None.
        refused: it shows something else; a problem without that is one of finding its place.
    """

    matrix: Matrix
    shift_mm: float = 0.0
    degrees: float = 0.0
    correlation: float = 1.0
    gain: float = 1.0
    offset: float = 0.0
    field: tuple[float, ...] = (1.0,)
    problem: str | None = None
    refused: bool = False


def align(scans: Sequence[LocatedScan], *, search: bool = True) -> list[Alignment]:
    """Find where every scan lies in the world of the first, and whether it shows the same.

    It runs on one thread where ITK is concerned, and gives the same numbers each time.

    Args:
        scans: after bias correction; the first is the reference.
        search: find the poses; otherwise headers are believed, and intensities and contents alone are compared.

    Returns:
        One for each scan, the first with the identity. With one that has a problem no later scan is compared.

    Raises:
        SettingsError: there is no scan, or an affine has shears.
    """
    if not scans:
        raise SettingsError("scans: must be at least one, got none")
    found = [Alignment(np.eye(4))]
    for scan in scans[1:]:
        known = [aligned(one, its) for one, its in zip(scans, found) if its.problem is None]
        found.append(_found(known, scan, search))
    return found


def aligned(scan: LocatedScan, found: Alignment) -> LocatedScan:
    """Return a scan at its place in the world of the first, with intensities like the first's.

    They are (gain y + offset + 1) times the smooth field, less 1, at which air is; of noise the gain alone is told.
    """
    y, noise = found.gain * scan.y + found.offset, abs(found.gain) * scan.noise
    if len(found.field) > 1:
        y = (y - AIR) * smooth_field(found.field, y) + AIR
    return replace(scan, y=y, affine=found.matrix @ scan.affine, noise=noise)


def smooth_field(coefficients: Sequence[float], like: Tensor) -> Tensor:
    """Return a polynomial of the place in a scan's slices, -1 to 1 from end to end of each axis, about 1.

    Args:
        coefficients: of the monomials in the order of `_monomials`.
        like: the slices [R, A, S].
    """
    total = sum(c * one for c, one in zip(coefficients, _monomials(like)))
    return torch.as_tensor(total).to(like).clamp(1 / FIELD_LIMIT, FIELD_LIMIT)


def _monomials(like: Tensor) -> list[Tensor]:
    """Return the monomials up to `DEGREE` of the place in slices, the constant first; they broadcast to [R, A, S]."""
    places = [_along(torch.linspace(-1, 1, n), axis).to(like) for axis, n in enumerate(like.shape)]
    powers = [c for c in product(range(DEGREE + 1), repeat=3) if sum(c) <= DEGREE]
    made = [torch.ones_like(like) * places[0] ** i * places[1] ** j * places[2] ** k for i, j, k in powers]
    return made


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
        if _axis_within(self.known, self.scan) == self.known.geometry.axis:
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
        return (A_2.forward(blind) < SIGHT) & _along(measured, A_2.axis)


def _found(known: Sequence[LocatedScan], scan: LocatedScan, search: bool) -> Alignment:
    """Return the alignment of a scan to those whose place is known."""
    pairs = [Pair(one, scan) for one in known]
    if not search:
        return _judged(pairs, np.eye(4), search)
    found = _sought(pairs, np.zeros(3))
    apart = _centre(known[0]) - _centre(scan)
    if found.problem is None or np.linalg.norm(apart) < FAR_MM:
        return found
    again = _sought(pairs, apart)  # headers may be far off
    return max(found, again, key=lambda one: abs(one.correlation))


def _sought(pairs: Sequence[Pair], shift_mm: NDArray[np.float64]) -> Alignment:
    """Return the alignment that a search finds from a shift of the scan."""
    scan = pairs[0].scan
    try:
        start = searched(pairs[0].known, scan, shift_mm)
    except RefusalError as refusal:
        return _refused(scan, np.eye(4), refusal)
    try:
        found = _judged(pairs, refined(pairs, start), True)
    except RefusalError as refusal:
        found = _refused(scan, start, refusal)
    if found.problem is None or (not found.refused and found.correlation > 0):
        return found
    # of another contrast or animal steps lead nowhere; where the search ended, what is wrong shows best
    before = _judged(pairs, start, True)
    return found if before.problem is None else before


def _refused(scan: LocatedScan, matrix: Matrix, refusal: RefusalError) -> Alignment:
    """Return a matrix that is of no use, and why."""
    return replace(_placed(scan, matrix), correlation=0.0, problem=str(refusal))


def _placed(scan: LocatedScan, matrix: Matrix) -> Alignment:
    """Return a matrix and how large it is."""
    middle = _middle(scan)
    shift = float(np.linalg.norm((matrix @ middle - middle)[:3]))
    degrees = math.degrees(float(Rotation.from_matrix(matrix[:3, :3]).magnitude()))
    return Alignment(matrix, shift, degrees)


def searched(known: LocatedScan, scan: LocatedScan, shift_mm: NDArray[np.float64]) -> Matrix:
    """Return the rigid matrix that mutual information finds, to about a third of a voxel, see `Alignment`.

    Args:
        known: the scan that stays.
        scan: the one that moves.
        shift_mm: of it, from which the search starts, [3].

    Raises:
        RefusalError: they do not overlap.
    """
    import SimpleITK

    fixed, moving = _image(_blurred(known, scan), known.affine), _image(_blurred(scan, known), scan.affine)
    start = SimpleITK.Euler3DTransform()
    shift = RAS_TO_LPS[:3, :3] @ shift_mm
    start.SetCenter(((RAS_TO_LPS @ _middle(scan))[:3] + shift).tolist())
    start.SetTranslation((-shift).tolist())
    method = SimpleITK.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)  # the order of sums, and so their last digits, would change from run to run
    method.SetMetricAsMattesMutualInformation(BINS)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentagePerLevel([0.5, 0.3], SEED)
    method.SetInterpolator(SimpleITK.sitkLinear)
    method.SetShrinkFactorsPerLevel([6, 3])
    method.SetSmoothingSigmasPerLevel([3, 1.5])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOff()
    voxel = known.geometry.voxel_mm
    method.SetOptimizerAsRegularStepGradientDescent(2 * voxel, 0.02 * voxel, 60, 0.6, 1e-8)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetInitialTransform(start, inPlace=True)
    try:
        method.Execute(fixed, moving)
    except RuntimeError as error:
        raise RefusalError("it does not overlap with the first scan; check the positions in both headers") from error
    return _matrix_of(start)


def _image(volume: NDArray[np.float32], affine: Matrix) -> SimpleITK.Image:
    """Return the image of an array [R, A, S] and its RAS affine."""
    import SimpleITK

    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(volume.T))
    origin, spacing, direction = itk_grid(affine)
    image.SetOrigin(origin)
    image.SetSpacing(spacing)
    image.SetDirection(direction.ravel().tolist())
    return image


def _matrix_of(transform: SimpleITK.Euler3DTransform) -> Matrix:
    """Return world of the moving image to world of the fixed one, RAS, of ITK's map, which is the inverse, in LPS."""
    lps = np.eye(4)
    lps[:3, :3] = np.array(transform.GetMatrix()).reshape(3, 3)
    centre = np.array(transform.GetCenter())
    lps[:3, 3] = centre + np.array(transform.GetTranslation()) - lps[:3, :3] @ centre
    matrix: Matrix = RAS_TO_LPS @ np.linalg.inv(lps) @ RAS_TO_LPS
    return matrix


def _middle(scan: LocatedScan) -> Matrix:
    """Return the middle of a scan's own grid, mm: x, y, z and 1."""
    middle: Matrix = scan.affine @ np.append((np.array(scan.shape) - 1) / 2, 1)
    return middle


def _centre(scan: LocatedScan) -> NDArray[np.float64]:
    """Return the centre of a scan's tissue, mm, [3]; its middle where there is none."""
    guide = apply_along(guide_matrix(scan.geometry.unpadded()), scan.y, scan.geometry.axis)
    places = np.argwhere((guide > TISSUE).numpy())
    index = places.mean(axis=0) if len(places) else (np.array(scan.shape) - 1) / 2
    return np.asarray((scan.affine @ np.append(index, 1))[:3])


def _axis_within(scan: LocatedScan, other: LocatedScan) -> int:
    """Return the axis of a scan's grid that is nearest to the one along which the other is thick."""
    along = np.linalg.inv(scan.affine)[:3, :3] @ other.affine[:3, other.geometry.axis]
    return int(np.abs(along).argmax())


def _blurred(scan: LocatedScan, other: LocatedScan) -> NDArray[np.float32]:
    """Return the guide of a scan [R, A, S], blurred along the other's thick axis as that one's slices are."""
    geometry, axis = other.geometry, _axis_within(scan, other)
    volume: NDArray[np.float32] = apply_along(
        guide_matrix(scan.geometry.unpadded()), scan.y, scan.geometry.axis
    ).numpy()
    if axis == scan.geometry.axis:
        return volume
    return gaussian_filter1d(volume, geometry.thickness_mm / geometry.voxel_mm / FWHM, axis=axis)


def refined(pairs: Sequence[Pair], matrix: Matrix) -> Matrix:
    """Return a matrix after Gauss-Newton steps, see the module.

    Args:
        pairs: of the scan with every one whose place is known.
        matrix: from which to start, within about three voxels.

    Raises:
        RefusalError: too little is shared, the scan is turned too far, or the steps do not end.
    """
    scan = pairs[0].scan
    half, moved = np.array(scan.shape) / 2, math.inf
    for _ in range(STEPS):
        compared = [pair.at(matrix) for pair in pairs]
        check_shared(compared, scan)
        normal, right = np.zeros(()), np.zeros(())  # sums
        for pair, one in zip(pairs, compared):
            columns, value = _columns(pair, one)
            weighted = columns * _weights(columns[6:], value)
            normal, right = normal + weighted @ columns.T, right + weighted @ value
        solved = np.linalg.lstsq(normal, right, rcond=1e-10)[0]  # shifts and turns times the gain, the gain, ...
        step = solved[:6] / solved[6] if abs(solved[6]) > 1e-3 else np.zeros(6)
        moved = float(np.linalg.norm(step[:3]) + np.linalg.norm(step[3:]) * np.linalg.norm(half))
        matrix = _stepped(matrix, scan, step * min(1.0, LARGEST_STEP / max(moved, STILL)))
        if moved < STILL:
            break
    if moved > CONVERGED:
        raise RefusalError("its place among the others cannot be told: steps towards it do not end")
    return matrix


def _columns(pair: Pair, compared: Compared) -> tuple[Matrix, NDArray[np.float64]]:
    """Return q [n] in tissue, last, and the columns [c, n] that are to make it.

    These are the derivatives of p by shifts (voxels) and turns (rad) about the grid's axes, p above air times the
    monomials of a smooth gain, and 1.
    """
    moved, A, mask = compared.moved, pair.operators[1], compared.tissue
    slopes = torch.gradient(moved)
    k = [_along((torch.arange(n) - (n - 1) / 2).to(moved), axis) for axis, n in enumerate(moved.shape)]
    # of a turn w the voxel k moves by w x k
    turns = [k[a - 2] * slopes[a - 1] - k[a - 1] * slopes[a - 2] for a in range(3)]
    made = [A.forward(one)[mask] for one in (*slopes, *turns)]
    p, q = compared.p[mask] - AIR, compared.q[mask]
    gains = [one[mask] * p for one in _monomials(compared.q)]
    return torch.stack([*made, *gains, torch.ones_like(p)]).double().numpy(), q.double().numpy()


def _along(values: Tensor, axis: int) -> Tensor:
    """Return values [n] along an axis of a volume."""
    return values.reshape([-1 if k == axis else 1 for k in range(3)])


def _weights(columns: Matrix, value: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return Cauchy's weights of what is left of values [n] after a least-squares fit of columns [c, n]."""
    rest = value - np.linalg.lstsq(columns @ columns.T, columns @ value, rcond=1e-10)[0] @ columns
    spread = 1.4826 * float(np.median(np.abs(rest - np.median(rest))))
    weights: NDArray[np.float64] = 1 / (1 + (rest / (CAUCHY * max(spread, 1e-6))) ** 2)
    return weights


def _stepped(matrix: Matrix, scan: LocatedScan, step: NDArray[np.float64]) -> Matrix:
    """Return a matrix after shifts (voxels) and turns (rad) about the axes and middle of the scan's own grid."""
    own, middle = np.eye(4), (np.array(scan.shape) - 1) / 2
    own[:3, :3] = Rotation.from_rotvec(step[3:]).as_matrix()
    own[:3, 3] = middle + step[:3] - own[:3, :3] @ middle
    made: Matrix = matrix @ scan.affine @ own @ np.linalg.inv(scan.affine)
    U, _, Vt = np.linalg.svd(made[:3, :3])  # a header's float32 axes are not quite at right angles
    made[:3, :3] = U @ Vt
    return made


def check_shared(compared: Sequence[Compared], scan: LocatedScan) -> None:
    """Raise a RefusalError where too little of a scan lies in the field of view of the others."""
    shared = [_shared(one, scan) for one in compared]
    voxels = max(int((one.seen & (scan.y > TISSUE)).sum()) for one in compared)
    if max(shared) < LEAST_SHARED or voxels < LEAST_VOXELS:
        raise RefusalError(
            f"the others see {100 * max(shared):.0f}% of what it shows, less than {100 * LEAST_SHARED:.0f}% "
            f"or {LEAST_VOXELS} voxels of slices; check the positions in the headers"
        )


def _shared(compared: Compared, scan: LocatedScan) -> float:
    """Return the share of a scan's tissue that lies in the other's field of view."""
    shown = scan.y > TISSUE
    return int((compared.seen & shown).sum()) / max(int(shown.sum()), 1)


def _field(compared: Sequence[Compared], gain: float, offset: float) -> tuple[float, ...]:
    """Return the coefficients of the smooth field that brings what a scan measured to what others predict."""
    columns, values = [], []
    for one in compared:
        q = gain * one.q[one.tissue] + offset - AIR
        columns.append(torch.stack([m[one.tissue] * q for m in _monomials(one.q)]))
        values.append(one.p[one.tissue] - AIR)
    made, value = torch.cat(columns, dim=1).double().numpy(), torch.cat(values).double().numpy()
    weighted = made * _weights(made, value)
    found = np.linalg.lstsq(weighted @ made.T, weighted @ value, rcond=1e-10)[0]
    return tuple(float(c) for c in found)


def _judged(pairs: Sequence[Pair], matrix: Matrix, search: bool) -> Alignment:
    """Return the alignment that a matrix is, with intensities, correlation and what is wrong with it."""
    scan = pairs[0].scan
    placed = _placed(scan, matrix)
    try:
        compared = [pair.at(matrix) for pair in pairs]
        check_shared(compared, scan)
    except RefusalError as refusal:
        return _refused(scan, matrix, refusal)
    noise = [pair.noise_at(one) for pair, one in zip(pairs, compared)]
    p, q = _joined([(one.p, one.q) for one in compared], [one.tissue for one in compared])
    p_noise, q_noise = _joined(noise, [one.tissue for one in compared])
    gain = _spread(p, p_noise) / _spread(q, q_noise) * math.copysign(1.0, np.corrcoef(p, q)[0, 1])
    correlation, least = _correlation(pairs, compared, noise)
    found = replace(placed, gain=gain, offset=float(p.mean() - gain * q.mean()), correlation=correlation)
    found = replace(found, problem=_problem(found, compared, search, least))
    found = replace(found, refused=found.problem is not None and correlation < least)
    if found.problem is None and max(_shared(one, scan) for one in compared) >= LEAST_FOR_FIELD:
        found = replace(found, field=_field(compared, found.gain, found.offset))
    return found


def _joined(two: Sequence[tuple[Tensor, Tensor]], masks: Sequence[Tensor]) -> tuple[NDArray[np.float64], ...]:
    """Return what lies within masks of the first and the second of all pairs, as two arrays [n]."""
    p, q = (torch.cat([one[side][mask] for one, mask in zip(two, masks)]).double().numpy() for side in (0, 1))
    return p, q


def _spread(values: NDArray[np.float64], noise: NDArray[np.float64]) -> float:
    """Return the standard deviation of values without that of their noise; of noise alone a small part is left."""
    return math.sqrt(max(float(values.var() - noise.var()), 0.01 * float(values.var()), 1e-12))


def _correlation(
    pairs: Sequence[Pair], compared: Sequence[Compared], noise: Sequence[tuple[Tensor, Tensor]]
) -> tuple[float, float]:
    """Return the correlation of p and q, see `Alignment`, and the least that is asked: less where noise is much of it.

    What noise would leave of the correlation is an estimate, the less certain the more it is.
    """
    parts: list[NDArray[np.float64]] = []
    for pair, one, drawn in zip(pairs, compared, noise):
        spacing = max(scan.geometry.slice_spacing_mm for scan in (pair.known, pair.scan))
        mask, axis = one.within.numpy(), pair.scan.geometry.axis
        widths = [0.0 if k == axis else WINDOW * spacing / pair.scan.geometry.voxel_mm for k in range(3)]
        share = gaussian_filter(mask.astype(np.float32), widths)
        near = mask & (share > 0.5)
        values = [np.where(mask, v.numpy(), 0) for v in (one.p, one.q, *drawn)]
        parts.append(np.stack([(v - gaussian_filter(v, widths) / np.maximum(share, 0.5))[near] for v in values]))
    p, q, p_noise, q_noise = np.concatenate(parts, axis=1).astype(np.float64)
    if p.size < LEAST_VOXELS:
        return 0.0, LEAST_CORRELATION
    share_of_noise = min(1.0, float(np.sqrt(p_noise.var() * q_noise.var() / max(p.var() * q.var(), 1e-12))))
    alike = float(np.cov(p, q)[0, 1]) / (_spread(p, p_noise) * _spread(q, q_noise))
    return float(np.clip(alike, -1, 1)), LEAST_CORRELATION - UNSURE * share_of_noise


def _problem(found: Alignment, compared: Sequence[Compared], search: bool, least: float) -> str | None:
    """Return why a scan cannot be joined; ``least`` is the correlation that is asked."""
    if found.shift_mm > MAX_SHIFT_MM or found.degrees > MAX_DEGREES:
        return (
            f"it would have to be moved by {found.shift_mm:.1f} mm and {found.degrees:.0f} degrees, more than "
            f"{MAX_SHIFT_MM:g} mm or {MAX_DEGREES:g} degrees within a session; check the positions in the headers"
        )
    if found.correlation >= least:
        return None
    low = f"its slices and what the others predict of them correlate by {found.correlation:.2f}"
    p, q = _joined([(one.p, one.q) for one in compared], [one.within for one in compared])
    if p.size >= LEAST_VOXELS:
        squares = [correlation_ratio(p, q), correlation_ratio(q, p)]
        line = float(np.corrcoef(p, q)[0, 1])
        bent = max(squares) - (line**2 if line > 0 else 0.0)
        if max(squares) > LEAST_RATIO and bent > OTHER_CONTRAST:
            return f"it shows another contrast: {low}, though one tells the other; join scans of one contrast"
    cure = "join scans of one animal and contrast"
    cure += "" if search else ", or let their poses be found"
    return f"it does not show the same as the others: {low}, less than {least:.2g}; {cure}"


def correlation_ratio(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    """Return the share of the variance of q [n] that a function of p [n] explains, 0 to 1: Roche et al. 1998, Eq. 8."""
    bins = np.digitize(p, np.quantile(p, np.linspace(0, 1, BINS + 1)[1:-1]))
    count = np.bincount(bins, minlength=BINS)
    means = np.bincount(bins, q, minlength=BINS) / np.maximum(count, 1)
    return float((count * (means - q.mean()) ** 2).sum() / max(len(q) * float(q.var()), 1e-12))
