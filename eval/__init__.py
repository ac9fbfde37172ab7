"""Figures of merit for restored volumes."""

from bida.eval.frechet import Kid, feature_frechet, frechet_distance, kid, ledoit_wolf
from bida.eval.metrics import consistency_residual, psnr, ssim
from bida.eval.overlap import cdsc, dice, hd95_mm
from bida.eval.seam import seam_index
from bida.eval.sharpness import sharpness, stitching
from bida.eval.skullstrip import make_stripper
from bida.eval.slice_fid import SliceFid, slice_fid
from bida.eval.slices import plane_slices
from bida.eval.spectrum import axis_spectrum, spectrum_distance_db
from bida.eval.statistics import bootstrap_interval, compare, holm, smallest_p
from bida.eval.structures import agreement, structure_dice, structure_volumes, volume_errors

__all__ = [
    "Kid",
    "SliceFid",
    "agreement",
    "axis_spectrum",
    "bootstrap_interval",
    "cdsc",
    "compare",
    "consistency_residual",
    "dice",
    "feature_frechet",
    "frechet_distance",
    "hd95_mm",
    "holm",
    "kid",
    "ledoit_wolf",
    "make_stripper",
    "plane_slices",
    "psnr",
    "seam_index",
    "sharpness",
    "slice_fid",
    "smallest_p",
    "spectrum_distance_db",
    "ssim",
    "stitching",
    "structure_dice",
    "structure_volumes",
    "volume_errors",
]
