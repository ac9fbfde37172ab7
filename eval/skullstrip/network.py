"""The built-in skull stripper: a 3D U-Net that finds the brain in mouse and rat heads of any contrast."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bida.errors import ScanError

if TYPE_CHECKING:
    from torch import Tensor, nn

VOXEL_MM = 0.2  # of the isotropic grid on which the network works, in training too
WINDOW = 96  # voxels: 19.2 mm, a mouse's head or most of a rat's brain; a multiple of the network's stride
CHANNELS = (16, 32, 64, 128, 256)
PERCENTILES = (1.0, 99.5)  # of the intensities, mapped to 0 and 1
LARGEST = 2.0  # above this an intensity tells nothing more
WEIGHTS = "skullstrip.pt"
# Headers of small animals mislabel axes, those of coronal slices most often A and S. Where the network expects more
# wrong voxels than the share SURE of the brain, that order is tried too, and where it expects more than DOUBT, all
# others. In tuning rats and mice with true headers it expects 4%, in heads with axes mislabelled 6-8%.
SURE, DOUBT = 0.05, 0.13
CORONAL = (0, 2, 1)
ORDERS = ((1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))


def network() -> nn.Module:
    """Return the network, untrained: logits [N, 1, X, Y, Z] of an image [N, 1, X, Y, Z]."""
    from monai.networks.nets import UNet

    strides = (2,) * (len(CHANNELS) - 1)
    return UNet(3, 1, 1, CHANNELS, strides, num_res_units=2, norm="INSTANCE")


def normalise(image: Tensor) -> Tensor:
    """Map a volume's 1st percentile to 0 and its 99.5th to 1, clipped at 0 and ``LARGEST``; shape stays.

    Voxels of exactly zero, beyond the field of view or where a brain was extracted, do not count.
    """
    import torch

    values = image[image != 0]
    if values.numel() < 2:
        return torch.zeros_like(image)
    step = max(1, values.numel() // 1_000_000)
    # numpy's selects where torch's sorts, which takes ten times as long
    low, high = torch.from_numpy(np.percentile(values[::step].float().cpu().numpy(), PERCENTILES).astype(np.float32))
    low = torch.minimum(low, torch.zeros(()).to(low)) if float(values.min()) >= 0 else low
    return ((image - low) / (high - low).clamp(min=1e-6)).clamp(0, LARGEST)


class BrainUNet:
    """Find the brain: volume [R, A, S] and affine in, mask on the same grid out.

    The volume is resampled to 0.2 mm, the network slides over it, as it is and mirrored left to right, and the mean
    probability is interpolated back, cut at one half, reduced to its largest component, and holes are filled. Where the
    network is in doubt the volume's axes are tried in other orders, in case the header mislabels them, and the order in
    which the network is surest is taken.

    Args:
        weights: a weights file; the released one when None.
        device: where to compute.
    """

    name = "builtin"

    def __init__(self, weights: str | Path | None = None, device: str = "cpu") -> None:
        """Keep the settings; the weights are loaded at first use."""
        self.weights, self.device = weights, device

    @cached_property
    def _network(self) -> Any:
        from bida.io.weights import load_weights

        net = network()
        self.weights_sha256 = load_weights(net, self.weights, WEIGHTS)
        return net.to(self.device).eval()

    def __getstate__(self) -> dict[str, Any]:
        """Leave the network out: a worker process loads its own."""
        return {name: value for name, value in vars(self).items() if name != "_network"}

    def __call__(self, volume: ArrayLike, affine: ArrayLike) -> NDArray[np.bool_]:
        """Return the brain of a volume.

        Args:
            volume: [X, Y, Z], any orientation and voxel sizes.
            affine: 4 x 4, voxel index to mm (RAS+).

        Returns:
            Boolean mask [X, Y, Z].

        Raises:
            ScanError: No brain is found.
            WeightsError: The weights are missing or not what they should be.
        """
        probability = self.probability(np.asarray(volume, dtype=np.float32), np.asarray(affine, dtype=np.float64))
        return largest_body(probability >= 0.5)

    def _mirrored(self, fine: Tensor) -> Tensor:
        """Return the mean probability [1, X, Y, Z] of a volume as it is and mirrored along its first axis."""
        import torch
        from monai.inferers import SlidingWindowInferer

        slide = SlidingWindowInferer((WINDOW,) * 3, overlap=0.5, mode="gaussian", progress=False)

        def found(batch: Tensor) -> Tensor:
            return torch.as_tensor(slide(batch, self._network)).float().sigmoid()

        batch = fine[None].contiguous().to(self.device)
        with torch.no_grad():
            return ((found(batch) + found(batch.flip(2)).flip(2)) / 2)[0].cpu()

    def _reordered(self, fine: Tensor, order: Sequence[int]) -> Tensor:
        """Return `_mirrored` of a volume whose axes are put in another order for the network."""
        turned = self._mirrored(fine.permute(0, *(1 + axis for axis in order)))
        return turned.permute(0, *(1 + order.index(axis) for axis in range(3)))

    def probability(self, volume: NDArray[np.float32], affine: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return the probability [X, Y, Z] that a voxel is brain."""
        import torch
        from monai.data import MetaTensor
        from monai.transforms import Compose, Orientation

        turn = Compose([Orientation("RAS", labels=None)])
        image = turn(MetaTensor(torch.from_numpy(np.ascontiguousarray(volume))[None], affine=torch.from_numpy(affine)))
        spacing = np.linalg.norm(image.affine.numpy()[:3, :3], axis=0)
        fine = resize(
            normalise(image.as_tensor()), [max(1, round(n * s / VOXEL_MM)) for n, s in zip(image.shape[1:], spacing)]
        )
        found = self._mirrored(fine)
        for limit, orders in ((SURE, (CORONAL,)), (DOUBT, ORDERS)):
            if doubt(found) > limit:
                found = min([found, *(self._reordered(fine, order) for order in orders)], key=doubt)
        mean = resize(found, image.shape[1:])
        return turn.inverse(MetaTensor(mean, affine=image.affine, applied_operations=image.applied_operations))[
            0
        ].numpy()


def doubt(probability: Tensor) -> float:
    """Return the expected share of wrong voxels, sum min(p, 1 - p) over sum p; infinite where nothing is found."""
    import torch

    wrong, total = torch.minimum(probability, 1 - probability).sum(), probability.sum()
    return float(wrong / total) if float(total) > 1 else float("inf")


def resize(volume: Tensor, shape: Any) -> Tensor:
    """Interpolate [1, X, Y, Z] linearly to another number of voxels of the same field of view.

    Where voxels become larger the volume is smoothed first, so that fine detail does not fold.
    """
    from monai.networks.layers import GaussianFilter
    from torch.nn.functional import interpolate

    ratios = [old / new for old, new in zip(volume.shape[1:], shape)]
    if max(ratios) > 1:
        # FWHM 2.355 sigma: sigma of half the new voxel beyond the old one's
        volume = GaussianFilter(3, [0.5 * max(ratio**2 - 1, 1e-4) ** 0.5 for ratio in ratios])(volume[None])[0]
    return interpolate(volume[None], size=tuple(int(n) for n in shape), mode="trilinear", align_corners=False)[0]


def largest_body(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the largest connected component of a mask with its holes filled.

    Raises:
        ScanError: The mask is empty.
    """
    from scipy.ndimage import binary_fill_holes
    from skimage.measure import label

    if not mask.any():
        raise ScanError("builtin skull stripper: a brain must be found, the mask is empty; give another stripper")
    parts = label(mask, connectivity=1)
    return binary_fill_holes(parts == np.bincount(parts.ravel())[1:].argmax() + 1)
