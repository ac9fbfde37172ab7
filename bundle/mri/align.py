"""Alignment of several scans of one animal: where each lies in the world of the first, and its gain.

A first pose is found by mutual information, then refined on the slices themselves (`scan_pose`, `scan_pair`). A scan is
compared with every one before it at once.

Whether two scans show the same is told by the correlation of p and q about their local means, which smooth gains do not
touch, over what noise leaves of it. Where it is low, the joint histogram tells another contrast from another animal: of
one animal, either is a function of the other, though not a line (correlation ratio; Roche et al. 1998).

"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation
from torch import Tensor

from bida.errors import SettingsError
from bida.mri.scan_pair import (
    BINS,
    LEAST_VOXELS,
    Compared,
    Matrix,
    Pair,
    RefusalError,
    check_shared,
    monomials,
    robust_weights,
    shared_tissue,
)
from bida.mri.scan_pose import AIR, DIGITS, centre_of_tissue, middle_of, refined, searched
from bida.physics.joint import LocatedScan

MAX_SHIFT_MM, MAX_DEGREES = 5.0, 15.0  # an animal that moved further within a session was taken out between scans
FAR_MM = 1.0  # centres of tissue further apart are worth a second search, from where they meet
FIELD_LIMIT = 1.5  # of that field, which air does not determine
LEAST_FOR_FIELD = 0.5  # of a scan's tissue that must be shared for the field to be told in all of it
WINDOW = 0.5  # slice spacings: standard deviation of the window of local means
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


def align(scans: Sequence[LocatedScan], *, search: bool = True, near: bool = False) -> list[Alignment]:
    """Find where every scan lies in the world of the first, and whether it shows the same.

    It runs on one thread where ITK is concerned, and gives the same numbers each time.

    Args:
        scans: after bias correction; the first is the reference.
        search: find the poses; otherwise headers are believed, and intensities and contents alone are compared.
        near: headers are right but for a voxel or two, so that poses need steps alone.

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
        found.append(_found(known, scan, search, near))
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
        coefficients: of the monomials in the order of `monomials`.
        like: the slices [R, A, S].
    """
    total = sum(c * one for c, one in zip(coefficients, monomials(like)))
    return torch.as_tensor(total).to(like).clamp(1 / FIELD_LIMIT, FIELD_LIMIT)


def _found(known: Sequence[LocatedScan], scan: LocatedScan, search: bool, near: bool) -> Alignment:
    """Return the alignment of a scan to those whose place is known."""
    pairs = [Pair(one, scan) for one in known]
    if not search:
        return _judged(pairs, np.eye(4), search)
    if near:
        return _stepped_to(pairs, np.eye(4))
    found = _sought(pairs, np.zeros(3))
    apart = centre_of_tissue(known[0]) - centre_of_tissue(scan)
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
    found = _stepped_to(pairs, start)
    if found.problem is None or (not found.refused and found.correlation > 0):
        return found
    # of another contrast or animal steps lead nowhere; where the search ended, what is wrong shows best
    before = _judged(pairs, start, True)
    return found if before.problem is None else before


def _stepped_to(pairs: Sequence[Pair], start: Matrix) -> Alignment:
    """Return the alignment that steps find from a matrix."""
    try:
        return _judged(pairs, refined(pairs, start), True)
    except RefusalError as refusal:
        return _refused(pairs[0].scan, start, refusal)


def _refused(scan: LocatedScan, matrix: Matrix, refusal: RefusalError) -> Alignment:
    """Return a matrix that is of no use, and why."""
    return replace(placed_by(scan, matrix), correlation=0.0, problem=str(refusal))


def placed_by(scan: LocatedScan, matrix: Matrix) -> Alignment:
    """Return a matrix and how large it is."""
    middle = middle_of(scan)
    shift = float(np.linalg.norm((matrix @ middle - middle)[:3]))
    degrees = math.degrees(float(Rotation.from_matrix(matrix[:3, :3]).magnitude()))
    return Alignment(matrix, shift, degrees)


def _field(compared: Sequence[Compared], gain: float, offset: float) -> tuple[float, ...]:
    """Return the coefficients of the smooth field that brings what a scan measured to what others predict."""
    columns, values = [], []
    for one in compared:
        q = gain * one.q[one.tissue] + offset - AIR
        columns.append(torch.stack([m[one.tissue] * q for m in monomials(one.q)]))
        values.append(one.p[one.tissue] - AIR)
    made, value = torch.cat(columns, dim=1).double().numpy(), torch.cat(values).double().numpy()
    weighted = made * robust_weights(made, value)
    found = np.linalg.lstsq(weighted @ made.T, weighted @ value, rcond=1e-10)[0]
    return tuple(round(float(c), DIGITS) for c in found)


def _judged(pairs: Sequence[Pair], matrix: Matrix, search: bool) -> Alignment:
    """Return the alignment that a matrix is, with intensities, correlation and what is wrong with it."""
    scan = pairs[0].scan
    placed = placed_by(scan, matrix)
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
    gain, offset = round(gain, DIGITS), round(float(p.mean() - gain * q.mean()), DIGITS)
    found = replace(placed, gain=gain, offset=offset, correlation=round(correlation, DIGITS))
    found = replace(found, problem=_problem(found, compared, search, least))
    found = replace(found, refused=found.problem is not None and correlation < least)
    if found.problem is None and max(shared_tissue(one, scan) for one in compared) >= LEAST_FOR_FIELD:
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
