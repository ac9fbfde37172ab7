"""Measure what several scans of one animal make together: simulated thick slices across two or three axes.

    python benchmarks/several.py gain TRUTH ... [--factors 5 2.5] [--snr clean 10] [--scans A+S R+A+S] [--csv FILE]
    python benchmarks/several.py move TRUTH ... [--draws 5] [--csv FILE]
    python benchmarks/several.py time TRUTH ... [--snr 10] [--csv FILE]

TRUTH are isotropic volumes, in whose tissue (`bida.physics.rician.tissue`) results are compared with the volume itself,
without the noise that its slices get (Rician, each slice its own; SNR: mean in tissue over sigma of one slice at 5x).

`gain` believes the headers, which are right, and compares cubic interpolation of the best scan, `bida` on the first
one, least squares of all without a prior (the best of several dampings, chosen by the truth), and `bida` on all.
`move` moves every scan but the first by up to 0.5 mm and 4 degrees (the truth by splines of order 5, the header says
nothing of it), and compares the result that finds the poses with the one that is told them, and with scans at rest.
`time` compares, for one scan of SNR 10 at 5x as the unit of time, what a second unit buys: the scan again, slices half
as thick (their SNR halves, and twice as many take the time of two where they do not fit into one repetition; where they
do, they can be measured twice), or a second scan across the first.
"""

from __future__ import annotations

import argparse
import math
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from noisy_scans import Truth, Volume, noise_of, quality, read_truth, snr_name, snr_of, thick_scan
from noisy_tables import Rows

from bida.experiment.methods import ThickScan
from bida.io.files import sidecar_path
from bida.io.nifti import ras, write_volume
from bida.mri.combine import joinable, read, restore_combined
from bida.mri.pipeline import restore
from bida.mri.settings import Settings
from bida.physics.grid import AXES
from bida.physics.interpolation import cubic
from bida.physics.joint import LEAST_NOISE
from bida.physics.simulate import margin_of, moved, random_motion
from bida.transforms.way import back

GAIN = {"volume": "", "factor": "g", "snr": "", "scans": "", "method": "", "psnr": ".2f", "cpu_s": ".0f"}
MOVE = {
    "volume": "",
    "factor": "g",
    "snr": "",
    "draw": "",
    "still": ".2f",
    "known": ".2f",
    "found": ".2f",
    "cpu_s": ".0f",
}
TIME = {"volume": "", "what": "", "units": "g", "cubic": ".2f", "psnr": ".2f"}
DAMPINGS = (0.4, 0.2, 0.1, 0.05)  # standard deviation of what interpolation lacks, beside none at all
MOVE_MM, DEGREES = 0.5, 4.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=list(MODES))
    parser.add_argument("truth", type=Path, nargs="+", help="isotropic NIfTI volumes")
    parser.add_argument("--factors", nargs="+", type=float, default=[5.0])
    parser.add_argument("--snr", nargs="+", type=snr_of, help="clean, or numbers; clean 10, of time: 10")
    parser.add_argument("--scans", nargs="+", default=["A+S", "R+A+S"], help="of gain: the axes")
    parser.add_argument("--draws", type=int, default=5, help="of move: poses of each volume")
    parser.add_argument("--model", help="weights")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--csv", type=Path, help="file of the rows, which goes on where it ended")
    arguments = parser.parse_args()
    arguments.snr = arguments.snr or ([10.0] if arguments.what == "time" else [math.inf, 10.0])
    with tempfile.TemporaryDirectory() as work:
        MODES[arguments.what](arguments, Path(work))


def scan_across(
    truth: Truth, axis: int, factor: float, sigma: float, path: Path, seed: int = 0, motion: Volume | None = None
) -> ThickScan:
    """Write thick slices of a truth across an axis, with a sidecar; of one that was moved it does not say so."""
    if motion is None:
        return thick_scan(truth, truth.data, factor, sigma, path, axis, 10 * axis + seed)
    margin = margin_of(truth.data.shape[axis], factor)
    data = moved(truth.data, truth.affine, motion, axis, margin).astype(np.float32)
    return thick_scan(truth, data, factor, sigma, path, axis, 10 * axis + seed, margin)


def settings_of(arguments: argparse.Namespace, truth: Truth, align: bool = False) -> Settings:
    return Settings(model=arguments.model, dtype=arguments.dtype, like=truth.path, align=align)


def volume_of(found: object) -> Volume:
    return ras(found.data, found.affine)[0]  # type: ignore[attr-defined]


def least_squares(paths: Sequence[Path], settings: Settings, truth: Truth) -> Volume:
    """Return the least squares of scans, of the damping that is nearest to the truth."""
    parts = read(paths, settings)
    scan = joinable(parts, settings).measurement(1, 1)
    exact = scan.guide + scan.correction(scan.guide)
    damped = [scan.guide + scan.correction(scan.guide, tau, LEAST_NOISE) for tau in DAMPINGS]
    undone = [back(volume, parts[0].isotropic, parts[0].records) for volume in (exact, *damped)]
    return max((volume_of(Undone(one.numpy(), one.affine)) for one in undone), key=lambda one: quality(one, truth))


class Undone:
    """A volume as a result has it."""

    def __init__(self, data: Volume, affine: Volume) -> None:
        self.data, self.affine = data, affine


def timed(run: Callable[[], Volume]) -> tuple[Volume, float]:
    start = time.process_time()
    return run(), time.process_time() - start


def gain(arguments: argparse.Namespace, work: Path) -> None:
    rows = Rows(GAIN, arguments.csv)
    for source in arguments.truth:
        truth = read_truth(source, 1, work)
        settings = settings_of(arguments, truth)
        for factor in arguments.factors:
            for snr in arguments.snr:
                sigma = noise_of(truth, factor, snr)
                for names in arguments.scans:
                    axes = sorted((AXES.index(name) for name in names.split("+")), key=lambda axis: axis != 1)
                    scans = [scan_across(truth, a, factor, sigma, work / f"{a}.nii.gz") for a in axes]
                    paths = [scan.path for scan in scans]
                    best = max((cubic(one.data, one.geometry) for one in scans), key=lambda one: quality(one, truth))
                    one = replace(settings, align=True)
                    runs: dict[str, Callable[[], Volume]] = {
                        "cubic": lambda best=best: best,
                        "bida, first scan": lambda p=paths, s=one: volume_of(restore(p[0], s)),
                        "least squares": partial(least_squares, paths, settings, truth),
                        "bida": lambda p=paths, s=settings: volume_of(restore_combined(p, s)),
                    }
                    for method, run in runs.items():
                        key = {"volume": truth.name, "factor": factor, "snr": snr_name(snr), "scans": names,
                               "method": method}  # fmt: skip
                        if not rows.has(**key):
                            found, seconds = timed(run)
                            rows.add(key | {"psnr": quality(found, truth), "cpu_s": seconds})
    found = rows.frame()
    print("\n| factor | SNR | scans | against | volumes | mean, dB | lowest |\n|" + " --- |" * 7)
    for (factor, snr, names), part in found.groupby(["factor", "snr", "scans"], sort=False):
        wide = part.pivot(index="volume", columns="method", values="psnr")
        for other in ("least squares", "bida, first scan", "cubic"):
            more = wide["bida"] - wide[other]
            print(f"| {factor:g} | {snr} | {names} | {other} | {len(more)} | {more.mean():+.2f} | {more.min():+.2f} |")


def move(arguments: argparse.Namespace, work: Path) -> None:
    rows = Rows(MOVE, arguments.csv)
    for source in arguments.truth:
        truth = read_truth(source, 1, work)
        middle = truth.affine[:3, :3] @ ((np.array(truth.data.shape) - 1) / 2) + truth.affine[:3, 3]
        for factor in arguments.factors:
            for snr in arguments.snr:
                sigma = noise_of(truth, factor, snr)
                first = scan_across(truth, 1, factor, sigma, work / "1.nii.gz")
                right = scan_across(truth, 2, factor, sigma, work / "2.nii.gz")
                still = quality(
                    volume_of(restore_combined([first.path, right.path], settings_of(arguments, truth))), truth
                )
                for draw in range(arguments.draws):
                    key = {"volume": truth.name, "factor": factor, "snr": snr_name(snr), "draw": draw}
                    if rows.has(**key):
                        continue
                    motion = random_motion(MOVE_MM, DEGREES, middle, draw)
                    off = scan_across(truth, 2, factor, sigma, work / "m.nii.gz", motion=motion)
                    run = partial(restore_combined, [first.path, off.path], settings_of(arguments, truth, align=True))
                    found, seconds = timed(lambda run=run: volume_of(run()))
                    told = work / "k.nii.gz"
                    write_volume(told, off.data, motion @ off.affine, overwrite=True)
                    shutil.copy(sidecar_path(off.path), sidecar_path(told))
                    known = volume_of(restore_combined([first.path, told], settings_of(arguments, truth)))
                    psnrs = {"still": still, "known": quality(known, truth), "found": quality(found, truth)}
                    rows.add(key | psnrs | {"cpu_s": seconds})
    found = rows.frame()
    for (name, snr), part in found.groupby(["volume", "snr"], sort=False):
        lost = part["known"] - part["found"]
        print(f"{name}, {snr}: {lost.median():.2f} dB lost in the median of {len(lost)}, {lost.max():.2f} at most")


def time_(arguments: argparse.Namespace, work: Path) -> None:
    rows = Rows(TIME, arguments.csv)
    for source in arguments.truth:
        truth = read_truth(source, 1, work)
        sigma = noise_of(truth, 5.0, arguments.snr[0])
        settings = settings_of(arguments, truth)
        once = replace(settings, align=True)
        plans: dict[str, tuple[float, float, float, tuple[int, ...]]] = {
            "one scan": (1, 5.0, 1.0, (1,)),
            "the same scan twice, averaged": (2, 5.0, 1 / math.sqrt(2), (1,)),
            "slices half as thick, twice as many": (2, 2.5, 2.0, (1,)),
            "slices half as thick in the same repetition, averaged": (2, 2.5, math.sqrt(2), (1,)),
            "a second scan across the first": (2, 5.0, 1.0, (1, 2)),
            "three averages": (3, 5.0, 1 / math.sqrt(3), (1,)),
            "slices a third as thick, three times as many": (3, 5 / 3, 3.0, (1,)),
            "scans across all three axes": (3, 5.0, 1.0, (1, 2, 0)),
        }
        for what, (units, factor, noisier, axes) in plans.items():
            key = {"volume": truth.name, "what": what}
            if rows.has(**key):
                continue
            scans = [scan_across(truth, a, factor, noisier * sigma, work / f"{a}.nii.gz") for a in axes]
            best = max(quality(cubic(one.data, one.geometry), truth) for one in scans)
            paths = [one.path for one in scans]
            found = restore(paths[0], once) if len(paths) == 1 else restore_combined(paths, settings)
            rows.add(key | {"units": units, "cubic": best, "psnr": quality(volume_of(found), truth)})
    found = rows.frame()
    for what, part in found.groupby("what", sort=False):
        print(f"{what}: {part['psnr'].mean():.2f} dB, cubic {part['cubic'].mean():.2f}, of {len(part)} volumes")


MODES: dict[str, Callable[[argparse.Namespace, Path], None]] = {"gain": gain, "move": move, "time": time_}

if __name__ == "__main__":
    main()
