"""Figures of merit for restored volumes."""

from bida.eval.frechet import Kid, feature_frechet, frechet_distance, kid, ledoit_wolf
from bida.eval.metrics import consistency_residual, psnr, ssim
from bida.eval.oriented import oriented_features
from bida.eval.overlap import cdsc, dice, hd95_mm
from bida.eval.panel import Panel, PanelRow
from bida.eval.seam import seam_index
from bida.eval.sharpness import sharpness, stitching
from bida.eval.skullstrip import make_stripper
from bida.eval.slice_fid import SliceFid, slice_fid
from bida.eval.slices import plane_slices
from bida.eval.spectrum import axis_spectrum, log_spectrum_db, spectrum_distance_db
from bida.eval.statistics import bootstrap_interval, compare, holm, smallest_p
from bida.eval.structures import agreement, structure_dice, structure_volumes, volume_errors
from bida.eval.wasserstein import sliced_wasserstein

__all__ = [
    "Kid",
    "Panel",
    "PanelRow",
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
    "log_spectrum_db",
    "make_stripper",
    "oriented_features",
    "plane_slices",
    "psnr",
    "seam_index",
    "sharpness",
    "slice_fid",
    "sliced_wasserstein",
    "smallest_p",
    "spectrum_distance_db",
    "ssim",
    "stitching",
    "structure_dice",
    "structure_volumes",
    "volume_errors",
]
