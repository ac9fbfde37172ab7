"""The scan in a network's inputs: A+ y on the padded grid, and what their meta tells of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bida.diffusion.noise import NO_PADDING
from bida.diffusion.prior import SlicePrior
from bida.diffusion.sampling import DDNM, Condition, NoisyScan
from bida.errors import SettingsError
from bida.mri.content import CONSTANT, content
from bida.mri.evidence import Evidence, Leftover, Padding, Restore, View, without
from bida.mri.selfcheck import SelfCheck, self_check
from bida.mri.settings import SamplerOptions
from bida.mri.slice_errors import Restored
from bida.physics.consistency import interpolated
from bida.physics.geometry import SliceGeometry
from bida.physics.grid import AXES, AxisGrid, grids_from_json, planes_containing
from bida.physics.guide import shown_parts
from bida.physics.interpolation import filled
from bida.physics.operators import SliceOperator
from bida.physics.slice_sizes import ASSUMED

# data consistency max |A x - y| / range(y), in the sampler's space and on the scan's own intensities
RESIDUALS = ("sampler_residual", "scan_residual")


@dataclass(frozen=True)
class ScanMeta:
    """What the transforms noted of a scan; the one place where their notes, plain values and JSON, are decoded.

    Attributes:
        source: the scan's file or folder, empty where the meta does not tell.
        geometry: of its slices; None where the meta does not tell.
        grids: of the result on R, A, S; none where the meta does not tell.
        padding: voxels (before, after) on each axis of the isotropic grid.
        scale: units of the network's input a unit of the scan's intensities, 1 where the meta does not tell.
        intensity_range: the two intensities that are -1 and 1 to the network, those themselves likewise.
        warnings: what was assumed, a sentence each.
        thickness_from: see `bida.physics.plan.Plan`.
        thickness_estimate: what the scan says of it, see `bida.physics.thickness`; None where it was not asked.
        noise: standard deviation of a slice's noise, in the scan's intensities as they were normalised; None where the
            meta does not tell.
        noise_level: how it was found, see `bida.transforms.noise.MeasureNoise`, and what the result leaves of the
            slices (`bida.mri.sampler.Leftover`) under ``residual``; None where it could not be told.
        residuals: see `RESIDUALS`; None where one was not measured.
        self_check: what the self-check found, as the inferer noted it; None where there was none.
        slices: how they differ from their neighbours (`bida.transforms.slices`); None where the meta does not tell.
    """

    source: str
    geometry: SliceGeometry | None
    grids: tuple[AxisGrid, ...]
    padding: Padding
    scale: float
    intensity_range: tuple[float, float]
    warnings: tuple[str, ...]
    thickness_from: str
    thickness_estimate: Mapping[str, Any] | None
    noise: float | None
    noise_level: dict[str, Any] | None
    residuals: dict[str, float | None]
    self_check: dict[str, Any] | None
    slices: dict[str, Any] | None = None

    @classmethod
    def of(cls, meta: Mapping[str, Any]) -> ScanMeta:
        """Decode the meta of an image, or of a batch of one."""
        plain = {key: value[0] if _is_one(value) else value for key, value in meta.items()}
        geometry, grids = plain.get("slice_geometry"), plain.get("target_grids")
        ends = [plain[name] for name in ("intensity_low", "intensity_high") if plain.get(name) is not None]
        low, high = (float(end) for end in ends) if len(ends) == 2 else (-1.0, 1.0)
        return cls(
            source=str(plain.get("filename_or_obj", "")),
            geometry=None if geometry is None else SliceGeometry.from_json(geometry),
            grids=() if grids is None else grids_from_json(grids),
            padding=[(before, after) for before, after in json.loads(plain.get("padding", "[]"))] or NO_PADDING,
            scale=2.0 / (high - low),
            intensity_range=(low, high),
            warnings=tuple(json.loads(plain.get("warnings", "[]"))),
            thickness_from=str(plain.get("thickness_from", ASSUMED)),
            thickness_estimate=json.loads(plain.get("thickness_estimate", "null")),
            noise=None if plain.get("noise") is None else float(plain["noise"]),
            noise_level=json.loads(plain.get("noise_level", "null")),
            residuals={name: plain.get(name) for name in RESIDUALS},
            self_check=json.loads(plain.get("self_check", "null")),
            slices=json.loads(plain.get("slices", "null")),
        )


@dataclass(frozen=True)
class Measurement(Evidence):
    """One scan as the sampler sees it, on its own grid.

    Attributes:
        y: the scan's slices [R, A, S], normalised as the prior's training data, in-plane axes padded; missing ones hold
            what their neighbours interpolate to: zeros would be grey.
        geometry: of the slices, with the padding of the through-plane axis.
        padding: voxels (before, after) on each axis of the isotropic grid.
        scale: units of y a unit of the scan's intensities, 1 where the inputs do not tell.
        noise: standard deviation of a slice's noise, in the units of y; None where nobody tells.
    """

    y: Tensor
    geometry: SliceGeometry
    padding: Padding = NO_PADDING
    scale: float = 1.0
    noise: float | None = None

    @classmethod
    def of(
        cls,
        inputs: Tensor,
        stride: int,
        geometry: SliceGeometry | None = None,
        padding: Padding | None = None,
        meta: ScanMeta | None = None,
    ) -> Measurement:
        """Read the inputs of a network.

        Args:
            inputs: A+ y, [1, 1, R, A, S], sizes multiples of ``stride``.
            stride: the network's.
            geometry: from the meta when not given.
            padding: from the meta when not given, else the geometry's alone.
            meta: what the transforms noted; that of a MetaTensor when not given.

        Raises:
            SettingsError: the inputs do not fit the network, or nothing tells the geometry.
        """
        meta = meta or ScanMeta.of(getattr(inputs, "meta", {}))  # a MetaTensor has some
        geometry = geometry or meta.geometry
        if geometry is None:
            raise SettingsError("geometry: must be given, or be in the inputs' metadata as slice_geometry, got neither")
        full = list(padding or meta.padding)
        full[geometry.axis] = (geometry.pad_before, geometry.pad_after)
        y = filled(SliceOperator.build(geometry).forward(_volume(inputs, stride)), geometry)
        return cls(y, geometry, full, meta.scale, None if meta.noise is None else meta.noise * meta.scale)

    def inside(self) -> Tensor:
        """Return the slices without the padding of their own axes."""
        own = [(0, 0) if axis == self.geometry.axis else margin for axis, margin in enumerate(self.padding)]
        return without(self.y, own)

    @property
    def operator(self) -> SliceOperator:
        """A."""
        return SliceOperator.build(self.geometry)

    @property
    def shape(self) -> torch.Size:
        """Voxels of the volume, padding included."""
        axis = self.geometry.axis
        return torch.Size(self.geometry.padded_voxels if k == axis else size for k, size in enumerate(self.y.shape))

    @property
    def outline(self) -> Tensor:
        """The slices."""
        return self.y

    def held(self) -> Tensor:
        """Return which voxels a slice sees that holds something, [R, A, S] of bool."""
        return content(self.y, self.operator)

    def noise_of(self, options: SamplerOptions) -> float:
        """Return the standard deviation of a slice's noise, in the units of y; 0 for exact slices."""
        if self.noise is not None:
            return self.noise
        return 0.0 if options.noise == "auto" else float(options.noise) * self.scale

    def views(self, noise: float, guided: bool, planes: Sequence[str] | None = None) -> list[View]:
        """Return a pass over each plane that holds the through-plane axis, or over those that are given."""
        seen = shown_parts(self.y, self.geometry, noise=noise) if guided else None
        axis = self.geometry.axis
        return [View(plane, axis, seen) for plane in (planes_containing(axis) if planes is None else planes)]

    def condition(self, noise: float) -> Condition:
        """Return DDNM, or for noisy slices `NoisyScan`."""
        return NoisyScan(self.operator, self.y, noise) if noise > 0 else DDNM(self.operator, self.y)

    def reference(self, noise: float) -> Tensor:
        """Return the cubic interpolation, brought to agree with the slices, [R, A, S]."""
        return interpolated(self.y, self.geometry, noise)

    def self_check(self, network: SlicePrior, restore: Restore, noise: float) -> SelfCheck | None:
        """Return what `bida.mri.selfcheck.self_check` finds."""

        def restored(thick: Tensor, own: SliceGeometry, plane: str) -> Restored:
            return restore(Measurement(thick, own, noise=noise), plane)

        return self_check(self.inside(), self.geometry, network, restored, noise)

    def residual(self, x: Tensor) -> float:
        """Return max |A x - y| / (max y - min y) over the slices that hold a measurement."""
        return self.operator.residual(x, self.y, least=CONSTANT)

    def leftover(self, x: Tensor, noise: float) -> Leftover:
        """Return what a volume leaves of noisy slices."""
        rows, axis = torch.tensor(self.geometry.acquired, device=self.y.device), self.geometry.axis
        missed = (self.y - self.operator.forward(x)).index_select(axis, rows)
        return Leftover.of(missed, self.y.index_select(axis, rows), axis, noise)


def _volume(inputs: Tensor, stride: int) -> Tensor:
    """Return the volume [R, A, S], float32 and plain, of inputs [1, 1, R, A, S]."""
    if inputs.ndim != 5 or inputs.shape[:2] != (1, 1):
        raise SettingsError(f"inputs: must be one volume [1, 1, R, A, S], got shape {tuple(inputs.shape)}")
    for axis, size in zip(AXES, inputs.shape[2:]):
        if size % stride:
            raise SettingsError(
                f"inputs: axis {axis} must be a multiple of {stride} for this network, got {size}; pad it"
            )
    return inputs.as_subclass(Tensor)[0, 0].float()


def _is_one(value: Any) -> bool:
    """Tell whether a value is the list that collation made of one."""
    return isinstance(value, list | tuple) and len(value) == 1
