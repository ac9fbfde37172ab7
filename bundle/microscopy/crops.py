"""The paired experiment in 2D: rows of small XY crops masked, put back by every method (Jiang et al. 2024)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from bida.errors import SettingsError
from bida.eval.metrics import psnr, ssim
from bida.eval.slices.frechet import feature_frechet
from bida.eval.slices.inception import InceptionFeatures
from bida.eval.slices.oriented import oriented_features
from bida.eval.slices.panel import PanelRow
from bida.microscopy.load import IntensityLine
from bida.microscopy.settings import CROP_SIDE, check_crop_factor
from bida.microscopy.stacks.stack import Stack

Float = NDArray[np.float64]

FEWEST = 4  # crops: two in each half
CROP = "crop"  # the plane of their figures


class Crops:
    """Random crops of 48 x 48 pixels of a truth's XY slices, with every F-th row known.

    They are laid out as one stack whose planes are the crops' rows, so that every method that restores stacks restores
    them by its XZ slices. The row after the last one is known too: no method has to extrapolate. The distances compare
    even crops with odd ones, as `Panel` does with slices. Channels are averaged.

    Args:
        truth: Where they are cut from.
        count: How many, at least 4.
        seed: Of their places.
        inception: Take the Frechet distance of its features (``fid``) instead of the oriented ones'.

    Raises:
        SettingsError: The truth is smaller than 49 x 48 pixels, or there are too few crops.
    """

    def __init__(self, truth: Stack, count: int, seed: int = 0, inception: InceptionFeatures | None = None) -> None:
        """Cut them."""
        height, width = truth.data.shape[2:]
        if count < FEWEST or height <= CROP_SIDE or width < CROP_SIDE:
            raise SettingsError(
                f"crops: there must be {FEWEST} or more and slices of {CROP_SIDE + 1} x {CROP_SIDE} pixels or more, "
                f"got {count} and {height} x {width}"
            )
        generator = np.random.default_rng(seed)
        plane, top, left = (
            generator.integers(size, size=count)
            for size in (truth.data.shape[1], height - CROP_SIDE, width - CROP_SIDE + 1)
        )
        cut = [truth.data[:, z, y : y + CROP_SIDE + 1, x : x + CROP_SIDE] for z, y, x in zip(plane, top, left)]
        line = IntensityLine.of(truth.data)
        self.limits = list(zip(line.low.astype(np.float64), line.high.astype(np.float64)))
        self.stack = replace(truth, data=np.stack(cut, axis=2))  # [C, rows, crops, columns]
        self.truth, self.inception = pictures(self.stack), inception
        self._odd = [self._features(c, self.truth[1::2]) for c in range(len(self.limits))]

    def kept(self, factor: int) -> Stack:
        """Return the known rows as the planes of a stack.

        Raises:
            SettingsError: The factor does not divide 48.
        """
        check_crop_factor(factor)
        z, y, x = self.stack.spacing_um
        return replace(self.stack, data=self.stack.data[:, ::factor], spacing_um=(z * factor, y, x))

    def floor(self) -> list[PanelRow]:
        """Return the Frechet distance of the truth's even crops from its odd ones."""
        return [self._frechet(self.truth)]

    def scores(self, restored: Stack, factor: int) -> list[PanelRow]:
        """Return PSNR, dB, of all masked rows together, the crops' mean SSIM there, and the Frechet distance."""
        found = pictures(restored)
        masked = np.broadcast_to((np.arange(CROP_SIDE) % factor != 0)[:, None], (CROP_SIDE, CROP_SIDE))
        everywhere = np.broadcast_to(masked, (len(found), CROP_SIDE, CROP_SIDE))
        ratios, similarities = [], []
        for c, (low, high) in enumerate(self.limits):
            ratios.append(psnr(found[:, c], self.truth[:, c], high - low, everywhere))
            similarities += [ssim(a, b, high - low, masked) for a, b in zip(found[:, c], self.truth[:, c])]
        return [
            PanelRow(CROP, "psnr", float(np.mean(ratios))),
            PanelRow(CROP, "ssim", float(np.mean(similarities))),
            self._frechet(found),
        ]

    def _frechet(self, crops: Float) -> PanelRow:
        even = [self._features(c, crops[::2]) for c in range(len(self.limits))]
        value = float(np.mean([feature_frechet(a, b) for a, b in zip(even, self._odd)]))
        return PanelRow(CROP, "oriented_frechet" if self.inception is None else "fid", value)

    def _features(self, channel: int, crops: Float) -> Float:
        """Return the features of one channel of crops [N, C, 48, 48]."""
        low, high = self.limits[channel]
        if self.inception is None:
            return oriented_features(crops[:, [channel]], high - low)
        return self.inception(crops[:, [channel]], (low, high))


def pictures(stack: Stack) -> Float:
    """Return a stack of crops [C, rows, crops, 48] as slices [crops, C, 48, 48], float64."""
    return np.transpose(stack.data[:, :CROP_SIDE].astype(np.float64), (2, 0, 1, 3))
