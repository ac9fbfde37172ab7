"""The design of an experiment: the command that is reported makes it again."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path

import pytest

from bida.cli.evaluate import experiment_of
from bida.cli.parser import parser
from bida.errors import SettingsError
from bida.experiment.design import Experiment, command_line
from bida.experiment.methods import Choices


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"factors": [2.5, 5.0], "methods": ["cubic", "bida"], "metrics": ["psnr"], "subjects": ["sub-01", "sub-02"]},
        {"snr": ["clean", 20.0, 7.5], "methods": ["cubic"]},
        {"snr": [10.0], "choices": Choices(timeout_s=float("inf"))},
        {"split": "test", "axis": "S", "spacing_mm": 0.123456789, "n4": False, "profile": "my profile.csv"},
        {"strippers": ["threshold", "command:rbm {in} {out}"], "atlases": 0, "jobs": 2},
        {"choices": Choices(8, "weights.pt", 3, "cpu", "run-eclare --gpu 0", 60.5)},
    ],
)
def test_the_command_makes_the_experiment_again(changes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("my profile.csv").write_text("-0.3 0\n0 1\n0.3 0\n")
    planned = Experiment(Path("my data"), Path("out"), **changes)
    program, *arguments = shlex.split(command_line(planned))
    assert program == "bida"
    found = experiment_of(parser().parse_args(arguments))

    def plain(value):
        return [plain(one) for one in value] if isinstance(value, list | tuple) else str(value)

    assert {k: plain(v) for k, v in asdict(found).items()} == {k: plain(v) for k, v in asdict(planned).items()}


def test_a_profile_that_is_not_there_is_refused_before_any_work():
    with pytest.raises(SettingsError, match="profile must be slr, gaussian, box or a file"):
        Experiment(Path("mice"), Path("out"), profile="sinc")


def test_the_command_names_what_is_not_the_default():
    planned = Experiment(Path("mice"), Path("out"), factors=[5.0], methods=["cubic"])
    assert command_line(planned) == "bida evaluate --data mice --out out --factors 5 --methods cubic"


def test_the_package_hands_its_names_on():
    import bida.experiment
    from bida.experiment import runner

    assert bida.experiment.run is runner.run
    assert (bida.experiment.Experiment, bida.experiment.Choices) == (Experiment, Choices)
