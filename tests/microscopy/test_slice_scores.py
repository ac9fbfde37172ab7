"""The panel, SliceFID and the crops in `bida evaluate-masked`, on small textures."""

import csv
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from bida.cli.parser import main
from bida.errors import SettingsError
from bida.eval import feature_frechet, kid, oriented_features, plane_slices
from bida.io.weights import save_weights, sha256
from bida.microscopy import load
from bida.microscopy.crops import Crops
from bida.microscopy.evaluate import left_out, restored_crops, run_method
from bida.microscopy.prior import MaskedPrior
from bida.microscopy.restore import MaskedSettings
from bida.microscopy.slice_scores import SliceFidJudge, SlicePanel
from bida.microscopy.stacks.stack import Stack


def stack(shape=(1, 33, 52, 50), seed=0):
    data = gaussian_filter(np.random.default_rng(seed).normal(size=shape), (0, 1, 1, 1))
    return Stack(
        (1000 + 500 * data / data.std()).astype(np.float32), (2.0, 2.0, 2.0), ("a", "b")[: shape[0]], "made.tif"
    )


def evaluated(monkeypatch, tmp_path, *options, truth=None):
    (tmp_path / "made.tif").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(load, "read_stack", lambda path, voxel_um, **more: truth or stack())
    code = main(
        ["evaluate-masked", "made.tif", "--out", str(tmp_path / "out"), "--factors", "4", "--overwrite", *options]
    )
    if code:
        return code
    with (tmp_path / "out" / "masked.csv").open() as file:
        return {(row["method"], row["plane"], row["metric"]): float(row["value"]) for row in csv.DictReader(file)}


def weights(tmp_path):
    torch.manual_seed(3)
    network = MaskedPrior("msunet", 1, (8, 16), 1)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    path = tmp_path / "model.pt"
    save_weights(network, path)
    return path


class Moments:
    """A stand-in for Inception: a slice's mean, its spread along both axes, in its range."""

    def __call__(self, slices, limits):
        x = (slices[:, 0] - limits[0]) / (limits[1] - limits[0])
        return np.stack([x.mean((1, 2)), np.diff(x, axis=1).std((1, 2)), np.diff(x, axis=2).std((1, 2))], 1)


@pytest.mark.usefixtures("few_directions")
def test_the_command_gives_every_figure_its_plane(monkeypatch, tmp_path, capsys):
    options = ["--methods", "nearest", "linear", f"net={weights(tmp_path)}", "--crops", "10", "--tile", "64"]
    found = evaluated(monkeypatch, tmp_path, *options, "--overlap", "8", "--blur")
    panel = {"oriented_frechet", "swd", "swd_finest", "spectrum_down_db", "spectrum_across_db"}
    for method in ("nearest", "linear", "net"):
        assert {key[1:] for key in found if key[0] == method} == {
            *(("3D", metric) for metric in ("psnr", "ssim", "seconds", "seam_index")),
            *((plane, metric) for plane in ("XZ", "YZ") for metric in panel),
            *(("crop", metric) for metric in ("psnr", "ssim", "oriented_frechet")),
        }
    assert {key[1:] for key in found if key[0] == "truth"} == {
        ("3D", "seam_index"),
        ("crop", "oriented_frechet"),
        *((plane, metric) for plane in ("XY", "XZ", "YZ") for metric in panel),
    }
    for plane in ("XZ", "YZ"):
        for metric in ("oriented_frechet", "swd_finest", "spectrum_down_db"):
            assert found["linear", plane, metric] > 2 * found["truth", plane, metric]
    assert found["linear", "crop", "oriented_frechet"] > 2 * found["truth", "crop", "oriented_frechet"]
    assert found["nearest", "3D", "seam_index"] == pytest.approx(3**0.5, rel=1e-5)
    assert found["linear", "3D", "seam_index"] < 0.01 and found["truth", "3D", "seam_index"] < 0.1
    text = capsys.readouterr().out
    assert all(f"{plane:<6}  method" in text for plane in ("3D", "XY", "XZ", "YZ", "crop")) and "net" in text


@pytest.mark.usefixtures("few_directions")
def test_no_panel(monkeypatch, tmp_path, capsys):
    found = evaluated(monkeypatch, tmp_path, "--methods", "linear", "--no-panel")
    assert set(found) == {("linear", "3D", metric) for metric in ("psnr", "ssim", "seconds")}
    thin = replace(stack(), data=stack().data[:, :14])
    assert evaluated(monkeypatch, tmp_path, "--methods", "linear", truth=thin) == 2
    assert "16 voxels or more along z, y and x, got (13, 52, 50)" in capsys.readouterr().err
    assert evaluated(monkeypatch, tmp_path, "--methods", "linear", "--no-panel", truth=thin)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_inception_weights_add_slice_fid_and_the_crops_fid(monkeypatch, tmp_path, capsys):
    class Means(torch.nn.Module):
        def forward(self, x):
            known = torch.stack([x.mean((1, 2, 3)), x.std((1, 2, 3))], 1)
            return torch.nn.functional.pad(known, (0, 2046))

    path = tmp_path / "net.pt"
    torch.jit.trace(Means(), torch.rand(2, 3, 299, 299)).save(str(path))
    options = ["--methods", "linear", "--no-panel", "--inception-weights", str(path), "--inception-sha256"]
    assert evaluated(monkeypatch, tmp_path, *options, "0" * 64) == 2
    assert "SHA-256 must be 0000" in capsys.readouterr().err and not (tmp_path / "out").exists()
    small = stack((1, 17, 49, 48))
    found = evaluated(monkeypatch, tmp_path, *options, sha256(path), "--crops", "4", truth=small)
    for method in ("truth", "linear"):
        for metric in ("slice_fid", "slice_kid"):
            planes = [found[method, plane, metric] for plane in ("XY", "XZ", "YZ")]
            assert found[method, "mean", metric] == pytest.approx(np.mean(planes), rel=1e-4)
        assert found[method, "crop", "fid"] >= 0
    assert ("linear", "crop", "oriented_frechet") not in found


def test_slice_fid_is_of_each_channel_against_all_xy_slices_of_the_truth():
    truth = stack((2, 17, 20, 22))
    judge, network = SliceFidJudge(truth.data, Moments()), Moments()
    data = run_method("linear", *left_out(truth, 4)[:1], 4, MaskedSettings())[1].data
    found = {(row.plane, row.metric): row.value for row in judge(data)}
    low, high = np.percentile(truth.data.reshape(2, -1), load.PERCENTILES, axis=1)
    expected = {}
    for plane in ("XY", "XZ", "YZ"):
        pairs = [
            [network(plane_slices(x, p)[:, [c]], (low[c], high[c])) for x, p in ((data, plane), (truth.data, "XY"))]
            for c in (0, 1)
        ]
        expected[plane, "slice_fid"] = np.mean([feature_frechet(*pair) for pair in pairs])
        expected[plane, "slice_kid"] = np.mean([kid(*pair).mean for pair in pairs])
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, rel=1e-4)
    floor = {(row.plane, row.metric): row.value for row in judge.floor()}
    own = [network(plane_slices(truth.data, "XY")[:, [c]], (low[c], high[c])) for c in (0, 1)]
    across = [network(plane_slices(truth.data, "YZ")[:, [c]], (low[c], high[c])) for c in (0, 1)]
    halves = [feature_frechet(x[::2], x[1::2]) for x in own]
    assert floor["XY", "slice_fid"] == pytest.approx(np.mean(halves), rel=1e-4)
    odd = [feature_frechet(x, y[1::2]) for x, y in zip(across, own)]
    assert floor["YZ", "slice_fid"] == pytest.approx(np.mean(odd), rel=1e-4)
    assert floor["XZ", "slice_fid"] < 0.5 * found["XZ", "slice_fid"]
    same = {(row.plane, row.metric): row.value for row in judge(truth.data)}
    assert same["XY", "slice_fid"] == pytest.approx(0, abs=1e-12)


@pytest.mark.usefixtures("few_directions")
def test_seams_need_two_periods():
    truth = stack((1, 17, 16, 16))
    kept = [[row.metric for row in SlicePanel(truth.data, factor, 0).floor()] for factor in (8, 16)]
    assert kept[0][-1] == "seam_index" and "seam_index" not in kept[1]


@pytest.mark.parametrize("factor, masked", [(2, 24), (4, 36), (8, 42)])
def test_crops_are_of_the_truth_with_the_papers_rows_masked(factor, masked):
    truth = stack((2, 17, 60, 55))
    crops = Crops(truth, 6, seed=1)
    kept = crops.kept(factor)
    assert kept.data.shape == (2, 48 // factor + 1, 6, 48) and 48 - (kept.data.shape[1] - 1) == masked
    assert kept.spacing_um == (2.0 * factor, 2.0, 2.0)
    windows = np.lib.stride_tricks.sliding_window_view(truth.data[0], (48, 48), axis=(1, 2))
    for k, crop in enumerate(crops.truth):
        assert np.array_equal(kept.data[:, :-1, k], crop[:, ::factor])
        assert (windows[..., 0, 0] == crop[0, 0, 0]).any() and crop.shape == (2, 48, 48)
        places = np.argwhere(windows[..., 0, 0] == crop[0, 0, 0])
        assert any(np.array_equal(windows[tuple(place)], crop[0]) for place in places)


def test_crops_are_restored_one_by_one(tmp_path):
    crops, settings = Crops(stack(), 6), MaskedSettings(blur=True, fusion="step", tile=64, overlap=8)
    linear = restored_crops("linear", crops, 4, settings)
    rows = np.arange(49.0)
    for k in range(6):
        expected = np.stack([np.interp(rows, rows[::4], column) for column in crops.stack.data[0, ::4, k].T], axis=1)
        np.testing.assert_allclose(linear.data[0, :, k], expected, rtol=1e-5)
    net = restored_crops("net", crops, 4, settings, {"net": MaskedPrior.load(weights(tmp_path))})
    assert np.array_equal(net.data[:, ::4], crops.stack.data[:, ::4])  # not blurred


def test_crop_scores_count_masked_rows_alone():
    truth = stack()
    crops = Crops(truth, 5)
    low, high = np.percentile(truth.data, load.PERCENTILES)
    wrong = crops.stack.data.copy()
    wrong[:, np.arange(49) % 4 != 0] += 0.1 * (high - low)
    wrong[:, ::4] += 1e4
    found = {row.metric: row.value for row in crops.scores(replace(crops.stack, data=wrong), 4)}
    assert found["psnr"] == pytest.approx(20, abs=1e-3) and found["ssim"] < 0.9
    exact = {row.metric: row.value for row in crops.scores(crops.stack, 4)}
    assert exact["ssim"] == pytest.approx(1) and exact["oriented_frechet"] == crops.floor()[0].value


def test_crops_compare_halves_channel_by_channel_in_their_own_range():
    both = stack((2, 17, 60, 55))
    both.data[1] *= 50
    crops = Crops(both, 12, seed=2)
    singles = [Crops(replace(both, data=both.data[[c]], channels=("a",)), 12, seed=2) for c in (0, 1)]
    for c, single in enumerate(singles):
        line = np.percentile(both.data[c], load.PERCENTILES)
        features = [oriented_features(crops.truth[half::2, [c]], np.ptp(line)) for half in (0, 1)]
        assert single.floor()[0].value == pytest.approx(feature_frechet(*features), rel=1e-3)
    found = [[row.value for row in x.scores(restored_crops("linear", x, 4, MaskedSettings()), 4)] for x in singles]
    together = crops.scores(restored_crops("linear", crops, 4, MaskedSettings()), 4)
    np.testing.assert_allclose([row.value for row in together], np.mean(found, axis=0), rtol=1e-5)


def test_crops_that_cannot_be():
    with pytest.raises(SettingsError, match="4 or more and slices of 49 x 48 pixels or more, got 3 and 52 x 50"):
        Crops(stack(), 3)
    with pytest.raises(SettingsError, match="got 9 and 48 x 50"):
        Crops(stack((1, 17, 48, 50)), 9)
    with pytest.raises(SettingsError, match="must divide the 48 rows of the crops, got 5"):
        Crops(stack(), 4).kept(5)
