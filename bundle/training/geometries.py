"""Ways in which thick slices can lie, as matrices on one device, to be drawn from."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from bida.physics.crossed import gram_spectrum
from bida.physics.guide import guide_matrix, how_made, slice_phase
from bida.physics.operators import SliceOperator
from bida.transforms.augment.thicken import ThickenSliced


class Geometries:
    """The matrices of many ways in which slices can lie on a line of voxels, ready to be drawn from.

    Args:
        voxels: of the line, N.
        count: how many ways, drawn as `bida.transforms.augment.ThickenSliced` draws them.
        factors: range of slice spacing over voxel size.
        seed: of the draws.
        device: where the matrices are kept.

    Attributes:
        operator: A [count, M, N], M the most slices of any; rows of zeros fill it up.
        guide, pinv: G and A+ [count, N, M].
        phase: [count, N], see `bida.physics.guide.slice_phase`.
        vectors, values: eigenvectors [count, N, N] and eigenvalues [count, N] of A^T A.
        made: [count, 4] for a noise of 0, see `bida.physics.guide.how_made`.
        kept: |A_i| of the noise of voxels is left in slice i, root mean square over the slices, [count].
    """

    def __init__(
        self, voxels: int, count: int, factors: Sequence[float], seed: int = 0, device: torch.device | str = "cpu"
    ) -> None:
        """Draw and build."""
        draw = ThickenSliced("image", factors=factors)
        draw.set_random_state(seed)
        found = [draw.draw_geometry(voxels) for _ in range(count)]
        slices = max(geometry.slices for geometry in found)

        def stacked(matrices: list[np.ndarray], axis: int) -> Tensor:
            out = np.zeros((count, *((slices, voxels) if axis == 0 else (voxels, slices))), dtype=np.float32)
            for place, matrix in enumerate(matrices):
                out[place][tuple(slice(size) for size in matrix.shape)] = matrix
            return torch.from_numpy(out).to(device)

        operators = [SliceOperator(geometry) for geometry in found]
        self.operator = stacked([one.matrix for one in operators], 0)
        self.pinv = stacked([one.pinv_matrix for one in operators], 1)
        self.guide = stacked([guide_matrix.__wrapped__(geometry) for geometry in found], 1)
        spectra = [gram_spectrum(one.matrix) for one in operators]
        self.vectors = torch.from_numpy(np.stack([vectors for vectors, _ in spectra])).float().to(device)
        self.values = torch.from_numpy(np.stack([values for _, values in spectra])).float().to(device)
        self.phase = torch.from_numpy(np.stack([slice_phase(geometry) for geometry in found])).float().to(device)
        self.made = torch.tensor([how_made(geometry) for geometry in found], device=device)
        left = [math.sqrt(np.square(one.matrix).sum(axis=1).mean()) for one in operators]
        self.kept = torch.tensor(left, dtype=torch.float32, device=device)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.operator)
