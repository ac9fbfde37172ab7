"""Even out slices of a scan that differ from their neighbours, and take those that hold nothing as not measured."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

import torch

from bida.errors import ScanError
from bida.physics.interpolation import filled
from bida.physics.slice_gains import SliceGains, slice_gains
from bida.transforms.base import ScanImage, VolumeStep, add_warnings, geometry_of, noted, replaced

FIRST = ("left", "posterior", "inferior")  # end of each axis that slices are counted from
NAMED = 6  # slices that a sentence names before it breaks off


class CorrectSlices(VolumeStep):
    """Give a scan [1, R, A, S] slices of even brightness, and say which of them hold no measurement.

    Slices whose brightness certainly differs from their neighbours' (`bida.physics.slice_gains`) are divided by their
    gain. Empty and corrupt slices become `missing` in the geometry: they have no row in A any more, and until the
    result is made their place is held by what their neighbours interpolate to. What was estimated goes as JSON into the
    meta (`slices`), and a sentence for each finding into `warnings`.

    With ``correct=False`` the scan stays as it is, and what was found is said all the same.

    Backward changes nothing: the result keeps the even brightness and what was filled in. Steps that come after this
    one, so `MatchScan`, know the scan as it leaves it.
    """

    def __init__(self, correct: bool = True) -> None:
        """Keep the choice."""
        self.correct = correct

    def forward(self, image: ScanImage) -> tuple[ScanImage, dict[str, Any]]:
        """Correct, and take out.

        Raises:
            ScanError: More than a third of the slices would be taken out.
        """
        geometry = geometry_of(image)
        found = slice_gains(image.numpy(), geometry.axis)
        if self.correct and found.too_few:
            raise ScanError(
                f"{image.meta.get('filename_or_obj', 'scan')}: at most a third of the slices may be empty or spoilt, "
                f"got {len(found.missing)} of {len(found.gains)}: {named(found.missing, geometry.axis)}; "
                "give --correct-slices off to take them as measured"
            )
        out = noted(
            image,
            slices=json.dumps(found.record()),
            warnings=add_warnings(image, sentences(found, geometry.axis, self.correct)),
        )
        if not self.correct:
            return out, {}
        data = image.data
        if found.corrected:
            data = torch.from_numpy(found.evened(image.numpy(), geometry.axis))[None].to(data)
        if found.missing:
            geometry = replace(geometry, missing=found.missing)
            data = filled(data, geometry, dim=geometry.axis + 1)
            out = noted(out, slice_geometry=geometry.to_json())
        return replaced(out, data), {}

    def backward(self, image: ScanImage, record: Mapping[str, Any]) -> ScanImage:
        """Keep the corrected brightness and what was filled in."""
        return image


def sentences(found: SliceGains, axis: int, corrected: bool = True) -> list[str]:
    """Return what the user should know of the slices, a sentence each; slices are counted from 1."""
    told = []
    by_gain = sorted(found.corrected, key=lambda k: (found.divisors[k], k))
    for divisor, group in groupby(by_gain, key=lambda k: round(found.divisors[k], 3)):
        which = sorted(group)
        how = f"{abs(divisor - 1):.0%} {'darker' if divisor < 1 else 'brighter'} than {_their(which)} neighbours"
        done = "brightened" if divisor < 1 else "darkened"
        them = "it" if len(which) == 1 else "them"
        end = f"and {_was(which)} {done}, in the result too; --correct-slices off leaves {them}"
        end = end if corrected else "and stay so"
        told.append(f"{named(which, axis)} {_was(which)} {how} {end}")
    for lost, what in ((found.empty, "empty"), (found.corrupt, "unlike both neighbours, as if spoilt,")):
        which = list(lost)
        if which and not corrected:
            told.append(
                f"{named(which, axis)} {_was(which)} {what} and {'counts' if len(which) == 1 else 'count'} as measured"
            )
        elif which:
            told.append(
                f"{named(which, axis)} {_was(which)} {what} and {_was(which)} left out: what the result holds there "
                "is filled in from the neighbours and the prior"
            )
    return told


def named(which: Sequence[int], axis: int) -> str:
    """Return slices in words, as 'slices 2, 4, 6 (from the posterior end)'."""
    numbers = [str(k + 1) for k in which]
    if len(numbers) > NAMED:
        numbers = [*numbers[: NAMED - 1], f"... {numbers[-1]}"]
    text = ", ".join(numbers).replace(", ...", " ...")
    return f"{'slice' if len(which) == 1 else 'slices'} {text} (from the {FIRST[axis]} end)"


def _was(which: Sequence[int]) -> str:
    return "was" if len(which) == 1 else "were"


def _their(which: Sequence[int]) -> str:
    return "its" if len(which) == 1 else "their"
