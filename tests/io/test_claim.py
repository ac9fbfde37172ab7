"""One run an output, a record with its own volume, and nothing left of runs that were killed."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from bida.errors import ScanError, SettingsError
from bida.io import checkpoints, claim, files
from bida.io.claim import claimed, lock_path, scratch, undisturbed
from bida.io.files import atomic, recorded, write_json
from bida.io.nifti import write_volume
from bida.mri.result import Result

BUSY = "output must be one run's alone, process"
AFFINE = np.eye(4)


def other(code: str, *words: Path | str) -> subprocess.Popen[str]:
    """Start a process that says that it is ready when it has run some code, and then waits."""
    code = f"import sys, time; from pathlib import Path; path = Path(sys.argv[1])\n{code}\n"
    code = code.replace("READY", "print('ready', flush=True); time.sleep(60)")
    process = subprocess.Popen([sys.executable, "-c", code, *map(str, words)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def killed(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


CLAIM = "from bida.io.claim import claimed\nwith claimed(path): READY"


def test_an_output_is_one_runs_and_free_when_that_was_killed(tmp_path: Path) -> None:
    out = tmp_path / "out.nii.gz"
    run = other(CLAIM, out)
    with pytest.raises(ScanError, match=f"{out}: {BUSY} {run.pid} of {socket.gethostname()}"), claimed(out):
        pass
    with claimed(tmp_path / "another.nii.gz"):
        pass
    killed(run)
    with claimed(out):
        assert json.loads(lock_path(out).read_text())["process"] == os.getpid()
        with claimed(out):  # its own
            pass
        assert lock_path(out).exists()
    assert not list(tmp_path.iterdir())


def test_a_run_that_waits_has_its_turn(tmp_path: Path) -> None:
    out = tmp_path / "out.nii.gz"
    run = other(
        "from bida.io.claim import claimed\nwith claimed(path):\n  print('ready', flush=True); time.sleep(1)", out
    )
    with claimed(out, wait=True):
        assert run.wait(5) == 0
    assert not list(tmp_path.iterdir())


def test_of_many_runs_at_once_one_has_the_output(tmp_path: Path) -> None:
    out, most, now, refused = tmp_path / "out.nii.gz", [0], [0], [0]

    def work() -> None:
        for _ in range(40):
            try:
                with claimed(out):
                    now[0] += 1
                    most[0] = max(most[0], now[0])
                    time.sleep(0.001)
                    now[0] -= 1
            except ScanError as error:
                assert BUSY in str(error)
                refused[0] += 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] and refused[0] > 0
    assert not list(tmp_path.iterdir())


def test_a_run_of_another_machine_is_not_taken_for_dead(tmp_path: Path) -> None:
    out = tmp_path / "out.nii.gz"
    lock = lock_path(out)
    lock.write_text(json.dumps({"host": "elsewhere", "process": 1, "since": 0.0}))
    with (
        pytest.raises(ScanError, match=f"process 1 of elsewhere.*remove {lock} where that run has ended"),
        claimed(out),
    ):
        pass
    assert lock.exists()


@pytest.mark.parametrize("locks", [True, False])
def test_without_locks_of_the_system_the_owner_tells(tmp_path: Path, monkeypatch, locks: bool) -> None:
    def none(*_: object) -> None:
        raise OSError("no locks here")

    if not locks:
        monkeypatch.setattr(claim.fcntl, "flock", none)
    out, here = tmp_path / "out.nii.gz", socket.gethostname()
    lock_path(out).write_text(json.dumps({"host": here, "process": os.getppid(), "since": 0.0}))
    if locks:  # the number lives, but is another program's now: the lock was let go by its death
        with claimed(out):
            pass
        return
    with pytest.raises(ScanError, match=BUSY), claimed(out):
        pass
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    lock_path(out).write_text(json.dumps({"host": here, "process": int(ended.stdout), "since": 0.0}))
    with claimed(out):
        pass
    assert not list(tmp_path.iterdir())


def test_a_lock_outlives_no_process_in_its_children(tmp_path: Path) -> None:
    out = tmp_path / "out.nii.gz"
    run = other(
        "import os\nfrom bida.io.claim import claimed\nwith claimed(path):\n"
        "  child = os.fork()\n  if not child: time.sleep(60); os._exit(0)\n"
        "  path.with_name('child').write_text(str(child)); READY",
        out,
    )
    run.kill()
    run.wait()
    with claimed(out):
        pass
    os.kill(int((tmp_path / "child").read_text()), signal.SIGKILL)


def test_what_killed_runs_left_goes_and_what_others_write_stays(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    write = "from bida.io.files import atomic\nwith atomic(path) as one: one.write_text('half'); READY"
    dead, alive = other(write, out), other(write, out)
    neighbour = other(write, tmp_path / "neighbour.json")
    killed(dead)
    killed(neighbour)
    assert len(list(tmp_path.iterdir())) == 3
    write_json(out, {"a": 1})
    assert len(list(tmp_path.iterdir())) == 3, "that of the neighbour, of the run that lives, and the output"
    killed(alive)
    for path in (out, tmp_path / "neighbour.json"):
        write_json(path, {"a": 1}, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["neighbour.json", "out.json"]


def test_scratch_folders_of_killed_runs_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    one = "from bida.io.claim import scratch\nwith scratch(sys.argv[2]) as one: (one / 'x').touch(); READY"
    dead, alive = other(one, tmp_path, "strip"), other(one, tmp_path, "strip")
    killed(dead)
    with scratch("strip") as folder:
        assert not list(folder.iterdir()) and len(list(tmp_path.iterdir())) == 2
    killed(alive)
    with scratch("strip"):
        pass
    assert not list(tmp_path.iterdir())


def written(path: Path, value: float, **how: bool) -> None:
    with recorded(path, {"value": value}, **how) as temporary:
        write_volume(temporary, np.full((2, 2, 2), value), AFFINE)


@pytest.mark.parametrize("move", [1, 2])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_kill_between_the_moves_leaves_no_volume_with_anothers_record(tmp_path: Path, move: int, overwrite: bool):
    out = tmp_path / "out.nii.gz"
    if overwrite:
        written(out, 1.0)
    code = (
        "import os, signal, numpy as np; from bida.io import files; from bida.io.nifti import write_volume\n"
        "real, calls = os.replace, []\n"
        "def replace(*names):\n"
        "  calls.append(1)\n"
        f"  if len(calls) == 1 + {move}: os.kill(os.getpid(), signal.SIGKILL)\n"  # the first is write_volume's own
        "  real(*names)\n"
        "os.replace = replace\n"
        f"with files.recorded(sys.argv[1], {{'value': 2.0}}, overwrite={overwrite}) as one:\n"
        "  write_volume(one, np.full((2, 2, 2), 2.0), np.eye(4))"
    )
    code = f"import sys\n{code}"
    assert subprocess.run([sys.executable, "-c", code, str(out)]).returncode == -signal.SIGKILL
    assert not out.with_name("out.json").exists() and out.exists() == (overwrite or move == 2)
    if overwrite:
        with pytest.raises(ScanError, match="it does, without a record of how it was made"), claimed(out):
            files.check_output(out, with_record=True)
    with claimed(out):  # as the command has it for its whole run
        written(out, 3.0, overwrite=overwrite)
    assert json.loads(out.with_name("out.json").read_text()) == {"value": 3.0}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.json", "out.nii.gz"]


@pytest.mark.parametrize("how", ["kill", "stop", "error"])
@pytest.mark.parametrize("name", ["out.tif", "out.zarr"])
def test_of_files_that_belong_together_all_come_or_none(tmp_path: Path, how: str, name: str) -> None:
    out = tmp_path / name
    lines = [
        "from bida.io.claim import claimed, will_write",
        "with claimed(path):",
        "  will_write(path, [path, path.with_suffix('.json')])",
        "  path.mkdir() if path.suffix == '.zarr' else path.touch()",
        "  (path / 'zarr.json').touch() if path.is_dir() else None",
    ]
    if how == "kill":
        killed(other("\n".join([*lines, "  READY"]), out))
        assert out.exists()
        with claimed(out):
            assert not out.exists()
    else:
        fault = KeyboardInterrupt if how == "stop" else ScanError
        with pytest.raises(fault):
            exec("\n".join([*lines, "  raise fault"]), {"path": out, "fault": fault})
    # of an error what came stays: an hour's volume is not lost for its picture
    assert [path.name for path in tmp_path.iterdir()] == ([name] if how == "error" else [])


def test_checkpoint_of_a_run_that_was_killed_at_its_very_end_goes(tmp_path: Path) -> None:
    import torch

    own, foreign, output = tmp_path / "own.ckpt", tmp_path / "foreign.ckpt", tmp_path / "own.pt"
    torch.save({"made_from": "", "step": 1}, own)
    torch.save({"state_dict": {}}, foreign)  # of another program
    for checkpoint in (own, foreign):
        checkpoints.discard_used(checkpoint, output)  # it was cut off
    output.touch()
    os.utime(output, (0, 0))
    checkpoints.discard_used(own, output)  # a result of an earlier run
    assert own.exists() and foreign.exists()
    os.utime(output)
    for checkpoint in (own, foreign):
        checkpoints.discard_used(checkpoint, output)
    assert not own.exists() and foreign.exists()


def test_folders_made_for_nothing_go_and_others_stay(tmp_path: Path) -> None:
    made, there, used = tmp_path / "a" / "b", tmp_path / "there", tmp_path / "used"
    there.mkdir()
    for folder in (made, there, used):
        with pytest.raises(ScanError), files.unless_empty(folder):
            (files.make_folder(folder) / "inner").mkdir()
            (used / "file").touch() if folder == used else None
            raise ScanError("no")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["there", "used"] and (used / "file").exists()
    with files.unless_empty(made):
        files.make_folder(made)
    assert made.is_dir()


def test_a_write_that_fails_leaves_volume_and_record_as_they_were(tmp_path: Path) -> None:
    out = tmp_path / "out.nii.gz"
    written(out, 1.0)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ScanError, match=f"^{out}: a volume must be finite"), recorded(out, {}, overwrite=True) as one:
        write_volume(one, np.full((2, 2, 2), np.nan), AFFINE)
    with pytest.raises(ScanError, match=f"^{out}: .*No space left"), recorded(out, {}, overwrite=True):
        raise OSError(28, "No space left on device")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_signals_wait_for_the_moves(tmp_path: Path) -> None:
    done = []
    with pytest.raises(KeyboardInterrupt):
        with undisturbed():
            signal.raise_signal(signal.SIGINT)
            done.append(1)
        done.append(2)
    assert done == [1]


def test_atomic_takes_names_of_254_characters(tmp_path: Path) -> None:
    path = tmp_path / ("a" * 247 + ".nii.gz")
    with claimed(path), atomic(path) as temporary:
        temporary.touch()
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("name", ["scan.nii.gz", "scan.nii", "second.nii", "own.nii", "like.nii.gz"])
def test_a_result_is_never_saved_over_what_it_is_from(tmp_path: Path, name: str) -> None:
    for file in ("scan.nii.gz", "scan.json", "second.nii.gz", "second.json", "own.json", "like.nii.gz"):
        (tmp_path / file).write_text("mine")
    settings = {"like": str(tmp_path / "like.nii.gz"), "profile": str(tmp_path / "own.json"), "model": "0.2"}
    scans = [{"source": str(tmp_path / one)} for one in ("scan.nii.gz", "second.nii.gz")]
    record = {"source": scans[0]["source"], "scans": scans, "settings": settings, "verdict": None}
    result = Result(np.zeros((2, 2, 2), np.float32), AFFINE, None, record, ())
    with pytest.raises(SettingsError, match="must be a file of its own, not one that the result is from"):
        result.save(tmp_path / name, overwrite=True)
    assert {path.read_text() for path in tmp_path.iterdir()} == {"mine"} and len(list(tmp_path.iterdir())) == 6
    result.save(tmp_path / "result.nii")
    assert json.loads((tmp_path / "result.json").read_text())["scans"] == scans


def test_where_no_open_file_can_be_removed_a_lock_is_closed_first(tmp_path, monkeypatch):
    """Windows, by what differs there: no fcntl, and no way to remove a file that is open."""
    opened = claim.os.open
    files: dict[int, Path] = {}

    def remembering(path, *words):
        number = opened(path, *words)
        files[number] = Path(path)
        return number

    def closing(number, close=claim.os.close):
        files.pop(number, None)
        close(number)

    def removing(path, missing_ok=False, unlink=Path.unlink):
        if path in files.values():
            raise PermissionError("it is open")
        unlink(path, missing_ok)

    monkeypatch.setattr(claim, "fcntl", None)
    monkeypatch.setattr(claim.os, "open", remembering)
    monkeypatch.setattr(claim.os, "close", closing)
    monkeypatch.setattr(Path, "unlink", removing)
    out = tmp_path / "out.nii.gz"
    for _ in range(2):  # the second would wait for this very process, which lives
        with claim.claimed(out):
            assert claim.lock_path(out).exists()
        assert not claim.lock_path(out).exists() and not files
