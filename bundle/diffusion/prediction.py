"""What a network predicts (v, eps or x0) of a noised image, and the way back to x0 and noise."""

from __future__ import annotations

from torch import Tensor

PREDICTIONS = ("v", "eps", "x0")


def diffuse(x0: Tensor, noise: Tensor, alpha_bar: Tensor) -> Tensor:
    """Noise clean slices: ``x_t = sqrt(ab) x0 + sqrt(1 - ab) noise`` (Ho et al. 2020, Eq. 4).

    Args:
        x0: Clean slices [B, C, H, W].
        noise: Standard normal, the shape of ``x0``.
        alpha_bar: Cumulative signal power of each slice's time [B].

    Returns:
        Tensor of the shape of ``x0``.
    """
    ab = alpha_bar.to(x0.dtype)[:, None, None, None]
    return ab.sqrt() * x0 + (1 - ab).sqrt() * noise


def prediction_target(x0: Tensor, noise: Tensor, alpha_bar: Tensor, prediction: str) -> Tensor:
    """Return what the network learns to predict: v (Salimans & Ho 2022, Eq. 10), the noise, or the clean slice."""
    ab = alpha_bar.to(x0.dtype)[:, None, None, None]
    if prediction == "v":
        return ab.sqrt() * noise - (1 - ab).sqrt() * x0
    return noise if prediction == "eps" else x0


def estimates(x: Tensor, out: Tensor, ab: float, prediction: str) -> tuple[Tensor, Tensor]:
    """Return (x0, e), what a network's output says of the clean slices and of the noise in x, at alpha-bar ``ab``."""
    a, s = ab**0.5, (1 - ab) ** 0.5
    if prediction == "v":  # Salimans & Ho 2022, appendix D
        return a * x - s * out, a * out + s * x
    if prediction == "eps":
        return (x - s * out) / a, out
    return out, (x - a * out) / s


def error_share(ab: float, prediction: str) -> float:
    """Return how large an error of the clean slices is, at alpha-bar ``ab``, over that of a network's output."""
    return {"v": (1 - ab) ** 0.5, "eps": ((1 - ab) / ab) ** 0.5, "x0": 1.0}[prediction]
