"""How much is printed: `-q` and `-v` of every command, the logger ``bida`` of the library."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from conftest import MakeScan

from bida import superres
from bida.cli.parser import COMMANDS, main, parser
from bida.cohort.job import Outcome
from bida.cohort.told import tell
from bida.progress import LOG, QUIET, TALKS, VERBOSE, Lines, bar, loudness, note, say

FAST = ["--no-n4", "--self-check", "off"]


@pytest.fixture
def scan(make_scan: MakeScan) -> str:
    return str(make_scan((16, 4, 16)))


@pytest.fixture(autouse=True)
def nothing_is_left_behind():
    before = (
        LOG.level,
        LOG.propagate,
        [*LOG.handlers],
        logging.lastResort,
        os.environ.get("PYTHONWARNINGS"),
        [*warnings.filters],
    )
    yield
    assert (
        LOG.level,
        LOG.propagate,
        LOG.handlers,
        logging.lastResort,
        os.environ.get("PYTHONWARNINGS"),
        warnings.filters,
    ) == before


def test_every_command_can_be_quiet_and_verbose(capsys):
    commands = next(iter(parser()._subparsers._group_actions)).choices
    assert set(commands) == set(COMMANDS)
    for name, sub in commands.items():
        assert {"-q", "--quiet", "-v", "--verbose"} <= set(sub._option_string_actions), name
    with pytest.raises(SystemExit):
        main(["superres", "a", "b", "-q", "--verbose"])
    assert "-v/--verbose: not allowed with argument -q/--quiet" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["--quiet", "info"])
    assert "unrecognized arguments: --quiet; it is written behind the command;" in capsys.readouterr().err


def test_a_scan(scan, tmp_path, capsys):
    said = {}
    for name, extra in (("usual", []), ("quiet", ["-q"]), ("verbose", ["-v"])):
        assert main(["superres", scan, str(tmp_path / f"{name}.nii"), *FAST, *extra]) == 0
        said[name] = capsys.readouterr()
    assert "voxels of" in said["usual"].out and "bida: note: " in said["usual"].err and "sampling" in said["usual"].err
    assert tuple(said["quiet"]) == ("", "")
    assert said["verbose"].out.count("\n") == said["usual"].out.count("\n")
    lines = said["verbose"].err
    for told in ("bida: versions: bida=", "bida: settings: ", "self_check=False", "bida: preprocess: ", " s in all\n"):
        assert told in lines and told not in said["usual"].err


def test_what_is_printed_changes_no_result(scan, tmp_path):
    said = {"usual": [], "quiet": ["-q"], "verbose": ["-v"]}
    for name, extra in said.items():
        assert main(["superres", scan, str(tmp_path / f"{name}.nii"), *FAST, *extra]) == 0
    results = [(tmp_path / f"{name}.nii").read_bytes() for name in said]
    records = [json.loads((tmp_path / f"{name}.json").read_text()) for name in said]
    assert results == [results[0]] * 3
    assert records[1]["warnings"] == records[0]["warnings"] != []  # what was not said is kept


def test_an_error_is_told_whatever_is_asked_for(tmp_path, capsys):
    for extra in ([], ["-q"]):
        assert main(["superres", str(tmp_path / "nowhere.nii"), str(tmp_path / "out.nii"), *extra]) == 2
        out, err = capsys.readouterr()
        assert out == "" and "nowhere.nii: must exist" in err and err.count("\n") == 1


def test_what_is_asked_for_is_printed(scan, tmp_path, capsys):
    assert main(["info", scan, "-q"]) == 0
    assert "through-plane axis" in capsys.readouterr().out
    assert main(["superres", scan, "-o", str(tmp_path / "out"), "--dry-run", "--json", "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)[0]["there"] is False and err == ""


def test_of_many_scans_failures_alone_are_told(capsys):
    told = {"warnings": ["the thickness is assumed"]}
    outcomes = [Outcome("a", "a_sr", "done", told=told), Outcome("b", "b_sr", "failed", "b: must exist")]
    tell(outcomes, Path("index.html"))
    assert "1 failed; see index.html" in capsys.readouterr().out
    with loudness(QUIET):
        tell(outcomes, Path("index.html"))
    assert tuple(capsys.readouterr()) == ("", "failed: b: must exist\n")


def test_bars_notes_and_warnings(capsys, monkeypatch):
    talks = logging.getLogger(TALKS)
    monkeypatch.setattr(talks, "level", logging.INFO)
    monkeypatch.setattr(talks, "handlers", [Lines()])
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # what tests of trainings have left, and pytest's

    def everything():
        with bar(total=2, desc="steps") as shown:
            shown.update()
            say("made")
            note("assumed", ", 1 of 2")
            logging.getLogger("somebody").warning("logged")
            logging.getLogger(TALKS).info("logged by MONAI")
            warnings.warn("warned", UserWarning, stacklevel=1)

    with pytest.warns(UserWarning, match="warned"), loudness(None):
        everything()
    out, err = capsys.readouterr()
    assert out == "made\n" and "bida: note, 1 of 2: assumed\n" in err and "steps: " in err
    with loudness(QUIET):
        everything()
    assert tuple(capsys.readouterr()) == ("", "")
    with pytest.warns(UserWarning, match="warned"), loudness(VERBOSE):
        everything()
    assert "bida: logged by MONAI\n" in capsys.readouterr().err and "by MONAI" not in err


def test_processes_of_a_quiet_command_are_quiet():
    program = [sys.executable, "-c", "import warnings; warnings.warn('warned')"]
    assert "warned" in subprocess.run(program, capture_output=True, text=True).stderr
    with loudness(QUIET):
        assert subprocess.run(program, capture_output=True, text=True).stderr == ""


def test_lines_stand_above_bars(capsys):
    with loudness(VERBOSE), bar(total=2, desc="steps", mininterval=0) as shown:
        shown.update()
        LOG.info("half: %.1f s", 1.0)
    assert "\rbida: half: 1.0 s\n" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::bida.errors.BidaWarning")
def test_the_library_logs_settings_and_times(scan, caplog):
    with caplog.at_level(logging.INFO, "bida"):
        superres(scan, n4=False, self_check=False, seed=3)
    lines = [record.getMessage() for record in caplog.records if record.name == "bida"]
    assert any(line.startswith("settings: ") and "seed=3" in line for line in lines)
    assert [line.partition(":")[0] for line in lines[2:]] == [
        "load weights", "preprocess", "self check", "sample", "postprocess"
    ]  # fmt: skip
    caplog.clear()
    superres(scan, n4=False, self_check=False)
    assert [record for record in caplog.records if record.name == "bida"] == []
