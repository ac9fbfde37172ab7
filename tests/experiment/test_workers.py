"""Work in several processes: a process that dies loses what ran beside it and no more, an interrupt ends everything."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from fake_programs import is_gone
from small_experiment import experiment

from bida.eval.external import run_external
from bida.experiment.runner import run
from bida.experiment.workers import side_by_side

JOBS = 2
SLEEP = ["sh", "-c", 'echo $$ > "$0"; sleep 100']  # a program of its own, that writes its process id first


def double_or_die(number: int) -> int:
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return 2 * number


def hang(folder: Path, number: int) -> None:
    """Run a program without end, but for item 0, which ends once another one runs."""
    if number:
        run_external([*SLEEP, str(folder / str(number))], 200, "sleep")
    while not started(folder):
        time.sleep(0.05)


def started(folder: Path) -> list[int]:
    return [int(text) for file in folder.iterdir() if (text := file.read_text())]


def test_a_process_that_dies_loses_only_what_was_in_flight():
    found = list(side_by_side(double_or_die, range(8), JOBS, 1))
    assert sorted(number for number, _ in found) == list(range(8)), "each once"
    lost = {number for number, result in found if result is None}
    assert 1 in lost and len(lost) <= JOBS
    assert all(result == 2 * number for number, result in found if number not in lost)


def test_an_interrupt_ends_what_runs_and_leaves_the_rest_alone(tmp_path):
    results = side_by_side(partial(hang, tmp_path), range(20), JOBS, 1)
    assert next(results) == (0, None)
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        results.throw(KeyboardInterrupt)
    assert time.monotonic() - start < 9, "less than the time after which processes are killed"
    ran = started(tmp_path)
    assert len(ran) == 1 and is_gone(ran[0]), "the next item is handed out when the one before was taken"


@pytest.mark.slow
def test_ctrl_c_at_the_terminal_does_so_too(tmp_path):
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); from functools import partial\n"
        "from pathlib import Path; from bida.experiment.workers import side_by_side; from test_workers import hang\n"
        "if __name__ == '__main__': list(side_by_side(partial(hang, Path(sys.argv[1])), range(1, 20), 2, 1))"
    )
    script, marks = tmp_path / "script.py", tmp_path / "marks"
    script.write_text(code)
    marks.mkdir()
    paths = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    process = subprocess.Popen(
        [sys.executable, str(script), str(marks)],
        env={**os.environ, "PYTHONPATH": paths},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while len(started(marks)) < 2:
        assert process.poll() is None
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: every process of the group gets it
    _, said = process.communicate(timeout=60)
    assert "KeyboardInterrupt" in said and said.count("Traceback") == 1, said
    assert len(started(marks)) == 2 and all(is_gone(one) for one in started(marks))


@pytest.mark.slow
def test_processes_and_what_they_run_end_with_one_that_is_killed(tmp_path):
    script, marks = tmp_path / "script.py", tmp_path / "marks"
    script.write_text(
        "import sys; from functools import partial; from multiprocessing import active_children\n"
        "from pathlib import Path; from bida.experiment.workers import side_by_side; from test_workers import hang\n"
        "if __name__ == '__main__': list(side_by_side(partial(hang, Path(sys.argv[1])), range(1, 20), 2, 1))"
    )
    marks.mkdir()
    paths = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    environment = {**os.environ, "PYTHONPATH": paths}
    process = subprocess.Popen([sys.executable, str(script), str(marks)], env=environment)
    while len(started(marks)) < 2:
        assert process.poll() is None
        time.sleep(0.1)
    children = [int(one) for one in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    process.kill()
    process.wait()
    assert all(is_gone(one) for one in started(marks))
    assert len(children) >= 2 and all(is_gone(one) for one in children)


@pytest.mark.usefixtures("blank_pictures")
def test_a_cell_whose_process_died_is_told(data, tmp_path, monkeypatch):
    def stand_in(work, items, jobs, threads):
        for item in items:
            yield item, None if item.name == "2.5x_cubic" else work(item)

    monkeypatch.setattr("bida.experiment.runner.side_by_side", stand_in)
    with pytest.raises(ValueError, match=r"2 failed, the first sub-01 2.5x_cubic \(its process died"):
        run(experiment(data, tmp_path, jobs=2))
    assert (tmp_path / "sub-02/2.5x_nearest/cell.json").exists()
