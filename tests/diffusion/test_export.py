"""Exported networks against those that they were made of, at sizes and batches other than those of the export."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from conftest import ROOT
from monai.bundle import ckpt_export
from monai.data import load_net_with_metadata

from bida.cli.parser import main
from bida.diffusion.export import CHANNELS, export, properties
from bida.diffusion.load import load_prior, prior_of
from bida.diffusion.resnet import NetworkPair, SliceResNet
from bida.diffusion.unet import SliceUNet
from bida.errors import SettingsError
from bida.io.weights import released_hash

SIZES = [(1, 16, 24), (3, 48, 16), (5, 72, 64)]
MODEL = str(ROOT / "models" / "model.pt")


@pytest.fixture(scope="module")
def prior():
    return load_prior(prior_of(), None, torch.device("cpu"), "float32")


@pytest.fixture(scope="module")
def onnx_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    assert main(["export", "-o", str(folder)]) == 0
    return {name: folder / f"{name}.onnx" for name in CHANNELS}


def inputs(channels, size, guided=None):
    """Return slices, times that differ, and classes: any, or those with or without a guide alone."""
    batch, height, width = size
    draw = torch.Generator().manual_seed(sum(size))
    x = torch.randn(batch, channels, height, width, generator=draw)
    classes = torch.randint(12, (batch,), generator=draw)
    if guided is not None:
        classes = classes // 6 * 6 + classes % 3 + 3 * int(guided)
    return x, torch.randint(1000, (batch,), generator=draw), classes


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["bare", "guided"])
def test_onnx_gives_what_the_network_gives(prior, onnx_files, name, size):
    session = onnxruntime.InferenceSession(onnx_files[name], providers=["CPUExecutionProvider"])
    given = inputs(CHANNELS[name], size)
    feed = dict(zip(("x", "timesteps", "classes"), (part.numpy() for part in given)))
    (got,) = session.run(["prediction"], feed)
    with torch.no_grad():
        expected = getattr(prior.networks["shared"], name)(*given).numpy()
    assert expected.std() > 0.1
    # noise for a guide is like no scan: the output can be in the thousands, in float32
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=2e-3)


@pytest.mark.slow
def test_onnx_says_how_to_read_it(onnx_files):
    found = {entry.key: entry.value for entry in onnx.load(onnx_files["guided"]).metadata_props}
    expected = {"prediction": "v", "timesteps": "1000", "schedule": "cosine", "classes": "12", "stride": "2"}
    second = "logarithm of the standard deviation of the error of the first channel, the prediction"
    assert found == {**expected, "second_channel": second, "weights_sha256": released_hash("model.pt")}


@pytest.mark.parametrize(("model", "name"), [(None, "guided"), (None, "bare"), ("0.1", "guided")])
def test_a_second_channel_is_named_where_there_is_one(model, name):
    prior = load_prior(prior_of(model), model, torch.device("cpu"), "float32")
    with torch.no_grad():
        channels = getattr(prior.networks["shared"], name)(*inputs(CHANNELS[name], SIZES[0])).shape[1]
    named = properties(prior, name).get("second_channel", "")
    assert channels == (2 if (model, name) == (None, "guided") else 1)
    assert ("standard deviation of the error" in named) == (channels == 2)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("guided", [True, False, None])
def test_ckpt_export_gives_what_the_prior_gives(prior, torchscript, size, guided):
    given = inputs(CHANNELS["guided"], size, guided)
    with torch.no_grad():
        got, expected = torchscript(*given), prior(*given)
        assert expected.std() > 0.1
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-3)
        one = given[0], given[1][:1], given[2][:1]  # one time and class for all, as in sampling
        torch.testing.assert_close(torchscript(*one), prior(*one), rtol=0, atol=1e-3)


@pytest.fixture(scope="module")
def torchscript(tmp_path_factory):
    file, config = tmp_path_factory.mktemp("ckpt") / "model.ts", str(ROOT / "configs" / "inference.yaml")
    meta = str(ROOT / "configs" / "metadata.json")
    ckpt_export("network_def", filepath=str(file), ckpt_file=MODEL, meta_file=meta, config_file=config)
    network, metadata, _ = load_net_with_metadata(file)
    assert metadata["name"] == "Rodent MRI super-resolution"
    return network


def test_the_command_writes_the_same_torchscript(torchscript, tmp_path):
    assert main(["export", MODEL, "-o", str(tmp_path / "new"), "--format", "torchscript"]) == 0
    network = torch.jit.load(tmp_path / "new" / "model.ts")
    given = inputs(CHANNELS["guided"], SIZES[1])
    with torch.no_grad():
        assert torch.equal(network(*given), torchscript(*given))


def test_files_that_exist_are_kept(tmp_path, capsys):
    (tmp_path / "model.ts").write_text("mine")
    assert main(["export", "-o", str(tmp_path), "--format", "torchscript"]) == 2
    assert "model.ts: output must not exist, it does" in capsys.readouterr().err
    assert (tmp_path / "model.ts").read_text() == "mine"


def test_missing_packages_are_named(prior, tmp_path, monkeypatch):
    monkeypatch.setattr("bida.diffusion.export.find_spec", lambda name: None if name == "onnxscript" else name)
    with pytest.raises(SettingsError, match=r"--format onnx: needs onnxscript, not installed; pip install 'bida-mri\["):
        export(prior, tmp_path, "onnx")
    with pytest.raises(SettingsError, match="--format: must be one of onnx, torchscript, got 'tflite'"):
        export(prior, tmp_path, "tflite")


def test_a_pair_takes_any_mixture_of_classes():
    torch.manual_seed(0)
    pair = NetworkPair(SliceUNet([64], 1, 12, 32, in_channels=2), SliceResNet(32, 1))
    for parameter in pair.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    x, times, classes = inputs(5, (6, 8, 8))
    whole = pair(x, times, classes)
    parts = [pair(x[k : k + 1], times[k : k + 1], classes[k : k + 1]) for k in range(6)]
    torch.testing.assert_close(whole, torch.cat(parts), rtol=1e-5, atol=1e-5)
