"""Self-supervised super-resolution, in the manner of SMORE and ECLARE: a network trained on the scan and nothing else.

Its slices are sharp in-plane. A small 2D network learns to undo, on patches of them, what the scan's own slice profile
does along one in-plane axis; then it is applied to the two planes that contain the through-plane axis ("0 and 90
degrees"), and the two volumes are averaged.

The idea is that of SMORE (Zhao et al., IEEE Trans. Med. Imaging 40(3):805-817, 2021) and ECLARE (Remedios et al. 2025,
arXiv:2503.11787). This is neither of them, and no figure of it is a figure of theirs:

- the slice profile is the scan's known one (`bida.physics.operators`); ECLARE estimates it;
- slice centres lie on the training lines exactly as they lie on the scan's own, edges and non-integer factors included;
- the network works on the fine grid from two interpolations of the slices, cubic and A+; ECLARE's (a WDSR of 16 blocks
  and 256 channels, 1,000,000 patches) works on the coarse grid, SMORE's is an EDSR followed by another for aliasing;
- it is smaller and trained for minutes on a CPU, with an L1 loss.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bida.device import choose_device, choose_dtype
from bida.errors import SettingsError
from bida.experiment.baselines.selfsr_data import Lines, PatchSampler, foreground, intensities
from bida.experiment.baselines.selfsr_network import SelfSRNetwork
from bida.physics.geometry import SliceGeometry
from bida.physics.grid import AXES, NORMAL, from_slices, planes_containing, to_slices
from bida.physics.interpolation import project
from bida.progress import Progress

WARM_UP = 0.1  # share of the steps in which the learning rate rises
SLICES_AT_ONCE = 8  # when the network is applied; the result depends on it by bfloat16's rounding alone
SAME_SIZE = 1e-3  # relative; below it in-plane voxels are of the grid's size


@dataclass(frozen=True)
class SelfSRSettings:
    """Every choice, with its default.

    Attributes:
        steps: training steps.
        batch_size: patches a step.
        patch_size: height and width of a patch, voxels.
        learning_rate: largest learning rate of Adam; it rises over a tenth of the steps and falls to 0.
        channels: width of the network; multiples of 32 fill a matrix unit.
        blocks: residual blocks of the network.
        project: move the result onto the scan's slices, so that A x = y; the published methods do not.
        seed: of the network's first weights and of the patches.
        device: ``auto``, ``cpu``, ``cuda`` ...
        dtype: the network's arithmetic: ``auto``, ``float32`` or ``bfloat16``.

    Raises:
        SettingsError: a number is out of its range.
    """

    steps: int = 1000
    batch_size: int = 8
    patch_size: int = 64
    learning_rate: float = 2e-3
    channels: int = 64
    blocks: int = 8
    project: bool = False
    seed: int = 0
    device: str = "auto"
    dtype: str = "auto"

    def __post_init__(self) -> None:
        """Check the numbers."""
        least = {"steps": 1, "batch_size": 1, "patch_size": 8, "channels": 1, "blocks": 1, "seed": 0}
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in least and value < least[field.name]:
                raise SettingsError(f"selfsr {field.name}: must be at least {least[field.name]}, got {value}")
        if not 0 < self.learning_rate < 1:
            raise SettingsError(f"selfsr learning_rate: must be above 0 and below 1, got {self.learning_rate:g}")


def self_super_resolve(
    slices: NDArray[np.float32],
    geometry: SliceGeometry,
    settings: SelfSRSettings = SelfSRSettings(),
    progress: Progress | None = None,
    *,
    spacing_mm: Sequence[float] | None = None,
) -> NDArray[np.float32]:
    """Train a network on a scan and return the scan on the isotropic grid.

    The same seed gives the same result on a CPU with the same number of threads.

    Args:
        slices: the scan [R, A, S], thick along ``geometry.axis``, its in-plane voxels of the size of the grid's
            (``geometry.voxel_mm``): resample them first.
        geometry: slices and grid; padding is left out.
        settings: every choice.
        progress: called with (work done, all work) after every step of training and batch of slices.
        spacing_mm: the slices' voxel sizes, to have them checked; an array alone does not tell them.

    Returns:
        Volume [R, A, S] on the geometry's grid without padding, float32, in the scan's intensities.

    Raises:
        SettingsError: slices and geometry do not fit each other, a value is not finite, the scan has no contrast, or
            in-plane voxels are known to be of another size than the grid's.
    """
    _check(slices, geometry, spacing_mm)
    slices = np.ascontiguousarray(slices, dtype=np.float32)  # torch takes no negative strides, which mirroring leaves
    inside = foreground(slices)
    line = intensities(slices, inside)
    lines = Lines.of(geometry)
    images = np.moveaxis(slices, geometry.axis, 0)
    sampler = PatchSampler(
        line.normalise(images),
        np.moveaxis(inside, geometry.axis, 0),
        lines,
        settings.patch_size,
        settings.batch_size,
        settings.seed,
    )
    count = sum(size for axis, size in enumerate(slices.shape) if axis != geometry.axis)
    report = _Counter(settings.steps + count, progress)  # two planes: a slice for every in-plane voxel of either axis
    sharpen = _train(sampler, settings, report)
    result = line.restore(_apply(sharpen, line.normalise(slices), lines, geometry.axis, report).numpy())
    return project(result, slices, geometry) if settings.project else result


class _Counter:
    """Count work that is done and report it."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self.done, self.total, self.progress = 0, total, progress

    def add(self, work: int) -> None:
        self.done += work
        if self.progress is not None:
            self.progress(self.done, self.total)


class _Sharpen:
    """The network on its device and in its arithmetic; what goes in and comes out is float32 on the CPU."""

    def __init__(self, settings: SelfSRSettings) -> None:
        self.device = choose_device(settings.device)
        self.reduced = choose_dtype(settings.dtype, self.device) == "bfloat16"
        with torch.random.fork_rng(devices=[]):  # the caller's random numbers go on as if nothing had been drawn
            torch.manual_seed(settings.seed)
            network = SelfSRNetwork(2, settings.channels, settings.blocks)
        self.network = network.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def __call__(self, images: Tensor) -> Tensor:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.reduced):
            return self.network(images.to(self.device)).float().cpu()


def _train(sampler: PatchSampler, settings: SelfSRSettings, report: _Counter) -> Callable[[Tensor], Tensor]:
    """Return what makes images [B, 2, H, W] sharp, [B, 1, H, W]."""
    sharpen = _Sharpen(settings)
    optimizer = torch.optim.Adam(sharpen.network.parameters(), lr=settings.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=settings.steps, pct_start=WARM_UP
    )
    for step in range(settings.steps):
        degraded, sharp = sampler.draw()
        loss = nn.functional.l1_loss(sharpen(degraded), sharp)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step + 1 < settings.steps:
            schedule.step()
        report.add(1)
    return sharpen


@torch.no_grad()
def _apply(
    sharpen: Callable[[Tensor], Tensor], slices: NDArray[np.float32], lines: Lines, axis: int, report: _Counter
) -> Tensor:
    """Return the mean of the volumes of the two planes, [R, A, S]."""
    thick = torch.from_numpy(slices).movedim(axis, -1)
    fine = [(thick @ matrix.mT).movedim(-1, axis) for matrix in lines.interpolate]  # float32, each [R, A, S]
    total = torch.zeros_like(fine[0])
    planes = planes_containing(axis)
    for plane in planes:
        first = min(k for k in range(3) if k != NORMAL[plane])  # the axis of a slice's rows
        images = torch.cat([to_slices(volume, plane) for volume in fine], dim=1)
        images = images if first == axis else images.mT  # the through-plane axis comes first, as in training
        parts = []
        for batch in images.split(SLICES_AT_ONCE):
            parts.append(sharpen(batch))
            report.add(len(batch))
        sharp = torch.cat(parts)
        total += from_slices(sharp if first == axis else sharp.mT, plane)
    return total / len(planes)


def _check(slices: NDArray, geometry: SliceGeometry, spacing_mm: Sequence[float] | None) -> None:
    axis = geometry.axis
    if slices.ndim != 3 or slices.shape[axis] != geometry.slices:
        raise SettingsError(
            f"selfsr: slices must be [R, A, S] with {geometry.slices} along {AXES[axis]}, got shape {slices.shape}"
        )
    if not np.isfinite(slices).all():
        raise SettingsError("selfsr: intensities must be finite, got NaN or Inf; replace them first")
    if spacing_mm is None:
        return
    for k in (k for k in range(3) if k != axis):
        if abs(spacing_mm[k] - geometry.voxel_mm) > SAME_SIZE * geometry.voxel_mm:
            raise SettingsError(
                f"selfsr: in-plane voxels must be of the grid's size, {geometry.voxel_mm:g} mm, got "
                f"{spacing_mm[k]:g} mm along {AXES[k]}; resample the slices in-plane first"
            )
