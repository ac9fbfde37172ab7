import numpy as np
import pytest
import tifffile
import torch

from bida.cli.parser import main
from bida.errors import ScanError, SettingsError
from bida.io.weights import save_weights
from bida.microscopy.load import load_stack
from bida.microscopy.prior import MaskedPrior
from bida.microscopy.stacks.opensrh import CHANNELS, opensrh_patches, read_patch
from bida.microscopy.stacks.stack import read_stack


def test_patches_of_a_split(opensrh):
    names = [path.relative_to(opensrh).as_posix() for path in opensrh_patches(opensrh, "train")]
    assert names == [f"studies/A/1/{k}{i}.tif" for k in ("tumor", "normal", "nondiagnostic") for i in range(2)]
    assert [path.name for path in opensrh_patches(opensrh, "val")] == ["tumor0.tif", "tumor1.tif"]
    assert len(opensrh_patches(opensrh, ["A", "B"], ["tumor"])) == 4


def test_lists_that_cannot_be_used(opensrh):
    with pytest.raises(SettingsError, match="must be train, val"):
        opensrh_patches(opensrh, "test")
    with pytest.raises(SettingsError, match="kinds"):
        opensrh_patches(opensrh, "train", ["glioma"])
    with pytest.raises(ScanError, match="must list patient C"):
        opensrh_patches(opensrh, ["C"])
    (opensrh / "meta" / "opensrh.json").write_text("{")
    with pytest.raises(ScanError, match=r"opensrh\.json: OpenSRH must have this list"):
        opensrh_patches(opensrh, "train")


def test_the_third_channel(tmp_path):
    raman = np.zeros((2, 3, 4), "uint16")
    raman[:, 0, 0] = 1000, 3000
    raman[:, 0, 1] = 60000, 100  # far below zero
    raman[:, 0, 2] = 0, 65535  # above one
    tifffile.imwrite(tmp_path / "a.tif", raman, photometric="minisblack")
    found = read_patch(tmp_path / "a.tif")
    assert found.shape == (3, 3, 4) and found.dtype == np.float32
    np.testing.assert_allclose(found[:, 0, 0], np.array([7000, 1000, 3000]) / 65536, rtol=1e-6)
    np.testing.assert_allclose(found[:, 2, 3], [5000 / 65536, 0, 0], rtol=1e-6)
    assert found[0, 0, 1] == 0 and found[0, 0, 2] == 1


@pytest.mark.parametrize(
    "data", [np.zeros((3, 4, 5), "uint16"), np.zeros((2, 4, 5), "uint8"), np.zeros((4, 5), "uint16")]
)
def test_what_is_no_patch(tmp_path, data):
    tifffile.imwrite(tmp_path / "a.tif", data, photometric="minisblack")
    with pytest.raises(ScanError, match="a patch must be"):
        read_patch(tmp_path / "a.tif")


@pytest.mark.parametrize("dtype", [torch.float32, torch.int32, torch.uint16])
def test_a_field_of_a_z_stack_is_a_stack(tmp_path, dtype):
    values = torch.arange(2 * 3 * 4 * 2 * 5 * 6).reshape(2, 3, 4, 2, 5, 6).to(dtype)
    torch.save(values, tmp_path / "z.pt")
    found = read_stack(f"{tmp_path}/z.pt[1,2]", (3, 1, 1))
    assert (found.spacing_um, found.channels, found.data.shape) == ((3.0, 1.0, 1.0), CHANNELS, (3, 4, 5, 6))
    raw = values.numpy()[1, 2].astype(np.float64)  # [z, c, h, w]
    np.testing.assert_allclose(found.data[1, 3], raw[3, 0] / 65536, rtol=1e-6)
    np.testing.assert_allclose(found.data[0, 3], (raw[3, 1] - raw[3, 0] + 5000) / 65536, rtol=1e-6)
    planes = load_stack(f"{tmp_path}/z.pt[1,2][1:3]", voxel_um=(3, 1, 1))
    np.testing.assert_array_equal(planes.data, found.data[:, 1:3])


def test_three_channels_stay_as_they_are(tmp_path):
    values = torch.rand(1, 1, 4, 3, 5, 6)
    torch.save(values, tmp_path / "z.pt")
    one = read_stack(tmp_path / "z.pt", (1, 1, 1))
    np.testing.assert_array_equal(one.data, values[0, 0].transpose(0, 1).numpy())


def test_what_a_z_stack_does_not_say_is_asked_for(tmp_path):
    torch.save(torch.zeros(2, 3, 4, 2, 5, 6), tmp_path / "z.pt")
    with pytest.raises(SettingsError, match=r"one of its 2 x 3 fields of view must be named, got none; give '.*\[ROW"):
        read_stack(tmp_path / "z.pt", (1, 1, 1))
    for wrong in ("2,0", "0,3"):
        with pytest.raises(SettingsError, match="the field must be one of 2 x 3, counted from 0"):
            read_stack(f"{tmp_path}/z.pt[{wrong}]", (1, 1, 1))
    with pytest.raises(SettingsError, match="give --voxel-um Z Y X"):
        read_stack(f"{tmp_path}/z.pt[0,0]")
    with pytest.raises(ScanError, match=r"none\.pt: must be a tensor that torch can load, got"):
        read_stack(tmp_path / "none.pt", (1, 1, 1))


def test_what_is_no_z_stack(tmp_path):
    for content in (torch.zeros(4, 2, 5, 6), {"a": 1}, torch.zeros(1, 1, 4, 1, 5, 6)):
        torch.save(content, tmp_path / "z.pt")
        with pytest.raises(ScanError, match="a z-stack must be a tensor"):
            read_stack(tmp_path / "z.pt", (1, 1, 1))
    torch.save(Trap(), tmp_path / "z.pt")
    with pytest.raises(ScanError, match="that torch can load"):
        read_stack(tmp_path / "z.pt", (1, 1, 1))


def test_a_field_is_restored_by_weights_of_three_channels(tmp_path):
    torch.save(torch.randint(0, 60000, (1, 2, 3, 2, 12, 16), dtype=torch.int32).to(torch.uint16), tmp_path / "z.pt")
    torch.manual_seed(0)
    save_weights(MaskedPrior("diffusion", 3, (8,), 1), tmp_path / "model.pt")
    field, out = f"{tmp_path}/z.pt[0,1]", tmp_path / "fine.ome.tif"
    words = ["--model", str(tmp_path / "model.pt"), "--factor", "2", "--voxel-um", "4", "2", "2", "--steps", "2"]
    assert main(["superres-masked", field, str(out), *words, "--dtype", "float32"]) == 0
    acquired, found = read_stack(field, (4, 2, 2)), read_stack(out)
    assert found.spacing_um == (2.0, 2.0, 2.0) and found.channels == CHANNELS
    np.testing.assert_array_equal(found.data[:, ::2], acquired.data)


class Trap:
    """An object that would run on loading."""

    def __reduce__(self):
        return (print, ("ran",))
