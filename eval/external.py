"""Programs of others, run so that nothing they do can stop or outlive an experiment."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from bida.errors import ExternalError, SettingsError

_TAIL_BYTES = 8192  # of a program's output are looked through for its last line
_LONGEST = 300  # characters of that line are shown


def run_external(command: Sequence[str], timeout_s: float, what: str, cwd: str | Path | None = None) -> None:
    """Run a program to its end, without a shell and without input; whatever it started has ended when this returns.

    Args:
        command: program and arguments, taken as they are.
        timeout_s: longest time it may take, s.
        what: name in errors, such as ``stripper rbm``.
        cwd: folder to run it in, by default the current one.

    Raises:
        ExternalError: the program cannot be started, ends with another status than 0, or takes too long.
        SettingsError: no command, a time limit that is not positive, or a working folder that is none.
    """
    if not command or not command[0]:
        raise SettingsError(f"{what}: the command must name a program, got none; give one")
    if not (math.isfinite(timeout_s) and timeout_s > 0):
        raise SettingsError(f"{what}: the time limit must be > 0 s, got {timeout_s:g}; give for example 600")
    if cwd is not None and not Path(cwd).is_dir():
        raise SettingsError(f"{what}: the working folder must exist, got {cwd}; create it")
    # files, not pipes: a pipe that nobody empties blocks a talkative program, and one that a grandchild keeps open
    # blocks the reader
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        status = _wait(command, timeout_s, what, cwd, out, err)
        if status != 0:
            said = _last_line(err) or _last_line(out) or "it said nothing"
            raise ExternalError(
                f"{what}: {command[0]} must end with status 0, got {_named(status)} ({said}); "
                "run the command by hand to see more"
            )


def _wait(
    command: Sequence[str], timeout_s: float, what: str, cwd: str | Path | None, out: IO[bytes], err: IO[bytes]
) -> int:
    """Return the exit status; kill the program and all of its process group on every way out."""
    try:
        # a session of its own is a process group of its own, which can be killed as a whole
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=cwd, start_new_session=True
        )
    except FileNotFoundError as error:
        raise ExternalError(
            f"{what}: the program must be installed, '{command[0]}' was not found; install it or give its full path"
        ) from error
    except (OSError, ValueError) as error:  # no right to run it, no program, a NUL in an argument
        reason = getattr(error, "strerror", None) or error
        raise ExternalError(
            f"{what}: '{command[0]}' must be a program that can be run, got '{reason}'; check the file and its rights"
        ) from error
    try:
        with _watched(process.pid):
            return process.wait(timeout_s)
    except subprocess.TimeoutExpired as error:
        raise ExternalError(
            f"{what}: {command[0]} must end within {timeout_s:g} s, it was still running and was stopped; "
            "allow more time or a smaller scan"
        ) from error
    finally:  # an interrupt (Ctrl-C) comes this way too
        _end(process.pid)
        process.wait()


def _end(leader: int) -> None:
    """Kill a program and what it has started."""
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError, PermissionError):  # the group is gone, or only its zombies are left
            os.killpg(leader, signal.SIGKILL)
        return
    import psutil

    with suppress(psutil.NoSuchProcess):  # Windows has no groups: those that it started while it lives
        program = psutil.Process(leader)
        for one in [*program.children(recursive=True), program]:
            with suppress(psutil.NoSuchProcess):
                one.kill()


@contextmanager
def _watched(group: int) -> Iterator[None]:
    """Let a shell kill a process group, should this process be killed while the block runs; on Windows none does."""
    if not hasattr(os, "killpg"):
        yield
        return
    watch = subprocess.Popen(
        ["sh", "-c", 'read -r line || kill -s KILL -- "-$0"', str(group)],
        stdin=subprocess.PIPE,  # which ends with this process; a line of text says that all is well
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        watch.communicate(b"ended\n")


def _named(status: int) -> str:
    """Return an exit status in words; negative ones are signals, as `subprocess` has it."""
    if status >= 0:
        return str(status)
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = str(-status)
    return f"signal {name}" + (", often too little memory" if name == "SIGKILL" else "")


def _last_line(output: IO[bytes]) -> str:
    """Return the last line of a program's output that is not blank, cut to what fits in an error."""
    size = output.seek(0, os.SEEK_END)
    output.seek(max(0, size - _TAIL_BYTES))
    lines = [" ".join(line.split()) for line in output.read().decode("utf-8", "replace").splitlines()]
    said = [line for line in lines if line]
    return said[-1][:_LONGEST] if said else ""
