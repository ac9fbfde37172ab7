"""Programs of others: whatever they do, one clear error, and nothing of them is left running."""

import pickle
import signal
import subprocess
import sys
import time

import psutil
import pytest
from fake_programs import is_gone

from bida.errors import BidaError, ExternalError, SettingsError
from bida.eval import external
from bida.eval.external import run_external

SPAWN = (
    "import subprocess, sys; child = subprocess.Popen(['sleep', '60']); "
    "file = open(sys.argv[1], 'w'); file.write(str(child.pid)); file.close()"
)


def python(code, *arguments):
    return [sys.executable, "-S", "-c", code, *map(str, arguments)]


def message(command, timeout_s=20.0, **options):
    with pytest.raises(ExternalError) as caught:
        run_external(command, timeout_s, "stripper x", **options)
    text = str(caught.value)
    assert text.startswith("stripper x: ") and "\n" not in text
    return text


def test_arguments_are_taken_as_they_are(tmp_path):
    odd = ["$HOME", "a b", "; touch x", "*", "'"]
    run_external(python("import sys; open(sys.argv[1], 'w').write(repr(sys.argv[2:]))", tmp_path / "o", *odd), 20, "x")
    assert (tmp_path / "o").read_text() == repr(odd)


def test_it_runs_where_it_is_told_and_reads_no_input(tmp_path):
    run_external(python("import sys; open('here', 'w').write(sys.stdin.read())"), 20, "x", cwd=tmp_path)
    assert (tmp_path / "here").read_text() == ""


@pytest.mark.parametrize(
    "code, said",
    [
        ("import sys; print('no model found\\n', file=sys.stderr); print('done'); sys.exit(3)", "no model found"),
        ("print('first'); print('  last  line '); raise SystemExit(3)", "last line"),
        ("raise SystemExit(3)", "it said nothing"),
    ],
    ids=["stderr", "stdout", "silent"],
)
def test_a_failure_names_status_and_last_line(code, said):
    text = message(python(code))
    assert "got 3" in text and f"({said})" in text and sys.executable in text


def test_a_signal_is_named():
    assert "signal SIGKILL" in message(python("import os, signal; os.kill(os.getpid(), signal.SIGKILL)"))


def test_a_long_last_line_is_cut():
    assert len(message(python("print('x' * 100_000); raise SystemExit(1)"))) < 600


def test_output_that_is_not_text_is_shown_all_the_same():
    assert "(last " in message(python("import sys; sys.stderr.buffer.write(b'a\\nlast \\xff\\xfe'); sys.exit(1)"))


def test_a_missing_program_is_named():
    text = message(["no-such-program-anywhere", "x"])
    assert "no-such-program-anywhere" in text and "install" in text


def test_a_file_that_cannot_be_run_is_named(tmp_path):
    (tmp_path / "tool").write_text("#!/bin/sh\n")
    assert "Permission denied" in message([str(tmp_path / "tool")])
    (tmp_path / "tool").chmod(0o755)
    (tmp_path / "tool").write_bytes(b"\x00\x01 no program")
    assert "Exec format" in message([str(tmp_path / "tool")])
    assert "null byte" in message([sys.executable, "a\0b"])


@pytest.mark.parametrize(
    "command, timeout_s, cwd, word",
    [
        ([], 1, None, "program"),
        ([""], 1, None, "program"),
        (["true"], 0, None, "time limit"),
        (["true"], float("nan"), None, "time limit"),
        (["true"], 1, "/no/such/folder", "/no/such/folder"),
    ],
)
def test_settings_are_checked(command, timeout_s, cwd, word):
    with pytest.raises(SettingsError, match=word):
        run_external(command, timeout_s, "x", cwd=cwd)


def test_a_hanging_program_is_stopped_with_its_children(tmp_path):
    began = time.monotonic()
    text = message(python(SPAWN + "; child.wait()", tmp_path / "pid"), timeout_s=2.0)
    assert time.monotonic() - began < 10
    assert "within 2 s" in text and "still running" in text
    assert is_gone(int((tmp_path / "pid").read_text()))


@pytest.mark.parametrize("end", ["", "; sys.exit(1)"], ids=["succeeds", "fails"])
def test_a_child_left_behind_holds_nothing_up_and_is_stopped(tmp_path, end):
    """It inherits stdout and stderr, which a reader of pipes would wait for."""
    began = time.monotonic()
    command = python(SPAWN + end, tmp_path / "pid")
    if end:
        message(command)
    else:
        run_external(command, 20, "x")
    assert time.monotonic() - began < 10
    assert is_gone(int((tmp_path / "pid").read_text()))


def test_much_output_does_not_block():
    run_external(python("import sys; [f.write('x' * 2_000_000) for f in (sys.stdout, sys.stderr)]"), 20, "x")


def test_an_interrupt_stops_the_program(tmp_path):
    """Ctrl-C, here sent by the program itself once it has started its child."""
    code = SPAWN + "; import os, signal; os.kill(os.getppid(), signal.SIGINT); child.wait()"
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            run_external(python(code, tmp_path / "pid"), 20, "x")
    finally:
        signal.signal(signal.SIGINT, before)
    assert is_gone(int((tmp_path / "pid").read_text()))


def test_the_error_crosses_processes():
    error = pickle.loads(pickle.dumps(ExternalError("x: y")))
    assert isinstance(error, BidaError) and str(error) == "x: y"


def test_a_program_ends_with_a_run_that_is_killed(tmp_path):
    code = "import sys; from bida.eval.external import run_external; run_external(sys.argv[1:], 60, 'x')"
    program = ["sh", "-c", 'echo $$ > "$0.new"; mv "$0.new" "$0"; sleep 60', str(tmp_path / "started")]
    run = subprocess.Popen([sys.executable, "-c", code, *program])
    while not (tmp_path / "started").exists():
        assert run.poll() is None
        time.sleep(0.05)
    run.kill()
    run.wait()
    assert is_gone(int((tmp_path / "started").read_text()))


def test_a_program_ends_with_what_it_started_where_there_are_no_process_groups(monkeypatch):
    code = "import subprocess; print(subprocess.Popen(['sleep', '60']).pid, flush=True); input()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as program:
        started = psutil.Process(int(program.stdout.readline()))
        monkeypatch.delattr(external.os, "killpg")
        external._end(program.pid)
        program.wait(10)
    gone, alive = psutil.wait_procs([started], timeout=10)
    assert gone and not alive
