"""The least-squares correction of images, one scan's slices thick along one of their axes, another's along the other.

A_i^T A_i of each acts on one axis, and their sum is diagonal in the products of the axes' eigenvectors; that of whole
volumes is `bida.physics.joint.JointOperator`.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from bida.physics.geometry import Float
from bida.physics.joint import LACKING


def gram_spectrum(A: Float) -> tuple[Float, Float]:
    """Return eigenvectors [N, N], in columns, and eigenvalues [N] of A^T A for a matrix A [m, N]; none is negative."""
    values, vectors = np.linalg.eigh(A.T @ A)
    return vectors, np.maximum(values, 0.0)


def crossed_correction(right: Tensor, rows: Tensor, columns: Tensor, values: Tensor, noise: Tensor | float) -> Tensor:
    """Return d of images [..., N, M] of which one scan's slices are thick along N and another's along M.

    Args:
        right: sum_i w_i A_i^T (y_i - A_i x0), [..., N, M], w_i = noise^2 / sigma_i^2.
        rows, columns: eigenvectors for either axis, [..., N, N] and [..., M, M].
        values: eigenvalues of sum_i w_i A_i^T A_i, [..., N, M].
        noise: of the scan with the least.
    """
    damping = (torch.as_tensor(noise) / LACKING) ** 2
    inner = rows.mT @ right @ columns
    return rows @ (inner / (values + damping)) @ columns.mT
