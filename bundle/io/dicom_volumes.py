"""Which slices of a DICOM series make a volume: of several at each place, those of one echo and one number."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bida.errors import ScanError
from bida.io.dicom_frames import Frame
from bida.io.slice_stack import pick_volume, same_places
from bida.io.volumes import OneVolume, listed_values, steady

ECHO_MS = 0.01  # echo times that differ by less are one
_DAY_S = 24 * 3600


def volume_of(
    path: Path, frames: list[Frame], normal: NDArray[np.float64], echo: int | None, volume: int | None
) -> list[Frame]:
    """Return the slices of one volume, by their places, the lowest first.

    Args:
        path: what errors name.
        frames: slices of a series.
        normal: [3], the direction through the slices.
        echo: which echo, from 1, by echo time.
        volume: which of several at the same places, from 0, in the order of `_by_volume`.

    Raises:
        ScanError: there are several of what was not chosen, or places do not have as many slices each.
    """
    times = _echo_times(frames)
    if echo is not None:
        frames = _of_echo(path, frames, times, echo)
    elif _several_echoes(frames, normal, times):
        first = _stacked(frames, normal)[0][0]
        listed = ", ".join(f"{time:g}" for time in times)
        raise ScanError(
            f"{path}: a scan must be of one echo, got {len(times)} ({listed} ms) at {first.name} and others; "
            f"give --echo 1..{len(times)}"
        )
    volumes = _by_volume(path, frames, normal)
    return volumes[pick_volume(path, len(volumes), volume, "as many slices at each place")]


def every_volume(
    path: Path, frames: list[Frame], normal: NDArray[np.float64], echo: int | None
) -> tuple[list[list[Frame]], list[OneVolume]]:
    """Return the slices of each volume, and what it is: echo after echo, the shortest first, where none is chosen.

    Raises:
        ScanError: see `volume_of`.
    """
    times = _echo_times(frames)
    if echo is None and _several_echoes(frames, normal, times):
        wanted: list[int | None] = [*range(1, len(times) + 1)]
    else:
        wanted = [echo]
    members, parts = list[list[Frame]](), list[OneVolume]()
    for one in wanted:
        found = _by_volume(path, frames if one is None else _of_echo(path, frames, times, one), normal)
        for number, slices in enumerate(found):
            parts.append(OneVolume(number if len(found) > 1 else None, one, _name(slices[0], one)))
        members += found
    return members, parts


def step_of(volumes: Sequence[Sequence[Frame]]) -> float | None:
    """Return the seconds from one volume to the next, None where they differ in more than time or none is told.

    ``TemporalResolution`` decides, else the times of acquisition, where they are evenly apart.
    """
    firsts = [volume[0] for volume in volumes]
    alike = len({frame.b_value for frame in firsts}) == 1 and len(_echo_times(firsts)) < 2
    if len(volumes) < 2 or not alike:
        return None
    told = {frame.apart_ms for volume in volumes for frame in volume}
    only = told.pop() if len(told) == 1 else None
    if only is not None and only > 0:
        return only / 1000
    starts = [[_seconds(frame.acquired) for frame in volume] for volume in volumes]
    known = [[one for one in start if one is not None] for start in starts]
    if not all(known):
        return None
    moments = [min(start) for start in known]
    wrapped = [moments[0] + (one - moments[0]) % _DAY_S for one in moments]  # past midnight
    return steady(wrapped)


def _name(frame: Frame, echo: int | None) -> str:
    """Return what a volume is, by one of its slices."""
    said = [f"echo {echo}{'' if frame.echo_ms is None else f' ({frame.echo_ms:g} ms)'}"] if echo is not None else []
    said += [f"b {frame.b_value:g}"] if frame.b_value is not None else []
    return ", ".join(said)


def _seconds(text: str) -> float | None:
    """Return the second of the day of a date and time or a time of day, as DICOM writes them (PS3.5 6.2, DT and TM)."""
    words = text.split("+")[0].split("-")[0].strip()
    clock = words[8:] if len(words.split(".")[0]) > 6 else words
    try:
        return int(clock[:2]) * 3600 + int(clock[2:4] or 0) * 60 + float(clock[4:] or 0)
    except ValueError:
        return None


def _stacked(frames: Sequence[Frame], normal: NDArray[np.float64]) -> list[list[Frame]]:
    """Return the slices at each place, the lowest first."""
    found = same_places(np.array([frame.position @ normal for frame in frames]))
    return [[frames[int(i)] for i in place] for place in found]


def _several_echoes(frames: Sequence[Frame], normal: NDArray[np.float64], times: Sequence[float]) -> bool:
    """Return whether a place has slices of several echoes."""
    return len(times) > 1 and max(map(len, _stacked(frames, normal))) > 1


def _of_echo(path: Path, frames: list[Frame], times: Sequence[float], echo: int) -> list[Frame]:
    """Return the slices of an echo."""
    if not 1 <= echo <= max(len(times), 1):
        raise ScanError(f"{path}: --echo must be 1..{max(len(times), 1)}, got {echo}; give one of those")
    if not times:
        return frames
    near = times[echo - 1]
    return [frame for frame in frames if frame.echo_ms is not None and abs(frame.echo_ms - near) < ECHO_MS]


def _by_volume(path: Path, frames: Sequence[Frame], normal: NDArray[np.float64]) -> list[list[Frame]]:
    """Return the slices of each volume, in the order of their temporal positions, where they have some, and numbers.

    Raises:
        ScanError: places do not have as many slices each; a number is there twice; slices of one volume are of several
            times or b-values.
    """
    stacked = _stacked(frames, normal)
    counts = [len(place) for place in stacked]
    count = max(set(counts), key=counts.count)
    for at, place in enumerate(stacked):
        if len(place) != count:
            more = len(place) > count
            shown = ", ".join(frame.name for frame in place[:4])
            raise ScanError(
                f"{path}: every place must have {count} slice(s), got {len(place)} at place {at} ({shown}); "
                + ("remove what is stored twice, or give --echo" if more else "copy what is missing")
            )
    timed = all(frame.moment is not None for frame in frames)
    for place in stacked:
        place.sort(key=lambda one: (one.moment if timed else 0, one.number, one.file.name, one.index))
        if len({(frame.number, frame.index) for frame in place}) < count:
            raise ScanError(
                f"{path}: slices at one place must have an InstanceNumber each, got {place[0].number} of "
                f"{place[0].name} and {place[1].name}; remove what is stored twice"
            )
    volumes = [[place[number] for place in stacked] for number in range(count)]
    for number, volume in enumerate(volumes if count > 1 else []):
        for what, tag in (("temporal position", "moment"), ("b-value", "b_value")):
            values = list(dict.fromkeys(getattr(frame, tag) for frame in volume))
            if len(values) > 1:
                other = next(frame for frame in volume if getattr(frame, tag) == values[1])
                raise ScanError(
                    f"{path}: slices of volume {number}, as their numbers order them, must have one {what}, got "
                    f"{listed_values(values)} in {volume[0].name} and {other.name}; copy what is missing, or convert "
                    "it by dcm2niix"
                )
    return volumes


def _echo_times(frames: Sequence[Frame]) -> list[float]:
    """Return the echo times there are, ms, the shortest first."""
    times: list[float] = []
    for time in sorted({frame.echo_ms for frame in frames if frame.echo_ms is not None}):
        if not times or time - times[-1] >= ECHO_MS:
            times.append(time)
    return times
