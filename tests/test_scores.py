"""The metrics of the experiment: what they keep, and what they take from labels and strippers."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from bida.sample import synthetic_brain
from bida.scores import Case, carried_labels
from bida.truth import Truth

NUMBERS = (7, 526_157_192)  # the second of the Allen atlas, beyond what 16 bits and float32 hold


@pytest.fixture
def case(tmp_path) -> Case:
    volume, affine = synthetic_brain(0.5, (24, 36, 20), 1)
    truth = Truth("sub-01", "", tmp_path / "sub-01.nii.gz", volume, affine, volume > 0, None)
    return Case("cubic", volume, truth, None, ["threshold"], 60.0, tmp_path, 0, tmp_path / "cell")


def test_kept_labels_keep_their_numbers(case, monkeypatch):
    labels = np.where(case.volume > np.median(case.volume), *NUMBERS).astype(np.int32)
    monkeypatch.setattr("bida.scores.volumetry", lambda *arguments: SimpleNamespace(labels=labels))
    first, again = carried_labels(case), carried_labels(case)
    np.testing.assert_array_equal(first, labels)
    np.testing.assert_array_equal(again, labels)
