"""Many things at once: a process that dies loses nothing else than what it ran, an interrupt ends everything."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fake_programs import is_gone
from parallel_work import die_once, double, double_or_die, hang, started, threads

from bida.errors import SettingsError
from bida.parallel import worker
from bida.parallel.cluster import threads_of, workers_spec
from bida.parallel.queue import Lost, each, on_dask

JOBS = 2


class Future:
    """What stands in for a future of Dask: done at once."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self.error: BaseException | None = None
        try:
            self.value = call()
        except Exception as error:
            self.error = error

    def exception(self) -> BaseException | None:
        return self.error

    def result(self) -> Any:
        return self.value

    def release(self) -> None:
        """Nothing is kept."""


class Client:
    """What stands in for Dask's client, in this process; `waited` says for how many workers each time."""

    def __init__(self) -> None:
        self.keys, self.waited = list[str](), list[int]()

    def submit(self, work: Callable[..., Any], *items: Any, key: str, pure: bool) -> Future:
        assert not pure
        self.keys.append(key)
        return Future(lambda: work(*items))

    def wait_for_workers(self, count: int, timeout: float) -> None:
        self.waited.append(count)
        if count == 99:
            raise TimeoutError

    def scheduler_info(self) -> dict[str, Any]:
        return {"workers": {}}


class Ended(list[Any]):
    """What stands in for `as_completed`: the futures in order, more as they are added."""

    def update(self, more: list[Any]) -> None:
        self.extend(more)

    def __iter__(self) -> Iterator[Any]:
        while self:
            yield self.pop(0)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Client:
    """A client that does its work here."""
    monkeypatch.setattr("distributed.as_completed", Ended)
    return Client()


def fail_at_two(number: int) -> int:
    if number == 2:
        raise KeyError("two\nlines")
    return 2 * number


def test_no_more_is_handed_out_than_there_are_workers(here: Client) -> None:
    results = on_dask(here, fail_at_two, range(6), JOBS)
    found = [next(results)]
    assert len(here.keys) == JOBS, "the next item is handed out when the one before was taken"
    found += results
    assert found == [(n, Lost("KeyError: 'two\\nlines'") if n == 2 else 2 * n) for n in range(6)]
    assert len(set(here.keys)) == 6 and here.waited == [JOBS] * 6
    all_at_once = on_dask(here, double, range(6))
    next(all_at_once)
    assert len(set(here.keys)) == 12 and here.waited == [JOBS] * 6, "a cluster sees all of its work"


def test_an_item_at_which_processes_die_is_told(here: Client) -> None:
    from distributed.scheduler import KilledWorker

    def killed(number: int) -> int:
        raise KilledWorker("task", None, 3)

    assert list(on_dask(here, killed, [5], 1)) == [(5, Lost("4 processes died at it; look at memory"))]
    with pytest.raises(SettingsError, match=r"^--workers: a process must be there to go on, none came back .*memory"):
        list(on_dask(here, double, [5], 99))


def test_one_worker_is_this_process() -> None:
    assert list(each(lambda number: (number, os.getpid()), range(3))) == [(n, (n, os.getpid())) for n in range(3)]
    assert list(each(double, [], 4)) == []
    with pytest.raises(SettingsError, match="--workers: must be at least 1, got 0"):
        list(each(double, [1], 0))


def test_each_worker_has_its_gpu_or_its_share_of_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    cards = [one["options"]["env"]["CUDA_VISIBLE_DEVICES"] for one in workers_spec(3).values()]
    assert cards == ["0", "1", "0"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    assert [one["options"]["env"]["CUDA_VISIBLE_DEVICES"] for one in workers_spec(2).values()] == ["2", "3"]
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    assert all(one["options"]["env"] == {} for one in workers_spec(2).values())
    monkeypatch.setattr("bida.device.usable_cores", lambda: 7)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert [threads_of(count) for count in (1, 2, 3, 9)] == [7, 3, 2, 1]
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert [threads_of(count) for count in (1, 2, 3, 9)] == [2, 2, 2, 1]


def test_work_that_is_told_to_end_ends_its_program_and_removes_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = list[int]()
    monkeypatch.setattr(os, "_exit", left.append)  # by which the process would end
    marks = tmp_path / "marks"
    marks.mkdir()
    thread = threading.Thread(target=worker.at_work, args=(partial(hang, marks), 1))
    thread.start()
    while not started(marks):
        assert thread.is_alive()
        time.sleep(0.02)
    assert (tmp_path / "unfinished1").exists()
    worker.end_work()
    thread.join()
    assert left == [128 + signal.SIGTERM]
    assert all(is_gone(one) for one in started(marks)) and not (tmp_path / "unfinished1").exists()


@pytest.mark.slow
def test_a_worker_that_is_told_to_end_ends_its_program_and_removes_its_files(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    script = tmp_path / "script.py"
    script.write_text(
        "import threading; from functools import partial; from pathlib import Path\n"
        "from bida.parallel import worker; from parallel_work import hang\n"
        "worker.dask_setup(None)\n"
        f"threading.Thread(target=worker.at_work, args=(partial(hang, Path({str(marks)!r})), 1)).start()\n"
    )
    process = subprocess.Popen([sys.executable, str(script)], env=environment())
    while not started(marks):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)  # which all processes of a terminal get
    time.sleep(0.1)
    assert process.poll() is None and (tmp_path / "unfinished1").exists()
    process.terminate()
    assert process.wait(30) == 128 + signal.SIGTERM
    assert all(is_gone(one) for one in started(marks)) and not (tmp_path / "unfinished1").exists()


def environment() -> dict[str, str]:
    """Return an environment in which a script imports what this file does."""
    paths = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "eval"), *filter(None, sys.path)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


@pytest.mark.slow
def test_a_process_that_dies_loses_nothing_but_an_item_that_kills_is_told() -> None:
    found = dict(each(double_or_die, range(8), JOBS))
    assert found == {n: Lost("4 processes died at it; look at memory") if n == 1 else 2 * n for n in range(8)}


@pytest.mark.slow
def test_what_a_process_ran_that_died_is_done_by_another(tmp_path: Path) -> None:
    before = dict(os.environ)
    assert dict(each(partial(die_once, tmp_path), range(6), JOBS)) == {n: 2 * n for n in range(6)}
    assert {n: len((tmp_path / str(n)).read_text()) for n in range(6)} == {n: 2 if n == 1 else 1 for n in range(6)}
    assert dict(os.environ) == before


def test_processes_that_do_not_start_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def stand_in(*arguments: Any, **given: Any) -> None:
        raise RuntimeError("Nanny failed to start.")

    monkeypatch.setattr("distributed.SpecCluster", stand_in)
    message = r"^--workers: 2 processes must start, one did not \(Nanny failed to start.\); look at memory"
    with pytest.raises(SettingsError, match=message):
        list(each(double, range(3), JOBS))


@pytest.mark.slow
def test_processes_have_their_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("bida.device.usable_cores", lambda: 2)
    assert [result for _, result in each(threads, range(2), JOBS)] == [[1, "1"]] * 2


@pytest.mark.slow
def test_an_interrupt_ends_what_runs_and_leaves_the_rest_alone(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    results = each(partial(hang, marks), range(20), JOBS)
    assert next(results) == (0, None)
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        results.throw(KeyboardInterrupt)
    assert time.monotonic() - start < worker.GRACE_S, "less than the time after which processes are killed"
    ran = started(marks)
    assert len(ran) == 1 and is_gone(ran[0]), "the next item is handed out when the one before was taken"
    assert not list(tmp_path.glob("unfinished*"))


SCRIPT = """
import signal, sys
from functools import partial
from pathlib import Path
from bida.parallel.queue import each
from parallel_work import hang
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
if __name__ == "__main__":
    list(each(partial(hang, Path(sys.argv[1])), range(1, 20), 2))
"""


@pytest.mark.slow
def test_ctrl_c_at_the_terminal_does_so_too(tmp_path: Path) -> None:
    process, marks = run_script(tmp_path, start_new_session=True)
    while len(started(marks)) < 2:
        assert process.poll() is None
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: every process of the group gets it
    _, said = process.communicate(timeout=60)
    assert "KeyboardInterrupt" in said and said.count("Traceback") == 1, said
    assert len(started(marks)) == 2 and all(is_gone(one) for one in started(marks))
    assert not list(tmp_path.glob("unfinished*"))


def starting(tmp_path: Path, seconds: float) -> tuple[subprocess.Popen[str], list[int]]:
    """Return a run, alone in its group, so long after its processes began to start, and these."""
    process, _ = run_script(tmp_path, start_new_session=True)
    while not (begun := children_of(process.pid)):
        assert process.poll() is None
        time.sleep(0.05)
    time.sleep(seconds)
    return process, begun


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.3, 1.0])
def test_ctrl_c_while_processes_start_is_one_traceback(tmp_path: Path, seconds: float) -> None:
    process, begun = starting(tmp_path, seconds)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert "KeyboardInterrupt" in said and said.count("Traceback") == 1, said
    assert all(is_gone(one) for one in begun)


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.0, 0.3, 1.0])
def test_an_end_while_processes_start_is_no_traceback(tmp_path: Path, seconds: float) -> None:
    process, begun = starting(tmp_path, seconds)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert "Traceback" not in said and process.returncode == 128 + signal.SIGTERM, said
    assert all(is_gone(one) for one in begun)


@pytest.mark.slow
def test_processes_and_what_they_run_end_with_one_that_is_killed(tmp_path: Path) -> None:
    process, marks = run_script(tmp_path)
    while len(started(marks)) < 2:
        assert process.poll() is None
        time.sleep(0.1)
    children = children_of(process.pid)
    process.kill()
    process.wait()
    assert all(is_gone(one) for one in started(marks))
    assert len(children) >= 2 and all(is_gone(one) for one in children)


def run_script(folder: Path, **given: Any) -> tuple[subprocess.Popen[str], Path]:
    """Start a script whose two workers run programs without end; return it, and where these leave their marks."""
    script, marks = folder / "script.py", folder / "marks"
    script.write_text(SCRIPT)
    marks.mkdir()
    command = [sys.executable, str(script), str(marks)]
    return subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, text=True, **given), marks


def children_of(process: int) -> list[int]:
    import psutil

    return [one.pid for one in psutil.Process(process).children()]
