"""The tables of pages that come from the CSV files of the programs that `figures.py` calls."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pandas as pd
from familiarity_tables import area, of_trained, with_verdicts
from gates import demands, is_mouse, tables_of
from noisy_tables import BEFORE, BEFORE_1, OWN

from bida.experiment.methods import label_of
from bida.mri.familiarity import USUAL_DB

NAMES = {
    "tpl-rminc_T2w": "mouse head template (RMINC)",
    "tpl-sigma_T2w": "rat head template (SIGMA)",
    "sub-head000_T2w": "made head (seed 99)",
    "sub-08_T2w": "mouse sub-08",
    "sub-14_T2w": "mouse sub-14",
    "sub-21_T2w": "mouse sub-21",
}
SHORT = {"head templates": ("tpl-rminc_T2w", "tpl-sigma_T2w"), "made head": ("sub-head000_T2w",),
         "mice": ("sub-08_T2w", "sub-14_T2w", "sub-21_T2w")}  # fmt: skip
KINDS = {name: "3 validation mice" if name.startswith("sub-") and "head" not in name
         else "2 head templates and a made head" for name in NAMES}  # fmt: skip
LEVELS = ("clean", "20", "10")
GROUPS = {  # of the scans that familiarity is measured on, as they are named: data set, and what they end on
    "T2w mouse brains (mouse-rtg4510)": ("mouse-rtg4510", ""),
    "template of mouse brains (mouse-template-drcarbon)": ("mouse-template-drcarbon", ""),
    "template of mouse brains (mouse-template-atlasbrex)": ("mouse-template-atlasbrex", ""),
    "T1w mouse heads (mouse-sherm)": ("mouse-sherm", ""),
    "T2w mouse heads (mouse-jax)": ("mouse-jax", "T2w"),
    "their diffusion means": ("mouse-jax", "dwi"),
    "their fMRI means": ("mouse-jax", "bold"),
    "mouse head template (RMINC)": ("mouse-template-rminc", ""),
    "EPI rat heads (rat-bold-pontes)": ("rat-bold-pontes", ""),
    "T2w rat head (rat-nirodents)": ("rat-nirodents", ""),
    "rat head template (SIGMA)": ("rat-sigma", ""),
    "microCT": ("microCT", ""),
    "checkerboard": ("checkerboard", ""),
    "noise alone": ("", "noise"),
}
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

CARD = "[model card](../models/MODEL_CARD.md)"
WHERE = {  # the steps of `figures.py`, and where a page that lies in docs/ shows what they make
    "volumes": "this page",
    "mice": f"{CARD}, [README](../README.md)",
    "heads": "this page, [README](../README.md)",
    "second-stripper": "this page",
    "noise": "[the mean, and noise](prior.md#the-mean-and-noise)",
    "lesions": "[lesions](prior.md#lesions)",
    "kept": "[lesions](prior.md#lesions)",
    "coverage": "[how large the error is](prior.md#how-large-the-error-is)",
    "several": "[several scans](several.md#how-good-it-is)",
    "time": "[what it buys](several.md#what-it-buys)",
    "move": "[several scans](several.md)",
    "align": "[several scans](several.md)",
    "stacks": "[microscopy](microscopy.md)",
    "skulls": CARD,
    "inplane": "[slices made thick](prior.md#slices-made-thick-in-their-plane)",
    "familiarity": "[familiarity](prior.md#familiarity)",
    "size": "[memory and size](speed.md#memory-and-size)",
    "peers": "[beside other methods](speed.md#beside-other-methods)",
    "eclare": "this page",
    "pictures": "[gallery](gallery.md), [README](../README.md)",
}


def of_benchmarks(docs: Path) -> dict[str, str]:
    """Return what goes between the markers of each name, of the files that docs has."""
    tables: dict[str, tuple[str, Callable[[pd.DataFrame], str]]] = {
        "inplane": ("inplane.csv", inplane),
        "familiarity": ("familiarity.csv", familiar),
        "noise": ("noise.csv", noise),
        "noise_in_short": ("noise.csv", noise_in_short),
        "lesions": ("lesions.csv", lesions),
        "kept": ("kept.csv", kept),
        "coverage": ("coverage.csv", coverage),
        "several": ("several.csv", several),
        "time": ("several_time.csv", time),
        "move": ("several_move.csv", move),
        "align": ("align.csv", align),
        "size": ("size.csv", sizes),
        "peers": ("peers.csv", peers),
    }
    there = {name: one for name, one in tables.items() if (docs / one[0]).exists()}
    texts = {"snr": str, "kept": str, "weights": str}
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


def noise_in_short(rows: pd.DataFrame) -> str:
    """Return what the rows of `noise` say: a line a comparison, least and most of the volumes of each kind."""
    found = {name: part.set_index(["factor", "snr", "volume"]).sort_index() for name, part in rows.groupby("method")}
    gain, one_step, default = (found[name] for name in (OWN, BEFORE_1, BEFORE))

    def at(values: pd.Series, snr: str, *factors: float) -> pd.Series:
        return values.loc[list(factors or (5.0, 2.5)), snr, :].droplevel("snr")

    above, fewer_bars, time = gain.psnr - one_step.psnr, gain.bricks - one_step.bricks, gain.cpu_s / default.cpu_s
    off = gain.promised - gain.gain
    lines = {
        "gain at SNR 10 over that without noise": (at(gain.gain, "10") / at(gain.gain, "clean"), ".2f"),
        "above one step of 0.1 without noise, dB": (at(above, "clean"), "+.2f"),
        "above one step of 0.1 at SNR 10, 5x, dB": (at(above, "10", 5.0), "+.2f"),
        "above one step of 0.1 at SNR 10, 2.5x, dB": (at(above, "10", 2.5), "+.2f"),
        "brick index at SNR 10 less that without noise, 5x": (
            at(gain.bricks, "10", 5.0) - at(gain.bricks, "clean", 5.0), "+.2f"),
        "brick index at SNR 10 less that without noise, 2.5x": (
            at(gain.bricks, "10", 2.5) - at(gain.bricks, "clean", 2.5), "+.2f"),
        "brick index at SNR 10 less that of one step of 0.1, 5x": (at(fewer_bars, "10", 5.0), "+.2f"),
        "brick index of the truth": (at(found["truth"].bricks, "clean", 5.0), ".2f"),
        "SNR found without added noise, 5x": (at(gain.found_snr, "clean", 5.0), ".0f"),
        "noise found over the noise added at SNR 10, 5x": (at(gain.over_added, "10", 5.0), ".2f"),
        "noise found over the noise added at SNR 10, 2.5x": (at(gain.over_added, "10", 2.5), ".2f"),
        "CPU seconds over those of 0.1's default": (at(time, "clean"), ".2f"),
        **{f"promise less gain, {'without noise' if snr == 'clean' else f'SNR {snr}'}, dB": (at(off, snr), "+.2f")
           for snr in LEVELS},
    }  # fmt: skip
    by_kind = [
        [label, *(spread(values[values.index.isin(names, "volume")], kind) for names in SHORT.values())]
        for label, (values, kind) in lines.items()
    ]
    return table(["least to most (mean)", *SHORT], by_kind)


def spread(values: pd.Series, kind: str) -> str:
    """Return least, most and mean of values; one alone as it is."""
    least, most, mean = (format(round(value, 2) + 0.0, kind) for value in (values.min(), values.max(), values.mean()))
    return mean if least == most else f"{least} to {most} ({mean})"


def inplane(rows: pd.DataFrame) -> str:
    """Return what the weights of 0.3 and today's gain on slices made thick in their plane: a row a scan."""
    wide = rows.pivot_table("gain", "scan", ["factor", "weights"], sort=False)
    columns = [(factor, weights) for factor in (2.5, 5.0) for weights in ("0.3", "model")]
    heads = [f"{factor:g}x, {'today' if weights == 'model' else weights}" for factor, weights in columns]
    return table(["scan", *heads], [[name, *(f"{row[at]:+.2f}" for at in columns)] for name, row in wide.iterrows()])


def familiar(rows: pd.DataFrame) -> str:
    """Return how well lost gains are told, and familiarity and gain of the scans in their own contrast, by group."""
    rows = with_verdicts(rows)
    lost, told = rows.lost, rows.told
    usual = of_trained(rows).groupby("kind").gain_db.mean()
    text = (
        f"Of {len(rows)} measurements of {rows.scan.nunique()} scans {lost.sum()} are lost. The area under the curve "
        f"is {area(-rows.familiarity.to_numpy(), lost.to_numpy()):.2f}: {told[lost].mean():.0%} of the lost are called "
        f"unlike what the priors know, and {told[~lost].mean():.0%} of the others. The scans that set what is usual "
        f"gain {usual['brain']:.1f} dB (brains; {USUAL_DB['brain']:g} is taken) and {usual['head']:.1f} dB (heads; "
        f"{USUAL_DB['head']:g}).\n\n"
    )
    own, lines = rows[rows.contrast == "own"], []
    for label, (folder, end) in GROUPS.items():
        part = own[own.scan.str.startswith(folder) & own.scan.str.endswith(end)]
        mean = part.groupby("snr")[["familiarity", "gain_db", "other_db"]].mean()
        cells = [f"{mean[name][snr]:{kind}}" for name, kind in (("familiarity", ".2f"), ("gain_db", "+.2f"),
                 ("other_db", "+.2f")) for snr in ("clean", "10.0")]  # fmt: skip
        lines.append([label, str(part.scan.nunique()), *cells])
    heads = ("own contrast, means", "scans", "familiarity", "SNR 10", "gain on slices looked at, dB", "SNR 10",
             "gain on four others, dB", "SNR 10")  # fmt: skip
    return text + table(heads, lines)


def lesions(rows: pd.DataFrame) -> str:
    """Return which share of the contrast of lesions comes back, by radius: a column a method and SNR."""
    columns = {(m, s): "" for s in ("clean", "10") for m in (OWN, "cubic", BEFORE_1)}
    heads = ["radius", *(f"{ {BEFORE_1: '0.1, one step'}.get(m, m)}{', SNR 10' if s == '10' else ''}"
                         for m, s in columns)]  # fmt: skip
    mean = rows.groupby(["radius", "method", "snr"]).recovered.mean()
    lines = [[f"{radius:g}", *(f"{mean[radius, m, s]:.2f}" for m, s in columns)] for radius in sorted(set(rows.radius))]
    far = rows[rows.method == OWN].far.max()
    return table(heads, lines) + f"\nFarther from them than 10 voxels {far:.1%} of the contrast changes, at most.\n"


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
    mice = rows.volume.map(is_mouse)
    least = [f"{100 * part.plain.min():.0f}-{part.plain.max():.0%}" for part in (rows[mice], rows[~mice])]
    plain = f"Where a volume's own noise is not counted, {least[0]} of the mice and {least[1]} of heads."
    return f"{table(heads, lines)}\n{plain}\n"


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
        level = "clean" if float(snr) == 0 else f"{float(snr):g}"
        lines.append([NAMES[f"{volume}_T2w"], level, str(len(part)), *off, left_out, f"{part.seconds.median():.1f}"])
    heads = ("volume", "SNR", "poses", "voxels off", "degrees off", "left out", "CPU s")
    return table(heads, lines)


def sizes(rows: pd.DataFrame) -> str:
    """Return how a run grows with voxels, draws and volumes: a row each, and what it takes more than the one before."""
    heads = ("", "number", "CPU s", "each more", "seconds", "memory, GiB", "each more")
    units = {
        "voxels": "million voxels",
        "draws": "draws, of a million voxels",
        "volumes": "volumes, of a million voxels",
    }
    lines = []
    for what, part in rows.groupby("what", sort=False):
        ordered = part.sort_values("number")
        ordered["size"] = ordered.voxels_millions if what == "voxels" else ordered.number
        more = ordered[["size", "cpu_s", "peak_gib"]].diff()
        for at, row in ordered.iterrows():
            step = more.loc[at]
            each = (
                ["", ""]
                if pd.isna(step["size"])
                else [f"{step[one] / step['size']:.2g}" for one in ("cpu_s", "peak_gib")]
            )
            lines.append([units[what], f"{row['size']:.3g}", f"{row.cpu_s:.0f}", each[0], f"{row.seconds:.0f}",
                          f"{row.peak_gib:.2f}", each[1]])  # fmt: skip
    return table(heads, lines)


def peers(rows: pd.DataFrame) -> str:
    """Return what each method takes and gives, of one scan and of two: a row a volume, set of scans and method."""
    heads = ("volume", "scans", "method", "PSNR in tissue, dB", "CPU s", "memory, GiB")
    lines = [
        [NAMES[row.volume], row.scans, label_of(row.method), f"{row.psnr:.2f}",
         f"{row.cpu_s:.0f}", f"{row.peak_gib:.2f}"]
        for _, row in rows[rows.snr == "clean"].iterrows()
    ]  # fmt: skip
    return table(heads, lines)


def judged(docs: Path) -> str:
    """Return how many of the demands hold, and those that do not."""
    lines = list(demands(tables_of(docs)))
    failed = [[demand, found] for demand, found, holds in lines if not holds]
    return f"{len(lines) - len(failed)} of {len(lines)} hold. These do not:\n\n{table(['asked', 'found'], failed)}"


def made(record: dict[str, dict[str, object]]) -> str:
    """Return when and on what each part of the figures was made, and where it is shown."""
    heads = ("part", "shown in", "made on", "version", "weights", "CPU seconds", "threads", "machine")
    lines = [
        [name, WHERE[name], *(str(one[key]) for key in ("date", "version")), f"`{str(one['weights'])[:8]}`",
         *(str(one[key]) for key in ("cpu_seconds", "threads", "machine"))]
        for name, one in record.items()
    ]  # fmt: skip
    return table(heads, lines)
