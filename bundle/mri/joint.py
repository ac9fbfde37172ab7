"""Several scans of one animal as the sampler sees them: one volume, whose planes lack what no scan tells."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from bida.diffusion.prior import SlicePrior
from bida.diffusion.sampling import Condition, Level
from bida.mri.content import background, content
from bida.mri.evidence import Evidence, Leftover, Restore, View
from bida.mri.joint_check import several_check
from bida.mri.joint_slices import JointSlices, Shading
from bida.mri.selfcheck import SelfCheck, plane_across
from bida.mri.settings import SamplerOptions
from bida.physics.consistency import KEPT_LEAST, TISSUE, share_kept
from bida.physics.grid import NORMAL, PLANES
from bida.physics.guide import guide, how_made, slice_phase_at
from bida.physics.joint import LACKING, LocatedScan, PosedScan
from bida.physics.operators import SliceOperator

# standard deviation that the error of the priors' mean in tissue counts as having, on their scale, where all noise is
# kept (`bida.physics.consistency.share_kept`) and where least of it is
PRIOR_ERROR = (0.4, 0.1)
EXACT = 5e-4  # standard deviation, on that scale, that slices without noise are met to
ALONE = 0.02  # share of what the volume shows that only the first axis has, from which its own passes go on there
SLIGHT = 1e-3  # what a pass counts where the other scan that it is told of does not reach, for where none else counts
MINIMUM = 64  # voxels of each axis for the network, as `bida.transforms.pad.PadToNetwork`


@dataclass(frozen=True)
class JointCondition:
    """Condition on the slices of several scans: the correction of `bida.physics.joint` at each step.

    Attributes:
        scan: what was measured.
        tau: standard deviation that the error of an estimate counts as having.
    """

    scan: JointMeasurement
    tau: float

    def clean(self, x0: Tensor, level: Level) -> Tensor:
        """Return x0 and its correction, x0 trusted as at the end: noise taken in early is not got rid of later."""
        return x0 + self.scan.margined(self.scan.correction(self.scan.cropped(x0), self.tau))

    def noise(self, n: Tensor, level: Level) -> Tensor:
        """Return n."""
        return n


class JointMeasurement(Evidence):
    """Several scans as the sampler sees them.

    Args:
        scans: in the world, as they were measured, the first one's grid being the result's.
        multiple: sizes of the padded volume are multiples of it, the network's stride.
        minimum: and at least as large.
        shading: what the prior does not see of them; None for nothing.

    Attributes:
        slices: the scans as they were measured, and what a volume leaves of them.
        scans: without their shading.
        operator: of the volume without padding, and with its shading.
        guide: joint least squares, damped by what interpolation lacks, without padding.
        least: noise that every scan counts as having at least: by how much scans without noise contradict each other,
            root mean square in tissue, and a trifle where they do not.

    Raises:
        SettingsError: a scan does not lie in the view of the first one, or is turned too far.
    """

    def __init__(
        self,
        scans: Sequence[LocatedScan],
        multiple: int = 8,
        minimum: int = MINIMUM,
        shading: Shading | None = None,
    ) -> None:
        """Make the operator, the padding and the guide."""
        self.slices, self.shading, first = JointSlices(scans, shading), shading, scans[0]
        self.scans, self.operator = self.slices.scans, self.slices.operator
        extra = [-(-max(n, minimum) // multiple) * multiple - n for n in first.shape]
        self.padding = [(more // 2, more - more // 2) for more in extra]
        start = self.operator.start([guide(scan.y, scan.slices.geometry) for scan in self.operator.scans])
        shaded = start + self.operator.correction(self.operator.residuals(start), LACKING)
        self.guide = self._even(shaded)
        self.least = max(EXACT, *self._contradictions())
        self._padded = self._around(self.guide)
        self._held: Tensor | None = None

    @property
    def shape(self) -> torch.Size:
        """Voxels of the volume, padding included."""
        return self._padded.shape

    @property
    def outline(self) -> Tensor:
        """The guide, where it holds anything; the background elsewhere."""
        return torch.where(self.held(), self._padded, background(self._padded))

    @property
    def axes(self) -> list[int]:
        """The axes along which a scan is thick, in the order of the scans, each once."""
        return list(dict.fromkeys(scan.axis for scan in self.operator.scans))

    def differences(self, x: Tensor) -> list[Tensor]:
        """Return y_i - A_i x of every scan as it was measured, of a volume [R, A, S] without padding."""
        return self.slices.differences(x)

    def correction(self, x: Tensor, tau: float = LACKING, least: float | None = None) -> Tensor:
        """Return what brings a volume [R, A, S] without padding to agree with the scans.

        Args:
            x: the volume.
            tau: standard deviation that its error counts as having.
            least: noise that every scan counts as having at least; `JointMeasurement.least` where None.
        """
        d = self.operator.correction(self.differences(x), tau, self.least if least is None else least)
        return d if self.shading is None else d / self.shading.volume

    def _even(self, x: Tensor) -> Tensor:
        """Return a volume [R, A, S] without its shading."""
        if self.shading is None:
            return x
        return (x - self.shading.zero) / self.shading.volume + self.shading.zero

    def held(self) -> Tensor:
        """Return which voxels hold something in the slices of every scan that sees them, [R, A, S] of bool.

        Where one scan saw background, there is nothing.
        """
        if self._held is not None:
            return self._held
        held = torch.ones(self.guide.shape, dtype=torch.bool, device=self.guide.device)
        for scan in self.operator.scans:
            own = content(scan.y, scan.slices)
            if not scan.motion.still:  # a voxel between those of the scan's grid
                own = F.max_pool3d(own[None].float(), 3, stride=1, padding=1)[0] > 0
            held &= scan.motion.nearest(own, outside=True)
        self._held = self.margined(held)
        return self._held

    def margined(self, volume: Tensor) -> Tensor:
        """Return a volume with the padding, in which it is 0, or false."""
        return F.pad(volume, [end for margin in reversed(self.padding) for end in margin])

    def noise_of(self, options: SamplerOptions) -> float:
        """Return what the network is told of the noise, in the prior's space; 0 where every scan is exact."""
        return self._told(self.axes)

    def views(self, noise: float, guided: bool, planes: Sequence[str] | None = None) -> list[View]:
        """Return the passes of the prior: see `passes`. Where the others end, those of the first scan alone go on."""
        found = [one for one in self._passes() if planes is None or one[0] in planes]
        return [View(plane, axis, self._shown(axis, other) if guided else None) for plane, axis, other in found]

    def shares(self) -> list[Tensor] | None:
        """Return where each pass counts: where both scans lie that it is told of; the lone ones, elsewhere."""
        if not self.partial:
            return None
        reached = {axis: self._reached(self._along(axis)) for axis in self.axes}
        others = torch.stack([reached[axis] for axis in self.axes[1:]]).amax(dim=0)
        return [
            1 - others if other is None else reached[axis] * reached[other].clamp(min=SLIGHT)
            for _, axis, other in self._passes()
        ]

    def agreeing(self, x: Tensor) -> Tensor:
        """Return a volume that was put together of parts; exact scans are met across the seams."""
        if any(scan.noise > 0 for scan in self.scans):
            return x
        return x + self.margined(self.correction(self.cropped(x), self.prior_error()))

    def finished(self, x: Tensor) -> Tensor:
        """Return a result nearer to turned scans, where none has noise: see `JointOperator.last_steps`."""
        if not self.operator.turned or any(scan.noise > 0 for scan in self.scans):
            return x
        rest = self.differences(self.cropped(x))
        d = self.operator.last_steps(rest, self.prior_error(), self.least)
        return x + self.margined(d if self.shading is None else d / self.shading.volume)

    @cached_property
    def partial(self) -> bool:
        """Whether a part of what the volume shows is seen along the first axis alone."""
        held = self.cropped(self.held())
        if len(self.axes) == 1 or not bool(held.any()):
            return False
        reached = torch.stack([self._reached(self._along(axis)) for axis in self.axes[1:]]).amax(dim=0)
        return float(1 - self.cropped(reached)[held].mean()) > ALONE

    def _passes(self) -> list[tuple[str, int, int | None]]:
        """Return the passes over the volume."""
        lone = passes(self.axes[:1]) if self.partial else []
        return [*passes(self.axes), *lone]

    def condition(self, noise: float) -> Condition:
        """Return what the scans do to a step."""
        return JointCondition(self, self.prior_error())

    def prior_error(self) -> float:
        """Return what the error of the priors' mean counts as, of `PRIOR_ERROR`.

        Noise that hardly shows is kept, as that of a lone scan is; with more of it the priors' word counts for more.
        """
        most, least = PRIOR_ERROR
        shares = [1.0 if scan.noise <= 0 else share_kept(scan.y, scan.noise) for scan in self.scans]
        kept = (sum(shares) / len(shares) - KEPT_LEAST) / (1 - KEPT_LEAST)
        return least * (most / least) ** kept

    def reference(self, noise: float) -> Tensor:
        """Return the joint least squares, exact where the scans are, [R, A, S]."""
        if noise > 0:
            return self._padded
        return self._around(self.guide + self.correction(self.guide))

    def residual(self, x: Tensor) -> float:
        """Return max |A x - y| / (max y - min y), the largest of the scans'."""
        return max(self.residuals(x))

    def residuals(self, x: Tensor) -> list[float]:
        """Return max |A x - y| / (max y - min y) of every scan."""
        return self.slices.residuals(self.cropped(x))

    def leftover(self, x: Tensor, noise: float) -> Leftover:
        """Return what a volume leaves of the slices of the scan of which it leaves most against its noise."""
        return max(self.leftovers(x), key=lambda one: one.over_noise)

    def leftovers(self, x: Tensor) -> list[Leftover]:
        """Return what a volume leaves of the slices of every scan that has noise."""
        return self.slices.leftovers(self.cropped(x))

    def self_check(self, network: SlicePrior, restore: Restore, noise: float) -> SelfCheck | None:
        """Measure what the prior gains on the slices of all scans, made thick as these lie to each other.

        A scan's own slices are sharp in their plane. They are made thick along both of its axes, by the other scans'
        geometries and its own, restored together, and compared with what they were.

        Args:
            network: the prior.
            restore: the way of restoring that is checked.
            noise: of no account, every scan has its own.
        """
        return several_check(self.scans, self.axes, network, restore, JointMeasurement)

    def _contradictions(self) -> list[float]:
        """Return the root mean square of what the guide leaves of each scan, in tissue; 0 for those with noise."""
        found = []
        for rest, seen, scan in zip(self.differences(self.guide), self.operator.seen, self.scans):
            tissue = (seen > 0) & (scan.y > TISSUE)
            exact = scan.noise <= 0 and bool(tissue.any())
            found.append(float(rest[tissue].square().mean().sqrt()) if exact else 0.0)
        return found

    def _told(self, axes: Sequence[int]) -> float:
        """Return the noise of the scans along some axes: those of one together, the axes' mean by precision."""
        precision = []
        for axis in axes:
            found = [scan.noise for scan in self.scans if scan.geometry.axis == axis]
            precision.append(sum(1 / noise**2 if noise > 0 else math.inf for noise in found))
        mean = sum(precision) / len(precision)
        return 0.0 if math.isinf(mean) and all(scan.noise <= 0 for scan in self.scans) else 1 / math.sqrt(mean)

    def _shown(self, axis: int, other: int | None) -> list[Tensor]:
        """Return what the prior is shown where slices are thick along an axis, and along another one."""
        scan = self._along(axis)
        second = None if other is None else self._along(other)
        told = self._told([axis] if other is None else [axis, other])
        made = [*how_made(scan.slices.geometry, told)]
        made[3] = 0.0 if second is None else how_made(second.slices.geometry)[0]
        whole = [self._padded.new_full((1,), value).expand_as(self._padded) for value in made]
        places = [self._phase(scan), self._padded.new_zeros(1).expand_as(self._padded)]
        measured = self._padded
        if second is None:
            first = self.scans[0]  # on the volume's own grid; a lone scan is shown by itself
            measured = self._around(SliceOperator.build(first.geometry).pinv(first.y))
        else:
            # where the second scan ends the first one is alone
            reached = self._reached(second)
            places[1], whole[3] = reached * self._phase(second), reached * whole[3]
        return [self._padded, measured, places[0], *whole, places[1]]

    def _along(self, axis: int) -> PosedScan:
        """Return the scan with the least noise of those that are thick along an axis."""
        return min((scan for scan in self.operator.scans if scan.axis == axis), key=lambda scan: scan.noise)

    def _phase(self, scan: PosedScan) -> Tensor:
        """Return the cosine of `bida.physics.guide.slice_phase` of a scan's slices at each voxel, [R, A, S]."""
        lines = [np.arange(-before, n + after) for n, (before, after) in zip(self.guide.shape, self.padding)]
        rotation, centre, axis = scan.motion.rotation, scan.motion.centre, scan.axis
        index = sum(
            (rotation[k, axis] * (line - centre[k])).reshape([-1 if j == k else 1 for j in range(3)])
            for k, line in enumerate(lines)
        )
        geometry = scan.slices.geometry
        return torch.from_numpy(slice_phase_at(geometry, index + (geometry.voxels - 1) / 2)).to(self._padded)

    def _reached(self, scan: PosedScan) -> Tensor:
        """Return 1 where a voxel lies in the field of view of a scan, 0 elsewhere; the padding as its neighbours."""
        own = torch.ones(scan.motion.other, dtype=torch.bool, device=self.guide.device)
        return self._around(scan.motion.nearest(own, outside=False).to(self.guide))

    def _around(self, volume: Tensor) -> Tensor:
        """Return a volume with the padding, in which it is mirrored."""
        values = volume.cpu().numpy()
        return torch.from_numpy(np.pad(values, self.padding, mode="reflect")).to(volume)


def passes(axes: Sequence[int]) -> list[tuple[str, int, int | None]]:
    """Return the passes of the prior for scans thick along some axes: plane, axis, and the other one it is told of.

    Two scans across each other both miss what only the plane of both axes shows, and the prior learned such slices;
    it sees them from both sides. Three scans make three such planes, six passes, whose errors average better than those
    of three do. Of a lone axis there are the two planes that hold it.
    """
    if len(axes) == 1:
        return [(plane, axes[0], None) for plane in PLANES if NORMAL[plane] != axes[0]]
    return [(plane_across(3 - a - b), a, b) for a in axes for b in axes if a != b]
