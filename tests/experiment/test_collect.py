"""The notes of the report: every limit that holds is told."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from bida.experiment.design import Experiment
from bida.experiment.report.collect import notes_of

ROWS = [{"subject": "sub-01"}]


@pytest.mark.parametrize("strippers", [["builtin"], ["rbm", "threshold"], ["threshold", "builtin", "rbm"]])
@pytest.mark.parametrize("share_of_zeros", [0.0, 0.6])
def test_every_stripper_but_the_papers_is_told_apart(tmp_path, strippers, share_of_zeros):
    scan = np.random.default_rng(0).uniform(1, 2, (10, 10, 10)).astype(np.float32)
    scan[: round(10 * share_of_zeros)] = 0
    (tmp_path / "sub-01" / "truth").mkdir(parents=True)
    nib.save(nib.Nifti1Image(scan, np.diag([0.3, 0.3, 0.3, 1])), tmp_path / "sub-01" / "truth" / "sub-01.nii.gz")
    notes = " ".join(notes_of(Experiment(tmp_path, tmp_path, strippers=strippers), ROWS))
    for name in strippers:
        assert (f"{name} is not the paper's" in notes) == (name != "rbm")
    assert ("These scans hold no heads" in notes) == (share_of_zeros > 0.4)
    assert ("The paper's cDSC needs isotropic scans of whole heads" in notes) == (share_of_zeros > 0.4)


def test_without_cdsc_no_stripper_is_told_of(tmp_path):
    assert "paper's" not in " ".join(notes_of(Experiment(tmp_path, tmp_path, metrics=["psnr"]), ROWS))
