"""The one list of options: what the command, the bundle, Python and the plan take of it."""

import inspect
import json
import re
import shutil
import subprocess
import sys
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import ROOT

import bida
from bida.cli.options import MACHINE, PLAN, PRIOR, STEPS
from bida.cli.parser import parser
from bida.errors import SettingsError
from bida.mri.settings import RENAMED, SamplerOptions, Settings
from bida.options import options_of
from bida.physics.plan import PlanOptions

NAMES = [field.name for field in fields(Settings)]
OWN = {"source", "settings", "affine", "preset", "progress", "unknown"}  # of superres, beside the options
# what a changed default gives: the help of the command, the library's settings and those that the bundle runs with
PROGRAM = """
from monai.bundle import ConfigParser
from bida.cli.parser import main
from bida import Settings
print("python", Settings().batch_size, sep="=")
bundle = ConfigParser()
bundle.read_config(CONFIG)
print("bundle", bundle.get_parsed_content("inferer").options.batch_size, sep="=")
main(["superres", "--help"])
"""


def test_every_field_says_what_it_means():
    assert list(options_of(Settings)) == NAMES
    for name in NAMES:
        assert f"    {name}: " in (Settings.__doc__ or "")


def test_superres_takes_every_option_by_name_without_a_default_of_its_own():
    given = inspect.signature(bida.superres).parameters
    assert set(given) - OWN == set(NAMES)
    assert all(given[name].default is None for name in NAMES)
    assert [name for name, one in given.items() if one.kind is one.VAR_KEYWORD] == ["unknown"]  # refused, with a hint


def test_the_command_takes_every_option():
    assert set(NAMES) <= {action.dest for action in parser(["superres"])._actions[-1].choices["superres"]._actions}


def test_the_bundle_takes_every_option_but_adaptation_and_holds_no_default():
    config = yaml.safe_load((ROOT / "configs" / "inference.yaml").read_text(encoding="utf-8"))
    taken = {name: text for name, text in config["settings"].items() if name not in ("_target_", "preset")}
    assert set(taken) == (set(NAMES) - {"adapt"}) | set(RENAMED)  # old names are refused, with a hint
    assert all(config[text.removeprefix("@")] is None for text in taken.values())


@pytest.mark.slow
def test_a_default_is_written_once(tmp_path: Path):
    """Change it there, in a copy of the package, and see it everywhere."""
    package = tmp_path / "bida"
    shutil.copytree(ROOT / "bundle", package, ignore=shutil.ignore_patterns("__pycache__"))
    for folder in ("transforms", "eval", "configs", "models"):
        (package / folder).symlink_to(ROOT / folder)
    source = package / "mri" / "settings.py"
    text = source.read_text(encoding="utf-8")
    line = f"batch_size: int = option({SamplerOptions().batch_size},"
    assert text.count(line) == 1
    source.write_text(text.replace(line, "batch_size: int = option(13,"), encoding="utf-8")
    code = f"CONFIG = {str(ROOT / 'configs' / 'inference.yaml')!r}\n{PROGRAM}"
    environment = {"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert "python=13" in run.stdout and "bundle=13" in run.stdout, run.stderr
    assert "slices at once; changes no result (13)" in " ".join(run.stdout.split())


def test_none_is_as_not_given():
    assert Settings.of(steps=None, spacing=None) == Settings()
    assert Settings.of("paper", spacing=None).spacing == 0.2


def test_settings_are_what_the_plan_and_the_sampler_take():
    assert isinstance(Settings(), PlanOptions) and isinstance(Settings(), SamplerOptions)


def test_settings_stand_alone():
    with pytest.raises(SettingsError, match="settings: must stand alone, got steps, preset too"):
        bida.superres("nowhere.nii", Settings(), steps=3, preset="paper")


def test_paths_and_numbers_of_numpy_are_made_plain(tmp_path: Path) -> None:
    settings = Settings(like=tmp_path / "a.nii", model=tmp_path / "m.pt", profile=Path("p.txt"), seed=np.int64(3))
    assert json.loads(json.dumps(asdict(settings)))["like"] == str(tmp_path / "a.nii")
    assert (type(settings.seed), settings.profile) == (int, "p.txt")


@pytest.mark.parametrize(
    "given, message",
    [
        ({"self_check": "nearly"}, "self_check: must be yes or no (true/false, on/off, yes/no, 1/0), got 'nearly'"),
        ({"n4": ""}, "n4: must be yes or no (true/false, on/off, yes/no, 1/0), got ''"),
        ({"n4": 2}, "n4: must be yes or no (true/false, on/off, yes/no, 1/0), got 2"),
        ({"steps": 2.5}, "steps: must be a whole number, got 2.5"),
        ({"steps": True}, "steps: must be a whole number, got True"),
        ({"noise": "a"}, "noise: must be auto or a number >= 0, got 'a'"),
        ({"volume": "0"}, "volume: must be a whole number or all, got '0'"),
        ({"adapt": "x"}, "adapt: must be auto or a number of minutes, got 'x'"),
        ({"factor": 5, "spacing": 0.2}, "--factor excludes --spacing, got 5.0 and 0.2"),
        ({"thickness": 0}, "--thickness must be a number above 0, got 0"),
    ],
)
def test_what_cannot_be_is_refused_with_the_settings(given: dict, message: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(message)):
        Settings(**given)


def test_the_mean_is_the_default_and_draws_are_asked_for() -> None:
    assert Settings().is_mean and Settings().steps_taken == 1
    assert Settings(steps=1).is_mean and Settings(fusion="step").is_mean
    for samples in (1, 4):
        draws = Settings(samples=samples, steps=None)
        assert not draws.is_mean and draws.steps_taken == 4
    assert Settings(samples=2, steps=1).steps_taken == 1  # a draw in one step is no mean of the noise
    paper = Settings.of("paper")
    assert (paper.samples, paper.steps_taken, paper.guided, paper.grain) == (1, 16, False, True)


@pytest.mark.parametrize(
    "given",
    [
        {"steps": 8},
        {"fusion": "alternate"},
        {"eta": 0.5},
        {"guided": False},
        {"grain": True},
    ],
)
def test_what_the_mean_has_no_use_for_is_refused_with_a_cure(given: dict) -> None:
    ((name, value),) = given.items()
    with pytest.raises(SettingsError, match=rf"{name}: {value} is for draws, not for the mean: .*; give --samples 1$"):
        Settings(**given)
    assert getattr(Settings(samples=1, **given), name) == value
    with pytest.raises(SettingsError, match="is for draws, not for the mean"):
        Settings.of("paper", samples=0)


def test_every_option_is_in_a_group_of_the_command_or_of_superres_alone() -> None:
    """`bida info` and `bida adapt` take the groups that concern them; `info` takes `align`, too."""
    alone = {"self_check", "fusion", "eta", "seed", "batch_size", "bias_corrected", "adapt", "align"}
    groups = (PLAN, STEPS, PRIOR, MACHINE)
    assert sorted([name for group in groups for name in group] + list(alone)) == sorted(NAMES)
