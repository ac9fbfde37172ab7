"""The command `bida simulate`: the noise that it adds, and what it says and records of it."""

import json

import nibabel as nib
import numpy as np
import pytest
from conftest import smooth_phantom, world

from bida.cli.parser import main
from bida.cli.simulate import paths_of
from bida.errors import SettingsError
from bida.mri.simulate import simulate_file, simulate_set


def ball(shape, affine):
    grid = np.meshgrid(*[np.linspace(-1, 1, size) for size in shape], indexing="ij")
    return np.where(sum(g**2 for g in grid) < 0.6, 1000.0, 0.0)


@pytest.fixture
def truth(make_scan):
    return str(make_scan((40, 42, 44), (0.15, 0.15, 0.15), codes="LPS", values=ball, name="truth.nii.gz"))


def simulated(truth, path, *options):
    assert main(["simulate", truth, str(path), "--factor", "2", *options]) == 0
    record = json.loads(path.with_name(path.name.replace(".nii.gz", ".json")).read_text())
    return nib.load(path).get_fdata(), record


def test_snr_adds_the_noise_of_a_scanner_and_says_its_level(truth, tmp_path, capsys):
    clean, without = simulated(truth, tmp_path / "clean.nii.gz")
    assert without["noise"] == 0 and without["noise_kind"] is None and without["snr"] is None
    assert "Rician" not in capsys.readouterr().out
    noisy, record = simulated(truth, tmp_path / "noisy.nii.gz", "--snr", "20", "--seed", "4")
    assert record["snr"] == 20 and record["noise_kind"] == "rician" and record["seed"] == 4
    said = capsys.readouterr().out
    assert f"Rician noise, standard deviation {record['noise']:.4g} in intensity units: SNR 20 in tissue" in said
    inside, air = clean > 999, clean == 0
    assert clean[inside].mean() / record["noise"] == pytest.approx(20, rel=0.05)  # tissue has a border, too
    assert (noisy - clean)[inside].std() == pytest.approx(record["noise"], rel=0.05)
    assert noisy[air].mean() == pytest.approx(record["noise"] * np.sqrt(np.pi / 2), rel=0.05)  # Rayleigh's
    again, _ = simulated(truth, tmp_path / "again.nii.gz", "--snr", "20", "--seed", "4")
    np.testing.assert_array_equal(again, noisy)


def test_noise_stays_gaussian(truth, tmp_path):
    clean, _ = simulated(truth, tmp_path / "clean.nii.gz")
    noisy, record = simulated(truth, tmp_path / "noisy.nii.gz", "--noise", "30")
    assert record["noise"] == 30 and record["noise_kind"] == "gaussian" and record["snr"] is None
    assert (noisy - clean)[clean == 0].mean() == pytest.approx(0, abs=1) and noisy.min() < -60


def test_snr_excludes_noise(truth, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["simulate", truth, str(tmp_path / "out.nii.gz"), "--factor", "2", "--snr", "20", "--noise", "3"])
    assert "--noise: not allowed with argument --snr" in capsys.readouterr().err


@pytest.mark.parametrize("snr", ["0", "-5", "nan"])
def test_an_snr_that_cannot_be_is_one_line(truth, tmp_path, capsys, snr):
    assert main(["simulate", truth, str(tmp_path / "out.nii.gz"), "--factor", "2", "--snr", snr]) == 2
    assert capsys.readouterr().err.startswith("bida: error: snr must be > 0 (mean in tissue over sigma of one slice)")
    assert not (tmp_path / "out.nii.gz").exists()


@pytest.mark.parametrize(
    "output, axes, names",
    [
        ("sub-01_T2w.nii.gz", "S", ["sub-01_T2w.nii.gz"]),
        ("lr.nii", "AS", ["lr_acq-cor.nii", "lr_acq-ax.nii"]),
        ("lr.nii.gz", "RAA", ["lr_acq-sag.nii.gz", "lr_acq-cor_run-1.nii.gz", "lr_acq-cor_run-2.nii.gz"]),
        ("sub-01_T2w.nii.gz", "AS", ["sub-01_acq-cor_T2w.nii.gz", "sub-01_acq-ax_T2w.nii.gz"]),
        ("sub-1_ses-2_ce-Gd_T2w.nii", "AA", [f"sub-1_ses-2_acq-cor_ce-Gd_run-{i}_T2w.nii" for i in (1, 2)]),
        ("sub-1_acq-RARE_run-3_T2w.nii", "AS", [f"sub-1_acq-RARE{one}_run-3_T2w.nii" for one in ("cor", "ax")]),
        ("sub-01_desc-x.nii", "AS", ["sub-01_desc-x_acq-cor.nii", "sub-01_desc-x_acq-ax.nii"]),
    ],
)
def test_each_scan_of_a_set_has_a_name_of_its_own(output, axes, names):
    assert [path.name for path in paths_of(f"out/{output}", list(axes))] == names


def test_a_run_of_its_own_leaves_no_place_for_numbers():
    with pytest.raises(SettingsError, match="must not name a run where an axis is given twice"):
        paths_of("sub-01_run-1_T2w.nii.gz", ["A", "A"])


def test_a_set_is_a_scan_an_axis_and_its_first_is_that_of_one_axis(truth, tmp_path, capsys):
    alone, record = simulated(truth, tmp_path / "one.nii.gz", "--snr", "20", "--seed", "4", "--axis", "S")
    path = str(tmp_path / "set.nii.gz")
    options = ["--factor", "2", "--snr", "20", "--seed", "4", "--axis", "S", "A", "S"]
    assert main(["simulate", truth, path, *options]) == 0
    assert not (tmp_path / "set.nii.gz").exists() and "motion" not in record
    names = ("acq-ax_run-1", "acq-cor", "acq-ax_run-2")
    volumes = [nib.load(tmp_path / f"set_{name}.nii.gz").get_fdata() for name in names]
    records = [json.loads((tmp_path / f"set_{name}.json").read_text()) for name in names]
    assert [one["slice_geometry"]["axis"] for one in records] == [2, 1, 2]
    assert len({one["seed"] for one in records}) == 3
    np.testing.assert_array_equal(volumes[0], alone)
    bright = alone > 900
    first, second = (volume[bright] - volume[bright].mean() for volume in (volumes[0], volumes[2]))
    assert not np.array_equal(volumes[0], volumes[2])
    assert np.std(first - second) == pytest.approx(np.sqrt(2) * records[0]["noise"], rel=0.1), "noise of its own"
    assert capsys.readouterr().out.count("Rician noise") == 4


def test_a_scan_that_moved_shows_what_the_truth_has_at_the_true_matrix(make_scan, tmp_path):
    source = make_scan((36, 38, 34), (0.2, 0.2, 0.2), tilt_deg=7, name="truth.nii.gz")
    outputs = [tmp_path / "a.nii.gz", tmp_path / "b.nii.gz"]
    first, second = simulate_set(source, outputs, 1.0, ["A", "S"], profile="box", move=(0.5, 4.0), seed=3)
    assert first.motion is None and "motion" not in json.loads((tmp_path / "a.json").read_text())
    record = json.loads((tmp_path / "b.json").read_text())
    motion = np.array(record["motion"])
    np.testing.assert_array_equal(motion, second.motion)
    image, still = nib.load(outputs[1]), nib.load(source)
    np.testing.assert_allclose(image.affine, still.affine, atol=1e-5)  # the header says nothing of it
    places = world(image.shape, image.affine)
    there = np.tensordot(motion[:3, :3], places, axes=1) + motion[:3, 3].reshape(3, 1, 1, 1)
    inside = (slice(6, -6),) * 3
    apart = np.linalg.norm(there - places, axis=0)[inside]
    assert 0.05 < apart.max() < 0.5 + np.radians(4) * 36 * 0.2 * np.sqrt(3) / 2
    x, y, z = there
    wanted = 100 + 30 * np.sin(0.9 * x + 0.4 * y) + 20 * np.cos(0.5 * y - 0.8 * z) + 5 * x - 3 * y + 4 * z
    unmoved = smooth_phantom(image.shape, image.affine)
    found = image.get_fdata()
    assert np.abs(found - wanted)[inside].max() < 0.02 * np.abs(unmoved - wanted)[inside].max()
    rotation = motion[:3, :3]
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    assert 0 < np.degrees(np.arccos((np.trace(rotation) - 1) / 2)) <= 4
    middle = still.affine @ [*(np.array(still.shape) - 1) / 2, 1]
    assert 0 < np.linalg.norm((motion @ middle - middle)[:3]) <= 0.5


def test_slices_at_the_ends_show_what_moved_into_them():
    from bida.physics.geometry import SliceGeometry
    from bida.physics.operators import SliceOperator
    from bida.physics.simulate import margin_of, moved, simulate_slices

    z = np.arange(40)
    whole = np.broadcast_to(np.sin(0.5 * z) + 0.1 * z, (6, 6, 40)).astype(np.float32)
    motion = np.eye(4)
    motion[2, 3] = 3.0  # whole voxels
    centre = np.eye(4)
    margin = margin_of(22, 5)
    assert margin == 7  # five slices reach over 22 voxels by one and a half, and see a little more
    shown = moved(whole, centre, motion, 2, -9 + margin)  # of a grid of 22 voxels in the middle of 40
    np.testing.assert_allclose(shown[0, 0, :35], whole[0, 0, 5:], atol=1e-3)
    slices, geometry = simulate_slices(shown, 0.2, 2, 5, profile="box", margin=margin)
    assert (geometry.voxels, geometry.slices) == (22, 5)
    operator = SliceOperator.build(SliceGeometry(2, 5, 1.0, 1.0, 40, 0.2, "box"))
    np.testing.assert_allclose(slices[0, 0], operator.matrix @ np.roll(whole[0, 0], -3), atol=1e-3)


def test_motions_fill_the_range_and_follow_the_seed(make_scan, tmp_path):
    from bida.physics.simulate import random_motion

    centre = np.array([1.0, -2.0, 3.0])
    motions = np.stack([random_motion(0.5, 4.0, centre, seed) for seed in range(300)])
    shifts = np.linalg.norm(motions[:, :3, :3] @ centre + motions[:, :3, 3] - centre, axis=1)
    turns = np.degrees(np.arccos((np.trace(motions[:, :3, :3], axis1=1, axis2=2) - 1) / 2))
    for sizes, largest in ((shifts, 0.5), (turns, 4.0)):
        assert sizes.max() <= largest and np.mean(sizes) == pytest.approx(largest / 2, rel=0.1)
    assert np.abs((motions[:, :3, :3] @ centre + motions[:, :3, 3] - centre).mean(axis=0)).max() < 0.05
    np.testing.assert_array_equal(motions[7], random_motion(0.5, 4.0, centre, 7))


@pytest.mark.parametrize(
    "options, said",
    [
        (["--axis", "A", "--move", "0.5", "4"], "--move: must come with several axes, got A alone"),
        (["--axis", "A", "S", "--move", "-1", "4"], "move must be a shift >= 0 mm, got -1"),
        (["--axis", "A", "S", "--move", "1", "400"], "move must turn by 0 to 180 degrees, got 400"),
    ],
)
def test_a_motion_that_cannot_be_is_one_line(truth, tmp_path, capsys, options, said):
    assert main(["simulate", truth, str(tmp_path / "out.nii.gz"), "--factor", "2", *options]) == 2
    assert capsys.readouterr().err.startswith(f"bida: error: {said}")
    assert not list(tmp_path.glob("out*"))


def test_files_after_the_axes_are_told_where_they_belong(truth, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["simulate", "--factor", "2", "--axis", "A", truth, str(tmp_path / "out.nii.gz")])
    assert "truth.nii.gz'; give the files before this option" in capsys.readouterr().err


def test_no_scan_of_a_set_is_replaced_unasked(truth, tmp_path, capsys):
    (tmp_path / "out_acq-ax.nii.gz").write_bytes(b"mine")
    assert main(["simulate", truth, str(tmp_path / "out.nii.gz"), "--factor", "2", "--axis", "A", "S"]) == 2
    assert "out_acq-ax.nii.gz" in capsys.readouterr().err and not (tmp_path / "out_acq-cor.nii.gz").exists()


def test_a_set_needs_as_many_files_as_axes(truth, tmp_path):
    with pytest.raises(SettingsError, match="as many as axes"):
        simulate_set(truth, [tmp_path / "a.nii.gz"], 2.0, ["A", "S"])
    assert simulate_file(truth, tmp_path / "a.nii.gz", 2.0).motion is None
