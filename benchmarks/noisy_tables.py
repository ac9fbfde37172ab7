"""Tables of `noisy.py`: rows that are printed and kept as they come, and what they say together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

OWN, KNOWN, BEFORE, BEFORE_1 = "bida", "bida, true sigma", "before", "before, 1 step"
GAIN = {"volume": "", "factor": "g", "snr": "", "method": "", "psnr": ".2f", "gain": "+.2f", "bricks": ".2f",
        "detail": ".3f", "cpu_s": ".0f", "dtype": "", "found_snr": ".1f", "over_added": ".2f",
        "promised": "+.2f"}  # fmt: skip
LESIONS = {"volume": "", "factor": "g", "snr": "", "round": "", "method": "", "radius": "g", "sign": "+d",
           "recovered": ".3f", "far": ".5f", "noise": ".3f"}  # fmt: skip
KEPT = {"volume": "", "factor": "g", "snr": "", "kept": "", "gain": "+.2f", "radius_4.5": ".2f", "radius_3": ".2f",
        "radius_2": ".2f", "radius_1.5": ".2f", "radius_1": ".2f"}  # fmt: skip
COVERAGE = {"volume": "", "factor": "g", "snr": "", "held": ".3f", "plain": ".3f", "own_noise": ".3f"}


class Rows:
    """Rows of a table, printed as Markdown as they come, and kept in a CSV file; those that it has are there already.

    Args:
        columns: name to format.
        path: of the file; None for none.
    """

    def __init__(self, columns: Mapping[str, str], path: Path | None = None) -> None:
        self.columns, self.path, self.rows = columns, path, list[dict[str, Any]]()
        if path is not None and path.exists():
            found = pd.read_csv(path, dtype={"snr": str, "weights": str})
            if set(found.columns) != set(columns):
                raise SystemExit(f"{path}: columns must be {', '.join(columns)}, got {', '.join(found)}; name another")
            self.rows = found.to_dict("records")
        print(f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}")
        for row in self.rows:
            self._print(row)

    def has(self, **key: Any) -> bool:
        """Return whether there is a row of these values."""
        return any(all(row[name] == value for name, value in key.items()) for row in self.rows)

    def add(self, *rows: dict[str, Any]) -> None:
        """Print rows, and write the file."""
        for row in rows:
            self._print(row)
        self.rows += rows
        if self.path is not None:
            self.frame().to_csv(self.path, index=False)

    def frame(self) -> pd.DataFrame:
        """Return all of them."""
        return pd.DataFrame(self.rows, columns=list(self.columns))

    def _print(self, row: Mapping[str, Any]) -> None:
        shown = (format(row[name], kind) if row[name] == row[name] else "" for name, kind in self.columns.items())
        print(f"| {' | '.join(shown)} |", flush=True)


def gain_lines(found: pd.DataFrame) -> Iterator[str]:
    """Yield the means, and the comparisons of one method with another or of noise with none, as Markdown."""
    yield "\n| factor | SNR | method | volumes | gain, dB | brick index | detail | CPU s |\n|" + " --- |" * 8
    for (factor, snr, method), part in found.groupby(["factor", "snr", "method"], sort=False):
        kinds = {"gain": "+.2f", "bricks": ".2f", "detail": ".3f", "cpu_s": ".0f"}
        cells = [mean_of(part[name], kind) for name, kind in kinds.items()]
        yield f"| {factor:g} | {snr} | {method} | {len(part)} | " + " | ".join(cells) + " |"
    for factor, part in found.groupby("factor", sort=False):
        levels = list(part["snr"].unique())
        noisy = [snr for snr in levels if snr != "clean"]

        def at(value: str, method: str, snr: str, part: pd.DataFrame = part) -> pd.Series:
            return part[(part["method"] == method) & (part["snr"] == snr)].set_index("volume")[value]

        told: dict[str, pd.Series] = {}
        for snr in noisy:
            told[f"gain at SNR {snr} over clean"] = at("gain", OWN, snr) / at("gain", OWN, "clean")
            told[f"brick index at SNR {snr} less clean"] = at("bricks", OWN, snr) - at("bricks", OWN, "clean")
            told[f"detail at SNR {snr} over clean"] = at("detail", OWN, snr) / at("detail", OWN, "clean")
            told[f"sigma found over added at SNR {snr}"] = at("over_added", OWN, snr)
        for snr in levels:
            for other in (BEFORE_1, BEFORE, "selfsr", KNOWN):
                told[f"gain less that of {other}, {snr}, dB"] = at("gain", OWN, snr) - at("gain", other, snr)
            for other in (BEFORE_1, BEFORE):
                told[f"brick index less that of {other}, {snr}"] = at("bricks", OWN, snr) - at("bricks", other, snr)
                told[f"detail over that of {other}, {snr}"] = at("detail", OWN, snr) / at("detail", other, snr)
            told[f"promised less gained, {snr}, dB"] = at("promised", OWN, snr) - at("gain", OWN, snr)
            told[f"CPU seconds over those of {BEFORE}, {snr}"] = at("cpu_s", OWN, snr) / at("cpu_s", BEFORE, snr)
        yield f"\n| at {factor:g}x | mean | lowest | highest |\n|" + " --- |" * 4
        for what, values in told.items():
            if len(values := values.dropna()):
                ends = (f"{values[name]:.2f} ({name})" for name in (values.idxmin(), values.idxmax()))
                yield f"| {what} | {mean_of(values, '.2f')} | {' | '.join(ends)} |"


def lesion_lines(found: pd.DataFrame) -> Iterator[str]:
    """Yield what comes back by size, and what changes far away, as Markdown."""
    columns = list(found[["snr", "method"]].drop_duplicates().itertuples(index=False, name=None))
    for factor, part in found.groupby("factor", sort=False):
        yield f"\n| recovered at {factor:g}x, radius | lesions | " + " | ".join(f"{m}, {s}" for s, m in columns) + " |"
        yield "|" + " --- |" * (2 + len(columns))
        kinds = {"": part, " bright": part[part["sign"] > 0], " dark": part[part["sign"] < 0]}
        for kind, those in kinds.items():
            for radius, same in those.groupby("radius"):
                each = [same.loc[(same["snr"] == s) & (same["method"] == m), "recovered"] for s, m in columns]
                cells = (mean_of(one, ".2f") for one in each)
                yield f"| {radius:g}{kind} | {max(map(len, each))} | " + " | ".join(cells) + " |"
        away = [part.loc[(part["snr"] == s) & (part["method"] == m), "far"] for s, m in columns]
        yield "| change far away over the contrast, mean | | " + " | ".join(f"{one.mean():.4f}" for one in away) + " |"
        yield "| the same, largest | | " + " | ".join(f"{one.max():.4f}" for one in away) + " |"


def mean_of(values: pd.Series, kind: str) -> str:
    """Return the mean of what is there, with the standard deviation of two or more; empty for none."""
    values = values.dropna()
    deviation = f" ± {values.std():{kind.lstrip('+')}}" if len(values) > 1 else ""
    return f"{values.mean():{kind}}{deviation}" if len(values) else ""


def spread(shares: Mapping[str, float]) -> str:
    """Return the mean of shares, and the lowest and the highest with their names."""
    low, high = min(shares, key=shares.__getitem__), max(shares, key=shares.__getitem__)
    return f"{np.mean(list(shares.values())):.1%}, from {shares[low]:.1%} ({low}) to {shares[high]:.1%} ({high})"
