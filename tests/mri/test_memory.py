"""A run that cannot fit is refused before any work."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import MakeScan

from bida.cli.parser import main
from bida.mri import memory


def test_what_is_free_is_known_on_linux() -> None:
    free = memory.available_bytes()
    assert free is not None and 10e6 < free < 1e14


@pytest.mark.parametrize("command", ["superres", "info"])
def test_too_little_memory_is_one_line(make_scan: MakeScan, tmp_path, monkeypatch, capsys, command: str) -> None:
    words = [str(make_scan())] + ([str(tmp_path / "out.nii")] if command == "superres" else [])
    monkeypatch.setattr(memory, "available_bytes", lambda: 20 * 40 * 18 * memory.LEAST_BYTES - 1)
    assert main([command, *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("bida: error: memory: a result of 20 x 40 x 18 voxels needs about 0.6 GB, got 0.0 GB free")
    assert error.count("\n") == 1 and not (tmp_path / "out.nii").exists()


@pytest.mark.parametrize("free", [None, 10**12])
def test_enough_memory_or_a_system_that_does_not_tell(make_scan: MakeScan, monkeypatch, capsys, free) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda: free)
    assert main(["info", str(make_scan())]) == 0
    assert "memory              about 0.6 GB" in capsys.readouterr().out


MEASURE = r"""
import re, sys
from pathlib import Path
from bida import superres

def peak(path):
    voxels = superres(path, n4=False, self_check=False).data.size
    # not ru_maxrss, which a process takes over from the one that has started it
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024, voxels

small, large = peak(sys.argv[1]), peak(sys.argv[2])
print((large[0] - small[0]) / large[1])
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not tell")
def test_the_estimate_is_what_a_run_takes(make_scan: MakeScan) -> None:
    small, large = make_scan(name="small.nii"), make_scan((150, 30, 150), name="large.nii")
    # a process of its own: the largest memory that one has ever held does not fall
    command = [sys.executable, "-c", MEASURE, str(small), str(large)]
    taken = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert memory.LEAST_BYTES * 0.5 < taken < memory.BYTES * 1.2  # less by what the small scan had taken already
