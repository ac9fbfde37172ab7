"""The measurement of bfloat16 against float32, and the file that keeps it; each test has a cache folder of its own."""

import json
import os
import time
from functools import partial

import pytest
import torch
from platformdirs.macos import MacOS
from platformdirs.unix import Unix
from platformdirs.windows import Windows

from bida import cpu_speed
from bida.cpu_speed import FILE, Int8Speed, Speed, bfloat16_speed, int8_speed, machine
from bida.io.kept import cache_file

FAST = Speed(3.0, 4.0)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An own cache folder, and a measurement that counts its calls instead of measuring."""
    monkeypatch.setattr("platformdirs.PlatformDirs", Unix)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    calls = []
    monkeypatch.setattr(cpu_speed, "measured", lambda: calls.append(1) or FAST)
    monkeypatch.setattr(cpu_speed, "measured_int8", lambda dtype: calls.append(dtype) or Int8Speed(2.0, "float32"))
    another_process()
    yield calls
    another_process()


def kept_file():
    return cache_file(FILE)


def another_process():
    cpu_speed._bfloat16_speed.cache_clear()
    cpu_speed._int8_speed.cache_clear()


def test_a_machine_is_measured_once(cache):
    first = bfloat16_speed()
    assert (first.value, first.kept, first.problem) == (FAST, False, None)
    assert bfloat16_speed() is first
    another_process()
    again = bfloat16_speed()
    assert (again.value, again.kept, again.problem) == (FAST, True, None)
    assert len(cache) == 1


def test_int8_is_measured_once_against_each_arithmetic(cache):
    for _ in range(2):
        assert [int8_speed(dtype).value for dtype in (torch.float32, torch.bfloat16)] == [Int8Speed(2.0, "float32")] * 2
        another_process()
    assert cache == [torch.float32, torch.bfloat16]
    assert int8_speed(torch.float32).kept and bfloat16_speed().value == FAST  # of a file of its own


@pytest.mark.parametrize(("convolution", "worthwhile"), [(1.7, True), (1.2, False), (0.0, False)])
def test_int8_must_gain(convolution, worthwhile):
    speed = Int8Speed(convolution, "bfloat16")
    assert speed.worthwhile == worthwhile
    told = f"{convolution:.2f} times the speed of bfloat16" if convolution else "no exact convolutions in int8"
    assert told in str(speed)


def test_what_is_not_exact_is_not_timed(monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(cpu_speed, "exact", lambda: False)
    monkeypatch.delattr(cpu_speed, "_integer_conv")
    assert cpu_speed.measured_int8(torch.float32) == Int8Speed(0.0, "float32")


def test_another_torch_is_measured_anew_and_other_threads_are_not(cache, monkeypatch):
    bfloat16_speed()
    with monkeypatch.context() as patch:
        patch.setattr(torch, "get_num_threads", lambda: 61)
        assert bfloat16_speed() is bfloat16_speed()
    another_process()
    assert bfloat16_speed().kept and len(cache) == 1
    monkeypatch.setattr(torch, "__version__", "0.0")
    assert not bfloat16_speed().kept
    assert len(cache) == 2
    assert len(json.loads(kept_file().read_text())) == 2  # nothing that was known is lost
    assert "one thread" in machine() and "torch 0.0" in machine()


@pytest.mark.parametrize("measure", [cpu_speed.measured, partial(cpu_speed.measured_int8, torch.float32)])
def test_the_speed_is_that_of_one_thread(measure, monkeypatch):
    threads, seen = torch.get_num_threads(), []
    monkeypatch.setattr(cpu_speed, "_best", lambda run: seen.append(torch.get_num_threads()) or 1.0)
    torch.set_num_threads(2)
    try:
        measure()
        assert set(seen) == {1} and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"KEY": 3}', '{"KEY": {"product": 1}}', "\x00\xff"])
def test_a_damaged_file_is_told_of_and_replaced(cache, text):
    kept_file().parent.mkdir()
    kept_file().write_bytes(text.replace("KEY", machine().replace('"', "")).encode("latin-1"))
    found = bfloat16_speed()
    assert found.value == FAST and not found.kept
    assert "arithmetic.json: the CPU's speed in bfloat16 cannot be read (it is not what" in found.problem
    another_process()
    assert bfloat16_speed().kept


@pytest.mark.parametrize("blocked", ["folder", "file"])
def test_a_cache_that_cannot_be_used_is_told_of(cache, blocked):
    if blocked == "folder":
        kept_file().parent.write_text("a file where the folder would be")
    else:
        kept_file().mkdir(parents=True)
    for _ in range(2):
        found = bfloat16_speed()
        assert found.value == FAST and not found.kept
        assert "cannot be kept" in found.problem and "measures it again" in found.problem
        another_process()
    assert len(cache) == 2


@pytest.mark.parametrize("value", ["", "relative/path"])
def test_only_an_absolute_cache_folder_counts(monkeypatch, tmp_path, value):
    monkeypatch.setenv("XDG_CACHE_HOME", value)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert kept_file() == tmp_path / ".cache" / "bida" / "arithmetic.json"


@pytest.mark.parametrize(("system", "folder"), [(MacOS, "Library/Caches"), (Windows, "AppData/Local")])
def test_other_systems_have_other_folders(monkeypatch, tmp_path, system, folder):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr("platformdirs.windows.get_win_folder", lambda name: str(tmp_path / "AppData" / "Local"))
    monkeypatch.setattr("platformdirs.PlatformDirs", system)
    assert kept_file() == tmp_path / folder / "bida" / "arithmetic.json"


def test_no_time_is_spent_on_hopeless_arithmetic(monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(cpu_speed, "CLOCK", time.perf_counter)  # who sleeps takes no time of a processor
    sizes = []
    slow = {torch.float32: 0.0, torch.bfloat16: 2e-3}

    def operation(n, dtype):
        sizes.append(n)
        return lambda: time.sleep(slow[dtype])

    for name in ("_product", "_conv"):
        monkeypatch.setattr(cpu_speed, name, operation)
    speed = cpu_speed.measured()
    assert not speed.worthwhile
    assert set(sizes) == set(cpu_speed.SIZES[0])
    sizes.clear()
    slow.update({torch.float32: 2e-3, torch.bfloat16: 0.0})
    assert cpu_speed.measured().worthwhile
    assert set(sizes) == {n for pair in cpu_speed.SIZES for n in pair}


def test_the_measurement_is_short(monkeypatch):
    monkeypatch.undo()
    cpu_speed.measured()  # the first calls load kernels
    start = time.process_time()
    speed = cpu_speed.measured()
    assert time.process_time() - start < 0.5 * max(1, os.cpu_count() or 1)  # ten times what it takes, for busy machines
    assert 0.001 < speed.product < 1000 and 0.001 < speed.convolution < 1000
    start = time.process_time()
    speed = cpu_speed.measured_int8(torch.float32)
    assert time.process_time() - start < 0.5 * max(1, os.cpu_count() or 1)
    assert speed.than == "float32" and speed.convolution < 1000


def test_the_cpu_is_named():
    assert cpu_speed.cpu_model().strip()
