"""The design of an experiment: the command that is reported makes it again."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path

import pytest

from bida.cli.evaluate import experiment_of
from bida.cli.parser import parser
from bida.errors import SettingsError
from bida.experiment.design import ONE, Experiment, command_line
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
        {"choices": Choices(8, "weights.pt", 3, "cpu", "run-eclare --gpu 0", 60.5, "env A=1 python", 0.25)},
        {"scans": ["A+S", "R+A+S", "S"], "methods": ["cubic", "unires", "least-squares"], "axis": "S"},
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


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"scans": ["A+Z"]}, "--scans: must be axes R, A or S joined by \\+, got A\\+Z; give for example A\\+S"),
        ({"scans": ["A++S"]}, "got A\\+\\+S"),
        ({"scans": [""]}, "--scans: must be axes"),
        ({"scans": ["A+S", "A+S"]}, "--scans: must name at least one, each once"),
        (
            {"methods": ["least-squares"]},
            "--methods: least-squares needs 2 scans, got 1; give for example --scans A\\+S",
        ),
        ({"methods": ["least-squares"], "scans": ["S"]}, "least-squares needs 2 scans, got 1"),
        ({"choices": Choices(unires_strength=0.0)}, "--unires-strength: must be a number above 0, got 0"),
    ],
)
def test_sets_of_scans_that_cannot_be_are_refused(changes, message):
    with pytest.raises(SettingsError, match=message) as error:
        Experiment(Path("mice"), Path("out"), **changes)
    assert "\n" not in str(error.value)


def test_a_method_is_given_all_scans_or_the_first():
    planned = Experiment(
        Path("mice"), Path("out"), factors=[5.0], snr=[10.0], scans=["S+A", "A", "R+A+R", "S", "A+A"],
        methods=["cubic", "bida", "least-squares"],
    )  # fmt: skip
    assert [one.scans for one in planned.conditions] == [ONE, "S", "A+A", "S+A", "R+A+R"]
    assert [str(one) for one in planned.conditions[::3]] == ["5\u00d7, SNR 10", "5\u00d7, SNR 10, scans S+A"]
    assert [planned.given("bida", one) for one in planned.conditions] == planned.conditions
    firsts = [planned.given("cubic", one).scans for one in planned.conditions]
    assert firsts == [ONE, "S", ONE, "S", "R"]
    squares = [planned.given("least-squares", one) for one in planned.conditions]
    assert squares == [None, None, *planned.conditions[2:]]
    assert planned.scans_of(planned.conditions[0]) == [("A", ONE)]
    assert planned.scans_of(planned.conditions[2]) == [("A", ONE), ("A", "A2")]
    assert planned.scans_of(planned.conditions[4]) == [("R", "R"), ("A", ONE), ("R", "R2")]


def test_the_package_hands_its_names_on():
    import bida.experiment
    from bida.experiment import runner

    assert bida.experiment.run is runner.run
    assert (bida.experiment.Experiment, bida.experiment.Choices) == (Experiment, Choices)


def test_factors_whose_results_would_have_one_name_are_refused(tmp_path):
    with pytest.raises(SettingsError, match=r"must differ in their first six digits, got .*2\.5, 2\.5000001"):
        Experiment(tmp_path, tmp_path, factors=(2.5, 2.5000001))
