"""Training data: sharp slices of the images in BIDS folders, split by animal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import nibabel as nib
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, Sampler

from bida.diffusion.prior import X0_RANGE
from bida.errors import SettingsError
from bida.io.bids import Animal
from bida.io.nifti_file import affine_of, open_nifti, written_header
from bida.io.sidecar import read_sidecar
from bida.options import yes_or_no
from bida.physics.grid import NORMAL, PLANES, spacing_of
from bida.training.denoise import denoised_image
from bida.training.pack import PackedImage

# In-plane spacings within 5% of the image's finest count as sharp: header rounding, not anisotropy.
SHARP = 1.05
# A slice teaches something when this share of it rises above the background by 5% of the range.
FOREGROUND_SHARE, FOREGROUND_LEVEL = 0.01, -0.9


class Slices(Protocol):
    """Slices by their index: an array [N, H, W, C], or what reads one when it is asked for."""

    def __getitem__(self, index: Any, /) -> NDArray[np.float32]:
        """Return a slice [H, W, C]."""


DrawableSlices = tuple[Slices, NDArray[np.int64]]  # slices, indices of those that may be drawn
Transform = Callable[[dict[str, Any]], dict[str, Any]]


def load_normalised(path: Path) -> tuple[NDArray[np.float32], tuple[float, float, float]]:
    """Read an image as RAS, p1 to p99 mapped to [-1, 1], clipped at ``X0_RANGE``; return it and its spacings in mm.

    Raises:
        SettingsError: The image has no contrast, or not 3 dimensions.
        ScanError: It is no NIfTI, or a damaged one, or its header says what can't be.
    """
    image = open_nifti(Path(path))
    if len(image.shape) != 3:
        raise SettingsError(
            f"{path}: an image must have 3 dimensions, got shape {image.shape}; split it or leave it out"
        )
    affine = affine_of(Path(path), image, written_header(Path(path)), read_sidecar(path), [])
    turned = nib.as_closest_canonical(nib.Nifti1Image(np.asarray(image.dataobj, dtype=np.float32), affine))
    data = np.asarray(turned.dataobj)
    low, high = np.percentile(data, [1, 99])
    if not high > low:
        raise SettingsError(f"{path}: the 1st and 99th percentile must differ, both are {low:g}; leave the image out")
    data = np.clip((data - np.float32(low)) * np.float32(2 / (high - low)) - 1, *X0_RANGE)
    return data, spacing_of(turned.affine)


def load_pair(
    path: Path, cache: Path | None = None, pairs: bool = True
) -> tuple[NDArray[np.float32], tuple[float, float, float]]:
    """Read an image as `load_normalised` does: [R, A, S, 2], as scanned and denoised; without ``pairs`` [R, A, S, 1].

    Args:
        path: The image.
        cache: Folder that keeps the denoised one.
        pairs: See above.
    """
    volume, spacing_mm = load_normalised(path)
    channels = [volume, denoised_image(path, volume, cache)] if pairs else [volume]
    return np.stack(channels, axis=-1), spacing_mm


def _sharp_stacks(volume: NDArray[np.float32], spacing_mm: Sequence[float]) -> dict[str, DrawableSlices]:
    """Return the slices of [R, A, S, C] in every plane in which they are sharp and hold more than background."""
    found: dict[str, DrawableSlices] = {}
    for plane in PLANES:
        normal = NORMAL[plane]
        in_plane = [spacing_mm[axis] for axis in range(3) if axis != normal]
        stack = np.moveaxis(volume, normal, 0)
        useful = np.flatnonzero((stack[..., 0] > FOREGROUND_LEVEL).mean(axis=(1, 2)) >= FOREGROUND_SHARE)
        if max(in_plane) <= SHARP * min(spacing_mm) and len(useful):
            found[plane] = (stack, useful)
    return found


def _weights(members: Sequence[str], shares: Mapping[str, float] | None) -> NDArray[np.float64]:
    """Return the probability of each image, given the data set of each."""
    if shares is None:
        return np.full(len(members), 1 / len(members))
    unnamed = sorted(set(members) - shares.keys())
    if unnamed:
        raise SettingsError(f"shares: every data set must have a weight, {', '.join(unnamed)} has none; name it")
    weights = np.array([shares[name] / members.count(name) for name in members], dtype=np.float64)
    return weights / weights.sum()


class SliceStacks(Dataset):
    """Slices drawn at random but reproducibly: sample ``i`` is a function of the seed and ``i``.

    The plane is drawn first, then a stack that serves it, then one of its slices.

    Args:
        slices: For each plane its stacks.
        transform: MONAI transform of ``{"image": [C, H, W], "planes": int, "index": int}``, or one for each stack; its
            random state is set from the seed and the sample's index.
        seed: Seed of all draws.
        weights: Probability of each stack of a plane; alike when None.
        length: Number of samples of one pass.
    """

    def __init__(
        self,
        slices: Mapping[str, Sequence[DrawableSlices]],
        transform: Transform | Sequence[Transform],
        seed: int = 0,
        weights: Mapping[str, NDArray[np.float64]] | None = None,
        length: int = 256,
    ) -> None:
        """Keep the stacks."""
        self.slices, self.transform, self.seed, self.length = slices, transform, seed, length
        self.planes, self.weights = tuple(slices), weights or dict.fromkeys(slices)

    def __len__(self) -> int:
        """Return the number of samples of one pass; any index is valid."""
        return self.length

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return sample ``index``, transformed."""
        draw = np.random.Generator(np.random.Philox(np.random.SeedSequence([self.seed, index])))
        plane = self.planes[draw.integers(len(self.planes))]
        place = draw.choice(len(self.slices[plane]), p=self.weights[plane])
        stack, useful = self.slices[plane][place]
        image = torch.from_numpy(np.moveaxis(stack[useful[draw.integers(len(useful))]], -1, 0).copy())
        transform = self.transform if callable(self.transform) else self.transform[place]
        set_state = getattr(transform, "set_random_state", None)
        if set_state is not None:
            set_state(seed=int(draw.integers(2**32)))
        return transform({"image": image, "planes": PLANES.index(plane), "index": index})


class SliceDataset(SliceStacks):
    """Sharp slices of whole images.

    An image serves the planes in which both spacings are as fine as its finest; an isotropic one serves all three.
    With ``any_plane``, an image that is sharp in one plane serves every plane: what is sharp in its own plane looks
    much alike in all (Jiang et al. 2024). Slices of mere background are left out.

    Args:
        data: The images, from ``find_animals``, or packed ones (`bida.training.pack`).
        transform: See ``SliceStacks``.
        seed: Seed of all draws.
        planes: The planes to teach.
        length: Number of samples of one pass.
        pairs: Give ``image`` as a pair [2, H, W], as scanned and denoised.
        any_plane: See above.
        cache: Folder that keeps the denoised images of pairs, which take seconds each; None keeps nothing.
        shares: Weight of each data set, by its folder's name; every image counts alike when None.

    Raises:
        SettingsError: No image serves a plane, or a data set has no share.
    """

    def __init__(
        self,
        data: Sequence[Animal | PackedImage],
        transform: Transform,
        seed: int = 0,
        planes: Sequence[str] = PLANES,
        length: int = 256,
        pairs: bool = False,
        any_plane: bool = False,
        shares: Mapping[str, float] | None = None,
        cache: Path | str | None = None,
    ) -> None:
        """Load every image into memory."""
        cache, any_plane = None if cache is None else Path(cache), yes_or_no(any_plane, "any_plane")
        slices: dict[str, list[DrawableSlices]] = {plane: [] for plane in planes}
        members: dict[str, list[str]] = {plane: [] for plane in planes}  # the data set of each of them
        for animal in data:
            volume, spacing = animal.read() if isinstance(animal, PackedImage) else load_pair(animal.path, cache, pairs)
            sharp = _sharp_stacks(volume if pairs else volume[..., :1], spacing)
            for plane in planes:
                served = [plane] if plane in sharp else list(sharp) if any_plane else []
                slices[plane] += [sharp[name] for name in served]
                members[plane] += [animal.data_set] * len(served)
        for plane, stacks in slices.items():
            if not stacks:
                raise SettingsError(f"data: the {plane} plane must have sharp slices, none has; drop it from planes")
        weights = {plane: _weights(members[plane], shares) for plane in planes}
        super().__init__(slices, transform, seed, weights, length)


class CountingSampler(Sampler[int]):
    """Yield ``start, start + 1, ...`` without end, every ``world``-th from ``rank``: sample indices are training time.

    ``start`` is set when training begins or resumes, so that a resumed run draws the samples that it would have drawn.
    """

    def __init__(self, rank: int = 0, world: int = 1) -> None:
        """Take this process's rank among ``world``."""
        self.rank, self.world, self.start = rank, world, 0

    def __iter__(self) -> Iterator[int]:
        """Count up from ``start``."""
        index = self.start + self.rank
        while True:
            yield index
            index += self.world
