"""The parameters of a ParaVision reconstruction, ``visu_pars``, and the pixels that they describe, ``2dseq``.

The text is parsed by brukerapi (MIT licence, kept up, optional: ``bida-mri[bruker]``). The geometry is computed here,
of every frame, since the readers that there are take what one slice says for all: brukerapi 0.4.6 has the step from the
first two slices. brkraw 0.5.7 has it from ``method`` and adds the gap to a distance of centres that contains it, scales
all slices by the first one's slope and turns a quadruped that was declared supine about a wrong axis; pvraw 1.1.1 gives
every animal as if it had lain prone. (Those two are under the GPL, too, which this project is not.)

What the parameters mean follows the manuals File Formats and Parameters of ParaVision (5.1: D12, D13; 6.0.1: D01, D02;
360): positions are centres of the first voxel of a frame, mm, in the axes of `bida.io.anatomy`; rows of
``VisuCoreOrientation`` are the image's axes; value = slope * stored + offset, for each frame; ``VisuFGOrderDesc`` lists
the groups of frames, the fastest first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bida.errors import ScanError
from bida.io.jcamp import ParameterFile, parsed
from bida.io.slice_stack import TURNED, UNEVEN, normal_of, stack_affine

PIXELS, PARAMETERS = "2dseq", "visu_pars"
_WORDS = {"_32BIT_SGN_INT": "i4", "_16BIT_SGN_INT": "i2", "_8BIT_UNSGN_INT": "u1", "_32BIT_FLOAT": "f4"}
_ORDERS = {"littleEndian": "<", "bigEndian": ">"}
_SLICE = "FG_SLICE"
_REPETITIONS = ("FG_CYCLE",)  # groups whose elements were acquired one after the other, evenly


@dataclass(frozen=True)
class Volume:
    """Frames of ``2dseq`` that make one volume: `frames` in the file, `package` of slices, None where there is one."""

    frames: tuple[int, ...]
    package: int | None


@dataclass(frozen=True)
class Parameters(ParameterFile):
    """``visu_pars`` of a reconstruction.

    Attributes:
        file, values: see `bida.io.jcamp.ParameterFile`.
        dimensions: of a frame, 2 or 3.
        size: voxels of a frame.
        frames: number of frames.
        groups: name and length of each frame group, the fastest first.
    """

    dimensions: int
    size: tuple[int, ...]
    frames: int
    groups: tuple[tuple[str, int], ...]

    @classmethod
    def read(cls, folder: Path) -> Parameters:
        """Read and check the parameters.

        Raises:
            ScanError: brukerapi or the file is missing, it is damaged, or what it describes is no image.
        """
        file = folder / PARAMETERS
        self = cls(file, parsed(file), 0, (), 0, ())
        dimensions = int(self.numbers("VisuCoreDim", 1, least=1)[0])
        described = self.words("VisuCoreDimDesc", "spatial")
        if dimensions not in (2, 3) or set(described) != {"spatial"}:
            raise self.error(f"an image must have 2 or 3 spatial dimensions, got {dimensions} ({', '.join(described)})")
        units = {one.strip("[]") for one in self.words("VisuCoreUnits", "mm")[:dimensions]}
        if units != {"mm"}:
            raise self.error(f"VisuCoreUnits must be mm, got {', '.join(sorted(units))}")
        size = tuple(int(one) for one in self.numbers("VisuCoreSize", dimensions, least=1))
        frames = int(self.numbers("VisuCoreFrameCount", 1, least=1)[0])
        groups = self._groups()
        if int(np.prod([length for _, length in groups], dtype=float)) != frames:
            listed = " x ".join(f"{length} {name}" for name, length in groups)
            raise self.error(f"VisuFGOrderDesc must order the {frames} frames, got {listed}")
        return cls(file, self.values, dimensions, size, frames, groups)

    def per_frame(self, name: str, width: int) -> NDArray[np.float64]:
        """Return the numbers of a parameter for each frame, [frames, width].

        A parameter has one value, one for each frame, or one for each element of the frame group that it depends on.
        """
        found = self.numbers(name, width).reshape(-1, width)
        if len(found) in (1, self.frames):
            return np.broadcast_to(found if len(found) > 1 else found[:1], (self.frames, width))
        index = self.group_index()
        fitting = [at for at, (_, length) in enumerate(self.groups) if length == len(found)]
        by_name = [at for at in fitting if self.groups[at][0] == _SLICE] or fitting
        if len(by_name) != 1:
            raise self.error(f"{name} must have a value for each of {self.frames} frames, got {len(found)}")
        return found[index[by_name[0]]]

    def group_index(self) -> NDArray[np.intp]:
        """Return the element of each group that a frame is, [groups, frames]."""
        lengths = [length for _, length in self.groups]
        return np.array(np.unravel_index(np.arange(self.frames), lengths, order="F")).reshape(len(lengths), -1)

    def _groups(self) -> tuple[tuple[str, int], ...]:
        described = self.value("VisuFGOrderDesc")
        if described is None:
            frames = int(self.numbers("VisuCoreFrameCount", 1, least=1)[0])
            return ((_SLICE, frames),)  # what older versions leave out where there are slices alone
        try:
            rows = described if isinstance(described[0], list) else [described]
            groups = tuple((str(row[1]), int(row[0])) for row in rows)
        except (TypeError, ValueError, IndexError, KeyError) as error:
            raise self.error(f"VisuFGOrderDesc must list groups of frames, got {str(described)[:60]}") from error
        if any(length < 1 for _, length in groups):
            raise self.error(f"VisuFGOrderDesc must have lengths from 1 on, got {groups}")
        return groups

    def _packages(self) -> list[range]:
        """Return the slices of each package, as ParaVision 6 and later list them; before, those of one orientation."""
        at = [name for name, _ in self.groups].index(_SLICE)
        count = self.groups[at][1]
        listed = self.value("VisuCoreSlicePacksSlices")
        if listed is not None:
            try:
                rows = np.atleast_2d(np.asarray(listed, dtype=np.int64))
                packages = [range(int(first), int(first) + int(length)) for first, length in rows]
            except (TypeError, ValueError) as error:
                raise self.error(
                    f"VisuCoreSlicePacksSlices must be pairs of numbers, got {str(listed)[:60]}"
                ) from error
            if [k for one in packages for k in one] != list(range(count)):
                raise self.error(f"VisuCoreSlicePacksSlices must share out {count} slices, got {rows.tolist()}")
            return packages
        first = self.group_index()[at]
        turns = self.per_frame("VisuCoreOrientation", 9)[[int(np.argmax(first == k)) for k in range(count)]]
        cuts = [k for k in range(1, count) if np.abs(turns[k] - turns[k - 1]).max() > TURNED]
        return [range(a, b) for a, b in pairwise([0, *cuts, count])]

    def counts(self) -> list[tuple[str, int]]:
        """Return what volumes differ in, and by how many, the fastest first."""
        slices = self.dimensions == 2 and _SLICE in dict(self.groups)
        found = [(name, length) for name, length in self.groups if not (slices and name == _SLICE)]
        return [*found, ("slice packages", len(self._packages()))] if slices else found

    def step_s(self) -> float | None:
        """Return the seconds from one volume to the next, where they are repetitions and nothing else."""
        several = [(name, length) for name, length in self.counts() if length > 1]
        if len(several) != 1 or several[0][0] not in _REPETITIONS or self.value("VisuAcqScanTime") is None:
            return None
        whole_ms = float(self.numbers("VisuAcqScanTime", 1)[0])
        return whole_ms / 1000 / several[0][1] if whole_ms > 0 else None

    def volumes(self) -> list[Volume]:
        """Return the volumes there are.

        Raises:
            ScanError: real and imaginary parts, or phases, are all there is.
        """
        names = [name for name, _ in self.groups]
        if "FG_COMPLEX" in names:
            raise self.error("voxels must be real numbers, got real and imaginary parts (FG_COMPLEX)")
        kinds = set(self.words("VisuCoreFrameType", "MAGNITUDE_IMAGE"))
        other = kinds & {"REAL_IMAGE", "IMAGINERY_IMAGE", "PHASE_IMAGE", "COMPLEX_IMAGE"}
        if other:
            raise self.error(f"frames must be MAGNITUDE_IMAGE, got {', '.join(sorted(other))}")
        index = self.group_index()
        if self.dimensions == 3 or _SLICE not in names:
            return [Volume((frame,), None) for frame in range(self.frames)]
        at = names.index(_SLICE)
        rest = np.delete(index, at, axis=0)
        lengths = [length for k, (_, length) in enumerate(self.groups) if k != at]
        number = np.ravel_multi_index(tuple(rest), lengths, order="F") if lengths else np.zeros(self.frames, dtype=int)
        packages = self._packages()
        return [
            Volume(
                tuple(int(np.flatnonzero((number == one) & (index[at] == k))[0]) for k in package),
                at_package if len(packages) > 1 else None,
            )
            for at_package, package in enumerate(packages)
            for one in range(int(np.prod(lengths, dtype=int)))
        ]

    def geometry(self, volume: Volume, notes: list[str]) -> tuple[list[int], NDArray[np.float64]]:
        """Return the frames of a volume in the order of their places, and its affine, 4 x 4 in patient coordinates, mm.

        Raises:
            ScanError: frames do not make a volume.
        """
        frames = list(volume.frames)
        extent = self.numbers("VisuCoreExtent", self.dimensions)
        if extent.size != self.dimensions or not (extent > 0).all():
            raise self.error(f"VisuCoreExtent must be {self.dimensions} lengths above 0, got {extent.tolist()}")
        voxel = extent / self.size
        positions = self.per_frame("VisuCorePosition", 3)[frames]
        turns = self.per_frame("VisuCoreOrientation", 9)[frames]
        names = [f"frame {frame}" for frame in frames]
        rotation = normal_of(self.file.parent, names, turns[:, :6])
        pixel = (float(voxel[0]), float(voxel[1]))
        if self.dimensions == 3:
            third = turns[0, 6:] / np.linalg.norm(turns[0, 6:])
            if not abs(abs(third @ rotation[:, 2]) - 1) <= TURNED:
                raise self.error(f"VisuCoreOrientation must have orthogonal rows, got {turns[0].round(4).tolist()}")
            affine = np.eye(4)
            affine[:3, :3] = np.column_stack([rotation[:, 0], rotation[:, 1], third]) * voxel
            affine[:3, 3] = positions[0]
            return frames, affine
        heights = positions @ rotation[:, 2]
        order = np.argsort(heights, kind="stable")
        frames = [frames[int(k)] for k in order]
        affine = stack_affine(self.file.parent, [names[int(k)] for k in order], positions[order], rotation, pixel)
        self._compare_distance(volume, float(np.linalg.norm(affine[:3, 2])), notes)
        return frames, affine

    def _compare_distance(self, volume: Volume, distance_mm: float, notes: list[str]) -> None:
        if self.value("VisuCoreSlicePacksSliceDist") is None:
            return
        said = self.numbers("VisuCoreSlicePacksSliceDist", 1)
        one = float(said[volume.package or 0] if said.size > (volume.package or 0) else said[0])
        if abs(one - distance_mm) > UNEVEN * distance_mm:
            notes.append(
                f"VisuCoreSlicePacksSliceDist is {one:g} mm, but slices lie {distance_mm:.4g} mm apart by their "
                "positions, which are used"
            )

    def sidecar(self, frames: Sequence[int], notes: list[str]) -> dict[str, Any]:
        """Return the thickness of slices, where they are slices and agree."""
        if self.dimensions == 3 or self.value("VisuCoreFrameThickness") is None:  # of a slab it is the slab's
            return {}
        thick = self.per_frame("VisuCoreFrameThickness", 1)[list(frames), 0]
        if not thick.min() > 0:
            return {}
        if np.ptp(thick) > 0.01 * thick.max():
            notes.append(
                f"VisuCoreFrameThickness is {thick.min():g} to {thick.max():g} mm, not the same in all slices, and is "
                "not used; --thickness gives it"
            )
            return {}
        return {"SliceThickness": float(thick[0])}

    def stored(self) -> NDArray[Any]:
        """Return the stored frames, [frames, voxels], on disk.

        Raises:
            ScanError: ``2dseq`` is not as large as it must be, or its type is unknown.
        """
        word, order = self.text("VisuCoreWordType"), self.text("VisuCoreByteOrder") or "littleEndian"
        if word not in _WORDS or order not in _ORDERS:
            raise self.error(f"VisuCoreWordType and VisuCoreByteOrder must be known ones, got {word} and {order}")
        kind = np.dtype(_ORDERS[order] + _WORDS[word])
        file, voxels = self.file.with_name(PIXELS), int(np.prod(self.size, dtype=object))
        wanted, found = self.frames * voxels * kind.itemsize, file.stat().st_size
        if wanted != found:
            raise ScanError(
                f"{file}: {self.frames} frames of {' x '.join(map(str, self.size))} voxels must be {wanted} bytes, got "
                f"{found}; copy the study again"
            )
        return np.memmap(file, dtype=kind, mode="r", shape=(self.frames, voxels))

    def pixels(self, stored: NDArray[Any], frames: Sequence[int]) -> NDArray[Any]:
        """Return the voxels of frames, [X, Y, Z], scaled, of what `stored` gives."""
        slopes, offsets = (
            self.per_frame(name, 1)[:, 0] if self.value(name) is not None else np.full(self.frames, default)
            for name, default in (("VisuCoreDataSlope", 1.0), ("VisuCoreDataOffs", 0.0))
        )
        plain = bool((slopes[list(frames)] == 1).all() and (offsets[list(frames)] == 0).all())
        shaped = []
        for frame in frames:
            values = self._arranged(np.array(stored[frame]), frame)
            scaled = values if plain else (values * slopes[frame] + offsets[frame]).astype(np.float32)
            shaped.append(scaled)
        if self.dimensions == 3:
            reverse = "reverse" in self.text("VisuCoreDiskSliceOrder")
            return shaped[0][:, :, ::-1] if reverse else shaped[0]  # the position is that of the last slice stored
        return np.stack(shaped, axis=-1)

    def _arranged(self, stored: NDArray[Any], frame: int) -> NDArray[Any]:
        """Return a frame [X, Y] or [X, Y, Z]; ``VisuCoreTransposition`` says which of its axes are stored exchanged.

        Where these are of one length nothing is exchanged: measured on real studies by the authors of brukerapi.
        """
        swapped = 0
        if self.value("VisuCoreTransposition") is not None:
            swapped = int(self.per_frame("VisuCoreTransposition", 1)[frame, 0])
        if not swapped:
            return stored.reshape(self.size, order="F")
        first, second = (0, self.dimensions - 1) if swapped >= self.dimensions else (swapped - 1, swapped)
        if first < 0:
            raise self.error(f"VisuCoreTransposition must be 0..{self.dimensions}, got {swapped}")
        size = list(self.size)
        if size[first] == size[second]:
            return stored.reshape(self.size, order="F")
        size[first], size[second] = size[second], size[first]
        return np.swapaxes(stored.reshape(size, order="F"), first, second)
