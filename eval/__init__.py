"""Figures of merit for restored volumes."""

from bida.eval.metrics import psnr, ssim

__all__ = ["psnr", "ssim"]
