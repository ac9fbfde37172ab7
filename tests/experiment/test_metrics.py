"""The metrics of the experiment: what they keep, and what they take from labels and strippers."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest

from bida.experiment.case import Case, carried_labels
from bida.experiment.metrics import METRICS
from bida.experiment.truth import Truth
from bida.mri.synthetic_brain import synthetic_brain

NUMBERS = (7, 526_157_192)  # the second of the Allen atlas, beyond what 16 bits and float32 hold


@pytest.fixture
def case(tmp_path) -> Case:
    volume, affine = synthetic_brain(0.5, (24, 36, 20), 1)
    truth = Truth("sub-01", "", tmp_path / "sub-01.nii.gz", volume, affine, volume > 0, None)
    return Case("cubic", volume, truth, None, ["threshold"], 60.0, tmp_path, 0, tmp_path / "cell")


def test_kept_labels_keep_their_numbers(case, monkeypatch):
    labels = np.where(case.volume > np.median(case.volume), *NUMBERS).astype(np.int32)
    monkeypatch.setattr("bida.experiment.case.volumetry", lambda *arguments: SimpleNamespace(labels=labels))
    first, again = carried_labels(case), carried_labels(case)
    np.testing.assert_array_equal(first, labels)
    np.testing.assert_array_equal(again, labels)


def test_changed_labels_of_an_atlas_are_carried_anew(case, tmp_path, monkeypatch):
    calls = []

    def stand_in(volume, affine, atlases):
        calls.append([atlas.name for atlas in atlases])
        return SimpleNamespace(labels=atlases[0].labels)

    monkeypatch.setattr("bida.experiment.case.volumetry", stand_in)
    for number in (1, 2):
        for path, values in (
            ("sub-02/anat/sub-02_T2w.nii.gz", case.volume),
            ("derivatives/labels/sub-02/anat/sub-02_dseg.nii.gz", number * (case.volume > 0).astype(np.int16)),
        ):
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(values, case.truth.affine), tmp_path / path)
        fresh = replace(case, atlas_count=1)
        assert [carried_labels(fresh).max(), carried_labels(fresh).max()] == [number, number]
        assert METRICS["volumes"].inputs(fresh)["atlases"].keys() == {"sub-02"}
    assert calls == [["sub-02"], ["sub-02"]]
    assert METRICS["volumes"].inputs(case) == {"atlases": {}, "labels": None}
