"""Inception features from a local file: a tiny stand-in network whose features are known."""

import numpy as np
import pytest
import torch

from bida.errors import SettingsError, WeightsError
from bida.eval.slices.inception import InceptionFeatures
from bida.io.weights import sha256

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")


class Corners(torch.nn.Module):
    """Features: the three channels' mean, the largest and smallest value, and zeros."""

    def __init__(self, features=2048):
        super().__init__()
        self.features = features

    def forward(self, x):
        known = torch.stack([*x.mean((2, 3)).unbind(1), x.amax((1, 2, 3)), x.amin((1, 2, 3))], 1)
        return torch.nn.functional.pad(known, (0, self.features - 5)) + 0 * x[:, :1, 298, 298]


def exported(folder, features=2048):
    path = folder / f"net{features}.pt"
    torch.jit.trace(Corners(features), torch.zeros(2, 3, 299, 299)).save(str(path))
    return path


def test_slices_are_mapped_clipped_resized_and_repeated(tmp_path):
    path = exported(tmp_path)
    slices = np.full((19, 1, 30, 50), 20.0)  # more than a batch
    slices[3] = 500
    slices[18, 0, :, :25] = 10
    found = InceptionFeatures(path, sha256(path).upper())(slices, (10, 30))
    assert found.shape == (19, 2048) and found.dtype == np.float64
    np.testing.assert_allclose(found[0, :6], 0, atol=1e-6)
    np.testing.assert_allclose(found[3, :5], 1, atol=1e-6)  # clipped
    np.testing.assert_allclose(found[18, :5], [-0.5, -0.5, -0.5, 0, -1], atol=1e-3)


def test_a_wrong_hash_is_refused_before_the_file_is_opened(tmp_path):
    path = tmp_path / "net.pt"
    path.write_bytes(b"not a network")
    digest = sha256(path)
    with pytest.raises(WeightsError, match=f"SHA-256 must be {'0' * 64}, got {digest}"):
        InceptionFeatures(path, "0" * 64)
    with pytest.raises(WeightsError, match=r"must be TorchScript that maps \[B, 3, 299, 299\].*loading failed"):
        InceptionFeatures(path, digest)
    with pytest.raises(WeightsError, match="none found; check --inception-weights"):
        InceptionFeatures(tmp_path / "absent.pt", digest)
    with pytest.raises(SettingsError, match="64 hexadecimal digits, got 'abc'"):
        InceptionFeatures(path, "abc")


def test_a_state_dict_or_another_network_is_refused(tmp_path):
    path = tmp_path / "state.pt"
    torch.save({"weight": torch.zeros(3)}, path)
    with pytest.raises(WeightsError, match="loading failed; export them so"):
        InceptionFeatures(path, sha256(path))
    path = exported(tmp_path, 1000)
    with pytest.raises(WeightsError, match=r"to \[B, 2048\], got \(2, 1000\)"):
        InceptionFeatures(path, sha256(path))(np.zeros((2, 1, 20, 20)), (0, 1))
    path = tmp_path / "linear.pt"
    torch.jit.trace(torch.nn.Linear(4, 4), torch.zeros(4)).save(str(path))
    with pytest.raises(WeightsError, match="it failed"):
        InceptionFeatures(path, sha256(path))(np.zeros((2, 1, 20, 20)), (0, 1))


def test_slices_and_limits_are_checked(tmp_path):
    path = exported(tmp_path)
    network = InceptionFeatures(path, sha256(path))
    for slices, limits in ((np.zeros((2, 2, 20, 20)), (0, 1)), (np.zeros((2, 1, 20, 20)), (1, 1))):
        with pytest.raises(SettingsError, match="darkest value below the brightest"):
            network(slices, limits)
