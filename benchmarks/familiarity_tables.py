"""What the rows of `familiarity.py` say: which scans lose their gain, and which are called unlike the known ones."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bida.mri.familiarity import UNFAMILIAR

TRAINED = {"mouse-rtg4510": ("sub-01", "sub-20"), "rat-bold-pontes": ("sub-01",), "mouse-jax": ("sub-01",)}
LOST = 0.5  # of the gain of scans of its kind that were trained on: less is lost


def with_verdicts(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that were measured in full, and what is to be said of them.

    Args:
        rows: of the file of `familiarity.py measure`.

    Returns:
        With the columns expected, the mean gain on other slices, dB, of scans of its kind and SNR that were trained on
        (no animal is held against heads); lost, whether it gains less than `LOST` of that; and told, whether its
        familiarity is below `UNFAMILIAR`.
    """
    rows = rows.dropna(subset=["gain_db", "other_db"])
    trained = of_trained(rows)
    usual = trained.groupby(["kind", "snr"]).other_db.mean()
    kinds = rows.kind.where(rows.kind != "no animal", "head")
    expected = np.array([usual[kind, snr] for kind, snr in zip(kinds, rows.snr)])
    return rows.assign(
        expected=expected, lost=rows.other_db < LOST * expected, told=rows.familiarity.round(2) < UNFAMILIAR
    )


def of_trained(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of scans that the priors were trained on, in their own contrast."""
    return rows[rows.scan.map(is_trained) & (rows.contrast == "own")]


def is_trained(name: str) -> bool:
    """Return whether a scan, named by its data set and file, was trained on."""
    folder, _, scan = name.partition(" ")
    return any(scan.startswith(subject) for subject in TRAINED.get(folder, ()))


def area(score: np.ndarray, positive: np.ndarray) -> float:
    """Return the area under the receiver operating characteristic: the chance that a positive one scores higher."""
    from scipy.stats import rankdata

    ranks, count = rankdata(score), int(positive.sum())
    if count in (0, len(positive)):
        return float("nan")
    return float((ranks[positive].sum() - count * (count + 1) / 2) / (count * (len(positive) - count)))
