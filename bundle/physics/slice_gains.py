"""Slices that differ from their neighbours: brightness of every other slice or of single ones, empty and spoilt slices.

A slice is compared with the nearest slices on either side in the tissue that both of them hold, voxel by voxel:

    d = log y_k - [(j - k) log y_i + (k - i) log y_j] / (j - i),    i < k < j

Its median over the voxels where anatomy changes least from i to j is the slice's deviation. What is smooth along the
axis, as a coil's sensitivity, has none; what is left of anatomy is measured by the deviations' own scatter over the
slices. Interleaved acquisition leaves a deviation of alternating sign, a single slice one whose neighbours have minus
half of it. Only these two are certain, and only where they are large; any other unevenness is reported alone.

A slice between two others that are like each other must be like them: if it correlates much less with their mean than
they with each other, it holds something else. On clean scans it correlates more, however anatomy changes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]

TISSUE = 0.5  # of the threshold between air and tissue: tissue that is dark counts, noise in the air hardly
SHARE = 0.3  # of the largest slice's tissue: with less in common, an end of the head changes too fast to be judged
ALIKE = 0.6  # correlation of two slices by which what lies between them is known
STEADY = 0.3  # of the voxels in common, those that change least from one neighbour to the other
UNLIKE = 0.6  # of the neighbours' own correlation, below which a slice is none of this scan
FLAT = 1e-6  # of the scan's range: a slice that varies by less is constant
RARE = 0.01  # of a slice's voxels have by chance the value that an empty one has
DARK = 0.2  # of its neighbours' tissue: a slice that is as bright as tissue in less than that is empty
LONGEST = 3  # slices in a row that can be known as spoilt
FEWEST = 4  # deviations by which their scatter is known
SCATTER = 0.015  # least scatter of deviations over slices that is believed
ROBUST = 10  # deviations whose spread is taken from their median
CERTAIN = 5.0  # standard errors
ALTERNATE = 0.07  # least log ratio of odd to even slices that is corrected
AGREED = 0.9  # of the slices, that lie on the side that their parity says
SINGLE = 0.12  # least log ratio of a single slice to its neighbours that is corrected
ECHO = 0.3  # of a single slice's deviation: how far its neighbours may be from minus half of it
MANY = 0.25  # of the slices: if more than that are single ones that differ, none is certain
MOST_MISSING = 1 / 3  # of the slices: if more than that hold nothing, what is filled in would be most of the result


@dataclass(frozen=True)
class SliceGains:
    """What the slices of a scan have in brightness on their neighbours; indices count from 0.

    Attributes:
        gains: brightness of each slice over that of its neighbours, [m]; NaN where too little tissue tells.
        uncertainty: standard error of each gain, [m]; NaN likewise.
        divisors: what each slice is to be divided by, [m]; 1 but for the slices of `corrected`.
        corrected: slices whose gain is certain.
        empty: slices that hold one value, or noise alone, where their neighbours hold tissue.
        corrupt: other slices that are unlike neighbours which are like each other.
    """

    gains: tuple[float, ...]
    uncertainty: tuple[float, ...]
    divisors: tuple[float, ...]
    corrected: tuple[int, ...] = ()
    empty: tuple[int, ...] = ()
    corrupt: tuple[int, ...] = ()

    @property
    def missing(self) -> tuple[int, ...]:
        """Slices that hold no measurement of the head, in order."""
        return tuple(sorted((*self.empty, *self.corrupt)))

    @property
    def too_few(self) -> bool:
        """Return whether more slices are missing than can be filled in from the others."""
        return len(self.missing) > MOST_MISSING * len(self.gains)

    def evened(self, slices: NDArray[Any], axis: int) -> Float:
        """Return the scan [R, A, S] that was measured with each slice divided by its divisor."""
        shape = [-1 if k == axis else 1 for k in range(3)]
        return slices / np.array(self.divisors, dtype=np.float64).reshape(shape)

    def record(self) -> dict[str, Any]:
        """Return it as JSON can hold it, rounded; None for what is not known."""
        return {
            "gains": [None if np.isnan(gain) else round(gain, 3) for gain in self.gains],
            "uncertainty": [None if np.isnan(error) else round(error, 3) for error in self.uncertainty],
            "corrected": {str(k): round(self.divisors[k], 4) for k in self.corrected},
            "empty": list(self.empty),
            "corrupt": list(self.corrupt),
            "missing": list(self.missing),
        }


def slice_gains(slices: NDArray[Any], axis: int) -> SliceGains:
    """Compare each slice of a scan with its neighbours.

    Args:
        slices: the scan [R, A, S], magnitudes; finite.
        axis: through-plane axis.
    """
    values = np.moveaxis(slices, axis, 0).reshape(slices.shape[axis], -1).astype(np.float64)
    level = TISSUE * _air_to_tissue(values)
    empty, corrupt = _without_signal(values, level)
    missing = {*empty, *corrupt}
    applied, single = np.zeros(len(values)), dict[int, float]()
    # of intensities that go as far below zero as tissue lies above it, zero is not the absence of signal
    bright = level > 0 and values.min() > -level
    deviations = Deviations.none(len(values))
    if bright:
        logs = np.log(np.maximum(values, 1e-3 * level))
        applied = _alternation(Deviations.of(logs, level, missing), missing)
        logs -= applied[:, None]
        single = _singles(logs, level, missing)
        deviations = Deviations.of(logs, level, missing, set(single))
        for k, gain in single.items():
            applied[k] += gain
            deviations.value[k] = 0.0  # what is left of it
    gains = np.exp(deviations.value + applied)
    return SliceGains(
        gains=tuple(gains.tolist()),
        uncertainty=tuple((gains * deviations.error).tolist()),
        divisors=tuple(np.exp(applied).tolist()),
        corrected=tuple(np.flatnonzero(applied).tolist()),
        empty=tuple(sorted(empty)),
        corrupt=tuple(sorted(corrupt)),
    )


@dataclass(frozen=True)
class Deviations:
    """What each slice deviates from its neighbours by.

    Attributes:
        value: natural logarithm, [m]; NaN where it is not known.
        rough: the same, also where too little tissue is in common, or too unlike, to rely on it.
        error: standard error: the scatter over the slices, and that of the voxels, [m].
        direct: both neighbours are the next ones, [m].
        scatter: standard deviation over the slices.
    """

    value: Float
    rough: Float
    error: Float
    direct: NDArray[np.bool_]
    scatter: float

    @classmethod
    def none(cls, slices: int) -> Deviations:
        """Return those of slices of which nothing is known."""
        nothing = np.full(slices, np.nan)
        return cls(nothing, nothing.copy(), nothing.copy(), np.zeros(slices, bool), math.nan)

    @classmethod
    def of(cls, logs: Float, level: float, missing: set[int], passed_over: set[int] | None = None) -> Deviations:
        """Measure those of a stack.

        Args:
            logs: natural logarithm of the slices, [m, n].
            level: what is brighter is tissue.
            missing: slices that are not there.
            passed_over: slices that are measured, but are nobody's neighbours.
        """
        found = cls.none(len(logs))
        tissue = logs > math.log(level)
        enough, values = SHARE * _most_in_common(tissue), np.exp(logs)
        for k, i, j in _between(len(logs), missing, passed_over or set()):
            both = tissue[i] & tissue[j]
            if k in missing or both.sum() < FEWEST / STEADY:
                continue
            low, high = logs[i][both], logs[j][both]
            change = np.abs(high - low - np.median(high - low))
            steady = change <= np.quantile(change, STEADY)
            d = (logs[k][both] - ((j - k) * low + (k - i) * high) / (j - i))[steady]
            found.rough[k] = np.median(d)
            if both.sum() < enough or _correlation(values[i], values[j]) < ALIKE:
                continue
            found.value[k] = found.rough[k]
            found.error[k] = _spread(d) / math.sqrt(len(d))
            found.direct[k] = j - i == 2
        held = found.value[~np.isnan(found.value)]
        scatter = max(SCATTER, _spread(held)) if len(held) >= FEWEST else math.nan
        return cls(found.value, found.rough, np.hypot(found.error, scatter), found.direct, scatter)


def _without_signal(values: Float, level: float) -> tuple[set[int], set[int]]:
    """Return which slices are empty, and which are corrupt."""
    m, tissue = len(values), values > level
    constant = {k for k in range(m) if np.ptp(values[k]) <= FLAT * np.ptp(values)}
    largest = _most_in_common(tissue)
    empty, corrupt = set[int](), set[int]()
    for k, i, j in _between(m, constant, set()):
        if k in constant and (tissue[i] & tissue[j]).sum() >= SHARE * largest:
            empty.add(k)
    # in air that has noise no slice is constant: the outermost one was not acquired
    for k, next_one in ((0, 1), (m - 1, m - 2)):
        if k in constant and next_one not in constant and np.mean(values[next_one] == values[k][0]) < RARE:
            empty.add(k)
    held = [k for k in range(m) if k not in constant]
    for length in range(1, LONGEST + 1):
        for at in range(len(held) - length - 1):
            i, *inner, j = held[at : at + length + 2]
            if {i, j, *inner} & corrupt:
                continue
            alike = _correlation(values[i], values[j])
            if alike < ALIKE or (tissue[i] & tissue[j]).sum() < SHARE * largest:
                continue
            between = [((j - k) * values[i] + (k - i) * values[j]) / (j - i) for k in inner]
            if all(_correlation(values[k], mean) < UNLIKE * alike for k, mean in zip(inner, between)):
                corrupt |= set(inner)
    for k, i, j in _between(m, constant | corrupt, set()):
        if k in corrupt and np.mean(tissue[k][tissue[i] & tissue[j]]) < DARK:
            empty.add(k)
    return empty, corrupt - empty


def _alternation(found: Deviations, missing: set[int]) -> Float:
    """Return the logarithm of what every other slice is to be divided by, [m]: zeros where that is not certain."""
    m = len(found.value)
    index = np.arange(m)
    odd = index % 2 == 1
    known = found.direct & ~np.isnan(found.value)
    applied = np.zeros(m)
    if min((known & odd).sum(), (known & ~odd).sum()) < 2 or known.sum() < FEWEST:
        return applied
    sides = [float(np.median(found.value[known & side])) for side in (~odd, odd)]
    # y_k against both neighbours: the ratio of odd to even slices shows once with either sign
    ratio, middle = (sides[1] - sides[0]) / 2, (sides[0] + sides[1]) / 2
    rest = found.value - np.where(odd, sides[1], sides[0])
    # of deviations that are those of independent slices the alternating part has the largest error
    # of few slices the medians can be those of one single slice and its neighbours, which a robust spread overlooks
    spread = _spread(rest[known]) if known.sum() >= ROBUST else float(rest[known].std())
    error = 2 * max(SCATTER, spread) / math.sqrt(known.sum())
    agreed = np.mean((found.value[known] - middle) * np.where(odd[known], 1, -1) * np.sign(ratio) > 0)
    if abs(ratio) >= ALTERNATE and abs(ratio) >= CERTAIN * error and agreed >= AGREED:
        # the darker ones are wrong: slices that disturb each other lose signal
        applied[odd if ratio < 0 else ~odd] = -abs(ratio)
        applied[list(missing)] = 0.0
    return applied


def _singles(logs: Float, level: float, missing: set[int]) -> dict[int, float]:
    """Return single slices that certainly differ from their neighbours, and by how much, natural logarithm."""
    single: dict[int, float] = {}
    m = len(logs)
    while len(single) <= MANY * m:
        found = Deviations.of(logs, level, missing, set(single))
        found.value[list(single)] = np.nan
        gains = {k: gain for k in range(m) if (gain := _alone(found, k)) != 0}
        if not gains:
            return single
        largest = max(gains, key=lambda k: abs(gains[k]))
        single[largest] = gains[largest]
    return {}


def _alone(found: Deviations, k: int) -> float:
    """Return what a slice deviates by where that is certain, and as of one slice among even ones; 0 elsewhere."""
    index = np.arange(len(found.value))
    others = ~np.isnan(found.value) & (np.abs(index - k) > 1)
    value, rough = found.value.copy(), found.rough.copy()
    for side in (index % 2 == 0, index % 2 == 1):
        # a little alternation, too little to be corrected, is no deviation of one slice
        known = others & side if (others & side).sum() > 1 else others
        usual = np.median(found.value[known]) if known.any() else 0.0
        value[side] -= usual
        rough[side] -= usual
    here = float(value[k])
    if not abs(here) >= SINGLE or others.sum() < FEWEST - 1 or not 0 < k < len(value) - 1:
        return 0.0
    if abs(here) < CERTAIN * max(SCATTER, _spread(value[others])):
        return 0.0
    # false where a neighbour's is not known: a step in brightness looks the same from one side
    echoed = all(abs(rough[n] + here / 2) <= ECHO * abs(here) for n in (k - 1, k + 1))
    return here if echoed else 0.0


def _between(m: int, missing: set[int], passed_over: set[int]) -> Iterator[tuple[int, int, int]]:
    """Yield each slice that has neighbours on both sides, k, and the nearest ones that hold anything, i and j."""
    neighbours = [k for k in range(m) if k not in missing | passed_over]
    for k in range(m):
        before, after = [i for i in neighbours if i < k], [j for j in neighbours if j > k]
        if before and after:
            yield k, before[-1], after[0]


def _most_in_common(tissue: NDArray[np.bool_]) -> float:
    """Return the voxels of tissue [m, n] that next slices share where that is most; one pair in ten may be wrong."""
    return float(np.quantile((tissue[1:] & tissue[:-1]).sum(axis=1), 0.9)) if len(tissue) > 1 else 0.0


def _air_to_tissue(values: Float) -> float:
    """Return Otsu's threshold of a stack (1979, IEEE Trans. Syst. Man Cybern. 9(1):62-66)."""
    import SimpleITK

    otsu = SimpleITK.OtsuThresholdImageFilter()
    otsu.Execute(SimpleITK.GetImageFromArray(values.astype(np.float32)))
    return float(otsu.GetThreshold())


def _correlation(a: Float, b: Float) -> float:
    """Return Pearson's correlation, 0 where one does not vary."""
    a, b = a - a.mean(), b - b.mean()
    size = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / size if size > 0 else 0.0


def _spread(values: Float) -> float:
    """Return the standard deviation of normal values, from the median of their distances to the median."""
    return 1.4826 * float(np.median(np.abs(values - np.median(values))))
