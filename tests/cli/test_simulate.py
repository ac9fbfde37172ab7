"""The command `bida simulate`: the noise that it adds, and what it says and records of it."""

import json

import nibabel as nib
import numpy as np
import pytest

from bida.cli.parser import main


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
