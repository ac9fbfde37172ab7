"""How the slices of a scan lie on the voxels of a finer grid: spacing, thickness, profile, and where each centre is."""

from __future__ import annotations

import json
import operator as number
from dataclasses import asdict, dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from bida.errors import SettingsError

FLOAT_SLACK = 1e-6  # relative; headers hold voxel sizes in float32
Float = NDArray[np.float64]


@dataclass(frozen=True)
class SliceGeometry:
    """How the slices of a scan lie on the voxels of an isotropic volume along the through-plane axis.

    Args:
        axis: through-plane axis of a [R, A, S] volume: 0, 1 or 2.
        slices: number of slices, m.
        slice_spacing_mm: distance between slice centres, s.
        thickness_mm: FWHM of the slice profile, T; the gap is s - T. Only a record where the profile is a file.
        voxels: number of voxels, n, padding not counted.
        voxel_mm: voxel size, D <= s.
        profile: `slr`, `gaussian`, `box` or the path of a file of mm and amplitude.
        offset_mm: centre of the voxel grid minus centre of the slices.
        pad_before, pad_after: voxels that were added at either end for a network; no slice sees them.
        missing: indices of slices that hold no measurement (empty or spoilt), in order; at least two are left.

    Raises:
        SettingsError: a value is out of its range.
    """

    axis: int
    slices: int
    slice_spacing_mm: float
    thickness_mm: float
    voxels: int
    voxel_mm: float
    profile: str = "slr"
    offset_mm: float = 0.0
    pad_before: int = 0
    pad_after: int = 0
    missing: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Make the values plain and check them."""
        for field in fields(self):
            _coerce(self, field.name, str(field.type))
        if self.axis not in (0, 1, 2):
            raise SettingsError(f"axis must be 0 (R), 1 (A) or 2 (S), got {self.axis}")
        for name, least in (("slices", 1), ("voxels", 1), ("pad_before", 0), ("pad_after", 0)):
            if getattr(self, name) < least:
                raise SettingsError(f"{name} must be >= {least}, got {getattr(self, name)}")
        for name in ("slice_spacing_mm", "thickness_mm", "voxel_mm"):
            if not getattr(self, name) > 0:
                raise SettingsError(f"{name} must be > 0 mm, got {getattr(self, name):g}")
        if self.slice_spacing_mm < self.voxel_mm * (1.0 - FLOAT_SLACK):
            raise SettingsError(
                f"slice spacing must be >= voxel size, got {self.slice_spacing_mm:g} < {self.voxel_mm:g} mm; "
                "ask for a smaller spacing"
            )
        if list(self.missing) != sorted(set(self.missing) & set(range(self.slices))):
            raise SettingsError(
                f"missing must be indices of slices, 0 to {self.slices - 1}, each once and in order, got {self.missing}"
            )
        if self.missing and self.slices - len(self.missing) < 2:
            raise SettingsError(
                f"missing must leave two slices or more, got {len(self.missing)} of {self.slices}; "
                "the scan holds too little to restore"
            )

    @property
    def factor(self) -> float:
        """Slice spacing over voxel size, s / D."""
        return self.slice_spacing_mm / self.voxel_mm

    @property
    def gap_mm(self) -> float:
        """Distance between neighbouring slices' faces in mm; negative where they overlap."""
        return self.slice_spacing_mm - self.thickness_mm

    @property
    def padded_voxels(self) -> int:
        """Number of voxels with the padding, the number of columns of A."""
        return self.pad_before + self.voxels + self.pad_after

    def padded(self, before: int, after: int) -> SliceGeometry:
        """Return the same geometry with `before` and `after` more voxels of padding."""
        return replace(self, pad_before=self.pad_before + before, pad_after=self.pad_after + after)

    def unpadded(self) -> SliceGeometry:
        """Return the same geometry without padding."""
        return replace(self, pad_before=0, pad_after=0)

    def complete(self) -> SliceGeometry:
        """Return the same geometry with a measurement in every slice."""
        return replace(self, missing=())

    @property
    def acquired(self) -> tuple[int, ...]:
        """Indices of the slices that hold a measurement."""
        return tuple(index for index in range(self.slices) if index not in self.missing)

    def to_json(self) -> str:
        """Return the geometry as a JSON object on one line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> SliceGeometry:
        """Read what `to_json` wrote.

        Raises:
            SettingsError: the text is not such an object.
        """
        try:
            values = json.loads(text)
            return cls(**values)
        except (json.JSONDecodeError, TypeError) as error:
            raise SettingsError(f"slice geometry must be the JSON object that to_json writes, got {text!r}") from error

    def slice_centres_mm(self) -> Float:
        """Return the slices' centres c_i [m], in mm from the centre of the scan's field of view."""
        return (np.arange(self.slices, dtype=np.float64) - 0.5 * (self.slices - 1)) * self.slice_spacing_mm

    def voxel_centres_mm(self) -> Float:
        """Return the voxels' centres z_j [n], padding left out, in mm from the centre of the scan's field of view."""
        index = np.arange(self.voxels, dtype=np.float64)
        return self.offset_mm + (index - 0.5 * (self.voxels - 1)) * self.voxel_mm


def _coerce(geometry: SliceGeometry, name: str, kind: str) -> None:
    """Turn a numpy scalar into a plain number, so that geometries compare, hash and serialise alike."""
    value = getattr(geometry, name)
    plain: int | float | str | tuple[int, ...]
    try:
        if kind.startswith("tuple"):
            plain = tuple(number.index(one) for one in value)
        else:
            plain = number.index(value) if kind == "int" else float(value) if kind == "float" else str(value)
    except (TypeError, ValueError) as error:
        raise SettingsError(f"{name} must be {kind}, got {value!r}") from error
    if isinstance(plain, float) and not np.isfinite(plain):
        raise SettingsError(f"{name} must be finite, got {plain}")
    object.__setattr__(geometry, name, plain)
