"""Random variation of training slices that MONAI does not have: mirror by plane, move, change contrast."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import Affine, MapTransform, RandomizableTransform

from bida.physics.grid import PLANES


class RandLeftRightFlipd(MapTransform, RandomizableTransform):
    """Mirror a slice left to right; sagittal slices, which have no left and right, stay as they are.

    Args:
        keys: Slices [1, H, W], H along R in axial and coronal slices.
        planes_key: Where the index into ``bida.physics.grid.PLANES`` is.
        prob: Probability.
    """

    def __init__(self, keys: KeysCollection, planes_key: str = "planes", prob: float = 0.5) -> None:
        """Store the parameters."""
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        self.planes_key = planes_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data, its slices mirrored by chance."""
        self.randomize(None)
        result = dict(data)
        if self._do_transform and PLANES[int(result[self.planes_key])] != "sagittal":
            for key in self.key_iterator(result):
                result[key] = torch.flip(result[key], dims=(1,))
        return result


class RandSimilarityd(MapTransform, RandomizableTransform):
    """Rotate, shift and scale a slice alike in both directions: MONAI's ``RandAffine`` scales each axis by itself.

    Args:
        keys: Slices [1, H, W].
        rotate: Largest rotation, degrees.
        translate: Largest shift along each axis, pixels.
        scale: Range of the scale, drawn evenly in its logarithm; above 1 the anatomy grows.
        prob: Probability.
    """

    def __init__(
        self,
        keys: KeysCollection,
        rotate: float = 10.0,
        translate: float = 5.0,
        scale: Sequence[float] = (0.6, 1.6),
        prob: float = 0.5,
    ) -> None:
        """Store the parameters."""
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        if not (rotate >= 0 and translate >= 0 and 0 < scale[0] <= scale[1]):
            raise ValueError(f"rotate, translate must be >= 0, scale rise above 0, got {rotate}, {translate}, {scale}")
        self.rotate, self.translate, self.scale = rotate, translate, tuple(scale)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data, its slices moved by chance, interpolated once by a cubic spline."""
        self.randomize(None)
        result = dict(data)
        if self._do_transform:
            low, high = self.scale
            step = 1 / (low * (high / low) ** self.R.random())  # of the sampling grid
            move = Affine(
                rotate_params=math.radians(self.R.uniform(-self.rotate, self.rotate)),
                translate_params=self.R.uniform(-self.translate, self.translate, 2).tolist(),
                scale_params=(step, step),
                mode="bicubic",
                padding_mode="border",
                image_only=True,
            )
            for key in self.key_iterator(result):
                moved = torch.as_tensor(move(result[key]))
                # splines overshoot at edges: never beyond the slice's own range, so that background stays exact
                result[key] = moved.clamp(result[key].min(), result[key].max())
        return result


class RandContrastd(MapTransform, RandomizableTransform):
    """Change gain and gamma of intensities above the background, -1: ``u -> gain u^gamma`` with ``u = (x + 1) / 2``.

    Args:
        keys: Slices on the scale of [-1, 1], where background is -1.
        gamma: Range of the exponent, drawn evenly in its logarithm.
        gain: Range of the factor.
        clip: Range of the result.
        prob: Probability.
    """

    def __init__(
        self,
        keys: KeysCollection,
        gamma: Sequence[float] = (0.8, 1.25),
        gain: Sequence[float] = (0.85, 1.15),
        clip: Sequence[float] = (-1.0, 2.0),
        prob: float = 0.5,
    ) -> None:
        """Store the parameters."""
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        if not (0 < gamma[0] <= gamma[1] and 0 < gain[0] <= gain[1]):
            raise ValueError(f"gamma and gain must be rising ranges above 0, got {tuple(gamma)} and {tuple(gain)}")
        self.gamma, self.gain, self.clip = tuple(gamma), tuple(gain), tuple(clip)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data, its intensities changed by chance."""
        self.randomize(None)
        result = dict(data)
        if self._do_transform:
            low, high = self.gamma
            gamma = low * (high / low) ** self.R.random()
            gain = self.R.uniform(self.gain[0], self.gain[1])
            for key in self.key_iterator(result):
                u = ((result[key] + 1) / 2).clamp_min(0)
                result[key] = (2 * gain * u**gamma - 1).clamp(*self.clip)
        return result


class RandScanNoised(MapTransform, RandomizableTransform):
    """Add the noise of a magnitude image to the slice as scanned, the first of a pair; the denoised one stays.

    The magnitude of a complex signal with Gaussian noise in both parts: Rician (Gudbjartsson & Patz 1995).

    Args:
        keys: Pairs [2, H, W], as scanned and denoised, on the scale of [-1, 1] with air at -1.
        sigma: Largest standard deviation, on that scale; drawn evenly from 0.
        bare: Share of slices whose exact background stays without noise, as in brain-extracted scans.
        prob: Probability.
    """

    def __init__(self, keys: KeysCollection, sigma: float = 0.15, bare: float = 0.5, prob: float = 0.5) -> None:
        """Store the parameters."""
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        if not sigma >= 0:
            raise ValueError(f"sigma must be >= 0, got {sigma}")
        self.sigma, self.bare = sigma, bare

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data, noise added by chance."""
        self.randomize(None)
        result = dict(data)
        if self._do_transform:
            for key in self.key_iterator(result):
                result[key] = self._noised(torch.as_tensor(result[key]))
        return result

    def _noised(self, pair: torch.Tensor) -> torch.Tensor:
        sigma = self.R.uniform(0, self.sigma) / 2  # of (x + 1) / 2
        real, imaginary = (torch.from_numpy(sigma * self.R.standard_normal(pair.shape[1:])).to(pair) for _ in range(2))
        noised = 2 * torch.hypot((pair[0] + 1) / 2 + real, imaginary) - 1
        if self.R.random() < self.bare:
            noised = torch.where(pair[0] == -1, pair[0], noised)
        return torch.stack([noised, pair[1]])
