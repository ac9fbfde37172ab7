"""Features of an Inception network, from a weights file that the user has: nothing is downloaded."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bida.errors import SettingsError, WeightsError
from bida.eval.slices.planes import finite

Float = NDArray[np.float64]

SIDE = 299  # pixels, of the images that the network was trained on
DIMENSION = 2048  # of its last pooling
BATCH = 16
CONTRACT = f"TorchScript that maps [B, 3, {SIDE}, {SIDE}] float32 in -1 to 1 to [B, {DIMENSION}]"


class InceptionFeatures:
    """Map slices to the features that a Frechet distance is called FID by (Szegedy et al. 2016, Heusel et al. 2017).

    The file is TorchScript that maps images [B, 3, 299, 299], float32 in -1 to 1, to the 2048 features after the last
    pooling, [B, 2048]; the arithmetic is its own, so any release of the network can be exported once and used here.
    Slices are brought from their range to -1 to 1 and clipped, resized by bilinear interpolation with smoothing, and
    one channel is repeated three times. Histograms stay as they are.

    Args:
        path: the file.
        digest: its SHA-256, 64 hexadecimal digits.
        device: where to compute.

    Raises:
        SettingsError: the digest is not 64 hexadecimal digits.
        WeightsError: the file is missing, has another hash, or is no such network.
    """

    def __init__(self, path: str | Path, digest: str, device: str = "cpu") -> None:
        """Check the file's hash and load it."""
        import torch

        from bida.io.weights import sha256

        self.path, self.device = Path(path), device
        if not re.fullmatch("[0-9a-fA-F]{64}", digest):
            raise SettingsError(f"--inception-sha256: must be 64 hexadecimal digits, got {digest!r}")
        if not self.path.is_file():
            raise WeightsError(f"{path}: Inception weights must exist, none found; check --inception-weights")
        found = sha256(self.path)
        if found != digest.lower():
            raise WeightsError(
                f"{path}: SHA-256 must be {digest.lower()}, got {found}; the file is not the one meant: get it again"
            )
        try:
            self._network: Any = torch.jit.load(str(self.path), map_location=device).eval()
        except (RuntimeError, ValueError) as error:
            raise WeightsError(
                f"{path}: Inception weights must be {CONTRACT}, loading failed; export them so"
            ) from error

    def __call__(self, slices: ArrayLike, limits: Sequence[float]) -> Float:
        """Return the features [N, 2048] of slices.

        Args:
            slices: [N, 1, H, W].
            limits: (darkest, brightest) intensity, that go to -1 and 1.

        Raises:
            SettingsError: slices or limits are not as said, or a value is NaN or Inf.
            WeightsError: the network does not do what is said of it.
        """
        import torch
        from torch.nn.functional import interpolate

        x = finite("slices", slices, "[N, 1, H, W]")
        low, high = limits
        if x.shape[1] != 1 or not low < high:
            raise SettingsError(
                f"inception: slices must be [N, 1, H, W] and the darkest value below the brightest, "
                f"got {x.shape}, {low:g} and {high:g}"
            )
        images = torch.from_numpy((2 * (x - low) / (high - low) - 1).clip(-1, 1).astype(np.float32))
        features = []
        with torch.inference_mode():
            for batch in images.to(self.device).split(BATCH):
                resized = interpolate(batch, (SIDE, SIDE), mode="bilinear", antialias=True)
                features.append(self._features(resized.expand(-1, 3, -1, -1)))
        return np.concatenate(features)

    def _features(self, images: Any) -> Float:
        try:
            found = self._network(images)
        except RuntimeError as error:
            raise WeightsError(
                f"{self.path}: Inception weights must be {CONTRACT}, it failed; export them so"
            ) from error
        shape = tuple(getattr(found, "shape", ()))
        if shape != (len(images), DIMENSION):
            got = shape or type(found).__name__
            raise WeightsError(f"{self.path}: Inception weights must be {CONTRACT}, got {got}; export them so")
        return found.cpu().double().numpy()
