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
from bida.io.files import write_json
from bida.mri.pipeline import superres
from bida.mri.synthetic_brain import synthetic_brain
from bida.physics.geometry import SliceGeometry
from bida.physics.grid import AxisGrid, resampled_affine
from bida.physics.operators import SliceOperator
from bida.physics.simulate import simulate_slices


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


@pytest.mark.slow
@pytest.mark.parametrize("words", [["--noise", "0", "--no-n4"], ["--noise", "0"], []])
def test_the_residuals_of_combined_scans_are_those_of_what_was_written(tmp_path: Path, capsys, words) -> None:
    volume, affine = synthetic_brain(0.15, (40, 44, 36))
    scans, thick = [], {}
    for axis in (1, 2):
        slices, geometry = simulate_slices(volume, 0.15, axis, 4)
        thick[axis] = np.rint(200 * slices / volume.max())  # so few levels that rounding tells
        grids = [AxisGrid(n, 0.15) for n in volume.shape]
        grids[axis] = AxisGrid(geometry.slices, geometry.slice_spacing_mm)
        image = nib.Nifti1Image(thick[axis].astype(np.int16), resampled_affine(affine, volume.shape, [0.15] * 3, grids))
        image.header.set_xyzt_units("mm")
        nib.save(image, tmp_path / f"{axis}.nii.gz")
        sizes = {"SliceThickness": geometry.thickness_mm}
        write_json(tmp_path / f"{axis}.json", sizes)
        scans.append(str(tmp_path / f"{axis}.nii.gz"))
    out = tmp_path / "out.nii.gz"
    common = ["superres", "--combine", *scans, "--no-align", "--self-check", "off", "--device", "cpu", *words]
    options = {"n4": "--no-n4" not in words, **({"noise": 0} if "--noise" in words else {})}
    floats = superres(scans, align=False, self_check=False, device="cpu", **options)
    assert floats.residual is not None
    before, again = floats.record["scans"], floats.residual.told(floats.data, floats.record)["scans"]
    for name in ("residual", *([] if "--noise" in words else ["residual_over_noise"])):
        assert [one[name] for one in again] == pytest.approx([one[name] for one in before], rel=1e-3, abs=1e-6)
    assert main([*common, "-o", str(out), "--keep-dtype"]) == 0
    printed, after = capsys.readouterr().out, json.loads(out.with_name("out.json").read_text())
    stored = nib.as_closest_canonical(nib.load(out)).get_fdata()
    for axis, old, new in zip((1, 2), before, after["scans"], strict=True):
        assert new["residual"] > old["residual"]
        noise = new["residual_over_noise"]
        assert (noise is None) == ("--noise" in words)
        shown = f"at most {new['residual']:.1e} of its range" if noise is None else f"by {noise:.2f} of its noise"
        assert shown in printed
        matrix = SliceOperator.build(SliceGeometry(**new["slice_geometry"])).matrix
        again = np.moveaxis(np.tensordot(matrix, stored, (1, axis)), 0, axis)
        expected = np.abs(again - thick[axis]).max() / np.ptp(thick[axis])
        if axis == 1 and noise is None:  # the second has intensities that were fitted to those of the first
            assert new["residual"] == pytest.approx(expected, rel=0.02)


@pytest.mark.slow
def test_floats_keep_their_residual(make_scan: MakeScan, tmp_path: Path) -> None:
    result = superres(make_scan(), n4=False, self_check=False, noise=0.0)
    assert result.record_as(np.float32) == {**result.record, "output_dtype": "float32"}
    assert result.residual is not None
    assert result.residual(result.data) == pytest.approx(result.record["data_consistency"]["scan_residual"], abs=1e-6)


@pytest.mark.slow
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
