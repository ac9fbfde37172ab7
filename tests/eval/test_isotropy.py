import json

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from bida.cli.parser import main
from bida.errors import SettingsError
from bida.eval.slices.isotropy import isotropy, white_noise
from bida.microscopy.stacks.stack import Stack, write_stack


def field(shape=(64, 72, 80), sigma=1.0, seed=0):
    """Noise that is white within a Gaussian: power falls as exp(-(2 pi f sigma)^2)."""
    return gaussian_filter(np.random.default_rng(seed).standard_normal(shape), sigma, mode="wrap")


def test_an_isotropic_field_is_isotropic():
    found = isotropy(field(), (1, 1, 1))
    assert found.isotropic and abs(found.largest_db) < 0.5 and found.nyquist == 0.5
    assert [octave.high for octave in found.octaves] == [0.5, 0.25, 0.125, 0.0625]


def test_a_blur_along_z_costs_what_theory_says():
    """The power of lines along k is exp(-(2 pi f s_k)^2) s_k on one scale: all axes hold the same variance."""
    found = isotropy(field((96, 96, 96), (1.2, 0.6, 0.6)), (1, 1, 1))
    for octave in found.octaves[1:3]:  # in the finest one the window's leak outdoes what the blur left
        f = np.linspace(octave.low, octave.high, 200)
        means = [sigma * np.exp(-((2 * np.pi * f * sigma) ** 2)).mean() for sigma in (1.2, 0.6)]
        assert octave.z_minus_xy_db == pytest.approx(10 * np.log10(means[0] / means[1]), abs=0.4)
    assert not found.isotropic and found.largest_db < 0


def test_frequency_is_physical_and_density_is_per_um():
    """Every second plane of an isotropic field, z twice as coarse: alike where both axes see, but for aliasing."""
    found = isotropy(field((128, 72, 80), 1.5)[::2], (2, 1, 1))
    assert found.nyquist == 0.25 and max(octave.high for octave in found.octaves) == 0.25
    assert all(abs(octave.z_minus_xy_db) < 1 for octave in found.octaves[1:])
    wrong = isotropy(field((128, 72, 80), 1.5)[::2], (1, 1, 1))
    assert abs(wrong.largest_db) > 3


@pytest.mark.parametrize("sizes", [(1, 1, 1), (0.65, 0.65, 0.65), (40, 40, 40)])
def test_a_gain_along_z_shows_in_db(sizes):
    """White noise added to z lines alone: the same plane at every z, and noise that is one number a plane."""
    rng = np.random.default_rng(1)
    base = rng.standard_normal((64, 64, 64))
    flicker = rng.standard_normal((64, 1, 1)) * 3  # power along z: 1 + 9; along x and y unchanged, trend taken out
    found = isotropy(base + flicker, sizes)
    # noise of variance 1 would be taken off all axes: 9 against the 5% that count as left
    assert found.noise == pytest.approx(1, rel=0.1)
    assert not found.isotropic and found.largest_db > 10


def test_white_noise_is_told_and_taken_off():
    """Noise hides a blur of z at high frequency; without it the difference is back."""
    anatomy = 20 * field((96, 96, 96), (2.4, 1.2, 1.2))
    noisy = anatomy + np.random.default_rng(2).standard_normal(anatomy.shape)
    found, clean = isotropy(noisy, (1, 1, 1)), isotropy(anatomy, (1, 1, 1))
    assert found.noise == pytest.approx(1, rel=0.05)
    assert clean.octaves[2].z_minus_xy_db < -1
    assert found.octaves[2].z_minus_xy_db == pytest.approx(clean.octaves[2].z_minus_xy_db, abs=0.3)


def test_a_spectrum_that_falls_to_its_end_tells_no_noise():
    f = np.linspace(0, 1, 101)
    steep, flat = np.exp(-12 * f), np.full(101, 0.5)
    assert white_noise([(f, steep), (f, flat), (f, flat)]) is None  # the lowest level counts
    assert white_noise([(f, flat), (f, flat + 1), (f, flat + 2)]) == pytest.approx(0.5)
    assert white_noise([(f, 0 * f)] * 3) is None


def test_slabs_change_nothing(monkeypatch):
    volume = field((40, 44, 48))
    whole = isotropy(volume, (1, 1, 1))
    monkeypatch.setattr("bida.eval.slices.isotropy._SLAB", 7 * 44 * 48)  # 40 = 5 x 7 + 5
    for one, other in zip(whole.power, isotropy(volume, (1, 1, 1)).power):
        np.testing.assert_allclose(one, other, rtol=1e-10)


def test_trends_do_not_count():
    ramp = np.arange(64.0)[:, None, None] * 50
    plain, tilted = isotropy(field((64, 64, 64)), (1, 1, 1)), isotropy(field((64, 64, 64)) + ramp, (1, 1, 1))
    assert tilted.octaves[0].z_minus_xy_db == pytest.approx(plain.octaves[0].z_minus_xy_db, abs=1e-6)


@pytest.mark.parametrize(
    "volume, sizes, message",
    [
        (np.zeros((8, 64, 64)), (1, 1, 1), "16 voxels or more"),
        (np.zeros((64, 64)), (1, 1, 1), "16 voxels or more"),
        (np.ones((32, 32, 32)), (1, 1, 1), "constant"),
        (np.full((32, 32, 32), np.nan), (1, 1, 1), "finite"),
        (np.zeros((32, 32, 32)), (1, 1, 0), "positive"),
        (np.random.default_rng(0).random((16, 16, 16)), (100, 1, 1), "share an octave"),
    ],
)
def test_bad_input(volume, sizes, message):
    with pytest.raises(SettingsError, match=message):
        isotropy(volume, sizes)


def test_the_command(tmp_path, capsys):
    blurred = np.stack([field((40, 48, 48)), field((40, 48, 48), (0.1, 1.5, 1.5))]).astype(np.float32)
    write_stack(tmp_path / "a.ome.tif", Stack(blurred, (2, 1, 1), ("good", "bad")))
    words = ["isotropy", str(tmp_path / "a.ome.tif"), "--voxel-um", "1", "1", "1"]
    files = ["--out", str(tmp_path / "a.png"), "--json", str(tmp_path / "a.json")]
    assert main([*words, *files]) == 0
    text = capsys.readouterr().out
    assert text.count("XY looks like XZ and YZ: yes") == 1 and text.count("XY looks like XZ and YZ: no") == 1
    assert "coarsest" not in text  # the option goes before the file's 2 um
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    channels = json.loads((tmp_path / "a.json").read_text())["channels"]
    assert channels["good"]["isotropic"] and not channels["bad"]["isotropic"]
    assert main([*words, *files]) == 2 and "must not exist" in capsys.readouterr().err
    assert main([*words[:2], "--block-mean", "2"]) == 0
    text = capsys.readouterr().out
    assert "20 x 24 x 24 voxels (z, y, x) of 4 x 2 x 2 um" in text and "z is the coarsest axis" in text
    assert main([words[0], f"{words[1]}[4:38]"]) == 0 and "34 x 48 x 48 voxels" in capsys.readouterr().out
    assert main([*words[:2], "--block-mean", "0"]) == 2 and "block mean must be from 1" in capsys.readouterr().err


@pytest.mark.slow
def test_the_raw_microct_is_not_isotropic_and_its_block_mean_is(shared_data, capsys):
    for cube in ("cube1", "cube2"):
        path = shared_data / "microscopy" / "xbrain-microct" / f"{cube}.ome.tif"
        if not path.is_file():
            pytest.skip(f"{path} is absent")
        assert main(["isotropy", str(path)]) == 0 and "YZ: no" in capsys.readouterr().out
        assert main(["isotropy", str(path), "--block-mean", "2"]) == 0 and "YZ: yes" in capsys.readouterr().out
