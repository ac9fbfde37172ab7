import pytest
import torch
from torch import nn

from bida.errors import WeightsError
from bida.io import weights


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
    monkeypatch.setattr(weights, "released_path", lambda name: tmp_path / name)
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
    from bida.diffusion.load import prior_of

    weights.load_weights(prior_of())
