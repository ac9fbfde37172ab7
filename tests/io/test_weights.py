import random
import resource
import shutil
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from bida.diffusion.load import load_prior, prior_of
from bida.errors import WeightsError
from bida.io import released, weights
from bida.mri.pipeline import superres


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def test_round_trip_in_half_precision(tmp_path, network):
    path = tmp_path / "new" / "model.pt"
    weights.save_weights(network, path)
    other = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    digest = weights.load_weights(other, path)
    assert digest == weights.sha256(path)
    for key, value in network.state_dict().items():
        assert other.state_dict()[key].dtype == value.dtype
        torch.testing.assert_close(
            other.state_dict()[key], value.half().to(value.dtype) if value.dtype.is_floating_point else value
        )
    assert list(path.parent.iterdir()) == [path]
    assert path.stat().st_mode & 0o044 == 0o044


def test_missing_file(tmp_path, network):
    with pytest.raises(WeightsError, match=r"none\.pt: weights must exist, none found; .*--model"):
        weights.load_weights(network, tmp_path / "none.pt")


def test_wrong_hash_of_released_weights(tmp_path, network, monkeypatch):
    path = tmp_path / "model.pt"
    weights.save_weights(network, path)
    for module in (weights, released):
        monkeypatch.setattr(module, "released_path", lambda name: tmp_path / name)
    monkeypatch.setattr(weights, "released_hash", lambda name: "0" * 64)
    with pytest.raises(WeightsError, match=r"SHA-256 must be 0{64}, got"):
        weights.load_weights(network)
    with pytest.raises(WeightsError, match="SHA-256 must be"):
        weights.load_weights(network, path)  # named by its path it is still the released file
    monkeypatch.setattr(weights, "released_hash", lambda name: weights.sha256(path))
    weights.load_weights(network)


@pytest.mark.parametrize("content", [b"", b"not weights", [1], None])
def test_not_a_state_dict_of_this_network(tmp_path, network, content):
    path = tmp_path / "model.pt"
    if content is None:
        weights.save_weights(nn.Linear(2, 2), path)
    elif isinstance(content, list):
        torch.save(content, path)
    else:
        path.write_bytes(content)
    with pytest.raises(WeightsError) as caught:
        weights.load_weights(network, path)
    assert "must be a state dict of this network" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_released_weights_are_the_ones_in_the_metadata():
    path = weights.released_path("model.pt")
    assert weights.sha256(path) == weights.released_hash("model.pt")
    assert path.stat().st_size < 25e6
    weights.load_weights(prior_of())


def test_what_was_read_is_loaded_without_its_file(tmp_path, network):
    path = tmp_path / "model.pt"
    weights.save_weights(network, path)
    read = weights.read_weights(path)
    assert (read.file, read.sha256) == (path, weights.sha256(path))
    path.unlink()
    other = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    assert weights.load_weights(other, read) == read.sha256
    torch.testing.assert_close(other[0].weight, network[0].weight.half().float(), rtol=0, atol=0)
    with pytest.raises(WeightsError, match=r"model\.pt: weights must be a state dict of this network"):
        weights.load_weights(nn.Linear(2, 2), read)


@pytest.mark.parametrize("own", [False, True])
def test_a_run_reads_its_weights_once(make_scan, tmp_path, monkeypatch, own):
    monkeypatch.setattr("bida.mri.run._READY", {})
    path, opened = weights.released_path("model.pt"), list[str]()
    if own:
        path = shutil.copy(path, tmp_path / "own.pt")

    def note(event: str, arguments: tuple) -> None:
        if event == "open" and str(arguments[0]) == str(path):
            opened.append(event)

    sys.addaudithook(note)  # sees every file that Python opens, whoever asks for it
    result = superres(make_scan(), steps=1, n4=False, self_check=False, model=str(path) if own else None)
    assert len(opened) == 1
    superres(make_scan(), steps=1, n4=False, self_check=False, model=str(path) if own else None)
    assert len(opened) == 1  # nor does the next run
    assert result.record["weights_sha256"] == weights.sha256(path)


def test_other_weights_than_those_that_shaped_a_prior_are_read(tmp_path):
    cpu = torch.device("cpu")
    prior = load_prior(prior_of(), None, cpu, "float32")
    scale, other = float(prior.uncertainty_scale), str(tmp_path / "other.pt")
    prior.set_uncertainty(7.0)
    weights.save_weights(prior, other)
    assert float(load_prior(prior_of(), other, cpu, "float32").uncertainty_scale) == 7.0
    assert float(load_prior(prior, None, cpu, "float32").uncertainty_scale) == scale  # what was kept is given once


@pytest.mark.parametrize("version", ["0.1", "0.2", "0.3"])
def test_weights_released_before_are_named_by_their_version(monkeypatch, version):
    before = weights.weights_file(version)
    assert before == weights.released_path(f"model-{version}.pt") and before.is_file()
    found = weights.read_weights(version)
    assert found.sha256 == weights.released_hash(f"model-{version}.pt") != weights.released_hash("model.pt")
    assert load_prior(prior_of(version), version, torch.device("cpu"), "float32").weights_sha256 == found.sha256
    assert before.stat().st_size < 2e6  # the network that never changed lies in the newest file alone
    newest = weights.read_weights().state
    assert {name for name in found.state if weights.UNCHANGED not in name} == unpacked_names(before)
    assert all(torch.equal(found.state[k], v) for k, v in newest.items() if weights.UNCHANGED in k)
    assert weights.weights_file("7.3") == Path("7.3")  # no such version: a file of that name
    monkeypatch.setattr(weights, "released_hash", lambda name: "0" * 64)
    with pytest.raises(WeightsError, match=rf"model-{version}\.pt: SHA-256 must be 0000"):
        weights.read_weights(version)


def unpacked_names(file):
    return set(weights.unpacked(file.read_bytes()))


def test_the_prior_of_before_has_no_spread_and_gives_a_mean(tmp_path):
    from bida.diffusion.load import prior_of

    assert not prior_of("0.1").tells_spread


def prior_state():
    return dict(weights.read_weights().state)


def refused(path, reason):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(WeightsError, match=reason) as caught:
        prior_of(path)
    assert "\n" not in str(caught.value) and str(caught.value).startswith(str(path))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB


def test_a_file_that_unpacks_to_more_than_it_has(tmp_path):
    """torch writes its parts as they are, and reads packed ones, too."""
    torch.save({"kind": torch.zeros(100_000_000, dtype=torch.uint8)}, tmp_path / "plain.pt")
    with zipfile.ZipFile(tmp_path / "plain.pt") as plain, zipfile.ZipFile(tmp_path / "bomb.pt", "w", 8) as bomb:
        for part in plain.infolist():
            bomb.writestr(part.filename, plain.read(part))
    assert (tmp_path / "bomb.pt").stat().st_size < 1e6
    refused(tmp_path / "bomb.pt", "its parts are packed")


@pytest.mark.parametrize("spread", [{"x": (10**10,)}, {"x": (10**5, 10**5)}])
def test_tensors_that_claim_more_than_the_file_has(tmp_path, spread):
    state = {name: torch.zeros(1).expand(shape) for name, shape in spread.items()}
    torch.save(state, tmp_path / "spread.pt")
    refused(tmp_path / "spread.pt", "its tensors claim")
    with pytest.raises(WeightsError, match=r"checkpoint must be whole.*its tensors claim.*remove it"):
        weights.read_checkpoint(tmp_path / "spread.pt")


def test_the_network_is_made_no_larger_than_the_file(tmp_path):
    """A stem of many channels and names of many blocks asked for a network of 4 GiB."""
    state = prior_state()
    stem = "networks.shared.guided.stem.weight"
    wide = {**state, stem: torch.zeros(3000, *state[stem].shape[1:], dtype=torch.half)}
    deep = state | {f"networks.shared.guided.body.{k}.x": torch.zeros(1) for k in range(500)}
    for name, content in {"wide": wide, "deep": deep, "both": wide | deep}.items():
        torch.save(content, tmp_path / f"{name}.pt")
        refused(tmp_path / f"{name}.pt", "the network that it names has")


@pytest.mark.parametrize("kind", [[0, 2**30, 0], [-1, 1000, 0], [0, 1000, 9], [0, 0, 0], [7]])
def test_a_kind_that_there_is_not(tmp_path, kind):
    torch.save(prior_state() | {"kind": torch.tensor(kind, dtype=torch.int32)}, tmp_path / "kind.pt")
    refused(tmp_path / "kind.pt", "kind must be known|not enough values")


@pytest.mark.parametrize("name", [None, "0.1", "0.2"])
def test_released_weights_are_still_read(name):
    assert prior_of(name).guided


def test_damaged_weights_and_checkpoints_are_one_line(tmp_path):
    """Cut, and with bytes changed: 60 times, no traceback and no more memory than the file is large."""
    network = nn.Sequential(nn.Linear(30, 40), nn.BatchNorm1d(40))
    torch.save({"network": network.state_dict(), "step": 3}, tmp_path / "whole.pt")
    whole, rng = (tmp_path / "whole.pt").read_bytes(), random.Random(0)
    found = 0
    for number in range(60):
        damaged = bytearray(whole)
        if number % 3 == 0:
            damaged = damaged[: rng.randrange(len(whole))]
        else:
            for _ in range(rng.randrange(1, 20)):
                damaged[rng.randrange(len(whole))] = rng.randrange(256)
        (tmp_path / "damaged.pt").write_bytes(damaged)
        for read in (weights.read_weights, weights.read_checkpoint):
            try:
                read(tmp_path / "damaged.pt")
            except WeightsError as error:
                found += 1
                assert "\n" not in str(error)
    assert found > 60
