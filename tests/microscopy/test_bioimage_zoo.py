"""A package of the BioImage Model Zoo: what lies in it, that it needs no bida, and the zoo's own test where it is."""

import hashlib
import io
import zipfile

import numpy as np
import pytest
import tifffile
import torch
import yaml
from PIL import Image

from bida.cli.parser import main
from bida.io.released import released_path
from bida.io.weights import released_hash
from bida.microscopy.bioimage_zoo import made_planes
from bida.microscopy.inferer import MaskedSliceInferer
from bida.microscopy.prior import MaskedPrior
from bida.microscopy.restore import restore_stack
from bida.microscopy.stacks.stack import Stack

FACTOR = 3


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    folder = tmp_path_factory.mktemp("zoo") / "new"
    assert main(["export", "-o", str(folder), "--format", "bioimageio", "--factor", str(FACTOR)]) == 0
    return folder / f"masked_{FACTOR}x.zip"


@pytest.fixture(scope="module")
def files(package):
    with zipfile.ZipFile(package) as zipped:
        assert zipped.testzip() is None
        return {name: zipped.read(name) for name in zipped.namelist()}


@pytest.fixture(scope="module")
def described(files):
    return yaml.safe_load(files["rdf.yaml"])


def restored(planes):
    """Return what bida makes of planes [Z, Y, X], in their numbers, and the percentiles that it scales by."""
    network = MaskedPrior.load(released_path("masked.pt"))
    stack = Stack(planes[None], (float(FACTOR), 1.0, 1.0), ("a",))
    return restore_stack(stack, network, MaskedSliceInferer(FACTOR)).data[0], np.percentile(planes, (0.5, 99.5))


def named(value):
    """Every file that a description names with its hash."""
    if isinstance(value, dict):
        yield from [(value["source"], value["sha256"])] if "source" in value else []
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from named(one)


def test_it_holds_what_it_names_whole(files, described):
    hashed = dict(named(described))
    assert len(hashed) == 5
    for name, sha256 in hashed.items():
        assert hashlib.sha256(files[name]).hexdigest() == sha256
    assert set(files) == {*hashed, "rdf.yaml", described["documentation"], *described["covers"]}
    assert described["license"] == "Apache-2.0" and described["cite"][0]["doi"] == "10.48550/arXiv.2404.09425"
    assert described["config"]["bida"] == {"factor": FACTOR, "weights_sha256": released_hash("masked.pt")}
    assert "# Validation" in files["README.md"].decode() and f"{FACTOR} x finer" in files["README.md"].decode()
    cover = Image.open(io.BytesIO(files["cover.png"]))
    assert cover.size == (640, 320) and np.ptp(np.asarray(cover)) > 200 and len(files["cover.png"]) < 500_000


@pytest.mark.slow
def test_the_test_tensors_are_what_bida_makes_of_them(files):
    planes, volume = (np.load(io.BytesIO(files[f"test_{name}.npy"])) for name in ("input", "output"))
    expected, (low, high) = restored(planes[0, 0])
    np.testing.assert_allclose(volume[0, 0] * (high - low) + low, expected, atol=1e-4 * (high - low))


def test_the_network_needs_the_description_alone(files, described):
    planes = np.random.default_rng(1).gamma(2.0, 300.0, (4, 40, 37)).astype(np.float32)
    (step,) = described["inputs"][0]["preprocessing"]
    assert step["id"] == "scale_range" and step["kwargs"]["axes"] == ["z", "y", "x"]
    low, high = np.percentile(planes, [step["kwargs"][f"{end}_percentile"] for end in ("min", "max")])
    network = torch.jit.load(io.BytesIO(files[described["weights"]["torchscript"]["source"]]))
    with torch.no_grad():
        volume = network(torch.from_numpy(((planes - low) / (high - low)).astype(np.float32))[None, None])
    expected, _ = restored(planes)
    np.testing.assert_allclose(volume[0, 0] * (high - low) + low, expected, atol=1e-4 * (high - low))
    for rule, scale, planes_scale, size in zip(
        [axis["size"] for axis in described["outputs"][0]["axes"][2:]],
        [axis["scale"] for axis in described["outputs"][0]["axes"][2:]],
        [axis["scale"] for axis in described["inputs"][0]["axes"][2:]],
        zip(planes.shape, volume.shape[2:]),
    ):
        assert size[0] * planes_scale / scale + rule.get("offset", 0) == size[1]


def test_imagej_is_told_the_distance_of_the_sample_planes(files):
    with tifffile.TiffFile(io.BytesIO(files["sample_input.tif"])) as tif:
        assert tif.imagej_metadata["spacing"] == FACTOR and tif.imagej_metadata["slices"] == len(tif.pages)


def test_a_package_that_exists_is_kept(package, capsys):
    before = package.read_bytes()
    words = ["export", "-o", str(package.parent), "--format", "bioimageio", "--factor", str(FACTOR)]
    assert main(words) == 2 and "output must not exist, it does" in capsys.readouterr().err
    assert package.read_bytes() == before


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--format", "onnx", "--factor", "4"], "--factor: must not be given with --format onnx"),
        (["--format", "bioimageio", "--factor", "1"], "factor: must be a whole number from 2 on, got 1"),
        (["--format", "bioimageio", str(released_path("model.pt"))], "weights must be those of 'bida train-masked'"),
    ],
)
def test_what_cannot_be(words, told, tmp_path, capsys):
    assert main(["export", "-o", str(tmp_path / "new"), *words]) == 2
    assert told in capsys.readouterr().err and not (tmp_path / "new").exists()


@pytest.mark.slow
def test_the_zoos_own_test_is_green(package):
    core = pytest.importorskip("bioimageio.core", exc_type=ImportError)
    summary = core.test_description(package)
    assert summary.status == "passed" and [one for detail in summary.details for one in detail.errors] == []
    done = {(detail.status, detail.name.partition(" (")[0]) for detail in summary.details}
    assert ("passed", "Reproduce test outputs from test inputs") in done


@pytest.mark.slow
def test_the_zoos_prediction_is_what_bida_makes_of_a_stack(package):
    core = pytest.importorskip("bioimageio.core", exc_type=ImportError)
    planes = made_planes((5, 72, 78), FACTOR)
    volume = core.predict(model=package, inputs={"planes": planes}).members["volume"].data.to_numpy()
    expected, (low, high) = restored(planes[0, 0])
    apart = np.abs(volume[0, 0] * (high - low) + low - expected) / (high - low)
    # what runs it mirrors the border pixel too, by which a halo is made; the network sees some 36 pixels far
    assert apart[:, 20:-20, 20:-20].max() < 5e-3 and apart.mean() < 5e-3 < np.ptp(expected) / (high - low)
