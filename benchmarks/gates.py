"""Rerun with the released weights what was asked of them, and say what holds: `make gates`.

    python benchmarks/gates.py DATA [--out build/gates] [--dtype bfloat16]

Thick slices of the validation mice and of the head templates of RMINC and SIGMA, 5x and 2.5x, clean and at SNR 10; the
tables that it judges are those of `benchmarks/noisy.py` and `benchmarks/several.py`, which go on where they ended.
Every line is one demand: what was measured, what was asked, and whether it holds; the exit status is 1 where one fails.
What can't be had, and the curves that say so, is in docs/prior.md.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

HERE = Path(__file__).resolve().parent
MICE = ("sub-08", "sub-14", "sub-21")
HEADS = ("mouse-template-rminc/tpl-rminc", "rat-sigma/tpl-sigma")
OWN = "bida"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("build") / "gates")
    parser.add_argument("--dtype", default="auto")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    mice = [next((arguments.data / "mouse-rtg4510" / name).rglob("*_T2w.nii.gz")) for name in MICE]
    heads = [next((arguments.data / name).rglob("*_T2w.nii.gz")) for name in HEADS]
    tables = {
        name: measured(name, [*words, "--dtype", arguments.dtype] if words[0] == "noisy.py" else words, arguments.out)
        for name, words in {
            "gain": ["noisy.py", "gain", *mice, *heads, "--factors", "5", "2.5", "--snr", "clean", "10"],
            "lesions": ["noisy.py", "lesions", heads[0], "--factors", "5", "--snr", "clean", "10"],
            "coverage": ["noisy.py", "coverage", *mice, *heads, "--factors", "5", "2.5", "--snr", "clean", "10"],
            "several": ["several.py", "gain", *mice, *heads, "--factors", "5", "--snr", "clean", "10",
                        "--scans", "A+S", "R+A+S"],
        }.items()
    }  # fmt: skip
    failed = 0
    for demand, found, holds in demands(tables):
        failed += not holds
        print(f"{'holds' if holds else 'FAILS'}: {demand}: {found}")
    raise SystemExit(int(failed > 0))


def measured(name: str, words: list[str | Path], out: Path) -> pd.DataFrame:
    """Run a benchmark whose rows go into a file, and return them."""
    file = out / f"{name}.csv"
    script, *rest = words
    subprocess.run([sys.executable, str(HERE / str(script)), *map(str, rest), "--csv", str(file)], check=True)
    return pd.read_csv(file)


def demands(tables: dict[str, pd.DataFrame]) -> Iterator[tuple[str, str, bool]]:
    """Yield what was asked, what was found, and whether it holds."""
    gain = tables["gain"][tables["gain"].method == OWN].set_index(["volume", "factor", "snr"])
    for volume, factor in sorted({key[:2] for key in gain.index}):
        clean, noisy = (gain.loc[(volume, factor, snr)] for snr in ("clean", "10"))
        where = f"{volume} {factor:g}x"
        yield f"{where}: better than cubic, dB", f"{clean.gain:+.2f}", clean.gain > 0
        share = noisy.gain / clean.gain
        yield f"{where}: gain at SNR 10 at least 0.8 of that without noise", f"{share:.2f}", share >= 0.8
        more = noisy.bricks - clean.bricks
        yield f"{where}: brick index at SNR 10 at most 0.1 above", f"{more:+.2f}", more <= 0.1
    off = (gain.promised - gain.gain).groupby(level=2).mean()
    for snr, value in off.items():
        yield f"promise less gain, mean of all, within 0.3 dB, {snr}", f"{value:+.2f}", abs(value) <= 0.3
    lesions = tables["lesions"].groupby(["snr", "radius", "method"]).recovered.mean()
    for snr, radius in sorted({key[:2] for key in lesions.index}):
        own, cubic = (lesions[snr, radius, method] for method in (OWN, "cubic"))
        yield f"lesions of radius {radius:g}, {snr}: more than by cubic", f"{own:.2f} for {cubic:.2f}", own >= cubic
    for _, row in tables["coverage"].iterrows():
        where = f"{row.volume} {row.factor:g}x {row.snr}"
        yield f"{where}: a 90% interval holds 85-95%", f"{row.held:.1%}", 0.85 <= row.held <= 0.95
    several = tables["several"].pivot_table("psnr", ["volume", "snr", "scans"], "method")
    for (volume, snr, scans), row in several.iterrows():
        best = max(row.drop(OWN))
        yield (
            f"{volume} {scans} {snr}: above one scan and least squares, dB",
            f"{row[OWN] - best:+.2f}",
            row[OWN] > best,
        )


if __name__ == "__main__":
    main()
