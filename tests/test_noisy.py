"""What the benchmark of noisy scans puts into volumes, reads from them, and says of its rows."""

from __future__ import annotations

import itertools

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from conftest import load_benchmark
from scipy.ndimage import distance_transform_edt

from bida.io.scan import read_scan
from bida.physics.plan import plan_scan
from bida.physics.rician import tissue
from bida.physics.simulate import simulate_slices


@pytest.fixture(scope="module")
def scans():
    return load_benchmark("noisy_scans")


@pytest.fixture(scope="module")
def tables():
    return load_benchmark("noisy_tables")


@pytest.fixture
def truth(scans, tmp_path):
    """A textured ball on black, of which 71 voxels along A are no whole number of slices of 2.5 or 5 voxels."""
    shape = (72, 71, 64)
    r, a, s = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    ball = (r**2 + a**2 + s**2 < 0.9).astype(np.float32)
    data = ball * (100 + 20 * np.sin(5 * r) * np.cos(7 * a) + 5 * np.random.default_rng(0).standard_normal(shape))
    nib.save(nib.Nifti1Image(data.astype(np.float32), np.diag([-0.15, 0.15, 0.15, 1])), tmp_path / "ball.nii.gz")
    return scans.read_truth(tmp_path / "ball.nii.gz", 1, tmp_path)


def test_lesions_lie_deep_and_apart(scans, truth):
    placed = scans.place_lesions(truth.inside, seed=3)
    assert sorted((one.radius, one.sign) for one in placed) == sorted(itertools.product(scans.RADII, (1, -1)))
    depth = distance_transform_edt(truth.inside)
    for one in placed:
        reach = one.share(truth.data.shape) > 0
        assert truth.inside[reach].all()
        # a centre is up to sqrt(3) / 2 off its voxel's
        assert depth[tuple(np.rint(one.centre).astype(int))] >= one.radius + scans.MARGIN
    for one, other in itertools.combinations(placed, 2):
        between = np.linalg.norm(np.subtract(one.centre, other.centre)) - one.radius - other.radius
        assert between >= scans.APART - np.sqrt(3) / 2 - 1e-6
    assert scans.place_lesions(truth.inside, seed=3) == placed
    assert scans.place_lesions(truth.inside, seed=4) != placed


def test_lesion_has_the_volume_of_its_radius(scans):
    share = scans.Lesion((20.3, 19.8, 21.1), 4.5, 1).share((40, 40, 40))
    # 4 pi times the integral of r^2 under an edge that falls linearly from radius - 1/2 to radius + 1/2
    assert share.sum() == pytest.approx(4 / 3 * np.pi * 4.5**3 + np.pi * 4.5 / 3, rel=5e-3)


def test_recovered_is_the_share_that_is_given_back(scans, truth):
    placed = scans.place_lesions(truth.inside, seed=0)
    changed = scans.with_lesions(truth, placed, 0.35)
    change = changed - truth.data
    mean = truth.data[truth.inside].mean()
    for one in placed:
        part = one.sign * one.share(truth.data.shape)
        assert change[part != 0] == pytest.approx(0.35 * mean * part[part != 0], abs=1e-3)
        assert scans.recovered(change, change, one) == pytest.approx(1)
        assert scans.recovered(0.4 * change, change, one) == pytest.approx(0.4)
        assert scans.recovered(-change, change, one) == pytest.approx(-1)
    far = scans.far_from(placed, truth.inside)
    assert far.any() and not change[far].any() and truth.inside[far].all()


def test_dark_lesions_stop_at_zero(scans, truth):
    deepest = scans.Lesion((36.0, 35.0, 32.0), 3.0, -1)
    changed = scans.with_lesions(truth, [deepest], 5.0)
    assert changed.min() == 0 and np.all(changed[deepest.share(changed.shape) == 1] == 0)


@pytest.mark.parametrize("factor", [2.5, 5.0])
def test_detail_tells_what_is_finer_than_slices(scans, truth, factor):
    n = truth.data.shape[1]
    waves = np.cos(np.pi * np.outer(np.arange(n), np.arange(n) + 0.5) / n)  # row k has k / (2 n) cycles a voxel
    coarse, fine = waves[int(n / factor)], waves[int(n / factor) + 1]
    x = np.broadcast_to((coarse + fine)[None, :, None], (8, n, 8))
    low = np.broadcast_to(coarse[None, :, None], x.shape)
    bars = np.broadcast_to(waves[-3][None, :, None], x.shape)
    assert scans.detail(x, x, 1, factor) == pytest.approx(1)
    assert scans.detail(low, x, 1, factor) == pytest.approx(0, abs=1e-9)
    assert scans.detail(low + 0.3 * (x - low), x, 1, factor) == pytest.approx(0.3)
    assert scans.detail(low + 7 * bars, x, 1, factor) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("factor", [2.5, 5.0])
def test_slices_are_read_as_they_were_made(scans, truth, factor, tmp_path):
    sigma = scans.noise_of(truth, factor, 10.0)
    thick = scans.thick_scan(truth, truth.data, factor, sigma, tmp_path / "thick.nii.gz")
    scan = read_scan(thick.path)
    plan = plan_scan(scan.data.shape, scan.affine, like=nib.load(truth.path), sidecar=scan.sidecar)
    assert plan.thickness_from == "sidecar"
    for name, value in vars(thick.geometry).items():
        assert getattr(plan.geometry, name) == (pytest.approx(value, abs=1e-6) if isinstance(value, float) else value)
    # the noise: SNR in tissue, in every slice by itself
    clean, _ = simulate_slices(truth.data, 0.15, 1, factor)
    inside = tissue(clean, 1)
    assert sigma == pytest.approx(clean[inside].mean() / 10)
    noise = (thick.data - clean)[:, 3:-3]
    each = [part[where].std() for part, where in zip(np.moveaxis(noise, 1, 0), np.moveaxis(inside[:, 3:-3], 1, 0))]
    assert np.mean(each) == pytest.approx(sigma, rel=0.03)  # a magnitude's is 0.3% below; some 2,000 voxels a slice
    assert scans.noise_of(truth, factor, np.inf) == 0


def test_crop_keeps_where_voxels_lie(scans, truth, tmp_path):
    part = scans.read_truth(truth.path, 1, tmp_path, crop=40)
    assert part.data.shape == (40, 40, 40)
    at = np.linalg.inv(truth.affine) @ part.affine @ [0, 0, 0, 1]
    start = np.rint(at[:3]).astype(int)
    assert at[:3] == pytest.approx(start, abs=1e-4)
    assert np.array_equal(part.data, truth.data[tuple(slice(a, a + 40) for a in start)])


def gain_row(volume, snr, method, gain, bricks=1.5, **more):
    key = {"volume": volume, "factor": 5.0, "snr": snr, "method": method}
    rest = {"psnr": 20.0, "detail": 0.2, "cpu_s": 30.0, "dtype": "float32", "found_snr": 9.0, "over_added": 0.9}
    return {**key, **rest, "gain": gain, "bricks": bricks, "promised": np.nan, **more}


def test_rows_go_on_from_their_file(tables, tmp_path, capsys):
    path = tmp_path / "gain.csv"
    first = tables.Rows(tables.GAIN, path)
    first.add(gain_row("mouse", "10", "bida", 1.25), gain_row("mouse", "20", "cubic", 0.0, cpu_s=np.nan, dtype=np.nan))
    key = {"volume": "mouse", "factor": 5, "snr": "10", "method": "bida"}
    again = tables.Rows(tables.GAIN, path)
    assert again.has(**key) and not again.has(**{**key, "snr": "clean"}) and not again.has(**{**key, "factor": 2.5})
    again.add(gain_row("rat", "10", "bida", 0.5))
    assert list(tables.Rows(tables.GAIN, path).frame()["gain"]) == [1.25, 0.0, 0.5]
    assert capsys.readouterr().out.count("| mouse | 5 | 20 | cubic | 20.00 | +0.00 | 1.50 | 0.200 |  |  |") == 3
    with pytest.raises(SystemExit, match="columns must be"):
        tables.Rows(tables.LESIONS, path)


def test_comparisons_are_of_one_volume_with_itself(tables):
    rows = [
        gain_row("mouse", "clean", "bida", 2.0, 1.3, promised=2.5),
        gain_row("mouse", "10", "bida", 1.8, 1.4),
        gain_row("mouse", "10", "before, 1 step", 1.0, 1.9),
        gain_row("rat", "10", "bida", 0.5, 1.2),  # alone: in no ratio to a clean one, nor a difference from before
        gain_row("head", "10", "bida", 0.8, 1.5, cpu_s=20.0),
        gain_row("head", "10", "before", 0.1, 2.0, cpu_s=80.0),
        gain_row("head", "10", "before, 1 step", 0.4, 2.0),
        gain_row("head", "clean", "bida", 1.0, 1.4, promised=0.9),
    ]
    said = {line.split(" | ")[0].strip("| "): line for line in tables.gain_lines(pd.DataFrame(rows))}
    wanted = {
        "gain at SNR 10 over clean": "0.85 ± 0.07 | 0.80 (head) | 0.90 (mouse)",
        "gain less that of before, 1 step, 10, dB": "0.60 ± 0.28 | 0.40 (head) | 0.80 (mouse)",
        "brick index less that of before, 10": "-0.50 | -0.50 (head) | -0.50 (head)",
        "promised less gained, clean, dB": "0.20 ± 0.42 | -0.10 (head) | 0.50 (mouse)",
        "CPU seconds over those of before, 10": "0.25 | 0.25 (head) | 0.25 (head)",
    }
    for name, numbers in wanted.items():
        assert said[name] == f"| {name} | {numbers} |"
    assert said["brick index at SNR 10 less clean"].startswith("| brick index at SNR 10 less clean | 0.10 ± 0.00 |")
    assert "gain less that of selfsr, 10, dB" not in said
