"""From a scan to an isotropic volume: the two calls of a user. `run` knows every part of it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
from numpy.typing import ArrayLike, NDArray

from bida.errors import BidaWarning, SettingsError
from bida.mri.result import Result
from bida.mri.run import Prepared, finished, measured, ready_prior, way_of
from bida.mri.settings import EVERY, Settings, check_alone, check_known
from bida.mri.source import Source, source_of
from bida.options import options_of
from bida.progress import Progress, Report
from bida.provenance import Clock
from bida.transforms.base import emptied

if TYPE_CHECKING:
    from torch import Tensor

OPTIONS = frozenset(options_of(Settings))


def restore(
    source: Source,
    settings: Settings | None = None,
    progress: Progress | None = None,
    on_draw: Callable[[NDArray[np.float32]], None] | None = None,
    on_adapt: Report | None = None,
    checkpoint: Path | None = None,
) -> Result:
    """Turn a thick-slice scan into an isotropic volume: the mean of what the scan can come from, in one step, or draws.

    Args:
        source: The scan: NIfTI, NRRD, MetaImage, a DICOM folder, a ParaVision scan, or a nibabel NIfTI image.
        settings: Choices of the run; the defaults when None.
        progress: Called with (steps done, steps in all).
        on_draw: Called with each draw, or with the mean, like the result's ``data``.
        on_adapt: Called after each step of an adaptation with (seconds done, seconds in all, loss).
        checkpoint: File from which an adaptation that was cut off goes on; whoever keeps the result removes it.

    Returns:
        The volume, the record of the run, and the uncertainty (`bida.diffusion.prior.PlanePrior.uncertainty`): of
        the mean where the weights tell it, else where ``samples`` is above 1.

    Raises:
        ScanError: The scan cannot be used.
        SettingsError: A setting is out of range or contradicts another.
        WeightsError: The weights are missing or not what they should be.
    """
    settings = settings or Settings()
    check_alone(settings)
    if settings.volume == EVERY:
        from bida.mri.series import restore_series

        if on_draw is not None:
            raise SettingsError(f"--keep-draws: is for one volume, got --volume {EVERY}; leave one of them out")
        return restore_series(source, settings, lambda one, told: restore(source, one, told), progress)
    clock = Clock()
    prior = ready_prior(settings, clock)
    image, records = way_of(settings, prior.stride).there(source)
    clock.lap("preprocess")
    scan = measured(image, prior)
    part = Prepared(source, scan, [scan], emptied(image), records)
    return finished(part, settings, prior, clock, progress, on_draw, on_adapt, checkpoint)


def superres(
    source: Source | NDArray | Tensor | Sequence[Source],
    settings: Settings | None = None,
    *,
    affine: ArrayLike | None = None,
    preset: str | None = None,
    progress: Progress | None = None,
    spacing: str | float | None = None,
    factor: float | None = None,
    axis: str | None = None,
    thickness: str | float | None = None,
    gap: float | None = None,
    profile: str | Path | None = None,
    like: str | Path | None = None,
    volume: str | int | None = None,
    scale_header: float | None = None,
    series: str | None = None,
    echo: int | None = None,
    position: str | None = None,
    subject: str | None = None,
    correct_slices: bool | None = None,
    align: bool | None = None,
    n4: bool | None = None,
    bias_corrected: bool | None = None,
    steps: int | None = None,
    samples: int | None = None,
    fusion: str | None = None,
    eta: float | None = None,
    guided: bool | None = None,
    grain: bool | None = None,
    self_check: bool | None = None,
    noise: str | float | None = None,
    adapt: str | float | None = None,
    seed: int | None = None,
    device: str | None = None,
    dtype: str | None = None,
    batch_size: int | None = None,
    model: str | Path | None = None,
    **unknown: Any,
) -> Result:
    """Turn a thick-slice scan into an isotropic volume.

    It is the mean of what the scan can come from, in one step; with ``samples=K`` the mean of K draws.

    Args:
        source: The scan: NIfTI, NRRD, MetaImage, a DICOM folder, a ParaVision scan, a nibabel NIfTI image, or voxels
            [X, Y, Z] as a numpy array or a torch tensor, with their ``affine``. A list of two or more scans, of one
            animal and contrast, makes one volume, on the first one's grid (`bida.mri.combine.restore_combined`).
        settings: All choices at once, instead of the options below.
        affine: Of voxels alone: 4 x 4, voxel index to mm (RAS+). MONAI's MetaTensor brings its own.
        preset: ``paper`` for the settings as published, changed by the options that are given.
        progress: Called with (steps done, steps in all).

    All other arguments are the options of ``bida.Settings``, which says what they mean, and those of the command; one
    that is None has the default that stands there, or the preset's.

    Returns:
        The volume, its affine, the record of the run, and the uncertainty, but for a single draw.

    Warns:
        BidaWarning: Of each of the result's warnings.

    Raises:
        ScanError: The scan cannot be used.
        SettingsError: An option is out of range or contradicts another, or is given beside ``settings``.
        WeightsError: The weights are missing or not what they should be.
    """
    options = {name: value for name, value in locals().items() if name in OPTIONS and value is not None}
    check_known([*unknown])
    if settings is None:
        settings = Settings.of(preset, **options)
    elif options or preset is not None:
        extra = ", ".join([*options, *(["preset"] if preset else [])])
        raise SettingsError(f"settings: must stand alone, got {extra} too; change them by dataclasses.replace")
    scan = source_of(source, affine)
    if isinstance(scan, str | Path | nib.Nifti1Pair):
        result = restore(scan, settings, progress)
    else:
        from bida.mri.combine import restore_combined

        result = restore_combined(scan, settings, progress)
    for warning in result.warnings:
        warnings.warn(warning, BidaWarning, stacklevel=2)
    return result
