"""Slice profiles: how strongly a slice of an MR scan weighs each depth through the plane.

A profile is a table of amplitude against depth in mm, 0 being the slice's nominal centre and the positive side the
positive direction of the through-plane axis. Between the table's points it is linear, outside the table it is zero, so
that its integral over any interval is known exactly. Only ratios of amplitudes matter: the rows of the degradation
operator are normalised.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bida.errors import SettingsError

Float = NDArray[np.float64]

GAUSSIAN_FWHM_PER_SIGMA = 2.0 * np.sqrt(2.0 * np.log(2.0))  # 2.3548
CUT = 2.5  # tables end at +-CUT thicknesses, where a Gaussian is at 3e-8 of its peak and the SLR's ripple below 0.1%
TABLE_POINTS = 5001  # 1000 intervals a thickness: at least 50 within a voxel for any factor up to 20
SLR_TIME_BANDWIDTH = 16
SLR_POINTS = 128
SLR_RIPPLE = 0.01
SLR_TABLE = files("bida.physics") / "slr_profile.npy"  # what `design_slr` returns, as float64


@dataclass(frozen=True, eq=False)
class SliceProfile:
    """A slice profile tabulated through the plane.

    Args:
        name: `slr`, `gaussian`, `box` or the path of a file.
        positions_mm: depths [K] in mm, strictly increasing, K >= 2.
        amplitudes: weight [K] at each depth, any unit.

    Raises:
        SettingsError: the table is not two finite, equally long columns with increasing depths and a positive integral.
    """

    name: str
    positions_mm: Float
    amplitudes: Float

    def __post_init__(self) -> None:
        """Check the table."""
        z, p = self.positions_mm, self.amplitudes
        if z.ndim != 1 or z.shape != p.shape or z.size < 2:
            raise SettingsError(
                f"slice profile {self.name}: needs two columns (mm, amplitude) of at least 2 points, "
                f"got shapes {z.shape} and {p.shape}"
            )
        if not (np.isfinite(z).all() and np.isfinite(p).all()):
            raise SettingsError(f"slice profile {self.name}: depths and amplitudes must be finite, got NaN or Inf")
        steps = np.diff(z)
        if not (steps > 0).all():
            k = int(np.argmax(steps <= 0))
            raise SettingsError(
                f"slice profile {self.name}: depths must increase from point to point, got {z[k]:g} then "
                f"{z[k + 1]:g} mm; sort the file by its first column"
            )
        if not self._cumulative[-1] > 0:
            raise SettingsError(
                f"slice profile {self.name}: amplitudes must have a positive integral, got {self._cumulative[-1]:g}"
            )

    @cached_property
    def _cumulative(self) -> Float:
        """Integral [K] from the table's start to each point; the trapezium rule is exact where it is linear."""
        z, p = self.positions_mm, self.amplitudes
        return np.concatenate([[0.0], np.cumsum(0.5 * (p[1:] + p[:-1]) * np.diff(z))])

    @cached_property
    def fwhm_mm(self) -> float:
        """Full width at half maximum in mm."""
        return full_width_half_maximum(self.positions_mm, self.amplitudes)

    @property
    def area(self) -> float:
        """Integral of the whole profile, amplitude x mm."""
        return float(self._cumulative[-1])

    def integral(self, lo_mm: ArrayLike, hi_mm: ArrayLike) -> Float:
        """Integrate the profile exactly from `lo_mm` to `hi_mm` (broadcast against each other, mm)."""
        return self._antiderivative(hi_mm) - self._antiderivative(lo_mm)

    def _antiderivative(self, depth_mm: ArrayLike) -> Float:
        z, p = self.positions_mm, self.amplitudes
        depth = np.clip(np.asarray(depth_mm, float), z[0], z[-1])
        k = np.clip(np.searchsorted(z, depth, side="right") - 1, 0, z.size - 2)
        t = depth - z[k]
        slope = np.diff(p)[k] / np.diff(z)[k]
        return self._cumulative[k] + t * (p[k] + 0.5 * slope * t)


def slr(thickness_mm: float) -> SliceProfile:
    """Return the profile of a Shinnar-Le Roux excitation whose FWHM is exactly `thickness_mm`.

    The pulse is a least-squares 90 degree excitation: time-bandwidth 16, 128 points, ripples 0.01 in both bands.

    Raises:
        SettingsError: the thickness is not a positive number.

    Source: Pauly et al., IEEE Trans. Med. Imaging 10(1):53-65, 1991; tabulated by `design_slr`.
    """
    _check_thickness(thickness_mm)
    unit = np.linspace(-CUT, CUT, TABLE_POINTS)
    return SliceProfile("slr", unit * thickness_mm, _unit_slr())


def gaussian(thickness_mm: float) -> SliceProfile:
    """Return a Gaussian profile whose FWHM is `thickness_mm` (the operator of Gharib et al., 2025, at inference).

    Raises:
        SettingsError: the thickness is not a positive number.
    """
    _check_thickness(thickness_mm)
    unit = np.linspace(-CUT, CUT, TABLE_POINTS)
    amplitudes = np.exp(-0.5 * (unit * GAUSSIAN_FWHM_PER_SIGMA) ** 2)
    return SliceProfile("gaussian", unit * thickness_mm, amplitudes)


def box(thickness_mm: float) -> SliceProfile:
    """Return a rectangular profile of width `thickness_mm`.

    Raises:
        SettingsError: the thickness is not a positive number.
    """
    _check_thickness(thickness_mm)
    half = 0.5 * float(thickness_mm)
    return SliceProfile("box", np.array([-half, half]), np.ones(2))


def from_file(path: str | Path) -> SliceProfile:
    """Read a measured profile: one point a line, depth in mm and amplitude.

    Columns are separated by blanks, a comma or a semicolon; empty lines and what follows a `#` are skipped. The table
    is taken as it is: neither centred, scaled nor cut.

    Raises:
        SettingsError: the file cannot be read as such a table.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file"
        raise SettingsError(
            f"{path}: slice profile cannot be read ({reason}); give a text file of mm and amplitude"
        ) from error
    rows = [_parse_row(path, number, line) for number, line in enumerate(text.splitlines(), 1)]
    points = [row for row in rows if row is not None]
    if len(points) < 2:
        raise SettingsError(f"{path}: a slice profile needs at least 2 points (mm, amplitude), got {len(points)}")
    table = np.array(points, dtype=np.float64)
    return SliceProfile(str(path), table[:, 0], table[:, 1])


NAMED = {"slr": slr, "gaussian": gaussian, "box": box}
PROFILES = "|".join((*NAMED, "FILE"))  # as the help of a command says it


def make_profile(spec: str, thickness_mm: float) -> SliceProfile:
    """Return the profile that `spec` names: `slr`, `gaussian`, `box`, or the path of a file.

    `thickness_mm` is the FWHM of the three named ones; a file brings its own width.

    Raises:
        SettingsError: `spec` is neither a name nor a readable file, or the thickness is not a positive number.
    """
    if spec in NAMED:
        return NAMED[spec](thickness_mm)
    if not os.path.isfile(spec):  # Path.is_file raises below a folder that may not be searched
        raise SettingsError(
            f"profile must be {', '.join(NAMED)} or a file of mm and amplitude, got {spec!r}; check the name"
        )
    return from_file(spec)


def measured_thickness(spec: str) -> float | None:
    """Return the FWHM, mm, of a profile file; None for `slr`, `gaussian` and `box`, whose thickness is free.

    Raises:
        SettingsError: `spec` is neither a name nor a readable file of a profile.
    """
    return None if spec in NAMED else make_profile(spec, thickness_mm=1.0).fwhm_mm  # a file brings its own width


def full_width_half_maximum(positions: Float, amplitudes: Float) -> float:
    """Return the distance between the outermost crossings of half the maximum, by linear interpolation.

    A table that never falls to half on one side is taken to end there.
    """
    half = 0.5 * float(amplitudes.max())
    above = np.flatnonzero(amplitudes >= half)
    first, last = int(above[0]), int(above[-1])
    left, right = positions[first], positions[last]
    if first > 0:
        left = np.interp(half, amplitudes[first - 1 : first + 1], positions[first - 1 : first + 1])
    if last < amplitudes.size - 1:
        right = np.interp(half, amplitudes[last : last + 2][::-1], positions[last : last + 2][::-1])
    return float(right - left)


def design_slr() -> Float:
    """Tabulate |2 conj(a) b| [TABLE_POINTS] of the SLR pulse over +-CUT of its FWHM, with sigpy.

    The package holds the result, for sigpy is a tool of development and takes seconds to import;
    `python -m bida.physics.slice_profile` writes it anew.
    """
    from sigpy.mri.rf.sim import abrm
    from sigpy.mri.rf.slr import dzrf

    pulse = dzrf(SLR_POINTS, SLR_TIME_BANDWIDTH, ptype="ex", ftype="ls", d1=SLR_RIPPLE, d2=SLR_RIPPLE)

    def excite(thicknesses: Float) -> Float:
        a, b = abrm(pulse, thicknesses * SLR_TIME_BANDWIDTH)
        return np.abs(2.0 * np.conj(a) * b)

    unit = np.linspace(-CUT, CUT, TABLE_POINTS)
    width = full_width_half_maximum(unit, excite(unit))  # 1.0067 nominal thicknesses
    return excite(unit * width)


@lru_cache(maxsize=1)
def _unit_slr() -> Float:
    with SLR_TABLE.open("rb") as file:
        return np.load(file)


def _parse_row(path: str | Path, number: int, line: str) -> tuple[float, float] | None:
    cells = line.split("#")[0].replace(",", " ").replace(";", " ").split()
    if not cells:
        return None
    if len(cells) != 2:
        raise SettingsError(f"{path}: line {number} must hold two columns (mm, amplitude), got {len(cells)}")
    try:
        return float(cells[0]), float(cells[1])
    except ValueError as error:
        raise SettingsError(f"{path}: line {number} must hold two numbers, got {line.strip()!r}") from error


def _check_thickness(thickness_mm: float) -> None:
    if not (np.isfinite(thickness_mm) and thickness_mm > 0):
        raise SettingsError(f"slice thickness must be > 0 mm, got {thickness_mm:g}")


if __name__ == "__main__":
    np.save(str(SLR_TABLE), design_slr())
