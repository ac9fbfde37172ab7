"""Commands that are killed and run again, a few of the sixty kills of `benchmarks/kills.py`."""

from __future__ import annotations

import sys

import pytest
from conftest import ROOT, load_benchmark

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks for processes in /proc")


@LINUX
@pytest.mark.slow
def test_commands_that_are_killed_end_right_when_they_are_run_again(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    kills = load_benchmark("kills")
    wrong = kills.kill_all(tmp_path, 4, 0, ["superres-draws", "train"])  # each by SIGKILL and by SIGTERM
    assert wrong == 0, capsys.readouterr().out
