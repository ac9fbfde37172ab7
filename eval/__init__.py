"""Figures of merit for restored volumes."""

from bida.eval.metrics import consistency_residual, psnr, ssim
from bida.eval.overlap import cdsc, dice, hd95_mm
from bida.eval.sharpness import sharpness, stitching
from bida.eval.skullstrip import make_stripper
from bida.eval.spectrum import axis_spectrum, spectrum_distance_db
from bida.eval.statistics import bootstrap_interval, compare, holm, smallest_p
from bida.eval.structures import agreement, structure_dice, structure_volumes, volume_errors

__all__ = [
    "agreement",
    "axis_spectrum",
    "bootstrap_interval",
    "cdsc",
    "compare",
    "consistency_residual",
    "dice",
    "hd95_mm",
    "holm",
    "make_stripper",
    "psnr",
    "sharpness",
    "smallest_p",
    "spectrum_distance_db",
    "ssim",
    "stitching",
    "structure_dice",
    "structure_volumes",
    "volume_errors",
]
