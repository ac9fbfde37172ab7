"""The tables of pages that come from the CSV files of `noisy.py`, `several.py` and `figures.py`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pandas as pd
from gates import demands, tables_of
from noisy_tables import BEFORE, BEFORE_1, OWN

NAMES = {
    "tpl-rminc_T2w": "mouse head template (RMINC)",
    "tpl-sigma_T2w": "rat head template (SIGMA)",
    "sub-head000_T2w": "made head (seed 99)",
    "sub-08_T2w": "mouse sub-08",
    "sub-14_T2w": "mouse sub-14",
    "sub-21_T2w": "mouse sub-21",
}
KINDS = {name: "3 validation mice" if name.startswith("sub-") and "head" not in name
         else "2 head templates and a made head" for name in NAMES}  # fmt: skip
LEVELS = ("clean", "20", "10")
WHAT = {
    "one scan": "one coronal scan",
    "the same scan twice, averaged": "the same scan twice, averaged",
    "slices half as thick, twice as many": "slices half as thick, twice as many (each has half the SNR)",
    "slices half as thick in the same repetition, averaged":
        "slices half as thick, as many as fit into the same repetition, measured twice",
    "a second scan across the first": "**a second scan across the first (axial)**",
    "three averages": "the same scan three times, averaged",
    "slices a third as thick, three times as many": "slices a third as thick, three times as many",
    "scans across all three axes": "**scans across all three axes**",
}  # fmt: skip


def of_benchmarks(docs: Path) -> dict[str, str]:
    """Return what goes between the markers of each name, of the files that docs has."""
    tables: dict[str, tuple[str, Callable[[pd.DataFrame], str]]] = {
        "noise": ("noise.csv", noise),
        "lesions": ("lesions.csv", lesions),
        "kept": ("kept.csv", kept),
        "coverage": ("coverage.csv", coverage),
        "several": ("several.csv", several),
        "time": ("several_time.csv", time),
        "move": ("several_move.csv", move),
        "align": ("align.csv", align),
    }
    there = {name: one for name, one in tables.items() if (docs / one[0]).exists()}
    texts = {"snr": str, "kept": str}
    found = {name: make(pd.read_csv(docs / file, dtype=texts)) for name, (file, make) in there.items()}
    record = docs / "evaluation" / "figures.json"
    return found | {"gates": judged(docs), "made": made(json.loads(record.read_text(encoding="utf-8")))}


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table as Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def noise(rows: pd.DataFrame) -> str:
    """Return gain, brick index and promise of every volume, by SNR, at 5x and at 2.5x: a table each."""
    wide = rows.set_index(["factor", "volume", "snr", "method"]).sort_index()
    heads = ("SNR", "cubic, dB", "gain, dB", "of 0.1, one step", "of 0.1, its default", "brick index",
             "of 0.1, one step", "of cubic", "promised, dB")  # fmt: skip
    texts = []
    for factor in sorted(rows.factor.unique(), reverse=True):
        lines = []
        for volume in (one for one in NAMES if (factor, one) in wide.index.droplevel([2, 3])):
            for snr in LEVELS:
                at = wide.loc[(factor, volume, snr)]
                gains = [f"{at.gain[name]:+.2f}" for name in (OWN, BEFORE_1, BEFORE)]
                bars = [f"{at.bricks[name]:.2f}" for name in (OWN, BEFORE_1, "cubic")]
                promise = f"{at.promised[OWN]:+.2f}"
                lines.append([NAMES[volume], snr, f"{at.psnr['cubic']:.2f}", *gains, *bars, promise])
        texts.append(table([f"{factor:g}x, in tissue", *heads], lines))
    return "\n".join(texts)


def lesions(rows: pd.DataFrame) -> str:
    """Return which share of the contrast of lesions comes back, by radius: a column a method and SNR."""
    columns = {(m, s): "" for s in ("clean", "10") for m in (OWN, "cubic", BEFORE_1)}
    heads = ["radius", *(f"{ {BEFORE_1: '0.1, one step'}.get(m, m)}{', SNR 10' if s == '10' else ''}"
                         for m, s in columns)]  # fmt: skip
    mean = rows.groupby(["radius", "method", "snr"]).recovered.mean()
    lines = [[f"{radius:g}", *(f"{mean[radius, m, s]:.2f}" for m, s in columns)] for radius in sorted(set(rows.radius))]
    return table(heads, lines)


def kept(rows: pd.DataFrame) -> str:
    """Return gain and lesions by the share of the noise that is kept."""
    radii = [1, 1.5, 2, 3, 4.5]
    labels = {"cubic": "cubic interpolation", "0.55": "0.55 (the default)"}
    lines = [
        [labels.get(row.kept, row.kept), f"{row.gain:+.2f}", *(f"{row[f'radius_{radius:g}']:.2f}" for radius in radii)]
        for _, row in rows.iterrows()
    ]
    return table(["noise kept at SNR 10", "gain, dB", "radius 1", *(f"{radius:g}" for radius in radii[1:])], lines)


def coverage(rows: pd.DataFrame) -> str:
    """Return which share of the tissue lies within 90% intervals."""
    wide = rows.pivot_table("held", "volume", ["factor", "snr"])
    columns = [(factor, snr) for factor in (2.5, 5.0) for snr in ("clean", "10")]
    heads = ["within 90% intervals", *(f"{factor:g}x, {snr if snr == 'clean' else 'SNR ' + snr}"
                                       for factor, snr in columns)]  # fmt: skip
    lines = [[NAMES[one], *(f"{wide.loc[one, at]:.1%}" for at in columns)] for one in NAMES if one in wide.index]
    return table(heads, lines)


def several(rows: pd.DataFrame) -> str:
    """Return what sets of scans give, by kind of animal."""
    wide = rows.pivot_table("psnr", ["volume", "factor", "snr", "scans"], "method").reset_index()
    wide["kind"] = wide.volume.map(KINDS)
    heads = ("volumes", "slices over voxels", "SNR", "scans", "cubic, best scan", "`bida`, first scan",
             "least squares, all", "`bida`, all", "above least squares", "above the single scan")  # fmt: skip
    lines = []
    for kind in dict.fromkeys(KINDS[name] for name in ("tpl-rminc_T2w", "sub-08_T2w")):
        for factor in (5.0, 2.5):
            for snr in ("clean", "10"):
                for scans in ("A+S", "R+A+S"):
                    key = (wide.kind == kind) & (wide.factor == factor) & (wide.snr == snr) & (wide.scans == scans)
                    part = wide[key]
                    means = [f"{part[m].mean():.2f}" for m in ("cubic", "bida, first scan", "least squares", OWN)]
                    more = [part[OWN] - part[other] for other in ("least squares", "bida, first scan")]
                    gains = [f"{one.mean():+.2f} ({one.min():+.2f})" for one in more]
                    lines.append([kind, f"{factor:g}", snr, scans, *means, *gains])
    return table(heads, lines)


def time(rows: pd.DataFrame) -> str:
    """Return what the time of further scans buys."""
    lines = []
    for what, label in WHAT.items():
        part = rows[rows.what == what]
        own = f"{part.psnr.mean():.2f}"
        bold = label.startswith("**")
        lines.append([label, f"{part.units.iloc[0]:g}", f"{part.cubic.mean():.2f}", f"**{own}**" if bold else own])
    return table(["what the scanner does", "scan time", "cubic interpolation, dB", "`bida`, dB"], lines)


def move(rows: pd.DataFrame) -> str:
    """Return what is lost where an animal moved between its scans: one row a volume and SNR."""
    lines = []
    for (volume, snr), part in rows.groupby(["volume", "snr"], sort=False):
        lost = part.known - part.found
        means = [f"{part[name].mean():.2f}" for name in ("still", "known", "found")]
        lines.append([NAMES[volume], snr, str(len(part)), *means, f"{lost.median():+.2f} ({lost.max():+.2f})"])
    heads = ("volume", "SNR", "poses", "not moved, dB", "poses told, dB", "poses found, dB", "lost, median (most)")
    return table(heads, lines)


def align(rows: pd.DataFrame) -> str:
    """Return how far found poses are off, of scans that show the same: a row a volume and SNR."""
    lines = []
    for (volume, snr), part in rows[rows.shown == "same"].groupby(["volume", "snr"], sort=False):
        off = [f"{part[name].median():.3f}, {part[name].quantile(0.9):.3f}" for name in ("voxels", "degrees")]
        left_out = str(int(part.problem.notna().sum()))
        level = "clean" if snr == "0.0" else f"{float(snr):g}"
        lines.append([NAMES[f"{volume}_T2w"], level, str(len(part)), *off, left_out, f"{part.seconds.median():.1f}"])
    heads = ("volume", "SNR", "poses", "voxels off", "degrees off", "left out", "CPU s")
    return table(heads, lines)


def judged(docs: Path) -> str:
    """Return how many of the demands hold, and those that do not."""
    lines = list(demands(tables_of(docs)))
    failed = [[demand, found] for demand, found, holds in lines if not holds]
    return f"{len(lines) - len(failed)} of {len(lines)} hold. These do not:\n\n{table(['asked', 'found'], failed)}"


def made(record: dict[str, dict[str, object]]) -> str:
    """Return when and on what each part of the figures was made."""
    heads = ("part", "made on", "version", "weights", "CPU seconds", "threads", "machine")
    lines = [
        [name, *(str(one[key]) for key in ("date", "version")), f"`{str(one['weights'])[:8]}`",
         *(str(one[key]) for key in ("cpu_seconds", "threads", "machine"))]
        for name, one in record.items()
    ]  # fmt: skip
    return table(heads, lines)
