"""Structures far brighter than what the prior was trained on, as vessels and cysts, come out no worse than cubic."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import binary_dilation

from bida import superres
from bida.mri.preview import restoration_panels
from bida.mri.settings import Settings
from bida.mri.simulate import simulate_file
from bida.mri.synthetic_brain import synthetic_brain


@pytest.mark.parametrize("times", [3.0, 5.0])
@pytest.mark.parametrize("noise", ["auto", 0.0])
def test_bright_tubes(tmp_path: Path, times: float, noise: str | float) -> None:
    volume, affine = synthetic_brain(0.2, (60, 75, 45), 3)
    index = np.stack(np.meshgrid(*map(np.arange, volume.shape), indexing="ij"), -1)
    bright = np.zeros(volume.shape)
    for axis, centre in enumerate(((30, 37, 22), (22, 30, 27), (36, 45, 20))):
        away = (index - np.array(centre)).astype(float)
        along = np.abs(away[..., axis]) < 10
        away[..., axis] = 0
        bright = np.maximum(bright, np.clip(2.0 - np.linalg.norm(away, axis=-1), 0, 1) * along)
    truth = volume * (1 - bright) + times * np.percentile(volume, 99) * bright
    nib.save(nib.Nifti1Image(truth.astype(np.float32), affine), tmp_path / "truth.nii")
    simulate_file(str(tmp_path / "truth.nii"), str(tmp_path / "scan.nii"), 5, "A")
    grid = {"n4": False, "like": str(tmp_path / "truth.nii")}
    result = superres(str(tmp_path / "scan.nii"), self_check=False, noise=noise, **grid).data
    _, (cubic, _) = restoration_panels(str(tmp_path / "scan.nii"), Settings(**grid))
    near = binary_dilation(bright > 0, iterations=4)
    ours, theirs = (float(np.sqrt(np.square(one - truth)[near].mean())) for one in (result, cubic))
    assert ours <= theirs, (ours, theirs)
