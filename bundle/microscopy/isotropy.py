"""What the commands that look at microscopy stacks do; imported only when one is run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bida.errors import SettingsError
from bida.eval.slices.isotropy import AXES, LARGEST_DB, MEAN_DB, SHORTEST, Isotropy, isotropy
from bida.microscopy.load import middle
from bida.microscopy.stacks.stack import Stack, part_of

ASKED = 512  # pixels a side that are looked at before a restoration
MOST = 1 << 26  # voxels that are looked at then
TINY = np.finfo(np.float64).tiny
JUMP, UNUSUAL = 0.2, 4.0  # of the brightness of two planes; of the usual difference
MOST_JUMPS = 8  # that are named
_NOTED_DB = 3.0  # an octave that differs by more is named beside a "yes"


def table(stack: Stack, found: Mapping[str, Isotropy]) -> str:
    """Return what was measured as lines of text."""
    sizes = " x ".join(map(str, stack.data.shape[1:]))
    voxels = " x ".join(f"{size:.4g}" for size in stack.spacing_um)
    lines = [f"{stack.path}: {len(found)} channel(s) of {sizes} voxels (z, y, x) of {voxels} um"]
    nyquists = [0.5 / size for size in stack.spacing_um]
    if max(nyquists) > min(nyquists) * (1 + 1e-6):
        coarsest = AXES[int(np.argmin(nyquists))]
        lines.append(
            f"{coarsest} is the coarsest axis: compared up to its Nyquist frequency, {min(nyquists):.4g} cycles per "
            f"um; of what is finer (up to {max(nyquists):.4g}) the stack cannot tell"
        )
    for name, one in found.items():
        noise = "no white noise floor told" if one.noise is None else f"white noise of {one.noise**0.5:.3g} taken off"
        lines += ["", f"{name} ({noise})", "    cycles per um       z - mean(x, y)      y - x"]
        for octave in one.octaves:
            limits = f"{octave.low:.4g} - {octave.high:.4g}"
            lines.append(f"    {limits:<19} {octave.z_minus_xy_db:+9.2f} dB {octave.y_minus_x_db:+10.2f} dB")
        lines.append(verdict(one))
    lines += ["", overall(found, sorted({jump for volume in stack.data for jump in brightness_jumps(volume)}))]
    return "\n".join(lines)


def verdict(one: Isotropy) -> str:
    """Return the verdict on a channel, with its figures and thresholds."""
    mean, largest = f"mean {one.mean_db:.1f} dB", f"largest {one.largest_db:+.1f} dB"
    figures = f"{mean} (threshold {MEAN_DB:g}), {largest} (threshold {LARGEST_DB:g})"
    if not one.isotropic:
        more = "more" if one.largest_db > 0 else "less"
        return f"XY looks like XZ and YZ: no; {figures}: z holds {more} power than x and y, unlike what XY can teach"
    noted = [f"{o.low:.4g} - {o.high:.4g}" for o in one.octaves if abs(o.z_minus_xy_db) > _NOTED_DB]
    note = f"; beyond {_NOTED_DB:g} dB at {', '.join(noted)} cycles per um" if noted else ""
    return f"XY looks like XZ and YZ: yes; {figures}{note}"


def overall(found: Mapping[str, Isotropy], jumps: Sequence[int] = ()) -> str:
    """Return one verdict over all channels, that of the one that differs most, and what to do about it.

    Args:
        found: Of each channel.
        jumps: Planes at which the brightness jumps, from `brightness_jumps`.
    """

    def excess(one: Isotropy) -> float:
        return max(one.mean_db / MEAN_DB, abs(one.largest_db) / LARGEST_DB)

    name, worst = max(found.items(), key=lambda item: excess(item[1]))
    where = f" in {name}, the worst of {len(found)} channels" if len(found) > 1 else ""
    sizes = f"{worst.mean_db:.1f} dB on average and {worst.largest_db:+.1f} dB at most"
    figures = f"z differs from x and y by {sizes}{where}"
    if worst.isotropic:
        return f"isotropy: yes, {figures}; planes XY can teach what lies between them"
    if worst.largest_db > 0:
        named = ", ".join(map(str, jumps[:MOST_JUMPS]))
        where = f"; brightness jumps at plane {named}, counted from 0" if jumps else ""
        advice = (
            "planes may jump against each other or differ in brightness: align them and make them alike first, "
            f"or average (block mean){where}"
        )
    else:
        advice = "z is blurred beyond the distance of its planes: deconvolve the stack first, or look at XZ with care"
    return f"isotropy: no, {figures}; {advice}"


def asked(stack: Stack) -> tuple[dict[str, Isotropy], str]:
    """Measure the middle of a stack, at most `ASKED` pixels a side; return what was found and the verdict of `overall`.

    A channel that cannot be told of, such as a constant one, is left out.
    """
    found: dict[str, Isotropy] = {}
    reasons: list[str] = []
    jumps: set[int] = set()
    side = min(ASKED, max(SHORTEST, math.isqrt(MOST // stack.data.shape[1])))
    for name, volume in zip(stack.channels, middle(stack.data, side)):
        planes = part_of(stack.path, volume)
        jumps.update(brightness_jumps(planes))
        try:
            found[name] = isotropy(planes, stack.spacing_um)
        except SettingsError as error:
            reasons.append(str(error).removeprefix("isotropy: "))
    return found, overall(found, sorted(jumps)) if found else f"isotropy: cannot be told: {reasons[0]}"


def brightness_jumps(planes: NDArray) -> list[int]:
    """Return the planes whose median differs from that of the plane before as it does from few others.

    That is by more than `JUMP` of the larger of both, and by more than `UNUSUAL` times the median difference.

    Args:
        planes: [Z, Y, X].
    """
    medians = np.median(planes.reshape(len(planes), -1), axis=1).astype(np.float64)
    steps = np.abs(np.diff(medians)) / np.maximum(np.maximum(*np.abs([medians[1:], medians[:-1]])), TINY)
    return [int(i) + 1 for i in np.flatnonzero((steps > JUMP) & (steps > UNUSUAL * np.median(steps)))]


def record(stack: Stack, found: Mapping[str, Isotropy]) -> dict[str, Any]:
    """Return what was measured for a JSON file."""
    return {
        "stack": str(stack.path),
        "shape_czyx": list(stack.data.shape),
        "spacing_um_zyx": list(stack.spacing_um),
        "threshold_mean_db": MEAN_DB,
        "threshold_largest_db": LARGEST_DB,
        "channels": {
            name: {
                "isotropic": one.isotropic,
                "mean_db": one.mean_db,
                "largest_db": one.largest_db,
                "nyquist_cycles_per_um": one.nyquist,
                "white_noise_variance": one.noise,
                "octaves_cycles_per_um": [asdict(octave) for octave in one.octaves],
                "spectra": {
                    axis: {"cycles_per_um": f.tolist(), "power": p.tolist()}
                    for axis, f, p in zip(AXES, one.frequency, one.power)
                },
            }
            for name, one in found.items()
        },
    }
