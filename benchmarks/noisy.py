"""Measure `bida superres` on thick slices with a scanner's noise: gain, bars, lesions, coverage of the uncertainty.

    python benchmarks/noisy.py gain TRUTH ... [--before TREE] [--known] [--selfsr] [--csv gain.csv]
    python benchmarks/noisy.py lesions TRUTH ... [--before TREE] [--rounds 2] [--csv lesions.csv]
    python benchmarks/noisy.py kept TRUTH ... [--rounds 2] [--csv kept.csv]
    python benchmarks/noisy.py coverage TRUTH ... [--csv coverage.csv] [--fit] [--write models/model.pt]

TRUTH are isotropic volumes, in whose tissue (`bida.physics.rician.tissue`) results are compared with the volume itself,
without the noise that its slices get (Rician, each slice its own; SNR: mean in tissue over sigma of one slice). TREE is
another checkout. Rows that the CSV file has are not measured again, so a run that was cut off goes on, and volumes can
be added; remove the file where code or weights have changed.

`gain` runs the command by its defaults, with --like TRUTH for the grid, and that of TREE by its defaults and with
--steps 1. Columns: PSNR and its gain on cubic interpolation of the same slices, dB; brick index; detail, the share
of the truth's structure finer than the slices (`noisy_scans.detail`); CPU seconds and arithmetic of the command; SNR
that was found, and sigma found over sigma added; what the self-check promises over cubic, dB. --known gives the true
sigma, too.
`lesions` puts balls of 0.35 of the tissue's mean, bright and dark, into the volume, a set of them each round, restores
the slices with and without, of one noise, and tells which share of the contrast comes back, and how much changes more
than 10 voxels away from them: root mean square over the contrast.
`kept` shows what noise that is kept costs and saves: for several shares of it (`bida.physics.consistency.KEPT_LEAST`)
the gain, and the contrast that comes back of the lesions of each radius, beside cubic interpolation's.
`coverage` tells which share of the tissue's voxels has an error within 1.645 of the uncertainty of the mean. A volume's
own noise is counted: of its variance, estimated as a scan's, what slices of that factor do not show, 1 - 1 / factor, is
added to that of the map (held), or is not (plain). With --fit it gives instead the scale, the floor and the part of the
noise that bring the share nearest to 90% for every volume, factor and SNR where there is no self-check to tell, which
--write stores with the weights: fit them on animals for tuning alone.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import torch
from noisy_scans import (
    RADII,
    Truth,
    Volume,
    bricks,
    detail,
    far_from,
    noise_of,
    place_lesions,
    quality,
    read_truth,
    recovered,
    snr_name,
    snr_of,
    thick_scan,
    with_lesions,
)
from noisy_tables import (
    BEFORE,
    BEFORE_1,
    COVERAGE,
    GAIN,
    KEPT,
    KNOWN,
    LESIONS,
    OWN,
    Rows,
    gain_lines,
    lesion_lines,
    spread,
)
from numpy.typing import NDArray
from same_bytes import HERE, cpu_seconds, environment_of
from startup import MAIN
from trust import Z90

from bida.diffusion.load import load_prior, prior_of
from bida.experiment.methods import METHODS, Choices, ThickScan
from bida.io.files import sidecar_path, stem
from bida.io.nifti import ras
from bida.io.weights import save_weights
from bida.mri.pipeline import restore
from bida.mri.result import Result
from bida.mri.run import way_of
from bida.mri.settings import Settings
from bida.physics import consistency
from bida.physics.grid import AXES
from bida.physics.interpolation import cubic
from bida.physics.noise_level import estimate_noise

CONTRAST = 0.35  # of lesions, over the tissue's mean
SHARES = (0.3, 0.55, 0.75, 0.9, 1.0)  # of the noise that is kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=list(MODES))
    parser.add_argument("truth", type=Path, nargs="+", help="isotropic NIfTI volumes")
    parser.add_argument("--before", type=Path, metavar="TREE", help="of gain and lesions: another checkout")
    parser.add_argument("--factors", nargs="+", type=float, help="5 2.5; of lesions: 5")
    parser.add_argument("--snr", nargs="+", type=snr_of, help="clean, or numbers; clean 20 10, of the others clean 10")
    parser.add_argument("--axis", choices=list(AXES), default="A")
    parser.add_argument("--crop", type=int, metavar="N", help="a cube of N voxels about the middle of the tissue alone")
    parser.add_argument("--model", help="weights, of this checkout")
    parser.add_argument("--dtype", default="auto", help="of superres, in both checkouts")
    parser.add_argument("--csv", type=Path, help="file of the rows, which goes on where it ended")
    parser.add_argument("--known", action="store_true", help="of gain: also with the true sigma as --noise")
    parser.add_argument("--selfsr", action="store_true", help="of gain: also selfsr, minutes a scan")
    parser.add_argument("--rounds", type=int, default=2, help="of lesions: sets of them")
    parser.add_argument("--fit", action="store_true", help="of coverage: fit scale and floor")
    parser.add_argument("--write", type=Path, metavar="FILE", help="of coverage: weights, written with them")
    arguments = parser.parse_args()
    if arguments.write and not arguments.fit:
        parser.error("--write: needs what --fit finds, got none; give --fit")
    names = [stem(path) for path in arguments.truth]
    if len(set(names)) < len(names):
        parser.error(f"truth: files must have names of their own, got {' '.join(names)}; rename them")
    arguments.factors = arguments.factors or ([5.0] if arguments.what in ("lesions", "kept") else [5.0, 2.5])
    if arguments.what == "kept":
        arguments.snr = arguments.snr or [10.0]
    arguments.snr = arguments.snr or ([math.inf, 20.0, 10.0] if arguments.what == "gain" else [math.inf, 10.0])
    with tempfile.TemporaryDirectory() as work:
        MODES[arguments.what](arguments, Path(work))


class Restored(NamedTuple):
    """What a method gave: a volume [R, A, S] on the truth's grid, its CPU seconds, and the record of the run."""

    volume: Volume
    seconds: float
    record: Mapping[str, Any] = {}


class Tree:
    """A checkout, whose `bida superres` is run in processes of their own."""

    def __init__(self, root: Path, work: Path, *words: str) -> None:
        self.work, self.environment = work, environment_of(root.resolve(), work)
        self.environment.pop("PYTHONDONTWRITEBYTECODE")  # a user's runs find the code compiled
        # which arithmetic is faster here is measured once for all trees: beside other work it may come out either way
        self.environment["XDG_CACHE_HOME"] = str(work.parent / "cache")
        self.words = list(words)
        noise = np.random.default_rng(0).normal(100, 20, (16, 16, 4)).astype(np.float32)
        nib.save(nib.Nifti1Image(noise, np.diag([0.15, 0.15, 0.75, 1])), work / "first.nii")
        # the first run compiles the code, and measures the arithmetic
        self.run("first.nii", "out.nii.gz", "--overwrite", *self.words)

    def superres(self, scan: ThickScan, *words: str) -> Restored:
        """Restore a scan on its truth's grid."""
        out = self.work / "out.nii.gz"
        seconds = self.run(str(scan.path), str(out), "--like", str(scan.truth), "--overwrite", *self.words, *words)
        image: Any = nib.load(out)
        record = json.loads(sidecar_path(out).read_text(encoding="utf-8"))
        return Restored(ras(image.dataobj, image.affine)[0], seconds, record)

    def run(self, *words: str) -> float:
        """Run the command; return its CPU seconds, user and system, of all cores."""
        start, call = cpu_seconds(), [sys.executable, "-c", MAIN, "superres", *words]
        run = subprocess.run(call, env=self.environment, cwd=self.work, capture_output=True, text=True)
        if run.returncode:
            raise SystemExit(f"superres {' '.join(words)}: must end with 0, got {run.returncode}: {run.stderr[-500:]}")
        return cpu_seconds() - start


def trees_of(arguments: argparse.Namespace, work: Path) -> tuple[Tree, Tree | None]:
    """Return this checkout and, where it is given, the other one."""
    dtype = ("--dtype", arguments.dtype)
    model = () if arguments.model is None else ("--model", str(Path(arguments.model).resolve()))
    own = Tree(HERE, work / "own", *dtype, *model)
    return own, None if arguments.before is None else Tree(arguments.before, work / "before", *dtype)


def conditions(arguments: argparse.Namespace, work: Path) -> Iterator[tuple[Truth, float, float]]:
    """Yield every truth with every factor and SNR."""
    for source in arguments.truth:
        truth = read_truth(source, AXES.index(arguments.axis), work, arguments.crop)
        yield from ((truth, factor, snr) for factor in arguments.factors for snr in arguments.snr)


def gain(arguments: argparse.Namespace, work: Path) -> None:
    own, before = trees_of(arguments, work)
    rows = Rows(GAIN, arguments.csv)
    for truth, factor, snr in conditions(arguments, work):
        sigma = noise_of(truth, factor, snr)
        scan = thick_scan(truth, truth.data, factor, sigma, work / "slices.nii.gz")
        reference = cubic(scan.data, scan.geometry)
        runs: dict[str, Callable[[], Restored]] = {
            "truth": partial(Restored, truth.data, math.nan),
            "cubic": partial(Restored, reference, math.nan),
            OWN: partial(own.superres, scan),
        }
        if arguments.known:
            runs[KNOWN] = partial(own.superres, scan, "--noise", f"{sigma:.9g}")
        if before is not None:
            runs |= {BEFORE_1: partial(before.superres, scan, "--steps", "1"), BEFORE: partial(before.superres, scan)}
        if arguments.selfsr:
            runs["selfsr"] = partial(selfsr, scan)
        base = quality(reference, truth)
        for method, run in runs.items():
            key = {"volume": truth.name, "factor": factor, "snr": snr_name(snr), "method": method}
            if not rows.has(**key):
                rows.add(key | scores(run(), truth, scan, base, sigma))
    for line in gain_lines(rows.frame()):
        print(line)


def selfsr(scan: ThickScan) -> Restored:
    start = time.process_time()
    return Restored(METHODS["selfsr"].run(scan, Choices()), time.process_time() - start)


def scores(found: Restored, truth: Truth, scan: ThickScan, base: float, sigma: float) -> dict[str, Any]:
    """Return the columns of a row of `gain`; base is the PSNR of cubic interpolation."""
    told = found.record.get("noise") or {}
    check = found.record.get("self_check") or {}
    reached = math.nan if found.volume is truth.data else quality(found.volume, truth)
    return {
        "psnr": reached,
        "gain": reached - base,
        "bricks": bricks(found.volume, truth, scan.geometry),
        "detail": detail(found.volume, truth.data, truth.axis, scan.geometry.factor),
        "cpu_s": found.seconds,
        "dtype": found.record.get("dtype", math.nan),
        "found_snr": math.nan if told.get("snr") is None else told["snr"],
        "over_added": told["sigma"] / sigma if told and sigma > 0 else math.nan,
        "promised": check.get("better_db", math.nan),
    }


def lesions(arguments: argparse.Namespace, work: Path) -> None:
    own, before = trees_of(arguments, work)
    runs: dict[str, Callable[[ThickScan], Volume]] = {
        OWN: lambda scan: own.superres(scan).volume,
        "cubic": lambda scan: cubic(scan.data, scan.geometry),
    }
    if before is not None:
        runs[BEFORE_1] = lambda scan: before.superres(scan, "--steps", "1").volume
    rows = Rows(LESIONS, arguments.csv)
    for truth, factor, snr in conditions(arguments, work):
        sigma = noise_of(truth, factor, snr)
        scan = thick_scan(truth, truth.data, factor, sigma, work / "without.nii.gz")
        without = dict[str, Volume]()  # by method, restored where a row needs it
        for number in range(arguments.rounds):
            placed = place_lesions(truth.inside, number)
            if not placed:
                raise SystemExit(f"{truth.name}: tissue must have room for a lesion, got none; give another volume")
            data = with_lesions(truth, placed, CONTRAST)
            changed = thick_scan(truth, data, factor, sigma, work / "with.nii.gz")
            unit = CONTRAST * float(truth.data[truth.inside].mean())
            far = far_from(placed, truth.inside)
            for method, run in runs.items():
                key = {"volume": truth.name, "factor": factor, "snr": snr_name(snr), "round": number, "method": method}
                if rows.has(**key):
                    continue
                if method not in without:
                    without[method] = run(scan)
                change = run(changed) - without[method]
                away = float(np.sqrt(np.square(change[far]).mean())) / unit if far.any() else math.nan
                rows.add(*[
                    {**key, "radius": one.radius, "sign": one.sign, "far": away, "noise": sigma / unit,
                     "recovered": recovered(change, data - truth.data, one)} for one in placed
                ])  # fmt: skip
    for line in lesion_lines(rows.frame()):
        print(line)


class Interval(NamedTuple):
    """Errors of the voxels of one tissue, what the network tells of them, [N], and the noise, on the prior's scale."""

    error: NDArray
    told: NDArray
    noise: float

    def held(self, scale: float, floor: float, noise: float) -> float:
        """Return the share of the voxels that a 90% interval holds, see `PlanePrior.uncertainty`."""
        least = math.hypot(floor, noise * self.noise)
        return float(np.mean(self.error <= Z90 * np.hypot(scale * self.told, least)))


def kept(arguments: argparse.Namespace, work: Path) -> None:
    rows = Rows(KEPT, arguments.csv)
    for truth, factor, snr in conditions(arguments, work):
        sigma = noise_of(truth, factor, snr)
        scan = thick_scan(truth, truth.data, factor, sigma, work / "without.nii.gz")
        sets = [place_lesions(truth.inside, number) for number in range(arguments.rounds)]
        changed = [with_lesions(truth, placed, CONTRAST) for placed in sets]
        thick = [thick_scan(truth, data, factor, sigma, work / f"{k}.nii.gz") for k, data in enumerate(changed)]
        base = quality(cubic(scan.data, scan.geometry), truth)
        for share in (None, *SHARES):
            key = {"volume": truth.name, "factor": factor, "snr": snr_name(snr),
                   "kept": "cubic" if share is None else f"{share:g}"}  # fmt: skip
            if rows.has(**key):
                continue
            run = partial(kept_share, arguments, truth, share)
            without, found = run(scan), dict[float, list[float]]()
            for placed, data, one in zip(sets, changed, thick):
                change = run(one) - without
                for lesion in placed:
                    found.setdefault(lesion.radius, []).append(recovered(change, data - truth.data, lesion))
            means = {f"radius_{radius:g}": float(np.mean(found.get(radius, math.nan))) for radius in RADII}
            rows.add(key | {"gain": quality(without, truth) - base} | means)


def kept_share(arguments: argparse.Namespace, truth: Truth, share: float | None, scan: ThickScan) -> Volume:
    """Restore a scan, keeping a share of its noise; None for cubic interpolation."""
    if share is None:
        return cubic(scan.data, scan.geometry)
    before, consistency.KEPT_LEAST = consistency.KEPT_LEAST, share
    try:
        settings = Settings(like=truth.path, model=arguments.model, dtype=arguments.dtype, self_check=False)
        found = restore(scan.path, settings)
    finally:
        consistency.KEPT_LEAST = before
    return ras(found.data, found.affine)[0]


def coverage(arguments: argparse.Namespace, work: Path) -> None:
    if arguments.fit:
        fit_uncertainty(arguments, work)
        return
    rows = Rows(COVERAGE, arguments.csv)
    for truth, factor, snr in conditions(arguments, work):
        key = {"volume": truth.name, "factor": factor, "snr": snr_name(snr)}
        if rows.has(**key):
            continue
        scan = thick_scan(truth, truth.data, factor, noise_of(truth, factor, snr), work / "slices.nii.gz")
        result = told(scan, arguments, arguments.model)
        mean, std = (ras(values, result.affine)[0][truth.inside] for values in (result.data, result.std))
        level = estimate_noise(truth.data, truth.axis)
        own = 0.0 if level is None else level.sigma
        error, unseen = np.abs(mean - truth.data[truth.inside]), own * math.sqrt(1 - 1 / factor)
        held, plain = (float(np.mean(error <= Z90 * np.hypot(std, noise))) for noise in (unseen, 0.0))
        rows.add(key | {"held": held, "plain": plain, "own_noise": own / float(truth.data[truth.inside].mean())})
    found = rows.frame()
    shares = {f"{row.volume} {row.factor:g}x {row.snr}": row.held for row in found.itertuples()}
    print(f"\na 90% interval, {Z90} of the map, holds {spread(shares)}")


def told(scan: ThickScan, arguments: argparse.Namespace, model: str | Path | None, **options: Any) -> Result:
    """Restore a scan on its truth's grid by weights that tell their error."""
    settings = Settings.of(like=str(scan.truth), model=model and str(model), dtype=arguments.dtype, **options)
    result = restore(scan.path, settings)
    if result.std is None:
        raise SystemExit(f"--model: the weights must tell the error of the mean, got {model}; give others")
    return result


def fit_uncertainty(arguments: argparse.Namespace, work: Path) -> None:
    """Print, and write, the numbers of `PlanePrior.uncertainty`, by which errors are told without a self-check."""
    prior = load_prior(prior_of(arguments.model), arguments.model, torch.device("cpu"), "float32")
    stored = tuple(float(getattr(prior, f"spread_{part}")) for part in ("scale", "floor", "noise"))
    prior.set_uncertainty(1.0, 0.0, drawn=False)
    bare = work / "bare.pt"  # gives what the network tells, which any of them can be put to
    save_weights(prior, bare)
    cells = dict[str, Interval]()
    for truth, factor, snr in conditions(arguments, work):
        scan = thick_scan(truth, truth.data, factor, noise_of(truth, factor, snr), work / "slices.nii.gz")
        result = told(scan, arguments, bare, self_check=False)
        settings = Settings.of(like=str(truth.path), model=str(bare), dtype=arguments.dtype)
        meta = way_of(settings, prior.stride).there(scan.path)[0].meta
        unit = (meta["intensity_high"] - meta["intensity_low"]) / 2
        mean, std = (ras(values, result.affine)[0][truth.inside] for values in (result.data, result.std))
        cell = Interval(np.abs(mean - truth.data[truth.inside]) / unit, std / unit, float(meta["noise"]) / unit)
        cells[f"{truth.name} {factor:g}x {snr_name(snr)}"] = cell
    best = fitted(list(cells.values()))
    for values in (stored, best):
        shares = {name: cell.held(*values) for name, cell in cells.items()}
        print(f"{numbers(values)}: a 90% interval, {Z90} of the map, holds {spread(shares)}")
    if arguments.write:
        prior.set_uncertainty(best[0], best[1], drawn=False, noise=best[2])
        save_weights(prior, arguments.write)


def numbers(values: Sequence[float]) -> str:
    return "scale {:.3f}, floor {:.4f}, noise {:.3f}".format(*values)


def fitted(cells: list[Interval], voxels: int = 2000) -> tuple[float, float, float]:
    """Return scale, floor and noise with which the share that is farthest from 90% is as near to it as can be."""
    draw = np.random.default_rng(0)
    chosen = [draw.choice(len(cell.error), min(voxels, len(cell.error)), replace=False) for cell in cells]
    some = [Interval(cell.error[index], cell.told[index], cell.noise) for cell, index in zip(cells, chosen)]
    grid = product(np.arange(0.4, 1.81, 0.05), np.arange(0.0, 0.101, 0.005), np.arange(0.0, 1.21, 0.1))
    best = min(grid, key=lambda values: max(abs(cell.held(*values) - 0.9) for cell in some))
    return float(best[0]), float(best[1]), float(best[2])


MODES = {"gain": gain, "lesions": lesions, "kept": kept, "coverage": coverage}

if __name__ == "__main__":
    main()
