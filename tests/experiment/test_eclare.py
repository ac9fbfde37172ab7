"""The adapter of the program run-eclare, with programs that stand for it."""

import re
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from conftest import load_benchmark

from bida.errors import ExternalError, SettingsError
from bida.experiment.baselines.eclare import eclare, true_affine
from bida.physics.geometry import SliceGeometry

# Like the real program: a grid of round(slices x factor) voxels that shares the scan's centre, under an affine that
# shares the face of its first voxel. The voxels hold a known function of where they are.
PROGRAM = """
import argparse, pathlib, sys
import nibabel as nib, numpy as np

parser = argparse.ArgumentParser()
for name in ("--in-fpath", "--out-dir", "--affine"):
    parser.add_argument(name, required=name != "--affine")
parser.add_argument("--relative-slice-thickness", type=float)
options = parser.parse_args()
assert options.relative_slice_thickness in (None, 2.4)
scan = nib.load(options.in_fpath)
M, sizes, m = scan.affine, np.array(scan.header.get_zooms()), np.array(scan.shape)
axis = int(sizes.argmax())
factor = round(float(sizes[axis] / sizes.min()), 3)
n = m.copy()
n[axis] = round(m[axis] * factor)
centred, faced = M.copy(), M.copy()
centred[:3, axis] /= factor
faced[:3, axis] /= factor
centred[:3, 3] = (M @ [*(m - 1) / 2, 1])[:3] - centred[:3, :3] @ ((n - 1) / 2)
faced[:3, 3] = (M @ [-0.5, -0.5, -0.5, 1])[:3] - faced[:3, :3] @ np.full(3, -0.5)
index = np.stack(np.meshgrid(*[np.arange(k) for k in n], indexing="ij"))
x, y, z = np.tensordot(centred[:3, :3], index, axes=1) + centred[:3, 3].reshape(3, 1, 1, 1)
values = 100 + 30 * np.sin(1.9 * x + 0.4 * y) + 20 * np.cos(0.9 * y - 1.8 * z)
written = {None: faced, "centred": centred, "away": faced + np.eye(4, k=3) * 50}[options.affine]
name = pathlib.Path(options.in_fpath).name.replace(".nii", "_eclare.nii")
nib.save(nib.Nifti1Image(values.astype(np.float32), written), pathlib.Path(options.out_dir) / name)
"""


def known(shape, affine):
    index = np.stack(np.meshgrid(*[np.arange(size) for size in shape], indexing="ij"))
    x, y, z = np.tensordot(affine[:3, :3], index, axes=1) + affine[:3, 3].reshape(3, 1, 1, 1)
    return 100 + 30 * np.sin(1.9 * x + 0.4 * y) + 20 * np.cos(0.9 * y - 1.8 * z)


@pytest.fixture
def program(tmp_path):
    """Return a function that writes a program and returns the command that runs it."""

    def write(code=PROGRAM, options=""):
        path = tmp_path / "program.py"
        path.write_text(code)
        return f"{sys.executable} {path} {options}".strip()

    return write


def problem(axis=1, slices=11, voxels=27, tilt=0.3):
    """Return what `eclare` is called with: 11 slices at 2.5x, whose 27.5 voxels are not a whole number."""
    geometry = SliceGeometry(
        axis=axis, slices=slices, slice_spacing_mm=0.5, thickness_mm=0.48, voxels=voxels, voxel_mm=0.2
    )
    turn = np.array([[np.cos(tilt), -np.sin(tilt), 0], [np.sin(tilt), np.cos(tilt), 0], [0, 0, 1]])
    shape, hr_shape, sizes = [12, 14, 16], [12, 14, 16], np.full(3, 0.2)
    shape[axis], hr_shape[axis], sizes[axis] = slices, voxels, 0.5
    affine, hr_affine = np.eye(4), np.eye(4)
    affine[:3, :3], hr_affine[:3, :3] = turn @ np.diag(sizes), turn * 0.2
    affine[:3, 3] = (-3.1, 2.3, 0.7)
    centre = affine @ [*(np.array(shape) - 1) / 2, 1]
    hr_affine[:3, 3] = centre[:3] - hr_affine[:3, :3] @ ((np.array(hr_shape) - 1) / 2)
    slices_ = np.random.default_rng(0).random(shape).astype(np.float32)
    return slices_, affine, geometry, hr_shape, hr_affine


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_every_voxel_is_where_the_program_left_it(axis, program):
    arguments = problem(axis)
    volume = eclare(*arguments, command=program(options="--relative-slice-thickness {thickness}"), timeout_s=60)
    truth = known(*arguments[3:])
    assert volume.shape == truth.shape and volume.dtype == np.float32
    inside = tuple(slice(2, -2) for _ in range(3))  # at the ends the result's voxels stop, and the spline bends
    wrong = np.abs(volume - truth)[inside].max()
    shift = np.roll(truth, 1, axis)[inside] - truth[inside]  # by a voxel; an uncorrected affine is a quarter off
    print(f"largest error {wrong:.3f}, a quarter voxel is up to {np.abs(shift).max() / 4:.3f}")
    assert wrong < 0.02 * np.abs(shift).max()


def test_an_affine_that_is_right_is_kept(program):
    arguments = problem()
    first = eclare(*arguments, command=program(), timeout_s=60)
    second = eclare(*arguments, command=program(options="--affine centred"), timeout_s=60)
    np.testing.assert_allclose(first, second, atol=1e-3)


def test_only_the_known_shift_is_corrected():
    _, affine, _, _, _ = problem()
    shape = (12, 28, 16)
    faced = affine.copy()
    faced[:3, 1] /= 2.5
    faced[:3, 3] += affine[:3, 1] * -0.5 - faced[:3, 1] * -0.5
    centred = true_affine(faced, shape, affine, (12, 11, 16), 1)
    # 28 voxels of 0.2 mm are 0.1 mm longer than 11 slices of 0.5 mm: the first voxel begins half of that earlier
    apart = np.linalg.solve(faced, centred)[:3, 3]
    np.testing.assert_allclose(apart, [0, -0.25, 0], atol=1e-9)
    other = faced.copy()
    other[:3, 3] += 0.05
    np.testing.assert_array_equal(true_affine(other, shape, affine, (12, 11, 16), 1), other)
    np.testing.assert_array_equal(true_affine(faced, (12, 28, 15), affine, (12, 11, 16), 1), faced)


def test_a_result_on_the_wanted_grid_is_not_touched(program):
    """10 slices at 2.5x are 25 voxels exactly: both affines and both grids are the same."""
    arguments = problem(slices=10, voxels=25)
    volume = eclare(*arguments, command=program(), timeout_s=60)
    np.testing.assert_allclose(volume, known(*arguments[3:]), rtol=1e-5)


WRITE = "import sys, pathlib; out = pathlib.Path(sys.argv[sys.argv.index('--out-dir') + 1]); "


@pytest.mark.parametrize(
    "code, options, said",
    [
        ("import sys; sys.exit('no GPU\\nout of memory')", "", r"status 0, got 1 \(out of memory\)"),
        ("import time; time.sleep(60)", "", "within 0.8 s"),
        ("pass", "", "must write one NIfTI image, wrote none"),
        (WRITE + "[(out / f'{k}.nii').touch() for k in 'ab']", "", "wrote a.nii, b.nii"),
        (WRITE + "(out / 'scan_eclare.nii.gz').write_bytes(b'nothing')", "", "scan_eclare.nii.gz: .* must be a NIfTI"),
        (PROGRAM, "--affine away", "must lie over the scan, .* 100%"),
    ],
    ids=["fails", "hangs", "writes nothing", "writes two", "writes no image", "lies elsewhere"],
)
def test_one_line_says_what_the_program_did(code, options, said, program):
    start = time.monotonic()
    with pytest.raises(ExternalError, match=said) as caught:
        eclare(*problem(), command=program(code, options), timeout_s=0.8 if "sleep" in code else 60)
    assert str(caught.value).startswith("eclare: ") and "\n" not in str(caught.value)
    assert time.monotonic() - start < 50


def test_a_hanging_program_takes_its_children_with_it(tmp_path):
    mark = tmp_path / "child"
    with pytest.raises(ExternalError, match="within 2 s"):
        eclare(*problem(), command=f"sh -c 'sleep 50 & echo $! > {mark}; wait'", timeout_s=2)
    state = subprocess.run(["ps", "-o", "stat=", "-p", mark.read_text().strip()], capture_output=True, text=True).stdout
    assert not state.strip() or state.strip().startswith("Z"), state


def test_a_missing_program_is_named():
    with pytest.raises(ExternalError, match=re.escape("'run-eclare-of-no-one' was not found")):
        eclare(*problem(), command="run-eclare-of-no-one --gpu-id 0")


def test_what_cannot_work_is_refused_before_the_program_runs():
    slices, affine, geometry, hr_shape, hr_affine = problem()
    with pytest.raises(SettingsError, match="quotations closed"):
        eclare(slices, affine, geometry, hr_shape, hr_affine, command="run 'eclare")
    with pytest.raises(SettingsError, match="11 along A"):
        eclare(slices[:, 1:], affine, geometry, hr_shape, hr_affine)
    with pytest.raises(SettingsError, match="a shape of three"):
        eclare(slices, affine, geometry, hr_shape[:2], hr_affine)
    coarse = affine.copy()
    coarse[:, 2] *= 2.5
    with pytest.raises(SettingsError, match=r"largest voxel size .* must be A, got 0\.2 x 0\.5 x 0\.5 mm"):
        eclare(slices, coarse, geometry, hr_shape, hr_affine)


HALF = """
import sys, torch

with torch.amp.autocast("cuda"):
    print(torch.nn.Conv2d(1, 1, 3)(torch.ones(1, 1, 4, 4)).dtype, *sys.argv[1:])
"""


def test_a_processor_computes_in_bfloat16_where_the_program_asks_for_half_precision(tmp_path, monkeypatch, capsys):
    (tmp_path / "run-eclare").write_text(HALF)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(sys, "argv", ["eclare_bf16.py", "--n-patches", "8"])
    monkeypatch.setattr(torch.amp, "autocast", torch.amp.autocast)  # and put back afterwards
    load_benchmark("eclare_bf16").main()
    assert capsys.readouterr().out.split() == ["torch.bfloat16", "--n-patches", "8"]
