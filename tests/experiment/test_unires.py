"""The adapter of UniRes, with a package that stands for it."""

import sys

import numpy as np
import pytest

from bida.errors import ExternalError, SettingsError
from bida.experiment.baselines.unires import unires
from bida.physics.simulate import simulate_slices

TORCH = """
class cuda:
    def is_available(): return False


def device(name): return name
"""
SETTINGS = """
class settings:
    device = dir_out = None
    vx, reg_scl, prefix = 1.0, 10.0, "ur_"
"""
# Like the real program: one channel of repeats; its grid counts voxels from one, files from zero, and what is found
# before the second slice of a single scan is zero. Its voxels hold a known function of where they are, in millimetres
# of a tenth; it refuses what would make it blur in plane, and tells of what it was given.
RUN = """
import os, sys
import nibabel as nib, numpy as np


def preproc(data, sett):
    (scans,) = data
    images = [nib.load(path) for path in scans]
    sizes = [np.linalg.norm(image.affine[:3, :3], axis=0) for image in images]
    ratios = [np.ceil(size / sett.vx) for size in sizes]
    for size, ratio in zip(sizes, ratios):
        if sorted(ratio)[:2] != [1.0, 1.0]:
            sys.exit("a voxel size was rounded up in plane")
    print([str(sett.device), sett.vx, sett.reg_scl], file=sys.stderr)
    turn = images[0].affine[:3, :3] / sizes[0]
    to_voxel = np.linalg.inv(turn * sett.vx)
    corners = []
    for image in images:
        m = np.array(image.shape)
        index = np.array([[i, j, k] for i in (1, m[0]) for j in (1, m[1]) for k in (1, m[2])])
        corners.append(to_voxel @ (image.affine[:3, :3] @ index.T + image.affine[:3, 3:]))
    low = np.floor(np.min([c.min(axis=1) for c in corners], axis=0))
    high = np.ceil(np.max([c.max(axis=1) for c in corners], axis=0))
    affine = np.eye(4)
    affine[:3, :3] = turn * sett.vx
    affine[:3, 3] = affine[:3, :3] @ (low - 1)
    shape = (high - low + 1).astype(int)
    index = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"))
    place = np.tensordot(affine[:3, :3], index, axes=1) + affine[:3, 3].reshape(3, 1, 1, 1)
    x, y, z = place / 10
    values = 100 + 30 * np.sin(1.9 * x + 0.4 * y) + 20 * np.cos(0.9 * y - 1.8 * z)
    if len(images) == 1:
        inner = np.linalg.inv(images[0].affine)
        own = np.tensordot(inner[:3, :3], place, axes=1) + inner[:3, 3].reshape(3, 1, 1, 1)
        for k, n in enumerate(images[0].shape):
            values[(own[k] < 1) | (own[k] > n)] = 0
    name = sett.prefix + os.path.basename(scans[0])
    nib.save(nib.Nifti1Image(values.astype(np.float32), affine), os.path.join(sett.dir_out, name))
    with open(os.environ["TOLD"], "w") as file:
        file.write(repr((sett.vx, sett.reg_scl, len(scans))))
"""


def known(shape, affine):
    index = np.stack(np.meshgrid(*[np.arange(size) for size in shape], indexing="ij"))
    x, y, z = np.tensordot(affine[:3, :3], index, axes=1) + affine[:3, 3].reshape(3, 1, 1, 1)
    return 100 + 30 * np.sin(1.9 * x + 0.4 * y) + 20 * np.cos(0.9 * y - 1.8 * z)


@pytest.fixture
def command(tmp_path):
    """Return a function that writes a package and returns the command of a Python that has it."""

    def write(run=RUN):
        folder = tmp_path / "package" / "unires"
        folder.mkdir(parents=True)
        (folder / "__init__.py").touch()
        (folder / "struct.py").write_text(SETTINGS)
        (folder / "run.py").write_text(run)
        (folder.parent / "torch.py").write_text(TORCH)
        return f"env PYTHONPATH={folder.parent} TOLD={tmp_path / 'told'} {sys.executable}"

    return write


def problem(axes, factor=5.0, tilt=0.2, shape=(24, 30, 26)):
    """Return what `unires` is called with: scans of a known function across some axes."""
    voxel = float(np.float32(0.1))
    turn = np.array([[np.cos(tilt), -np.sin(tilt), 0], [np.sin(tilt), np.cos(tilt), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn * voxel, (-3.1, 2.3, 0.7)
    truth = known(shape, affine).astype(np.float32)
    scans, places = [], []
    for axis in axes:
        slices, _ = simulate_slices(truth, voxel, axis, factor)
        at = affine.copy()
        at[:3, axis] *= factor
        at[:3, 3] = (affine @ [*(np.array(shape) - 1) / 2, 1] - at @ [*(np.array(slices.shape) - 1) / 2, 0])[:3]
        scans.append(slices)
        places.append(at)
    return scans, places, shape, affine


@pytest.mark.parametrize("axes, factor", [([1], 5.0), ([0], 2.5), ([2, 2], 4.0), ([1, 2], 5.0), ([0, 1, 2], 5.0)])
def test_every_voxel_is_where_the_program_left_it(axes, factor, command, tmp_path):
    given = problem(axes, factor)
    volume = unires(*given, command=command(), strength=0.5, timeout_s=60)
    truth = known(*given[2:])
    assert volume.shape == truth.shape and volume.dtype == np.float32
    steps = max(np.abs(np.diff(truth, axis=axis)).max() for axis in range(3))  # of a voxel
    wrong = np.abs(volume - truth)
    print(f"largest error {wrong.max():.3f}, a voxel is up to {steps:.3f}")
    assert wrong.max() < 0.05 * steps, "all of the field of view, up to its faces"
    vx, strength, number = eval((tmp_path / "told").read_text())
    assert 1.0 < vx < 1.001 and (strength, number) == (0.5, len(axes))


def test_a_python_without_the_program_is_named():
    with pytest.raises(ExternalError, match=r"status 0, got 1 \(UniRes must be installed in this Python"):
        unires(*problem([1]), command=f"{sys.executable} -I -S", timeout_s=60)


def test_what_cannot_work_is_refused_before_the_program_runs():
    scans, places, shape, affine = problem([1])
    with pytest.raises(SettingsError, match="quotations closed"):
        unires(scans, places, shape, affine, command="env 'python")
    for some, affines, counts in ((scans, [], "1, 0"), ([], [], "0, 0")):
        with pytest.raises(SettingsError, match=f"a scan at least and the affine of each, got {counts}"):
            unires(some, affines, shape, affine)


def test_a_program_that_leaves_nothing_is_one_line(command):
    with pytest.raises(ExternalError, match="unires: the program must write one NIfTI image, wrote none"):
        unires(*problem([1]), command=command("def preproc(data, sett): pass"), timeout_s=60)
