"""The published UniRes (Brudfors et al. 2018, 2019), run by a Python of its own where it is installed.

UniRes (https://github.com/brudfors/UniRes) is no part of this software, nor on the package index, and is not imported:
a Python in whose environment it is runs `SCRIPT` on NIfTI files of the thick slices in a folder of its own. Its command
``unires`` would not do: it takes every file for another contrast, while its function takes repeats of one.

Four things of version 0.3 are met here, without a change to the program:

- Its strength depends on the unit of length, because its total variation is per mm and its weight and its tolerances
  are set for people: lengths are given `UNIT` times as they are, so that a voxel of 0.1 mm is one of a millimetre. The
  weight beside that is its ``reg_scl``; what suits a scan is found by hand.
- Voxel sizes over the wanted one are rounded up to whole numbers, so that a size equal to the in-plane one can become
  a blur of two voxels by rounding alone: `HAIR` is added to it.
- It counts voxels from one, files from zero: the grid of its result begins factor - 1 voxels within the first slice of
  a scan, and of a single scan it sets to zero what lies before the centres of the second slice, row and column.
  `AHEAD` copies of the first of each go before it, so that all of the field of view is within, and the zeros are cut.
- The result lies on a grid of its own, at the place that its affine says, and is resampled from there.

Everything else is as the program has it, with its own alignment of several scans. Of it a stand-in with the same grid
is tested; the program itself takes minutes, and is not.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bida.errors import SettingsError
from bida.eval.external import run_external
from bida.experiment.baselines.outside import only_image, resampled
from bida.io.claim import scratch
from bida.io.nifti import write_volume
from bida.physics.grid import spacing_of

Float = NDArray[np.float64]

WHAT = "unires"  # the name in errors
UNIT = 10.0  # by which lengths are given longer
HAIR = 1e-4  # of a voxel size, by which it is given larger: more than float32 headers round, 0.01 voxels over a scan
AHEAD = 2  # copies of the first slice, row and column before them
SECOND = 1.01  # index in a single scan from which its result is no zero, whatever is rounded
SCRIPT = """
import sys

folder, voxel, strength, *scans = sys.argv[1:]
try:
    import torch
    from unires.run import preproc
    from unires.struct import settings
except ImportError as error:
    sys.exit(f"UniRes must be installed in this Python, got {error}")
chosen = settings()
chosen.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
chosen.dir_out, chosen.vx, chosen.reg_scl = folder, float(voxel), float(strength)
preproc([scans], chosen)
"""


def unires(
    scans: Sequence[NDArray[np.float32]],
    affines: Sequence[NDArray],
    hr_shape: Sequence[int],
    hr_affine: NDArray,
    command: str = "python3",
    strength: float = 10.0,
    timeout_s: float = 3600.0,
) -> NDArray[np.float32]:
    """Make one volume of thick-slice scans of one contrast by UniRes, and resample it to a grid.

    Args:
        scans: each [R, A, S], one at least.
        affines: of each, 4 x 4, mm.
        hr_shape: voxels of the grid that the result is wanted on.
        hr_affine: affine of that grid, 4 x 4, mm.
        command: Python in whose environment UniRes is, quoted as for a shell.
        strength: weight of its prior, ``reg_scl``.
        timeout_s: longest time that it may take, s; then it is stopped with all that it started.

    Returns:
        Volume of ``hr_shape``, float32, in the scans' intensities; by cubic B-splines in world coordinates.

    Raises:
        SettingsError: scans and affines do not fit each other, or the command cannot be read.
        ExternalError: the program is missing, fails, takes too long, or leaves no image that can be used.

    Source: Brudfors et al., MIUA 2018, "MRI super-resolution using multi-channel total variation"; arXiv:1909.01140.
    """
    if not len(scans) == len(affines) > 0:
        raise SettingsError(f"{WHAT}: needs a scan at least and the affine of each, got {len(scans)}, {len(affines)}")
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise SettingsError(f"{WHAT}: the command must have its quotations closed, got {command!r}") from error
    hr_affine = np.asarray(hr_affine, dtype=np.float64)
    voxel = UNIT * max(spacing_of(hr_affine)) * (1.0 + HAIR)
    with scratch("unires") as folder:
        script, target, files = folder / "run.py", folder / "out", []
        script.write_text(SCRIPT, encoding="utf-8")
        target.mkdir()
        for number, (scan, affine) in enumerate(zip(scans, affines), 1):
            given, at = ahead(scan, np.asarray(affine, dtype=np.float64))
            files.append(str(folder / f"scan{number}.nii.gz"))
            write_volume(files[-1], given, np.diag([UNIT, UNIT, UNIT, 1.0]) @ at)
        run_external([*words, str(script), str(target), repr(voxel), repr(strength), *files], timeout_s, WHAT)
        result = only_image(target, WHAT, scale_header=UNIT)
    volume, found = (result.data, result.affine) if len(scans) > 1 else cut(result.data, result.affine, at)
    return resampled(volume, found, hr_shape, hr_affine, WHAT)


def ahead(scan: NDArray[np.float32], affine: Float) -> tuple[NDArray[np.float32], Float]:
    """Return a scan [R, A, S] with `AHEAD` copies of its first slice, row and column before them, and its affine."""
    at = affine.copy()
    at[:3, 3] -= AHEAD * affine[:3, :3].sum(axis=1)
    return np.pad(scan, (AHEAD, 0), mode="edge"), at


def cut(volume: NDArray[np.float32], affine: Float, scan_affine: Float) -> tuple[NDArray[np.float32], Float]:
    """Return a result [R, A, S] without what lies before `SECOND` on the axes of its one scan, and its affine."""
    index = np.linalg.solve(scan_affine, affine)  # voxel of the result to that of the scan, along the same axes
    first = [max(0, math.ceil((SECOND - index[k, 3]) / index[k, k])) for k in range(3)]
    at = affine.copy()
    at[:3, 3] = (affine @ [*first, 1.0])[:3]
    return volume[first[0] :, first[1] :, first[2] :], at
