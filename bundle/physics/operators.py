"""The degradation operator y = A x: from an isotropic volume to the thick slices of a scan, along one axis.

A is a small dense matrix. Row i weighs the voxels by the part of slice i's profile that lies within each of them:

    w_ij = integral over voxel j of p(z - c_i) dz,    A_ij = w_ij / sum_j w_ij
    z_j = offset + (j - (n-1)/2) D,    c_i = (i - (m-1)/2) s        (mm from the centre of the scan's field of view)

What falls outside the field of view is dropped and the row renormalised. A slice without a measurement is a row that A
does not have: it stays in the shapes as a row of zeros, so that A x is 0 there and A+ y takes nothing from there.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from bida.errors import SettingsError
from bida.physics.geometry import Float, SliceGeometry
from bida.physics.slice_profile import make_profile

RCOND = 1e-6  # singular values below RCOND x the largest are taken as zero, as numpy.linalg.pinv(rcond=1e-6) does
PART = 1 << 23  # numbers that `apply_along` takes and makes at once, 64 MB of them
NO_FLOAT64 = {"mps"}  # kinds of device
MIN_INSIDE = 0.01  # a slice with a smaller part of its profile than this inside the field of view tells nothing of it


class MatrixOperator:
    """A linear operator A along one axis, given by its matrix, with its adjoint, pseudo-inverse and projection.

    Every method takes torch tensors of any shape whose axis `dim` (default: `axis`) A acts on, and returns plain
    tensors of the same shape but for that axis: float64 for float64 input, else float32, whatever autocast says. In
    the shapes below A is [m, N], padding included.

    Args:
        matrix: A [m, n], float64; a row of zeros measures nothing, and A+ has zeros in its column.
        axis: the axis that A acts on where a method is not told.
        padding: voxels before and after the n, which A does not see.

    Attributes:
        axis: see above.
        matrix: A [m, N], float64.
        pinv_matrix: A+ [N, m], float64.
        U, singular_values, Vt: A = U diag(singular_values) Vt with the r singular values that are not taken as zero.
    """

    def __init__(self, matrix: Float, axis: int, padding: tuple[int, int] = (0, 0)) -> None:
        """Decompose A into singular values."""
        self.axis = axis
        measured = matrix.any(axis=1)
        U, s, Vt = np.linalg.svd(matrix[measured], full_matrices=False)
        if not measured.all():
            # decomposed without the rows of zeros, so that theirs in U are zero exactly
            U, short = np.zeros((len(matrix), U.shape[1])), U
            U[measured] = short
        kept = s > RCOND * s[0]
        # padded after the decomposition, so that the padding's columns are zero exactly and padding changes no result
        around = ((0, 0), padding)
        self.matrix = np.pad(matrix, around)
        self.U, self.singular_values, self.Vt = U[:, kept], s[kept], np.pad(Vt[kept], around)
        self.pinv_matrix = (self.Vt.T / self.singular_values) @ self.U.T

    @property
    def rank(self) -> int:
        """Rank r of A; where overlap makes it smaller than m, A A+ y = y holds only for the y that A can make."""
        return int(self.singular_values.size)

    @property
    def condition_number(self) -> float:
        """Ratio of the largest to the smallest singular value kept."""
        return float(self.singular_values[0] / self.singular_values[-1])

    def forward(self, x: Tensor, dim: int | None = None) -> Tensor:
        """Return A x: [..., N, ...] -> [..., m, ...]."""
        return self._apply(self.matrix, x, dim, "voxels")

    def adjoint(self, y: Tensor, dim: int | None = None) -> Tensor:
        """Return A^T y: [..., m, ...] -> [..., N, ...]."""
        return self._apply(self.matrix.T, y, dim, "slices")

    def pinv(self, y: Tensor, dim: int | None = None) -> Tensor:
        """Return A+ y, the smallest x with A x = y: [..., m, ...] -> [..., N, ...]."""
        return self._apply(self.pinv_matrix, y, dim, "slices")

    def project(self, x: Tensor, y: Tensor, dim: int | None = None) -> Tensor:
        """Return x - A+(A x - y), the volume nearest to x whose slices are y: [..., N, ...] -> [..., N, ...]."""
        x, y = _plain(x), _plain(y)
        Ax = self.forward(x, dim)
        if Ax.shape != y.shape:
            raise SettingsError(f"slices y must have the shape of A x, {tuple(Ax.shape)}, got {tuple(y.shape)}")
        return self.pinv(Ax - y, dim).neg_().add_(x)

    def to_range(self, x: Tensor, dim: int | None = None) -> Tensor:
        """Return V^T x, the coordinates of x in the range of A^T: [..., N, ...] -> [..., r, ...]."""
        return self._apply(self.Vt, x, dim, "voxels")

    def from_range(self, c: Tensor, dim: int | None = None) -> Tensor:
        """Return V c, the volume with these coordinates and no null-space part: [..., r, ...] -> [..., N, ...]."""
        return self._apply(self.Vt.T, c, dim, "range components")

    def _apply(self, matrix: Float, x: Tensor, dim: int | None, what: str) -> Tensor:
        return apply_along(matrix, x, self.axis if dim is None else dim, what)


class SliceOperator(MatrixOperator):
    """The linear operator A of one geometry, along the through-plane axis of a [R, A, S] volume.

    Its shapes: N = geometry.padded_voxels and m = geometry.slices; the rows of ``geometry.missing`` are zeros.

    Attributes:
        geometry: what A describes.

    Raises:
        SettingsError: a slice lies outside the field of view, or its profile cannot be made.
    """

    def __init__(self, geometry: SliceGeometry) -> None:
        """Build A and its singular value decomposition; `build` caches them."""
        self.geometry = geometry
        super().__init__(_degradation_matrix(geometry), geometry.axis, (geometry.pad_before, geometry.pad_after))

    @staticmethod
    @lru_cache(maxsize=64)
    def build(geometry: SliceGeometry) -> SliceOperator:
        """Return the operator of a geometry; asked again, the same object (a profile file is read once)."""
        return SliceOperator(geometry)

    def residual(self, x: Tensor, y: Tensor, dim: int | None = None, least: float = 0.0) -> float:
        """Return max |A x - y| / (max y - min y) over the slices that hold a measurement.

        Args:
            x: volume [..., N, ...].
            y: slices [..., m, ...].
            dim: axis of the slices; that of a [R, A, S] volume by default.
            least: what the range of y counts as at least.
        """
        along = self.axis if dim is None else dim
        rows = torch.tensor(self.geometry.acquired, device=y.device)
        held = _plain(y).index_select(along, rows)
        again = self.forward(x, along).index_select(along, rows)
        return float((again - held).abs().max() / (held.max() - held.min()).clamp(min=least))


def exact_dtype(device: torch.device) -> torch.dtype:
    """Return float64 where a device has it, else float32: what long sums are made in."""
    return torch.float32 if device.type in NO_FLOAT64 else torch.float64


def apply_along(matrix: Float, x: Tensor, dim: int, what: str = "values") -> Tensor:
    """Return the product of a matrix [k, l] with axis `dim` of a tensor: [..., l, ...] -> [..., k, ...].

    Args:
        matrix: float64.
        x: real; the result is float64 for float64 input, else float32, whatever autocast says.
        dim: the axis.
        what: what an error calls the entries of that axis.

    Raises:
        SettingsError: the axis does not hold l entries.
    """
    x = _plain(x)
    if not -x.ndim <= dim < x.ndim or x.shape[dim] != matrix.shape[1]:
        raise SettingsError(f"axis {dim} must hold {matrix.shape[1]} {what}, got a tensor of shape {tuple(x.shape)}")
    # Summed in float64 where the device has it: set_float32_matmul_precision turns float32 products into TF32 or
    # bfloat16, 1e-3 to 1e-2 off, which would break A x = y. A is small: the network's time is not touched.
    exact, dim = exact_dtype(x.device), dim % x.ndim
    with torch.autocast(x.device.type, enabled=False):
        weights = torch.tensor(matrix, dtype=exact, device=x.device)
        if x.ndim == 1:
            return (weights @ x.to(exact)).to(x.dtype)
        out = x.new_empty([len(matrix) if axis == dim else size for axis, size in enumerate(x.shape)])
        # the axis goes last where it is, else last but one: neither side is copied for the product
        place = -1 if dim == x.ndim - 1 else -2
        lines, made = x.movedim(dim, place), out.movedim(dim, place)
        # in parts, so that few of the numbers are in float64 at a time
        others = [axis for axis in range(x.ndim) if axis != x.ndim + place]
        longest = max(others, key=lambda axis: lines.shape[axis])
        most = max(1, PART * lines.shape[longest] // max(1, lines.numel() + out.numel()))
        for start in range(0, lines.shape[longest], most):
            mine = lines.narrow(longest, start, min(most, lines.shape[longest] - start)).to(exact)
            product = mine @ weights.mT if place == -1 else weights @ mine
            made.narrow(longest, start, mine.shape[longest]).copy_(product)
        return out


def _degradation_matrix(geometry: SliceGeometry) -> Float:
    """Build A [m, n], without the columns of the padding."""
    profile = make_profile(geometry.profile, geometry.thickness_mm)
    centres = geometry.slice_centres_mm()
    depth = geometry.voxel_centres_mm()[None, :] - centres[:, None]  # [m, n]
    weights = profile.integral(depth - 0.5 * geometry.voxel_mm, depth + 0.5 * geometry.voxel_mm)
    total = weights.sum(axis=1, keepdims=True)
    outside = np.flatnonzero(total[:, 0] < MIN_INSIDE * profile.area)
    if outside.size:
        low, high = geometry.voxel_centres_mm()[[0, -1]] + np.array([-0.5, 0.5]) * geometry.voxel_mm
        raise SettingsError(
            f"every slice must reach into the voxel grid, {low:g} to {high:g} mm from the centre of the scan, "
            f"got slice {outside[0]} at {centres[outside[0]]:g} mm; give a grid that covers the scan"
        )
    matrix: Float = weights / total
    matrix[list(geometry.missing)] = 0.0
    return matrix


def _plain(x: Tensor) -> Tensor:
    """Return a real tensor in float32 or float64, without metadata: an affine would not fit the result's grid."""
    if x.is_complex():
        raise SettingsError(f"a volume must be real, got {x.dtype}; take its magnitude")
    x = x.as_subclass(Tensor)
    return x if x.dtype == torch.float64 else x.to(torch.float32)
