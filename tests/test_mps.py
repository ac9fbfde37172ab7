"""When mps is taken: by probes that stand for it, for there is no such device here."""

import json
import subprocess
import sys

import pytest
import torch
from conftest import ROOT
from platformdirs.unix import Unix

from bida import device
from bida.device import MPS_FILE, DeviceChoice, DtypeChoice, Trial, choose_device, device_choice, small_pass, tried
from bida.io.kept import Kept, cache_file

CPU, MPS = torch.device("cpu"), torch.device("mps")


def forget():
    device._mps_trial.cache_clear()


@pytest.fixture(autouse=True)
def a_mac(tmp_path, monkeypatch):
    """No CUDA, an mps, and an own cache folder."""
    monkeypatch.setattr("platformdirs.PlatformDirs", Unix)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    forget()
    yield
    forget()


@pytest.fixture
def passes(monkeypatch):
    """Let passes on mps be those of the CPU with an error, which the test sets; return it and the devices asked."""
    state = {"error": lambda parts: parts, "asked": []}

    def one(place):
        state["asked"].append(place.type)
        parts = small_pass(CPU)
        return parts if place == CPU else state["error"](parts)

    monkeypatch.setattr(device, "small_pass", one)
    return state


def off_by(share, index):
    def changed(parts):
        one = parts[index]
        one[(0,) * one.ndim] += share * (one.max() - one.min())
        return parts

    return changed


def refuse(parts):
    """Fail as PyTorch does where mps lacks an operator."""
    raise NotImplementedError("The operator 'aten::x' is not\nimplemented for the MPS device")


def test_the_same_answer_is_taken_and_tried_once(passes):
    assert device_choice() == DeviceChoice(MPS)
    forget()  # as another run
    assert choose_device("auto") == MPS
    assert passes["asked"] == ["cpu", "mps"]
    (row,) = json.loads(cache_file(MPS_FILE).read_text()).values()
    assert row == {"difference": 0.0, "failure": None}


@pytest.mark.parametrize("index", range(5))
def test_every_part_of_the_pass_counts(passes, index):
    passes["error"] = off_by(0.009, index)
    assert choose_device() == MPS
    forget()
    cache_file(MPS_FILE).unlink()
    passes["error"] = off_by(0.02, index)
    assert device_choice().device == CPU
    assert "the CPU computes, not mps: a small pass differs there from the CPU's by 0.0" in device_choice().warning


def test_a_failure_and_what_is_no_number_leave_it_to_the_cpu(passes):
    passes["error"] = refuse
    for _ in range(2):  # the second is told what the first kept
        found = device_choice()
        assert found.device == CPU
        assert found.warning == (
            "the CPU computes, not mps: a small pass failed there (NotImplementedError: The operator 'aten::x' is not "
            "implemented for the MPS device)"
        )
        forget()
    assert passes["asked"] == ["cpu", "mps"]
    passes["error"] = off_by(float("nan"), 0)
    assert not tried(MPS).same


def test_another_torch_or_system_is_tried_anew(passes, monkeypatch):
    choose_device()
    monkeypatch.setattr(torch, "__version__", "0.0")
    choose_device()
    monkeypatch.setattr("platform.mac_ver", lambda: ("99.1", ("", "", ""), "arm64"))
    choose_device()
    assert passes["asked"].count("mps") == 3
    assert len(json.loads(cache_file(MPS_FILE).read_text())) == 3


def test_a_damaged_file_is_told_of(passes):
    cache_file(MPS_FILE).parent.mkdir()
    cache_file(MPS_FILE).write_text('{"a": {"difference": "none"}}')
    found = device_choice()
    assert found.device == MPS and "mps.json: whether mps is as the CPU cannot be read" in found.warning


def test_it_is_asked_only_where_auto_may_take_it(passes, monkeypatch):
    choose_device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device().type == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert device_choice() == DeviceChoice(CPU)
    assert passes["asked"] == []


def test_notes_are_of_the_device_and_of_its_arithmetic(monkeypatch):
    monkeypatch.setattr(device, "mps_trial", lambda: Kept(Trial(0.5), kept=True, problem="lost"))
    choice = DtypeChoice("float32", "measured", "unkept")
    first = "the CPU computes, not mps: a small pass differs there from the CPU's by 0.5 of its range; lost"
    assert device.notes_of("auto", choice) == [first, "unkept"]
    assert device.notes_of("cpu", DtypeChoice("float32", "as asked")) == []


def test_a_pass_is_the_same_every_time_and_no_part_is_empty():
    first = small_pass(CPU)
    with torch.inference_mode():
        second = small_pass(CPU)
    assert all(torch.equal(a, b) and a.numel() > 1 and a.max() > a.min() for a, b in zip(first, second))
    assert tried(CPU).difference == 0
    assert not tried(torch.device("meta")).same


@pytest.mark.slow
def test_a_device_without_float64_restores_a_scan_as_the_cpu_does(make_scan):
    scan = make_scan((24, 9, 24), (0.2, 0.8, 0.2))
    command = [sys.executable, ROOT / "tests/far_device.py", scan, "{}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert float(done.stdout.split()[-1]) < 1e-4  # float32 against float64 sums
