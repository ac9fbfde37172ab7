"""The network of masked slices: rows of a slice are known, it tells the others (Jiang et al. 2024, MSDSR).

One class serves the diffusion models and the two baselines they are compared with, which differ in what the network
sees and predicts:

    diffusion   sees the slice with its known rows clean and the others noised at a time t; predicts v, eps or x0
    msunet      sees the slice with its known rows clean and pure noise in the others; predicts x0 in one pass
    e2e         sees rows X_i and X_{i+2} as channels; predicts X_{i+1}
    guided      sees what the linear interpolation of evenly spaced known rows lacks, in units of `UNIT`, noised at a
                time t in the other rows, beside the interpolation and each row's distances from the known ones;
                predicts v, eps or x0 of it. From no noise at the highest time it tells the mean in one step. It is a
                network of one channel, which serves each channel of a stack
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bida.diffusion.prediction import PREDICTIONS
from bida.diffusion.prior import MOST_TIMES
from bida.diffusion.resnet import SliceResNet
from bida.diffusion.schedule import cosine_alpha_bar
from bida.diffusion.unet import SliceUNet
from bida.errors import SettingsError, WeightsError
from bida.io.weights import check_size, load_weights, read_weights
from bida.microscopy.settings import check_weights
from bida.options import yes_or_no

METHODS = ("diffusion", "msunet", "e2e", "guided")  # weights hold one as its place here: add at the end only
TIMESTEPS = 1000  # T of the cosine schedule
UNIT = 0.2  # about what linear interpolation lacks, on the scale of [-1, 1]
REACH = 8.0  # voxels: the unit of the distances that a guided network is shown
GUIDE = 3  # channels of what it is shown beside the slice: interpolation and two distances
# the settings that only some methods have, with their defaults
SAMPLED = ("diffusion", "guided")  # in steps of a diffusion
SETTINGS: dict[str, dict[str, Any]] = {
    "diffusion": {"rows": (5, 20), "prediction": "v", "timesteps": TIMESTEPS},
    "msunet": {"rows": (5, 20)},
    "e2e": {},
    "guided": {"factors": (1.5, 8.0), "prediction": "v", "timesteps": TIMESTEPS},
}


def method_settings(method: str, **given: Any) -> dict[str, Any]:
    """Return the settings of `SETTINGS` that a method has, the defaults where None is given.

    Raises:
        SettingsError: The method is unknown, or has no use for what is given.
    """
    if method not in METHODS:
        raise SettingsError(f"method: must be one of {', '.join(METHODS)}, got {method!r}")
    defaults = SETTINGS[method]
    chosen = {name: value for name, value in given.items() if value is not None}
    for name, value in chosen.items():
        if name not in defaults:
            raise SettingsError(
                f"{name}: must be null with method {method}, which has no use for it, got {value}; leave it out"
            )
    return defaults | chosen


class MaskedPrior(nn.Module):
    """Predict the unknown rows of slices.

    Its weights hold how it was built, see `MaskedPrior.load`.

    Args:
        method: One of `METHODS`.
        image_channels: Channels of a slice, C.
        widths: Width of each level of the U-Net; of ``guided``, a flat network, one width.
        blocks: Residual blocks a level.
        prediction: What a diffusion model predicts: ``v`` (when None), ``eps`` or ``x0``; the others predict ``x0``.
        timesteps: Length T of the cosine schedule, of diffusion models alone; `TIMESTEPS` when None.
        mask_channel: Show the network as one more channel which rows are known; not for ``e2e``, which has no mask,
            nor ``guided``, which is shown distances.
        dtype: Arithmetic of the network, ``float32`` or ``bfloat16``; inputs and outputs are float32.

    Attributes:
        alpha_bar: [T] float64.
        stride: H and W are multiples of it.
        weights_sha256: Of the file that the weights were loaded from.

    Raises:
        SettingsError: A value is unknown or out of its range, or the method has no use for it.
    """

    def __init__(
        self,
        method: str = "diffusion",
        image_channels: int = 1,
        widths: Sequence[int] = (64, 128),
        blocks: int = 2,
        prediction: str | None = None,
        timesteps: int | None = None,
        mask_channel: bool = False,
        dtype: str = "float32",
    ) -> None:
        """Make the network."""
        super().__init__()
        own = method_settings(method, prediction=prediction, timesteps=timesteps)
        self.prediction: str = own.get("prediction", "x0")
        T = own.get("timesteps", TIMESTEPS)
        for name, value, choices in (
            ("prediction", self.prediction, PREDICTIONS),
            ("dtype", dtype, ("float32", "bfloat16")),
        ):
            if value not in choices:
                raise SettingsError(f"{name}: must be one of {', '.join(choices)}, got {value!r}")
        mask_channel = yes_or_no(mask_channel, "mask_channel")
        check_mask_channel(method, mask_channel)
        if method == "guided":
            if len(widths) != 1 or image_channels != 1:
                raise SettingsError(
                    f"widths: must be one width, of one channel, with method guided, got {list(widths)} of "
                    f"{image_channels} channel(s); take [64]"
                )
            self.network: nn.Module = SliceResNet(widths[0], blocks, 1, in_channels=1 + GUIDE)
        else:
            seen = 2 * image_channels if method == "e2e" else image_channels + int(mask_channel)
            self.network = SliceUNet(widths, blocks, 1, in_channels=seen, out_channels=image_channels)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing from torch's stubs
        self.method, self.image_channels, self.mask_channel = method, image_channels, mask_channel
        self.compute_dtype = getattr(torch, dtype)
        self.stride, self.alpha_bar, self.weights_sha256 = int(self.network.stride), cosine_alpha_bar(T), ""
        layout = [METHODS.index(method), PREDICTIONS.index(self.prediction), T]
        layout += [image_channels, int(mask_channel), blocks, *widths]
        self.register_buffer("layout", torch.tensor(layout, dtype=torch.int32))

    @staticmethod
    def load(path: str | Path, dtype: str = "float32") -> MaskedPrior:
        """Return the network of a weights file.

        Raises:
            WeightsError: The file is missing, or holds no such network.
        """
        check_weights(path)
        try:
            weights = read_weights(path, Path(path).name)
            state = weights.state
            method, prediction, timesteps, channels, mask_channel, blocks, *widths = state["layout"].tolist()
            counts = (method, prediction, blocks, channels, *widths)
            if min(counts) < 0 or max(blocks, len(widths)) > len(state) or not 1 <= timesteps <= MOST_TIMES:
                raise ValueError(f"layout must be known, is {state['layout'].tolist()}")
            sampled = METHODS[method] in SAMPLED
            own = {"prediction": PREDICTIONS[prediction], "timesteps": timesteps} if sampled else {}
            make = partial(MaskedPrior, METHODS[method], channels, widths, blocks, **own)
            with torch.device("meta"):
                check_size(make(mask_channel=bool(mask_channel), dtype=dtype), state)
            prior = make(mask_channel=bool(mask_channel), dtype=dtype)
        except Exception as error:  # whatever else the file is
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise WeightsError(
                f"{path}: weights must be those of 'bida train-masked', reading failed ({reason}); name another file"
            ) from error
        prior.weights_sha256 = load_weights(prior, weights)
        return prior.eval()

    def forward(self, x: Tensor, timesteps: Tensor) -> Tensor:
        """Return the raw prediction [B, C, H, W], float32, for what the method shows of slices at times [B] or [1]."""
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.compute_dtype == torch.bfloat16):
            if self.method == "guided":
                return self.network(x, timesteps, torch.zeros_like(timesteps)).float()
            return self.network(x, timesteps).float()


def check_mask_channel(method: str, mask_channel: bool) -> None:
    """Check that a method has a use for a channel that shows which rows are known.

    Raises:
        SettingsError: It has none.
    """
    if mask_channel and method in ("e2e", "guided"):
        why = "has no mask" if method == "e2e" else "is shown distances from the known rows"
        raise SettingsError(f"mask_channel: must be false with method {method}, which {why}, got true")


def with_mask(x: Tensor, known: Tensor) -> Tensor:
    """Return slices [..., C, H, W] with a channel that is 1 in the known rows, ``known`` [H]; [..., C + 1, H, W]."""
    channel = known.to(x.dtype)[:, None].expand(*x.shape[:-3], 1, *x.shape[-2:])
    return torch.cat([x, channel], dim=-3)


def guided_input(lacking: Tensor, guide: Tensor, distances: Tensor) -> Tensor:
    """Return what a guided network sees, [..., 1 + GUIDE, H, W].

    Args:
        lacking: What the interpolation lacks, in units of `UNIT`, noised, zero in the known rows, [..., 1, H, W].
        guide: The interpolation, [..., 1, H, W].
        distances: Of each row from the known ones below and above it, rows, [2, H].
    """
    shown = (distances / REACH).to(guide.dtype)[:, :, None].expand(*guide.shape[:-3], 2, *guide.shape[-2:])
    return torch.cat([lacking, guide, shown], dim=-3)


class RowLoss(nn.Module):
    """Mean error over the rows that the network was not shown (Jiang et al. 2024, Eq. 6, where it is absolute).

    Every unknown value of a batch counts alike.

    Args:
        squared: Square the errors, so that the mean is learned and not the median.
    """

    def __init__(self, squared: bool = False) -> None:
        """Keep which error counts."""
        super().__init__()
        self.squared = squared

    def forward(self, prediction: Tensor, label: Tensor) -> Tensor:
        """Return the loss of predictions [B, C, H, W]; the label's last channel is 1 where they count, [B, C+1, H, W].

        A batch without an unknown row has the loss 0.
        """
        target, counted = label[:, :-1], label[:, -1:]
        error = prediction - target
        total = ((error.square() if self.squared else error.abs()) * counted).sum()
        return total / (counted.sum() * target.shape[1]).clamp(min=1)
