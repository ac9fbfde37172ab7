import copy
import itertools
import sys
from contextlib import ExitStack

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from bida.diffusion.prior import CLASSES, PlanePrior
from bida.diffusion.unet import SliceUNet
from bida.errors import ScanError, SettingsError
from bida.mri.adapt import Adaptation, ScanSlices, adapt, training_slices
from bida.mri.selfcheck import chosen_indices
from bida.physics.geometry import SliceGeometry
from bida.training.dataset import CountingSampler
from bida.training.timed import leave_unfetched_batches

GEOMETRY = SliceGeometry(1, 10, 0.6, 0.6, 40, 0.15)


def scan(seed=0):
    """Ten slices; each voxel tells its slice, so that it can be found in a crop."""
    rng = np.random.default_rng(seed)
    slices = np.repeat(rng.uniform(-0.2, 0.2, (24, 1, 32)), 10, axis=1)
    return ScanSlices((slices + np.linspace(-0.7, 0.7, 10)[None, :, None]).astype(np.float32), GEOMETRY)


def stripes():
    """Ten slices of bright and dark stripes six voxels apart, which thick slices blur and a network can sharpen."""
    wave = np.sign(np.sin(np.arange(48) * np.pi / 3 + 0.5)) * 0.5
    slices = np.repeat((wave[:, None] * np.ones(48))[:, None], 10, axis=1)
    return ScanSlices(slices.astype(np.float32), GEOMETRY)


def prior():
    torch.manual_seed(0)
    return PlanePrior(SliceUNet([64], 1, CLASSES, 32, in_channels=9), guided=True)


@pytest.fixture
def ticks(monkeypatch):
    """A clock by which every step takes a sixteenth of a second, however busy the machine is."""
    clock = itertools.count()
    monkeypatch.setattr("bida.training.timed.time.perf_counter", lambda: next(clock) / 16)


def how(minutes=0.02, **options):
    return Adaptation(minutes, batch_size=4, crop=16, **options)


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values()))


@pytest.mark.parametrize("highest", [1.0, pytest.param(0.0, marks=pytest.mark.slow)])
def test_the_loss_falls_and_the_prior_is_ready_to_sample(ticks, highest):
    network = prior()
    dataset = training_slices([stripes()], how(highest=highest), prior())
    x, target, t, classes = (
        torch.stack([torch.as_tensor(dataset[1000 + i][key]) for i in range(64)])
        for key in ("image", "label", "timesteps", "planes")
    )

    def error():
        with torch.no_grad():
            return float((network(x, t, classes) - target).square().mean())

    before, losses = error(), []
    pace = how(0.05, rate=4e-3, highest=highest)
    steps = adapt(network, [stripes()], pace, report=lambda done, total, loss: losses.append(loss))
    assert steps == len(losses) == 48
    assert error() < 0.97 * before
    assert not network.training


def test_the_slices_of_the_self_check_are_never_shown():
    bright = scan()
    bright.slices[0, 2:9, 0] = 40.0  # far beyond what training clips at: the check sees it as it is
    for one in (scan(), bright):
        held = chosen_indices(torch.from_numpy(one.slices), 1)
        (stack, free), *_ = training_slices([one], how(), prior()).slices["axial"]
        assert held and not set(free) & set(held)
    held = chosen_indices(torch.from_numpy(scan().slices), 1)
    dataset = training_slices([scan()], how(), prior())
    (stack, free), *_ = dataset.slices["axial"]
    assert stack.shape == (10, 24, 32, 2)
    assert held and not set(free) & set(held)
    assert set(free) | set(held) == set(range(10))
    item = dataset[0]
    assert item["image"].shape == (9, 16, 16) and item["label"].shape == (1, 16, 16)
    assert {dataset[i]["planes"] % 3 for i in range(30)} == {0, 1, 2}  # what is sharp in its plane teaches all


def test_slices_are_made_thick_by_the_scans_own_operator():
    drawn = training_slices([scan()], how(factors=(1.0, 1.0)), prior()).transform[0].transforms[-2].draw_geometry(24)
    assert drawn.factor == pytest.approx(GEOMETRY.factor)
    assert (drawn.thickness_mm, drawn.voxel_mm, drawn.profile) == (pytest.approx(0.6), 0.15, "slr")


def test_the_crops_are_the_same_by_any_number_of_processes():
    dataset = training_slices([scan()], how(), prior())
    loaders = [DataLoader(dataset, 4, sampler=CountingSampler(), num_workers=workers) for workers in (0, 2)]
    for one, two in itertools.islice(zip(*loaders), 4):
        assert all(torch.equal(one[key], two[key]) for key in ("image", "label", "timesteps", "planes"))


def test_what_a_prior_predicts_is_what_it_is_taught():
    network = SliceUNet([64], 1, CLASSES, 32, in_channels=9)
    other = PlanePrior(network, "x0", 100, guided=True, schedule="linear")
    diffuse = training_slices([scan()], how(), other).transform[0].transforms[-1]
    assert diffuse.prediction == "x0"
    assert torch.equal(diffuse.alpha_bar, other.alpha_bar)


def test_and_by_thinner_ones_of_its_profile():
    thicken = training_slices([scan()], how(), prior()).transform[0].transforms[-2]
    drawn = [thicken.draw_geometry(24) for _ in range(200)]
    factors = [one.factor for one in drawn]
    assert GEOMETRY.factor / 2 <= min(factors) < 0.6 * GEOMETRY.factor
    assert max(factors) == pytest.approx(GEOMETRY.factor)
    own = np.isclose(factors, GEOMETRY.factor).mean()
    assert 0.4 < own < 0.6  # half, of 200: 0.1 is three standard errors
    assert all(one.thickness_mm == pytest.approx(one.slice_spacing_mm) and one.profile == "slr" for one in drawn)


@pytest.mark.slow
def test_a_run_that_was_cut_off_goes_on(ticks, tmp_path):
    file = tmp_path / "run.ckpt"

    class CutOffError(Exception):
        pass

    def cut(done, total, loss):
        if done > 0.3 * total:
            raise CutOffError

    network = prior()
    with pytest.raises(CutOffError):
        adapt(network, [scan()], how(save_seconds=0.0), file, cut)
    kept = torch.load(file, weights_only=True)
    assert 0 < kept["seconds"] < 0.02 * 60
    seen = []
    steps = adapt(prior(), [scan()], how(), file, lambda done, total, loss: seen.append(done))
    assert steps > kept["step"] and min(seen) > kept["seconds"]

    other = prior()
    other.weights_sha256 = "others"
    for changed in ((other, [scan()], how()), (prior(), [scan(seed=1)], how()), (prior(), [scan()], how(rate=1e-5))):
        with pytest.raises(SettingsError, match=r"run\.ckpt: a run that is taken up must have the same scans"):
            adapt(*changed, file)


@pytest.mark.slow
def test_the_pull_holds_the_released_weights(ticks):
    start = prior()
    free, held = copy.deepcopy(start), copy.deepcopy(start)
    adapt(free, [scan()], how(pull=0.0))
    adapt(held, [scan()], how(pull=1.0))
    assert not same(free, start)

    def distance(network):
        pairs = zip(network.parameters(), start.parameters())
        return sum(float((a - b).square().sum()) for a, b in pairs)

    assert distance(held) < 0.25 * distance(free)


def test_what_cannot_be_adapted():
    with pytest.raises(SettingsError, match="minutes must be a number above 0, got 0"):
        Adaptation(0)
    with pytest.raises(SettingsError, match="the prior must be a guided one"):
        adapt(PlanePrior(SliceUNet([64], 1)), [scan()], how())
    empty = ScanSlices(np.zeros((24, 10, 32), np.float32), GEOMETRY)
    with pytest.raises(SettingsError, match="scan 1 of 1 has none with content"):
        training_slices([empty], how(), prior())
    few = ScanSlices(scan().slices[:, :4], GEOMETRY)
    with pytest.raises(SettingsError, match="scan 2 of 2 has none with content"):
        training_slices([scan(), few], how(), prior())
    small, coarse = ScanSlices(scan().slices[:6], GEOMETRY), prior()
    coarse.stride = 8
    with pytest.raises(SettingsError, match="slices must have at least 8 x 8 voxels, the smallest has 6"):
        how().fitted([small], coarse.stride)


def test_a_disk_that_fills_up_is_one_line_and_leaves_the_state_before(ticks, tmp_path, full_disk):
    file = tmp_path / "run.ckpt"
    before = []
    with ExitStack() as stack, pytest.raises(ScanError, match=r"run\.ckpt: .*writable, got 'File too large'"):

        def after_a_step(done, total, loss):
            before.append(file.read_bytes())
            stack.enter_context(full_disk())

        adapt(prior(), [scan()], how(save_seconds=0.0), file, after_a_step)
    assert [file.read_bytes()] == before and list(tmp_path.iterdir()) == [file]


def test_a_batch_that_nobody_fetches_is_no_error_and_others_are(monkeypatch):
    said = []
    monkeypatch.setattr("sys.excepthook", lambda *error: said.append(error[0]))
    leave_unfetched_batches(0)
    for error in (ConnectionResetError(104, "reset"), RuntimeError("other")):
        sys.excepthook(type(error), error, None)
    assert said == [RuntimeError]
