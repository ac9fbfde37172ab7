import os
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
import torch
from conftest import ROOT
from monai.bundle import ConfigWorkflow

from bida.diffusion.prior import CLASSES, SPREAD, PlanePrior
from bida.diffusion.resnet import NetworkPair, SliceResNet
from bida.diffusion.unet import SliceUNet
from bida.errors import SettingsError
from bida.io.weights import load_weights
from bida.training.handlers import prepare, warmup_cosine, warmup_cosine_scheduler

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
    return PlanePrior(NetworkPair(SliceUNet([64], 1, CLASSES, in_channels=2), SliceResNet(32, 1)), guided=True)


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
        text=True,
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
