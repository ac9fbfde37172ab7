import math

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import LoadImage
from scipy.special import erf

from bida.cli.parser import main
from bida.errors import SettingsError
from bida.physics.geometry import SliceGeometry
from bida.physics.operators import SliceOperator
from bida.physics.simulate import simulate_slices
from bida.transforms.simulate import SimulateSlicesd

VOXEL = 0.15


def volume(*shape):
    return np.random.default_rng(0).normal(size=shape)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize(
    "factor, voxels, slices", [(2.5, 64, 26), (5, 65, 13), (5, 66, 14), (3.333, 63, 19), (1, 8, 8)]
)
def test_number_of_slices_and_values(axis, factor, voxels, slices):
    x = volume(5, 6, 7)
    x = np.repeat(x.mean(axis=axis, keepdims=True), voxels, axis=axis) * np.linspace(0, 1, voxels).reshape(
        [-1 if a == axis else 1 for a in range(3)]
    )
    y, geometry = simulate_slices(x, VOXEL, axis, factor, profile="box")
    assert y.shape[axis] == slices == geometry.slices
    assert geometry.thickness_mm == geometry.slice_spacing_mm == pytest.approx(factor * VOXEL)
    matrix = SliceOperator.build(geometry).matrix
    assert np.allclose(y, np.apply_along_axis(lambda line: matrix @ line, axis, x), atol=1e-12)


def test_factor_from_float32_sizes_makes_no_empty_slice():
    factor = float(np.float32(0.75)) / float(np.float32(0.15)) * (1 - 1e-8)  # a hair below 5
    y, _ = simulate_slices(volume(4, 65, 4), VOXEL, 1, factor)
    assert y.shape == (4, 13, 4)


def test_slices_of_a_known_continuum():
    """A Gaussian blob through a Gaussian slice is a wider Gaussian: the closed form, in mm, voxel size aside."""
    voxel, factor, blob = 0.02, 20.0, 0.8
    n = 401
    z = (np.arange(n) - (n - 1) / 2) * voxel
    x = np.broadcast_to(np.exp(-0.5 * (z / blob) ** 2), (2, 2, n)).copy()
    y, geometry = simulate_slices(x, voxel, 2, factor, profile="gaussian")
    c = geometry.slice_centres_mm()
    sigma = geometry.thickness_mm / 2.3548200450309493
    wide = math.hypot(blob, sigma)
    inside = np.abs(c) < 4 - 3 * sigma
    expected = blob / wide * np.exp(-0.5 * (c / wide) ** 2)
    assert np.abs(y[0, 0] - expected)[inside].max() < 2e-4  # voxels of 0.02 mm: (D/blob)^2 / 24


def test_end_slices_are_truncated_and_renormalised():
    x = np.ones((2, 63, 2))
    y, _ = simulate_slices(x, VOXEL, 1, 5)
    assert np.allclose(y, 1.0, atol=1e-12)
    # 63 voxels under 13 slices of 5: the end slice's box hangs one voxel over the edge, and is a mean of four
    ramp = np.broadcast_to(np.arange(63.0)[None, :, None], (2, 63, 2)).copy()
    y, _ = simulate_slices(ramp, VOXEL, 1, 5, profile="box")
    assert y[0, 0, 0] == pytest.approx(np.mean([0, 1, 2, 3]))


def test_thickness_and_profile_reach_the_operator():
    x = np.zeros((1, 65, 1))
    x[0, 32] = 1.0  # a bright voxel at the centre of the middle slice
    thin, geometry = simulate_slices(x, VOXEL, 1, 5, thickness_mm=3 * VOXEL, profile="gaussian")
    assert geometry.gap_mm == pytest.approx(2 * VOXEL) and geometry.profile == "gaussian"
    u = 0.5 * VOXEL / (3 * VOXEL / 2.3548200450309493) / math.sqrt(2)
    assert thin[0, 6, 0] == pytest.approx(erf(u), rel=1e-5)


def test_noise_has_its_sigma_and_its_seed():
    x = volume(40, 65, 40)
    clean, _ = simulate_slices(x, VOXEL, 1, 5, profile="box")
    one, _ = simulate_slices(x, VOXEL, 1, 5, profile="box", noise=2.0, seed=1)
    same, _ = simulate_slices(x, VOXEL, 1, 5, profile="box", noise=2.0, seed=1)
    other, _ = simulate_slices(x, VOXEL, 1, 5, profile="box", noise=2.0, seed=2)
    residual = one - clean
    tolerance = 4 * 2.0 / math.sqrt(2 * residual.size)  # four standard errors of a standard deviation
    assert residual.std() == pytest.approx(2.0, abs=tolerance)
    assert abs(residual.mean()) < 4 * 2.0 / math.sqrt(residual.size)
    assert np.array_equal(one, same)
    assert abs(np.corrcoef(residual.ravel(), (other - clean).ravel())[0, 1]) < 4 / math.sqrt(residual.size)


def test_kind_and_type_are_kept():
    x = volume(4, 20, 4)
    assert simulate_slices(x, VOXEL, 1, 5, profile="box")[0].dtype == np.float64
    assert simulate_slices(x.astype(np.int16), VOXEL, 1, 5, profile="box")[0].dtype == np.float32
    tensor, _ = simulate_slices(torch.from_numpy(x), VOXEL, 1, 5, profile="box")
    assert isinstance(tensor, torch.Tensor) and tensor.dtype == torch.float64


@pytest.mark.parametrize(
    "change, message",
    [
        ({"factor": 0.5}, "factor must be >= 1"),
        ({"factor": math.nan}, "factor must be >= 1"),
        ({"noise": -1.0}, "noise must be a standard deviation >= 0"),
        ({"seed": -1}, "seed must be >= 0, got -1"),
        ({"snr": 0.0}, "snr must be > 0"),
        ({"snr": 20.0, "noise": 2.0}, "snr excludes noise, got 20 and 2; leave one out"),
        ({"axis": 3}, "axis must be 0"),
        ({"thickness_mm": 0.0}, "thickness_mm must be > 0 mm, got 0"),
        ({"profile": "sinc"}, "profile must be slr, gaussian, box or a file"),
    ],
)
def test_bad_settings_are_refused(change, message):
    settings = {"axis": 1, "factor": 5.0, **change}
    with pytest.raises(SettingsError, match=message):
        simulate_slices(volume(4, 20, 4), VOXEL, **settings)
    with pytest.raises(SettingsError, match=message):
        SimulateSlicesd("image", **settings)({"image": MetaTensor(volume(1, 4, 20, 4), affine=torch.eye(4) * VOXEL)})


def test_volume_must_have_three_axes():
    with pytest.raises(SettingsError, match=r"must be \[R, A, S\], got shape \(4, 4\)"):
        simulate_slices(volume(4, 4), VOXEL, 1, 5)
    with pytest.raises(SettingsError, match=r"image must be a MetaTensor \[1, R, A, S\], got Tensor of shape \(4, 4\)"):
        SimulateSlicesd("image", factor=5)({"image": torch.zeros(4, 4)})


def test_dictionary_transform_keeps_points_in_place():
    oblique = np.eye(4)
    turn = np.array([[0.96, -0.28, 0.0], [0.28, 0.96, 0.0], [0.0, 0.0, 1.0]])
    oblique[:3, :3] = turn * [0.1, 0.15, 0.2]
    oblique[:3, 3] = [3.0, -5.0, 1.0]
    image = MetaTensor(volume(1, 6, 63, 5), affine=torch.from_numpy(oblique), meta={"filename_or_obj": "mouse"})
    out = SimulateSlicesd("image", factor=2.5, axis=1, profile="box")({"image": image, "other": 3})
    slices = out["image"]
    assert out["other"] == 3 and slices.shape == (1, 6, 26, 5) and slices.meta["filename_or_obj"] == "mouse"
    assert tuple(slices.meta["spatial_shape"]) == (6, 26, 5)
    assert image.shape == (1, 6, 63, 5) and torch.equal(image.affine, torch.from_numpy(oblique))

    # the centres of the two fields of view are one point, and the slices are 2.5 voxels apart along the same direction
    new = slices.affine.numpy()
    assert new @ [2.5, 12.5, 2, 1] == pytest.approx(oblique @ [2.5, 31, 2, 1], abs=1e-12)
    assert new[:3, 1] == pytest.approx(2.5 * oblique[:3, 1]) and new[:3, [0, 2]] == pytest.approx(oblique[:3, [0, 2]])

    geometry = SliceGeometry.from_json(slices.meta["slice_geometry"])
    assert geometry == SliceGeometry(1, 26, 0.375, 0.375, 63, 0.15, "box")
    expected, _ = simulate_slices(image.as_tensor()[0], 0.15, 1, 2.5, profile="box")
    assert torch.allclose(slices.as_tensor()[0], expected, atol=1e-12)


def test_dictionary_transform_gives_the_noise_that_the_command_gives(make_scan, tmp_path):
    path = make_scan((20, 40, 18), (VOXEL, VOXEL, VOXEL))
    image = LoadImage(ensure_channel_first=True, dtype=np.float32)(path)
    slices = SimulateSlicesd("image", factor=5, snr=10, seed=3)({"image": image})["image"]
    thick = tmp_path / "thick.nii.gz"
    assert main(["simulate", str(path), str(thick), "--factor", "5", "--snr", "10", "--seed", "3"]) == 0
    np.testing.assert_array_equal(slices.numpy()[0], nib.load(thick).get_fdata(dtype=np.float32))
    clean = SimulateSlicesd("image", factor=5)({"image": image})["image"]
    assert (slices - clean).std() > 0.05 * clean.mean()  # sigma is a tenth of the mean in tissue


def test_reoriented_arrays_are_taken():
    volume = np.random.default_rng(0).random((4, 20, 5)).astype(np.float32)
    expected, _ = simulate_slices(volume, 0.15, 1, 5.0)
    mirrored, _ = simulate_slices(volume[::-1], 0.15, 1, 5.0)
    np.testing.assert_array_equal(mirrored, expected[::-1])


def test_profile_file_brings_its_thickness(tmp_path):
    (tmp_path / "measured.txt").write_text("-0.3 0\n0 1\n0.3 0\n")
    _, geometry = simulate_slices(volume(4, 20, 4), VOXEL, 1, 5, profile=str(tmp_path / "measured.txt"))
    assert geometry.thickness_mm == pytest.approx(0.3)  # a triangle's FWHM is half its base
    with pytest.raises(
        SettingsError, match=r"thickness_mm must be left out with a profile file.*0\.3 mm.*measured\.txt"
    ):
        simulate_slices(volume(4, 20, 4), VOXEL, 1, 5, thickness_mm=0.5, profile=str(tmp_path / "measured.txt"))
