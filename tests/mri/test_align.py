"""Scans of one object, moved and made thick without any of the module's own code, come back to where they were."""

import subprocess
import sys
from dataclasses import replace
from functools import cache

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.spatial.transform import Rotation

from bida.errors import SettingsError
from bida.mri.align import LEAST_CORRELATION, UNSURE, _correlation, align, aligned, correlation_ratio
from bida.mri.scan_pair import Pair
from bida.mri.scan_pose import columns_of, stepped
from bida.physics.joint import LocatedScan
from bida.physics.rician import add_noise_of_snr
from bida.physics.simulate import simulate_slices

VOXEL, FACTOR = 0.2, 3
SHAPE = (36, 40, 32)
SHIFT, TURN = np.array([0.25, -0.3, 0.2]), np.radians([1.8, -2.0, 2.2])  # 0.44 mm, 3.5 degrees


@cache
def made(seed=0):
    """An object of smooth random texture, 1 +- 0.35 inside and 0 in the air."""
    k = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in SHAPE], indexing="ij"))
    texture = gaussian_filter(np.random.default_rng(seed).standard_normal(SHAPE), 2)
    inside = 1 / (1 + np.exp(40 * (np.sqrt((k**2).sum(axis=0)) - 0.75)))
    return (inside * (1 + 0.35 * texture / texture.std())).clip(0).astype(np.float32)


def pose_of(shift_mm, turn, shape=SHAPE, voxel=VOXEL):
    """A rigid matrix, world of the header to the true world, about the middle of the grid."""
    middle, matrix = (np.array(shape) - 1) / 2 * voxel, np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec(turn).as_matrix()
    matrix[:3, 3] = middle + shift_mm - matrix[:3, :3] @ middle
    return matrix


def moved(volume, matrix, voxel=VOXEL):
    """What a scanner sees that believes itself where the header says, while the matrix tells where it is."""
    k = np.stack(np.meshgrid(*[np.arange(n) for n in volume.shape], indexing="ij")) * voxel
    there = np.tensordot(matrix[:3, :3], k, axes=1) + matrix[:3, 3].reshape(3, 1, 1, 1)
    return map_coordinates(volume, there / voxel, order=5).astype(np.float32)


def scan_of(volume, axis, snr=None, seed=1, voxel=VOXEL, factor=FACTOR):
    y, geometry = simulate_slices(volume, voxel, axis, factor)
    y, noise = (y, 0.0) if snr is None else add_noise_of_snr(y, axis, snr, seed)
    unit = 2 / np.percentile(y, 99)
    return LocatedScan(torch.from_numpy(y * unit - 1), geometry, np.diag([voxel] * 3 + [1.0]), noise * unit)


def errors_of(scan, found, truth):
    """Return how far the scan's middle is off, mm, and how much it is turned, degrees."""
    middle = scan.affine @ np.append((np.array(scan.shape) - 1) / 2, 1)
    off = (found.matrix @ middle - truth @ middle)[:3]
    turn = Rotation.from_matrix(found.matrix[:3, :3] @ truth[:3, :3].T).magnitude()
    return float(np.linalg.norm(off)), float(np.degrees(turn))


TRUE = pose_of(SHIFT, TURN)


@pytest.mark.parametrize("snr", [None, 30])
@pytest.mark.parametrize("axes", [(1, 2), (1, 1)], ids=str)
def test_a_pose_comes_back_within_a_tenth_of_a_voxel(axes, snr):
    scans = [scan_of(made(), axes[0], snr, 1), scan_of(moved(made(), TRUE), axes[1], snr, 2)]
    first, second = align(scans)
    assert first.problem is None and second.problem is None
    np.testing.assert_array_equal(first.matrix, np.eye(4))
    mm, degrees = errors_of(scans[1], second, TRUE)
    assert mm < 0.1 * VOXEL and degrees < 0.2, (mm, degrees)
    assert second.shift_mm == pytest.approx(np.linalg.norm(SHIFT), abs=0.1 * VOXEL)
    assert second.degrees == pytest.approx(np.degrees(np.linalg.norm(TURN)), abs=0.2)
    assert second.correlation > 0.9


def test_the_pose_that_is_found_is_rigid_and_the_same_each_time():
    scans = [scan_of(made(), 1), scan_of(moved(made(), TRUE), 2)]
    once, again = align(scans)[1], align(scans)[1]
    np.testing.assert_array_equal(once.matrix, again.matrix)
    R = once.matrix[:3, :3]
    np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(R) == pytest.approx(1)


def test_a_third_scan_is_compared_with_both():
    other = pose_of(-SHIFT, TURN[::-1])
    scans = [scan_of(made(), 1), scan_of(moved(made(), TRUE), 2), scan_of(moved(made(), other), 0)]
    for scan, found, truth in list(zip(scans, align(scans), [np.eye(4), TRUE, other]))[1:]:
        mm, degrees = errors_of(scan, found, truth)
        assert found.problem is None and mm < 0.1 * VOXEL and degrees < 0.2, (mm, degrees)


@pytest.mark.parametrize("search", [True, False])
def test_intensities_are_brought_to_those_of_the_first(search):
    one, other = scan_of(made(), 1), scan_of(made(), 2)
    changed = replace(other, y=1.25 * other.y - 0.3, noise=0.01)
    unit = 2 / float(np.percentile(simulate_slices(made(), VOXEL, 1, FACTOR)[0], 99))
    own = 2 / float(np.percentile(simulate_slices(made(), VOXEL, 2, FACTOR)[0], 99))
    found = align([one, changed], search=search)[1]
    assert found.problem is None
    assert found.gain == pytest.approx(unit / own / 1.25, rel=0.02)
    matched = aligned(changed, found)
    expected = (other.y + 1) * unit / own - 1
    assert float((matched.y - expected)[expected > -0.5].abs().mean()) < 0.02
    assert matched.noise == pytest.approx(0.01 * found.gain)
    np.testing.assert_array_equal(matched.affine, found.matrix @ changed.affine)


def test_a_smooth_gain_that_bias_correction_left_is_taken_out():
    one, other = scan_of(made(), 1), scan_of(moved(made(), TRUE), 2)
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, n) for n in other.y.shape], indexing="ij")
    uneven = replace(other, y=(other.y + 1) * torch.from_numpy(1 + 0.1 * x - 0.08 * y * z).float() - 1)
    found = align([one, uneven])[1]
    mm, degrees = errors_of(other, found, TRUE)
    assert found.problem is None and mm < 0.1 * VOXEL and degrees < 0.2, (mm, degrees)
    tissue = other.y > -0.5
    off = [
        float(((aligned(uneven, it).y + 1) / (other.y + 1))[tissue].log().std())
        for it in (found, replace(found, field=(1.0,)))
    ]
    assert off[0] < 0.01 and off[1] > 0.03, off


def test_headers_are_believed_where_nothing_is_searched():
    scans = [scan_of(made(), 1), scan_of(moved(made(), TRUE), 2)]
    still = align(scans, search=False)[1]
    np.testing.assert_array_equal(still.matrix, np.eye(4))
    assert still.shift_mm == 0 and still.degrees == 0
    assert still.correlation < align(scans)[1].correlation - 0.1


def test_missing_slices_take_no_part():
    one, other = scan_of(made(), 1), scan_of(moved(made(), TRUE), 2)
    y = other.y.clone()
    y[:, :, [3, 6]] = 5.0
    spoilt = replace(other, y=y, geometry=replace(other.geometry, missing=(3, 6)))
    mm, degrees = errors_of(other, align([one, spoilt])[1], TRUE)
    assert mm < 0.1 * VOXEL and degrees < 0.2, (mm, degrees)


@pytest.mark.slow
def test_another_animal_is_refused_and_left_out():
    strange = scan_of(moved(made(5), TRUE), 2)
    scans = [scan_of(made(), 1), strange, scan_of(moved(made(), TRUE), 2)]
    _, refused, kept = align(scans)
    assert "does not show the same" in refused.problem and refused.correlation < 0.7
    assert kept.problem is None
    np.testing.assert_array_equal(kept.matrix, align([scans[0], scans[2]])[1].matrix)


def test_another_contrast_is_refused_as_such():
    volume = made()
    inside = np.clip(volume / 0.2, 0, 1)
    inverted = inside * (2.2 - volume).clip(0.1)
    for search in (True, False):
        found = align([scan_of(volume, 1), scan_of(inverted, 2)], search=search)[1]
        assert "another contrast" in found.problem, found


def test_headers_far_off_are_refused_for_it():
    far = np.diag([VOXEL] * 3 + [1.0])
    far[:3, 3] = 50.0
    scans = [scan_of(made(), 1), replace(scan_of(made(), 2), affine=far)]
    believed, found = (align(scans, search=search)[1] for search in (False, True))
    assert "check the positions in" in believed.problem and "see 0%" in believed.problem
    assert "moved by 86.6 mm" in found.problem and "check the positions in" in found.problem
    assert found.shift_mm == pytest.approx(50 * np.sqrt(3), abs=0.1 * VOXEL) and found.correlation > 0.9


def test_more_motion_than_within_a_session_is_refused():
    turned = pose_of(np.zeros(3), np.radians([0, 0, 17.0]))
    found = align([scan_of(made(), 1), scan_of(moved(made(), turned), 2)])[1]
    assert "within a session" in found.problem, found


def test_scans_turned_too_far_in_their_headers_are_refused():
    scan = scan_of(made(), 2)
    tilted = replace(scan, affine=pose_of(np.zeros(3), np.radians([40.0, 0, 0])) @ scan.affine)
    found = align([scan_of(made(), 1), tilted], search=False)[1]
    assert "must be at most 30 degrees" in found.problem


def test_no_scan_is_an_error():
    with pytest.raises(SettingsError, match="at least one"):
        align([])


def test_derivatives_are_those_of_small_steps():
    smooth = gaussian_filter(made(), 1.5)
    pair = Pair(scan_of(smooth, 1), scan_of(smooth, 2))
    start = pair.at(TRUE)
    columns, _ = columns_of(pair, start)
    for place, size in enumerate([0.05] * 3 + [0.002] * 3):
        ends = [
            pair.at(stepped(TRUE, pair.scan, sign * size * np.eye(6)[place])).p[start.tissue] for sign in (-0.5, 0.5)
        ]
        expected = ((ends[1] - ends[0]) / size).numpy()
        # central differences of a volume that is smooth over about 2 voxels are some per cent low
        assert np.linalg.norm(columns[place] - expected) < 0.15 * np.linalg.norm(expected), place


def test_the_correlation_ratio_knows_functions_from_chance():
    p = np.random.default_rng(3).standard_normal(20000)
    assert correlation_ratio(p, p**2) > 0.85 and abs(np.corrcoef(p, p**2)[0, 1]) < 0.1
    assert correlation_ratio(p, p[::-1].copy()) < 0.01


@pytest.mark.slow
def test_simpleitk_is_imported_only_to_search():
    code = "import sys, bida.mri.align; raise SystemExit('SimpleITK' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("snr", [None, 10])
def test_a_mouse_comes_back_and_another_one_is_refused(snr, shared_data):
    def load(name):
        image = nib.as_closest_canonical(nib.load(shared_data / f"mouse-rtg4510/{name}/anat/{name}_T2w.nii.gz"))
        return np.asarray(image.dataobj, dtype=np.float32)[16:96, 12:116, 8:72]

    truth = pose_of(SHIFT, TURN, (80, 104, 64), 0.15)
    known = scan_of(load("sub-15"), 1, snr, 1, 0.15, 5)
    same, other = (scan_of(moved(load(name), truth, 0.15), 2, snr, 2, 0.15, 5) for name in ("sub-15", "sub-17"))
    _, found, refused = align([known, same, other])
    mm, degrees = errors_of(same, found, truth)
    assert found.problem is None and mm < 0.015 and degrees < 0.2, (mm, degrees)
    assert "does not show the same" in refused.problem


def test_noise_asks_for_less_likeness():
    """A smooth volume in noisy slices: the estimate of what noise leaves of its likeness is worth little."""
    quiet, noisy = (_correlation_of(snr) for snr in (100.0, 2.0))
    assert quiet[1] == pytest.approx(LEAST_CORRELATION, abs=0.03)
    assert LEAST_CORRELATION - UNSURE <= noisy[1] < quiet[1] - 0.1


def _correlation_of(snr):
    scans = [scan_of(made(), axis, snr=snr) for axis in (1, 2)]
    pairs = [Pair(*scans)]
    compared = [pairs[0].at(np.eye(4))]
    return _correlation(pairs, compared, [pairs[0].noise_at(compared[0])])
