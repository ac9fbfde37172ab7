"""Say of the released weights' figures which of what was asked of them hold: `make gates`.

    python benchmarks/gates.py

The figures are those that `make figures` keeps in docs/: thick slices of the validation mice, of the head templates of
RMINC and SIGMA and of a made head, 5x and 2.5x, clean and at SNR 10. Every line is one demand: what was asked, what was
measured, and whether it holds; the exit status is 1 where one fails. What can't be had, and the curves that say so, is
in docs/prior.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from noisy_tables import BEFORE, BEFORE_1, OWN

# of clean scans, by factor and axes: dB above least squares of all and above the best scan alone
ASKED = {(5.0, "A+S"): (0.7, 2.0), (5.0, "R+A+S"): (0.3, 3.5), (2.5, "A+S"): (0.3, 0.3), (2.5, "R+A+S"): (0.3, 0.3)}
DOCS = Path(__file__).resolve().parent.parent / "docs"
FILES = {"gain": "noise.csv", "lesions": "lesions.csv", "coverage": "coverage.csv", "several": "several.csv",
         "volumes": "evaluation/volumes.csv"}  # fmt: skip


def main() -> None:
    failed = 0
    for demand, found, holds in demands(tables_of(DOCS)):
        failed += not holds
        print(f"{'holds' if holds else 'FAILS'}: {demand}: {found}")
    raise SystemExit(int(failed > 0))


def tables_of(docs: Path) -> dict[str, pd.DataFrame]:
    """Return the figures in a folder, by what they tell of."""
    return {name: pd.read_csv(docs / file, dtype={"snr": str}) for name, file in FILES.items()}


def demands(tables: dict[str, pd.DataFrame]) -> Iterator[tuple[str, str, bool]]:
    """Yield what was asked, what was found, and whether it holds."""
    yield from of_noise(tables["gain"])
    yield from of_lesions(tables["lesions"])
    for _, row in tables["coverage"].iterrows():
        where = f"{row.volume} {row.factor:g}x {row.snr}"
        yield f"{where}: a 90% interval holds 85-95%", f"{row.held:.1%}", bool(0.85 <= row.held <= 0.95)
    yield from of_several(tables["several"])
    yield from of_volumes(tables["volumes"])


def of_noise(rows: pd.DataFrame) -> Iterator[tuple[str, str, bool]]:
    """Yield the demands on gain, bars, promise and time."""
    found = {name: part.set_index(["volume", "factor", "snr"]) for name, part in rows.groupby("method")}
    gain, one_step, default = (found[name] for name in (OWN, BEFORE_1, BEFORE))
    for volume, factor in dict.fromkeys(key[:2] for key in gain.index):
        where, clean, noisy = f"{volume} {factor:g}x", (volume, factor, "clean"), (volume, factor, "10")
        yield f"{where}: better than cubic, dB", f"{gain.gain[clean]:+.2f}", gain.gain[clean] > 0
        share = gain.gain[noisy] / gain.gain[clean]
        yield f"{where}: gain at SNR 10 at least 0.8 of that without noise", f"{share:.2f}", share >= 0.8
        more = gain.bricks[noisy] - gain.bricks[clean]
        yield f"{where}: brick index at SNR 10 at most 0.1 above that without noise", f"{more:+.2f}", more <= 0.1
        less = gain.bricks[noisy] - one_step.bricks[noisy]
        yield f"{where}: brick index at SNR 10 at least 0.3 below that of 0.1", f"{less:+.2f}", less <= -0.3
        same = gain.psnr[clean] - one_step.psnr[clean]
        yield f"{where}: without noise within 0.05 dB of one step of 0.1, or better", f"{same:+.2f}", same >= -0.05
        if factor == 5 and not is_mouse(volume):
            above = gain.psnr[noisy] - one_step.psnr[noisy]
            yield f"{where}: at SNR 10 at least 0.6 dB above one step of 0.1", f"{above:+.2f}", above >= 0.6
            time = gain.cpu_s[clean] / default.cpu_s[clean]
            yield f"{where}: at most 0.6 of the CPU seconds of 0.1's default", f"{time:.2f}", time <= 0.6
    off = (gain.promised - gain.gain).groupby(level=2).mean()
    for snr, value in off.items():
        yield f"promise less gain, mean of all, within 0.3 dB, {snr}", f"{value:+.2f}", abs(value) <= 0.3


def of_lesions(rows: pd.DataFrame) -> Iterator[tuple[str, str, bool]]:
    """Yield the demands on the contrast of lesions."""
    mean = rows.groupby(["snr", "radius", "method"]).recovered.mean()
    for snr, radius in sorted({key[:2] for key in mean.index}, reverse=True):
        own, cubic = (mean[snr, radius, method] for method in (OWN, "cubic"))
        yield f"lesions of radius {radius:g}, {snr}: more than by cubic", f"{own:.2f} for {cubic:.2f}", own >= cubic


def of_several(rows: pd.DataFrame) -> Iterator[tuple[str, str, bool]]:
    """Yield the demands on two and three scans: what they are above least squares, and above one scan, dB."""
    wide = rows.pivot_table("psnr", ["volume", "factor", "snr", "scans"], "method")
    for (volume, factor, snr, scans), row in wide.iterrows():
        least, single = ASKED[factor, scans] if snr == "clean" else (0.0 if is_mouse(volume) else 0.8, 0.0)
        where = f"{volume} {factor:g}x {scans} {snr}"
        for label, other, asked in (
            ("least squares", "least squares", least),
            ("one scan", "bida, first scan", single),
        ):
            above = row[OWN] - row[other]
            yield f"{where}: at least {asked:g} dB above {label}", f"{above:+.2f}", above >= asked


def of_volumes(rows: pd.DataFrame) -> Iterator[tuple[str, str, bool]]:
    """Yield the demands on volumes of structures: the mean of |bias| over those above 2 mm^3, %."""
    found = rows[rows.metric == "structure_volume"].pivot_table("value", ["factor", "method", "region"], "subject")
    truth = found.xs("hr", level="method").groupby("region").first()
    large = truth.index[truth.mean(axis=1) > 2]
    for factor in sorted(set(rows.factor.dropna()), reverse=True):
        bias = {}
        for method in ("bida", "cubic", "selfsr"):
            share = found.loc[factor, method].reindex(large).fillna(0) / truth.loc[large] - 1
            bias[method] = 100 * float(share.mean(axis=1).abs().mean())
        told = f"{bias['bida']:.2f}% for {bias['cubic']:.2f}% and {bias['selfsr']:.2f}%"
        least = bias["bida"] <= min(bias.values())
        yield f"volumes of structures, {factor:g}x: bias below that of cubic and selfsr", told, least
        if factor == 5:
            yield "volumes of structures, 5x: bias at most 3%", f"{bias['bida']:.2f}%", bias["bida"] <= 3


def is_mouse(volume: str) -> bool:
    """Return whether a volume is one of the brain-extracted mice, whose truth has noise of its own."""
    return volume.startswith("sub-") and "head" not in volume


if __name__ == "__main__":
    main()
