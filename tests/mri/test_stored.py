"""How far a result is from its scan is measured as it is stored; what cannot be sampled is told before any work."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from conftest import MakeScan, smooth_phantom

from bida.cli.parser import main
from bida.errors import SettingsError
from bida.mri.pipeline import superres
from bida.physics.geometry import SliceGeometry
from bida.physics.operators import SliceOperator


@pytest.mark.parametrize("like", [False, True])
def test_the_residual_of_integers_is_that_of_what_was_written(
    make_scan: MakeScan, tmp_path: Path, capsys, like
) -> None:
    scan = make_scan(
        codes="LSA", tilt_deg=5, values=lambda *given: np.rint(smooth_phantom(*given) / 10), dtype=np.int16
    )
    grid = make_scan((20, 40, 18), (0.15, 0.15, 0.15), codes="PIR", tilt_deg=5, name="like.nii.gz")
    out = tmp_path / "out.nii.gz"
    words = ["superres", str(scan), str(out), "--keep-dtype", "--noise", "0", "--no-n4", "--self-check", "off"]
    assert main([*words, *(["--like", str(grid)] if like else [])]) == 0
    record = json.loads((tmp_path / "out.json").read_text())
    stored, thick = (nib.as_closest_canonical(nib.load(path)).get_fdata() for path in (out, scan))
    matrix = SliceOperator.build(SliceGeometry(**record["slice_geometry"])).matrix  # [m, N], along A
    again = np.einsum("mn,rns->rms", matrix, stored)
    expected = np.abs(again - thick).max() / np.ptp(thick)
    found = record["data_consistency"]["scan_residual"]
    assert found == pytest.approx(expected, rel=1e-4)
    assert found > 1e-3 and f"{found:.1e}" in capsys.readouterr().out  # floats agree to 1e-6


def test_floats_keep_their_residual(make_scan: MakeScan, tmp_path: Path) -> None:
    result = superres(make_scan(), n4=False, self_check=False, noise=0.0)
    assert result.record_as(np.float32) == {**result.record, "output_dtype": "float32"}
    assert result.residual is not None
    assert result.residual(result.data) == pytest.approx(result.record["data_consistency"]["scan_residual"], abs=1e-6)


def test_a_result_can_be_sent_to_another_process(make_scan: MakeScan) -> None:
    result = superres(make_scan(dtype=np.int16), n4=False, self_check=False, noise=0.0)
    assert pickle.loads(pickle.dumps(result)).record_as(np.int16) == result.record_as(np.int16)


def test_more_steps_than_the_weights_have_are_told_before_an_adaptation(make_scan: MakeScan) -> None:
    seen = list[tuple[float, ...]]()
    from bida.mri.pipeline import restore
    from bida.mri.settings import Settings

    with pytest.raises(SettingsError, match="steps: must be from 1 to 1000, got 1001"):
        restore(make_scan(), Settings(samples=1, steps=1001, adapt=1.0), on_adapt=lambda *told: seen.append(told))
    assert not seen
