"""The 2D U-Nets of seg-for-4modalities as a program of its own: WEIGHTS SCAN MASK, see the preset ``seg4``.

`pip download --no-deps seg-for-4modalities==1.0.6` gets a wheel of The Jackson Laboratory with four networks (in vivo
mice: T2w, diffusion, NODDI, fMRI), for a TensorFlow that current Pythons lack. Nothing of it is part of this package:
its weights are read from the wheel, and the layers that its own description of the network names are computed here.
"""

from __future__ import annotations

import io
import json
import math
import sys
import zipfile
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bida.errors import BidaError, StripperError

PIXELS_MM = (0.1, 0.13, 0.16)  # in the plane; at each size another kind of head is found best, the mean finds all
NETWORK = "model156_0.50.25_scan.hdf5"  # the program's own choice of its four
PATCH = 128  # pixels, of the networks' training
STRIDE = 64
OUTLIERS = 20  # times the mean: what is above gets the median, as the program does
THRESHOLD = 0.5
THICK = 1.5  # times the other voxel sizes: slices were made across such an axis, whatever the header calls it
OPENING_MM = 0.4  # radius: cuts thin bridges to muscle and eyes


def network_of(path: str | Path) -> KerasUNet:
    """Return the network of a wheel, of a folder that it was unpacked to, or of one file of weights.

    Raises:
        StripperError: The path holds none that can be read.
    """
    path = Path(path)
    try:
        if path.is_dir():
            path = next(iter(path.rglob(NETWORK)), path / NETWORK)
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as wheel:
                inside = [name for name in wheel.namelist() if name.endswith(NETWORK)]
                return KerasUNet.read(wheel.read(inside[0]))
        return KerasUNet.read(path.read_bytes())
    except (OSError, LookupError, ValueError, zipfile.BadZipFile) as error:
        raise StripperError(
            f"{path}: must be the wheel of seg-for-4modalities 1.0.6, reading it failed with "
            f"'{' '.join(str(error).split())}'; get it by pip download --no-deps seg-for-4modalities==1.0.6"
        ) from error


class KerasUNet:
    """A network of Keras' layers, computed by torch.

    Args:
        layers: as Keras describes them, in order: class, name, settings, and the layers that each one takes.
        weights: of each layer that has some, in Keras' order.
    """

    def __init__(self, layers: Sequence[Mapping[str, Any]], weights: Mapping[str, Sequence[NDArray]]) -> None:
        """Turn the weights to torch's order, kernels [H, W, in, out] to [out, in, H, W]."""
        import torch

        self.layers = layers
        self.weights = {
            name: [torch.from_numpy(np.ascontiguousarray(one.transpose(3, 2, 0, 1) if one.ndim == 4 else one))
                   for one in own]
            for name, own in weights.items()
        }  # fmt: skip

    @classmethod
    def read(cls, content: bytes) -> KerasUNet:
        """Read a file of weights with the network's description, HDF5 as Keras 2 writes it."""
        import h5py

        with h5py.File(io.BytesIO(content), "r") as file:
            layers = json.loads(file.attrs["model_config"])["config"]["layers"]
            groups = file["model_weights"]
            weights = {
                name: [np.asarray(groups[name][one], dtype=np.float32) for one in groups[name].attrs["weight_names"]]
                for name in groups
            }
        return cls(layers, weights)

    def __call__(self, image: Any) -> Any:
        """Return the probability [N, 1, H, W] of images [N, 1, H, W]."""
        import torch
        import torch.nn.functional as F  # noqa: N812

        found: dict[str, Any] = {}
        for layer in self.layers:
            name, kind, settings = layer["config"]["name"], layer["class_name"], layer["config"]
            taken = [found[one[0]] for one in layer["inbound_nodes"][0]] if layer["inbound_nodes"] else [image]
            own = self.weights.get(name, [])
            if kind == "Conv2D":
                missing = [size - 1 for size in reversed(settings["kernel_size"])]  # Keras puts the odd one behind
                pad = [part for one in missing for part in (one // 2, one - one // 2)]
                y = F.conv2d(F.pad(taken[0], pad), own[0], own[1])
                y = {"relu": torch.relu, "sigmoid": torch.sigmoid}[settings["activation"]](y)
            elif kind == "BatchNormalization":
                gamma, beta, mean, variance = own
                y = F.batch_norm(taken[0], mean, variance, gamma, beta, eps=settings["epsilon"])
            elif kind == "MaxPooling2D":
                y = F.max_pool2d(taken[0], settings["pool_size"], settings["strides"])
            elif kind == "UpSampling2D":
                y = F.interpolate(taken[0], scale_factor=tuple(map(float, settings["size"])), mode="nearest")
            elif kind == "Concatenate":
                y = torch.cat(taken, dim=1)
            elif kind in ("InputLayer", "Dropout"):
                y = taken[0]
            else:
                raise ValueError(f"a layer of the kind {kind}")
            found[name] = y
        return y


def probability(network: Callable[[Any], Any], volume: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the probability [X, Y, Z] of a network that slides over the slices [X, Y] of a volume.

    Args:
        network: [N, 1, H, W] to [N, 1, H, W].
        volume: [X, Y, Z] of any size; Y goes up.
    """
    import torch

    missing = [max(0, PATCH - size) for size in volume.shape[:2]]
    padded = np.pad(volume, [*((some // 2, some - some // 2) for some in missing), (0, 0)])
    slices = torch.from_numpy(np.ascontiguousarray(padded.transpose(2, 1, 0)))[:, None].float()  # [Z, 1, Y, X]
    total, count = torch.zeros_like(slices), torch.zeros_like(slices)
    places = [sorted({*range(0, size - PATCH + 1, STRIDE), size - PATCH}) for size in slices.shape[2:]]
    with torch.no_grad():
        for number, y, x in product(range(len(slices)), *places):  # a slice at a time: memory
            window = (slice(number, number + 1), slice(None), slice(y, y + PATCH), slice(x, x + PATCH))
            total[window] += network(slices[window])
            count[window] += 1
    found = (total / count)[:, 0].numpy().transpose(2, 1, 0)
    return found[tuple(slice(some // 2, some // 2 + size) for some, size in zip(missing, volume.shape))]


def mean_probability(
    network: Callable[[Any], Any], volume: NDArray[np.float32], sizes_mm: Sequence[float]
) -> NDArray[np.float32]:
    """Return the mean of `probability` over pixels of `PIXELS_MM`, on the volume's own grid.

    Intensities are scaled as the program does: what is above `OUTLIERS` times the mean gets the median, then the
    least is 0 and the greatest 1.
    """
    values = np.where(volume > OUTLIERS * volume.mean(), np.median(volume), volume)
    values = (values - values.min()) / max(float(np.ptp(values)), 1e-6)
    found = []
    for pixel_mm in PIXELS_MM:
        shape = [math.ceil(n * s / pixel_mm - 1e-6) for n, s in zip(volume.shape[:2], sizes_mm)]
        found.append(resized(probability(network, resized(values, (*shape, volume.shape[2]))), volume.shape))
    return np.mean(found, axis=0, dtype=np.float32)


def resized(volume: NDArray[np.float32], shape: Sequence[int]) -> NDArray[np.float32]:
    """Interpolate linearly to another number of voxels of the same field of view."""
    from scipy.ndimage import zoom

    ratios = [new / old for new, old in zip(shape, volume.shape)]
    return np.asarray(zoom(volume, ratios, order=1, mode="nearest", grid_mode=True), dtype=np.float32)


def brain(probable: NDArray[np.float32], spacing_mm: Sequence[float]) -> NDArray[np.bool_]:
    """Return the brain of probabilities: opened in the plane of the slices, its largest part, without holes."""
    from scipy.ndimage import binary_fill_holes, binary_opening, label

    radius = max(1, round(OPENING_MM / spacing_mm[0]))
    line = np.arange(-radius, radius + 1)
    disc = (np.hypot(line[:, None], line[None]) <= radius)[..., None]
    parts, count = label(binary_opening(probable > THRESHOLD, disc))
    if not count:
        return np.zeros(probable.shape, dtype=bool)
    largest = parts == np.bincount(parts.ravel())[1:].argmax() + 1
    return np.stack([binary_fill_holes(one) for one in np.moveaxis(largest, 2, 0)], axis=2)


def strip(weights: str | Path, scan: str | Path, mask: str | Path) -> None:
    """Write the mask of a scan with axes right, up and through coronal slices.

    Headers of small animals mislabel axes: where voxels are thick along the second one, slices are taken across it.
    """
    import nibabel as nib

    image: Any = nib.load(scan)
    volume, sizes_mm = np.asarray(image.dataobj, dtype=np.float32), image.header.get_zooms()[:3]
    order = (0, 2, 1) if sizes_mm[1] > THICK * max(sizes_mm[0], sizes_mm[2]) else (0, 1, 2)
    turned, turned_mm = volume.transpose(order), [float(sizes_mm[axis]) for axis in order]
    inside = brain(mean_probability(network_of(weights), turned, turned_mm), turned_mm).transpose(order)
    nib.save(nib.Nifti1Image(inside.astype(np.uint8), image.affine), mask)


if __name__ == "__main__":
    try:
        strip(*sys.argv[1:])
    except BidaError as error:
        sys.exit(str(error))
