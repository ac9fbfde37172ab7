"""The pose of a scan among others: a search by mutual information, then Gauss-Newton on slices (`scan_pair`)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.transform import Rotation

from bida.eval.registration import RAS_TO_LPS, itk_grid
from bida.mri.scan_pair import (
    BINS,
    FWHM,
    SEED,
    Compared,
    Matrix,
    Pair,
    RefusalError,
    along_axis,
    axis_within,
    check_shared,
    monomials,
    robust_weights,
)
from bida.physics.consistency import TISSUE
from bida.physics.guide import guide_matrix
from bida.physics.joint import LocatedScan
from bida.physics.operators import apply_along

if TYPE_CHECKING:
    import SimpleITK

STEPS = 12  # Gauss-Newton steps at most; from where the search ends three to eight are taken
STILL = 0.01  # voxels: a step that moves no voxel further is the last one
CONVERGED = 0.1  # voxels: so much may the last step move one, else the refinement has failed
LARGEST_STEP = 3.0  # voxels
DIGITS = 9  # decimals of a pose, mm and rad, and of gains: far below what can be told
AIR = -1.0  # on the prior's scale; what smooth gains leave as it is


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
    start.SetCenter(((RAS_TO_LPS @ middle_of(scan))[:3] + shift).tolist())
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


def middle_of(scan: LocatedScan) -> Matrix:
    """Return the middle of a scan's own grid, mm: x, y, z and 1."""
    middle: Matrix = scan.affine @ np.append((np.array(scan.shape) - 1) / 2, 1)
    return middle


def centre_of_tissue(scan: LocatedScan) -> NDArray[np.float64]:
    """Return the centre of a scan's tissue, mm, [3]; its middle where there is none."""
    guide = apply_along(guide_matrix(scan.geometry.unpadded()), scan.y, scan.geometry.axis)
    places = np.argwhere((guide > TISSUE).numpy())
    index = places.mean(axis=0) if len(places) else (np.array(scan.shape) - 1) / 2
    return np.asarray((scan.affine @ np.append(index, 1))[:3])


def _blurred(scan: LocatedScan, other: LocatedScan) -> NDArray[np.float32]:
    """Return the guide of a scan [R, A, S], blurred along the other's thick axis as that one's slices are."""
    geometry, axis = other.geometry, axis_within(scan, other)
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
            columns, value = columns_of(pair, one)
            weighted = columns * robust_weights(columns[6:], value)
            normal, right = normal + weighted @ columns.T, right + weighted @ value
        solved = np.linalg.lstsq(normal, right, rcond=1e-10)[0]  # shifts and turns times the gain, the gain, ...
        step = solved[:6] / solved[6] if abs(solved[6]) > 1e-3 else np.zeros(6)
        moved = float(np.linalg.norm(step[:3]) + np.linalg.norm(step[3:]) * np.linalg.norm(half))
        matrix = stepped(matrix, scan, step * min(1.0, LARGEST_STEP / max(moved, STILL)))
        if moved < STILL:
            break
    if moved > CONVERGED:
        raise RefusalError("its place among the others cannot be told: steps towards it do not end")
    return rounded(matrix)


def rounded(matrix: Matrix) -> Matrix:
    """Return a rigid matrix to `DIGITS`, rigid still: the last digits of sums differ from run to run with threads."""
    made = np.eye(4)
    turn = Rotation.from_matrix(matrix[:3, :3]).as_rotvec()
    made[:3, :3], made[:3, 3] = Rotation.from_rotvec(turn.round(DIGITS)).as_matrix(), matrix[:3, 3].round(DIGITS)
    return made


def columns_of(pair: Pair, compared: Compared) -> tuple[Matrix, NDArray[np.float64]]:
    """Return q [n] in tissue, last, and the columns [c, n] that are to make it.

    These are the derivatives of p by shifts (voxels) and turns (rad) about the grid's axes, p above air times the
    monomials of a smooth gain, and 1.
    """
    moved, A, mask = compared.moved, pair.operators[1], compared.tissue
    slopes = torch.gradient(moved)
    k = [along_axis((torch.arange(n) - (n - 1) / 2).to(moved), axis) for axis, n in enumerate(moved.shape)]
    # of a turn w the voxel k moves by w x k
    turns = [k[a - 2] * slopes[a - 1] - k[a - 1] * slopes[a - 2] for a in range(3)]
    made = [A.forward(one)[mask] for one in (*slopes, *turns)]
    p, q = compared.p[mask] - AIR, compared.q[mask]
    gains = [one[mask] * p for one in monomials(compared.q)]
    return torch.stack([*made, *gains, torch.ones_like(p)]).double().numpy(), q.double().numpy()


def stepped(matrix: Matrix, scan: LocatedScan, step: NDArray[np.float64]) -> Matrix:
    """Return a matrix after shifts (voxels) and turns (rad) about the axes and middle of the scan's own grid."""
    own, middle = np.eye(4), (np.array(scan.shape) - 1) / 2
    own[:3, :3] = Rotation.from_rotvec(step[3:]).as_matrix()
    own[:3, 3] = middle + step[:3] - own[:3, :3] @ middle
    made: Matrix = matrix @ scan.affine @ own @ np.linalg.inv(scan.affine)
    U, _, Vt = np.linalg.svd(made[:3, :3])  # a header's float32 axes are not quite at right angles
    made[:3, :3] = U @ Vt
    return made
