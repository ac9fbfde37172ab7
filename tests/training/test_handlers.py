import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import nibabel as nib
import numpy as np
import pytest
import torch
from conftest import ROOT
from ignite.engine import Engine, Events
from monai.bundle import ConfigWorkflow
from monai.utils.misc import set_determinism

from bida.diffusion.prior import CLASSES, SPREAD, PlanePrior
from bida.diffusion.resnet import NetworkPair, SliceResNet
from bida.diffusion.unet import SliceUNet
from bida.errors import ScanError, SettingsError, plain_errors
from bida.io.claim import claimed, lock_path
from bida.io.weights import load_weights
from bida.training.handlers import Checkpoints, ExportWeights, SpreadLoss, warmup_cosine, warmup_cosine_scheduler
from bida.training.start import check_alone, prepare, run_alone, set_seed

SMALL = {
    "network#bare#channels": [64],
    "network#bare#blocks": 1,
    "network#guided#channels": 32,
    "network#guided#blocks": 1,
    "steps_per_epoch": 3,
    "batch_size": 2,
    "crop": [16, 16],
    "warmup": 2,
    "num_workers": 0,
    "dtype": "float32",
    "validate#dataset#length": 4,
}


@pytest.fixture
def bids(tmp_path):
    rng = np.random.default_rng(0)
    rows = ["participant_id\tsplit"]
    for subject, split in {"sub-a": "train", "sub-b": "train", "sub-v": "val"}.items():
        folder = tmp_path / "data" / subject / "anat"
        folder.mkdir(parents=True)
        image = nib.Nifti1Image(rng.uniform(0, 100, (20, 24, 18)).astype(np.float32), np.diag([0.2, 0.2, 0.2, 1]))
        nib.save(image, folder / f"{subject}_T2w.nii.gz")
        rows.append(f"{subject}\t{split}")
    (tmp_path / "data" / "participants.tsv").write_text("\n".join(rows) + "\n")
    return tmp_path / "data"


def train(data, output, **overrides):
    workflow = ConfigWorkflow(
        str(ROOT / "configs" / "train.yaml"), workflow_type="train", run_id="training", logging_file=False,
        dataset_dir=str(data), output_dir=str(output), **{**SMALL, **overrides},
    )  # fmt: skip
    workflow.initialize()
    workflow.run()
    return workflow


def small_prior():
    guided = SliceResNet(32, 1, in_channels=9, made=True, spread=True)
    return PlanePrior(NetworkPair(SliceUNet([64], 1, CLASSES, in_channels=2), guided), guided=True)


def test_learning_rate():
    assert [warmup_cosine(step, 4, 104) for step in (0, 3, 4, 54, 104, 200)] == pytest.approx([0.25, 1, 1, 0.5, 0, 0])
    with pytest.raises(SettingsError, match="warmup: must be at least 0 and below the 10 steps"):
        warmup_cosine_scheduler(torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0), 10, 10)


def test_a_network_that_nothing_would_train_is_refused(tmp_path):
    network, device = small_prior(), torch.device("cpu")
    with pytest.raises(
        SettingsError, match=r"unguided: must be above 0 without initial_weights, got 0: .*unguided=0\.2"
    ):
        prepare(network, device, None, 0.0)
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    assert prepare(network, device, tmp_path / "weights.pt", 0.0) is network


def test_properties_of_the_bundle(bids, tmp_path):
    workflow = ConfigWorkflow(
        str(ROOT / "configs" / "train.yaml"), workflow_type="train", logging_file=False, dataset_dir=str(bids),
        output_dir=str(tmp_path / "run"), **SMALL,
    )  # fmt: skip
    workflow.initialize()
    assert not workflow.check_properties()


@pytest.mark.parametrize("config", ["train.yaml", "skullstrip_train.yaml"])
def test_a_folder_that_another_run_writes_to_is_refused_before_any_work(tmp_path, config):
    def workflow():
        return ConfigWorkflow(str(ROOT / "configs" / config), workflow_type="train", run_id="training",
                              logging_file=False, dataset_dir="missing", output_dir=str(tmp_path))  # fmt: skip

    with ThreadPoolExecutor(1) as another:  # a thread has locks of its own
        lock = claimed(tmp_path / "model.pt")
        another.submit(lock.__enter__).result()
        with pytest.raises(ScanError, match=r"model\.pt: output must be one run's alone, process"), plain_errors():
            workflow().initialize()
        another.submit(lock.__exit__, None, None, None).result()
    workflow().initialize()
    assert not list(tmp_path.iterdir())


def test_a_trainer_runs_alone(tmp_path):
    class Trainer:
        def run(self):
            assert lock_path(tmp_path / "model.pt").exists()
            with ThreadPoolExecutor(1) as another, pytest.raises(ScanError, match="must be one run's alone"):
                another.submit(check_alone, tmp_path).result()
            check_alone(tmp_path, rank=1)
            raise KeyError("the end")

    with pytest.raises(KeyError, match="the end"):
        run_alone(Trainer(), tmp_path)
    assert not lock_path(tmp_path / "model.pt").exists()
    configs = [(ROOT / "configs" / name).read_text() for name in ("train.yaml", "skullstrip_train.yaml")]
    assert all("- $training.run_alone(@train#trainer, @output_dir" in one for one in configs)


@pytest.mark.slow
def test_a_resumed_run_is_the_run_that_was_not_stopped(bids, tmp_path):
    whole = train(bids, tmp_path / "whole", epochs=2)
    first = train(bids, tmp_path / "parts", epochs=2, **{"train#trainer#max_epochs": 1})
    assert first.parser.get_parsed_content("train#trainer").state.iteration == 3
    second = train(bids, tmp_path / "parts", epochs=2)
    assert second.parser.get_parsed_content("train#trainer").state.iteration == 6
    for name in ("bare_network", "average_network"):
        expected = whole.parser.get_parsed_content(name).state_dict()
        found = second.parser.get_parsed_content(name).state_dict()
        for key, value in expected.items():
            torch.testing.assert_close(found[key], value, rtol=0, atol=0, msg=f"{name} {key}")
    initial = first.parser.get_parsed_content("bare_network").state_dict()
    assert any(not torch.equal(initial[key], value) for key, value in expected.items())


@pytest.mark.slow
def test_a_run_leaves_weights_checkpoints_and_logs(bids, tmp_path):
    output = tmp_path / "run"
    workflow = train(bids, output, epochs=3)
    prior = small_prior()
    load_weights(prior, output / "model.pt")
    average = workflow.parser.get_parsed_content("average_network")
    for key, value in prior.state_dict().items():
        torch.testing.assert_close(value, average.state_dict()[key], rtol=1e-3, atol=1e-4)  # half precision
    assert sorted(path.name for path in output.glob("*.pt")) == ["checkpoint_6.pt", "checkpoint_9.pt", "model.pt"]
    assert list(output.glob("events.out.tfevents.*"))
    loss = workflow.parser.get_parsed_content("validate#evaluator").state.metrics["loss"]
    assert 0 < loss < (1 / 3) / SPREAD**2  # the variance of uniform noise in [-1, 1], of which a guide tells little


@pytest.mark.slow
def test_two_processes(bids, tmp_path):
    """Two gloo processes of one slice each take the steps of one process with two slices."""
    configs = [str(ROOT / "configs" / name) for name in ("train.yaml", "multi_gpu_train.yaml")]
    output = tmp_path / "two"
    overrides = {**SMALL, "batch_size": 1, "epochs": 1, "dataset_dir": str(bids), "output_dir": str(output)}
    flags = [part for name, value in overrides.items() for part in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=29631",
               "-m", "monai.bundle", "run", "training", "--config_file", str(configs), *flags]  # fmt: skip
    run = subprocess.run(
        command,
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        cwd=tmp_path,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )
    assert run.returncode == 0, run.stderr[-3000:]
    one = train(bids, tmp_path / "one", epochs=1)
    expected = one.parser.get_parsed_content("average_network").state_dict()
    prior = small_prior()
    load_weights(prior, output / "model.pt")
    for key, value in prior.state_dict().items():
        torch.testing.assert_close(value, expected[key], rtol=2e-3, atol=2e-4)  # half precision, order of sums


ON_DEVICE = {name: value for name, value in SMALL.items() if name not in ("num_workers", "validate#dataset#length")}
ON_DEVICE |= {"geometries": 16, "validate#dataloader#geometries": 4, "validate#dataloader#length": 2}
ON_DEVICE |= {"validate#evaluator#epoch_length": 2}


def train_on_device(data, output, **overrides):
    configs = [str(ROOT / "configs" / name) for name in ("train.yaml", "on_device.yaml")]
    workflow = ConfigWorkflow(
        configs, workflow_type="train", run_id="training", logging_file=False,
        dataset_dir=str(data), output_dir=str(output), **{**ON_DEVICE, **overrides},
    )  # fmt: skip
    workflow.initialize()
    workflow.run()
    return workflow


@pytest.mark.slow
def test_a_run_with_batches_of_the_device_is_resumed_as_if_it_had_not_stopped(bids, tmp_path):
    whole = train_on_device(bids, tmp_path / "whole", epochs=2)
    train_on_device(bids, tmp_path / "parts", epochs=2, **{"train#trainer#max_epochs": 1})
    second = train_on_device(bids, tmp_path / "parts", epochs=2)
    assert second.parser.get_parsed_content("train#trainer").state.iteration == 6
    expected = whole.parser.get_parsed_content("average_network").state_dict()
    for key, value in second.parser.get_parsed_content("average_network").state_dict().items():
        torch.testing.assert_close(value, expected[key], rtol=0, atol=0, msg=key)


@pytest.mark.slow
def test_a_run_of_minutes_stops_exports_and_goes_on(bids, tmp_path):
    output = tmp_path / "run"
    first = train_on_device(bids, output, minutes=0.02, steps_per_epoch=1000)
    steps = first.parser.get_parsed_content("train#trainer").state.iteration
    assert 0 < steps < 1000
    clock = first.parser.get_parsed_content("lr_scheduler").lr_lambdas[0]
    assert clock.seconds >= 1.2 and clock(steps) == 0
    assert (output / "model.pt").exists() and (output / f"checkpoint_{steps}.pt").exists()
    second = train_on_device(bids, output, minutes=0.04, steps_per_epoch=1000)
    trainer, clock = (second.parser.get_parsed_content(name) for name in ("train#trainer", "lr_scheduler"))
    assert trainer.state.iteration > steps
    assert 2.4 <= clock.lr_lambdas[0].seconds < 4.8  # the first run's counted
    prior = small_prior()
    load_weights(prior, output / "model.pt")
    assert prior.tells_spread


def test_the_rate_falls_with_the_minutes():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    clock = warmup_cosine_scheduler(optimizer, 4, 1000, minutes=2).lr_lambdas[0]
    assert clock(1) == pytest.approx(0.5) and clock(10) == pytest.approx(1)
    clock.seconds = 60
    assert clock(10) == pytest.approx(0.5)
    clock.seconds = 150
    assert clock(10) == 0
    with pytest.raises(SettingsError, match="minutes: must be a number above 0, got -1"):
        warmup_cosine_scheduler(optimizer, 4, 1000, minutes=-1)


def test_the_spread_is_learned_beside_the_mean_and_does_not_bend_it():
    """Errors of a known deviation: the second channel's best value is its logarithm; a first channel alone is MSE."""
    target = 0.3 * torch.randn(4, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    output = torch.zeros(4, 2, 32, 32, requires_grad=True)
    loss = SpreadLoss(weight=1.0)
    losses = {
        s: float(loss(torch.cat([output[:, :1], torch.full_like(target, s)], 1), target))
        for s in np.linspace(-3, 1, 41)
    }
    assert min(losses, key=losses.get) == pytest.approx(np.log(0.3), abs=0.06)
    loss(output, target).backward()
    plain = torch.zeros(4, 1, 32, 32, requires_grad=True)
    torch.nn.functional.mse_loss(plain, target).backward()
    torch.testing.assert_close(output.grad[:, :1], plain.grad)
    assert float(loss(plain, target)) == pytest.approx(float(target.square().mean()))


@pytest.mark.slow
def test_two_processes_share_a_time_and_their_weights(bids, tmp_path):
    """Batches of the device, two gloo processes, a run of minutes: it ends for both, and leaves weights."""
    configs = [str(ROOT / "configs" / name) for name in ("train.yaml", "on_device.yaml", "multi_gpu_train.yaml")]
    overrides = {**ON_DEVICE, "minutes": 0.02, "steps_per_epoch": 1000, "dataset_dir": str(bids)}
    overrides["output_dir"] = str(tmp_path / "two")
    flags = [part for name, value in overrides.items() for part in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=29632",
               "-m", "monai.bundle", "run", "training", "--config_file", str(configs), *flags]  # fmt: skip
    quiet = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    run = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=300, cwd=tmp_path, env=quiet)
    assert run.returncode == 0, run.stderr[-3000:]
    prior = small_prior()
    load_weights(prior, tmp_path / "two" / "model.pt")
    assert prior.tells_spread


def trainer(folder, export=True):
    """Return an engine of two epochs of a network whose weight tells its steps, with its handlers."""
    network = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(network.weight)

    def step(engine, batch):
        network.weight.data += 1

    engine = Engine(step)
    Checkpoints({"network": network}, folder).attach(engine)
    if export:
        ExportWeights(network, folder / "model.pt").attach(engine)
    return engine


@pytest.mark.parametrize("epoch", [1, 2])
def test_weights_of_a_run_that_was_killed_after_its_checkpoint_are_written_when_it_is_taken_up(tmp_path, epoch):
    engine = trainer(tmp_path)
    engine.run([0] * 3, max_epochs=epoch)
    (tmp_path / "model.pt").unlink()  # was killed between the two
    trainer(tmp_path).run([0] * 3, max_epochs=2)
    assert float(torch.load(tmp_path / "model.pt", weights_only=True)["weight"]) == 6
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint_3.pt", "checkpoint_6.pt", "model.pt"]


def test_a_run_that_has_not_begun_writes_no_weights(tmp_path):
    engine, written = trainer(tmp_path), []
    engine.add_event_handler(Events.STARTED, lambda: written.extend(tmp_path.iterdir()))
    engine.run([0] * 3, max_epochs=1)
    assert not written


def test_a_checkpoint_that_finds_the_disk_full_is_one_line_and_leaves_those_before(tmp_path, full_disk):
    trainer(tmp_path).run([0] * 3, max_epochs=1)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    again = trainer(tmp_path, export=False)
    with full_disk(), pytest.raises(ScanError, match=r"checkpoint_6\.pt: .* writable, got 'File too large'"):
        again.run([0] * 3, max_epochs=2)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("deterministic", [True, False])
def test_a_seed_is_set_and_convolutions_may_be_the_fastest(deterministic, monkeypatch):
    for name in ("deterministic", "benchmark"):
        monkeypatch.setattr(torch.backends.cudnn, name, getattr(torch.backends.cudnn, name))
    set_seed(3, deterministic)
    first = torch.rand(3)
    set_seed(3, deterministic)
    assert torch.equal(first, torch.rand(3))
    assert (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark) == (deterministic, not deterministic)
    set_determinism(None)
