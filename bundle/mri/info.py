"""What `bida info` says of a scan: what superres would do with it, and on request what the prior is worth on it."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import torch

from bida.device import choose_device
from bida.diffusion.int8 import IntegerPass
from bida.diffusion.load import load_prior, prior_of
from bida.diffusion.prior import SHOWN, PlanePrior
from bida.io.scan import volumes_of
from bida.io.volumes import Volumes
from bida.mri.content import SLICES, slices_at_once
from bida.mri.measurement import Padding, ScanMeta
from bida.mri.memory import needed_bytes
from bida.mri.record import check_warnings, verdict
from bida.mri.run import measured, way_of
from bida.mri.sampler import BiplanarSampler
from bida.mri.selfcheck import WINDOW
from bida.mri.series import first_volume
from bida.mri.settings import EVERY, Settings
from bida.physics.grid import AXES, NORMAL, planes_containing

RELEASED = "released, trained on mouse brains, and rat and synthetic heads; look twice at anything else"


def information(scan: str, settings: Settings, checking: bool = False) -> str:
    """Return the plan of a run in lines of text, see `rows_of`."""
    return "\n".join([scan, *(f"  {name:<18}  {text}" for name, text in rows_of(scan, settings, checking))])


def as_json(scan: str, settings: Settings, checking: bool = False) -> dict[str, Any]:
    """Return the plan of a run as JSON can hold it: names with ``_`` for blanks, the notes as a list."""
    rows = rows_of(scan, settings, checking)
    told: dict[str, Any] = {name.replace(" ", "_").replace("-", "_"): text for name, text in rows if name != "note"}
    return {"scan": scan, **told, "notes": [text for name, text in rows if name == "note"]}


def rows_of(scan: str, settings: Settings, checking: bool = False) -> list[tuple[str, str]]:
    """Return the plan of a run, as rows of name and text.

    Args:
        scan: The scan.
        settings: Of the run.
        checking: Do the self-check, too.

    Raises:
        ScanError: The scan cannot be used.
        SettingsError: A setting is out of range or contradicts another.
        WeightsError: The weights are missing or not what they should be.
    """
    several = None
    if settings.volume == EVERY:
        several, settings = volumes_of(scan, series=settings.series, echo=settings.echo), first_volume(scan, settings)
    count = 1 if several is None else len(several.parts)
    device = choose_device(settings.device)
    prior = load_prior(prior_of(settings.model), settings.model, device, settings.dtype)
    # N4 takes seconds and changes no grid
    image, _ = way_of(replace(settings, n4=settings.n4 and checking), prior.stride).there(scan)
    meta = ScanMeta.of(image.meta)
    assert meta.geometry is not None  # the plan is in it
    geometry = meta.geometry.unpadded()
    planes = planes_containing(geometry.axis)
    seconds = time_estimate(prior, image.shape, meta.padding, planes, settings)
    warnings, lines = list(meta.warnings), []
    if checking:
        sampler = BiplanarSampler(replace(settings, self_check=True))
        check = sampler.check(measured(image, prior), prior)
        found = None if check is None else check.record()
        lines += self_check_lines(found)
        warnings += check_warnings(settings, found)
    table = {
        "through-plane axis": f"{AXES[geometry.axis]}; restored in {planes[0]} and {planes[1]} planes",
        "slices": f"{geometry.slices}, {geometry.slice_spacing_mm:.4g} mm apart, {geometry.thickness_mm:.4g} mm thick "
        f"({meta.thickness_from})"
        + (f", {len(geometry.missing)} of them without a measurement" if geometry.missing else ""),
        "factor": f"{geometry.factor:.4g}, the slice spacing over the voxel size of the result",
        "noise": noise_line(meta.noise_level),
        "result": f"{' x '.join(str(grid.voxels) for grid in meta.grids)} voxels of "
        f"{' x '.join(f'{grid.spacing_mm:.4g}' for grid in meta.grids)} mm (R, A, S)",
        "slice profile": str(geometry.profile) + (" (Shinnar-Le Roux)" if geometry.profile == "slr" else ""),
        "network": f"{device}, {prior.arithmetic(settings.is_mean)}, "
        + ("the mean in one step" if settings.is_mean else f"{settings.steps_taken} steps, {settings.samples} draw(s)"),
        "weights": str(settings.model or RELEASED),
        **({} if several is None else {"volumes": volumes_line(several)}),
        "memory": f"about {needed_bytes(math.prod(grid.voxels for grid in meta.grids)) / 1e9:.1f} GB",
        "time": f"about {seconds * count:.0f} s",
    }
    return [*table.items(), *lines, *(("note", warning) for warning in warnings)]


def volumes_line(found: Volumes) -> str:
    """Return what volumes there are, in words."""
    names = [one.name for one in found.parts if one.name]
    shown = ", ".join(names[:8]) + (" ..." if len(names) > 8 else "")
    apart = "" if found.step_s is None else f", {found.step_s:.4g} s apart"
    return f"{len(found.parts)}{apart}{f' ({shown})' if names else ''}; what is told here is of the first"


def noise_line(level: Mapping[str, Any] | None) -> str:
    """Return what is known of the noise of a slice, in words."""
    if level is None:
        return "can't be told; slices are taken as exact"
    if level["source"] == "given":
        return f"standard deviation {level['sigma']:.4g}, as given"
    if not level["sigma"]:
        return "none found"
    where = "the background" if level["source"] == "background" else "the slices' tissue"
    return f"standard deviation {level['sigma']:.4g}, SNR {level['snr']:.3g} in tissue, estimated from {where}"


def self_check_lines(check: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """Return what the self-check found, as rows of name and text."""
    if check is None:
        return [("self-check", "not possible: the slices are too small or too empty")]
    where = f"{check['slices']} {check['plane']} slices made thick in their plane"
    return [("self-check", f"{verdict(check)} ({where})")]


def synchronise(device: torch.device) -> None:
    """Wait for the device, so that a clock tells what it took."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def time_estimate(
    prior: PlanePrior, shape: tuple[int, ...], padding: Padding, planes: tuple[str, str], settings: Settings
) -> float:
    """Return the seconds that sampling takes, with adaptation and self-check, from the time of a few micro-batches.

    That is of whole slices: where there is background to skip, it takes less.
    """

    kind = next(prior.parameters()).device.type

    @cache  # planes of one size take one time
    def once(slices: int, height: int, width: int) -> float:
        int8 = settings.is_mean and prior.int8
        return micro_batch_seconds(prior, planes[0], (slices, height, width), settings.guided, int8)

    total = 0.0
    for plane in planes:
        height, width = (shape[axis] for axis in range(3) if axis != NORMAL[plane])
        needed = shape[NORMAL[plane]] - (sum(padding[NORMAL[plane]]) if settings.fusion == "final" else 0)
        slices = slices_at_once(kind, needed, height, width)
        total += once(slices, height, width) * math.ceil(needed / slices)
    if settings.self_check:  # one micro-batch along each of two axes
        height, width = sorted(min(size, WINDOW) for size in shape)[-2:]
        checks = 1 if settings.adapt is None else 2  # before an adaptation and after
        total += 2 * checks * once(SLICES, height, width)
    return total * settings.steps_taken * settings.runs + 60 * settings.adapt_minutes


def micro_batch_seconds(
    prior: PlanePrior, plane: str, shape: tuple[int, int, int], guided: bool, int8: bool = False
) -> float:
    """Return the seconds that the prior takes for a micro-batch of slices [B, H, W], in integers with all channels.

    Args:
        prior: The prior.
        plane: Of the slices.
        shape: B, H and W.
        guided: With a guide; of a guided prior.
        int8: In integers; of one that has them.
    """
    batch = torch.zeros(*shape, device=next(prior.parameters()).device)[:, None]
    shown = batch.repeat(1, SHOWN, 1, 1) if guided and prior.guided else None
    network = IntegerPass.of(prior, [(batch, shown)], 500, plane) if int8 and shown is not None else None
    prior.predict(batch, 500, plane, shown, network=network)
    synchronise(batch.device)
    start = time.perf_counter()
    prior.predict(batch, 500, plane, shown, network=network)
    synchronise(batch.device)
    return time.perf_counter() - start
