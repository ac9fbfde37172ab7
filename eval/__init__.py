"""Figures of merit for restored volumes. Start reading at `metrics.py`.

Of the rest of bida only errors, io.weights and physics.grid may be imported.
"""

from bida.eval.bricks import brick_index, slice_borders
from bida.eval.metrics import consistency_residual, psnr, ssim
from bida.eval.overlap import cdsc, dice, hd95_mm
from bida.eval.sharpness import sharpness, stitching
from bida.eval.skullstrip.strippers import make_stripper
from bida.eval.slices.frechet import Kid, feature_frechet, frechet_distance, kid, ledoit_wolf
from bida.eval.slices.oriented import oriented_features
from bida.eval.slices.panel import Panel, PanelRow
from bida.eval.slices.planes import plane_slices
from bida.eval.slices.seam import seam_index
from bida.eval.slices.slice_fid import SliceFid, slice_fid
from bida.eval.slices.spectrum import axis_spectrum, log_spectrum_db, spectrum_distance_db
from bida.eval.slices.wasserstein import sliced_wasserstein
from bida.eval.statistics import bootstrap_interval, compare, holm, smallest_p
from bida.eval.structures import agreement, structure_dice, structure_volumes, volume_errors

__all__ = [
    "Kid",
    "Panel",
    "PanelRow",
    "SliceFid",
    "agreement",
    "axis_spectrum",
    "bootstrap_interval",
    "brick_index",
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
    "slice_borders",
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
