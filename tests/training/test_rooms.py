"""Names that rooms hand on: each is the object of its own file, and configurations can name it."""

import importlib
import subprocess
import sys

import pytest
import torch
from ignite.engine import Engine
from monai.bundle import ConfigParser

import bida.training as training

ROOMS = ("bida.training", "bida.microscopy", "bida.diffusion", "bida.transforms.augment")
NAMES = [(room, name) for room in ROOMS for name in importlib.import_module(room).__all__]


@pytest.mark.parametrize("room, name", NAMES)
def test_a_name_is_that_of_its_own_file(room, name):
    found = getattr(importlib.import_module(room), name)
    assert found.__module__.startswith(f"{room}.") and getattr(sys.modules[found.__module__], name) is found


def test_configurations_name_what_rooms_hand_on():
    parser = ConfigParser(
        {
            "network": {"_target_": "torch.nn.Linear", "in_features": 1, "out_features": 1},
            "average": {"_target_": "bida.training.WeightAverage", "network": "@network", "decay": 0.9},
            "loss": {"_target_": "bida.microscopy.RowLoss"},
            "unet": {"_target_": "bida.diffusion.SliceUNet", "channels": [8], "blocks": 1},
            "noise": {"_target_": "bida.transforms.augment.RandScanNoised", "keys": "image"},
            "bar": {"_target_": "bida.training.Progress"},
        }
    )
    made = {
        name: type(parser.get_parsed_content(name)).__name__ for name in ("average", "loss", "unet", "noise", "bar")
    }
    assert list(made.values()) == ["WeightAverage", "RowLoss", "SliceUNet", "RandScanNoised", "TrainingBar"]


@pytest.mark.parametrize("room", ROOMS[:3])
def test_a_room_imports_nothing_by_itself(room):
    program = f"import sys, {room}; sys.exit(', '.join({{'torch', 'monai', 'numpy'}} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stderr.strip() == ""


def test_the_bar_of_a_resumed_run_goes_on_to_the_last_step(capsys):
    """It counts the steps of all epochs from those that are done, and says the loss."""
    engine = Engine(lambda engine, batch: {"loss": torch.tensor(0.25)})
    training.TrainingBar().attach(engine)
    engine.load_state_dict({"iteration": 3, "epoch_length": 3, "max_epochs": 2})
    engine.run([0, 1, 2], max_epochs=2)
    last = capsys.readouterr().err.split("\r")[-1]
    assert "6/6" in last and "loss=0.2500" in last
