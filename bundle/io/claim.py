"""One run an output: locks beside what is written, and what killed runs leave is told apart and cleared.

A lock is a file that is made where none is, which holds on network folders, too, and the system's own lock on it,
which ends with its process however that ends (flock of Linux and macOS). The temporary files of an output bear a hash
of its name and the number of the process that writes them.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import socket
import tempfile
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

from bida.errors import ScanError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

YOUNG_S = 5.0  # a lock without an owner's name that is younger is just being made
SOON_S = 10.0  # in which what is left of a run that was killed ends, too
POLL_S = 0.2


@dataclass
class _Held:
    """A lock of this process: its open file, the thread that has it, and how often."""

    file: int
    thread: int
    count: int = 1


_held: dict[Path, _Held] = {}


def _let_go() -> None:
    """Close the locks of the parent in a process that was forked: they would outlive the parent in it."""
    for held in _held.values():
        os.close(held.file)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)


@contextmanager
def claimed(*paths: str | Path | None, wait: bool = False) -> Iterator[None]:
    """Have outputs for this run alone while the block runs; what killed runs have left of them is removed.

    A thread may claim again what it has.

    Args:
        paths: Files to be written, in folders that are there; None is passed over.
        wait: Wait for another run of this machine instead of refusing.

    Raises:
        ScanError: Another run has one of them, or its folder cannot be written.
    """
    with ExitStack() as all_of_them:
        for path in dict.fromkeys(Path(one) for one in paths if one is not None):
            all_of_them.enter_context(_claim(path, wait))
        yield


@contextmanager
def _claim(path: Path, wait: bool) -> Iterator[None]:
    lock = lock_path(path)
    held = _held.get(lock)
    if held is not None and held.thread == threading.get_ident():
        held.count += 1
    else:
        _held[lock] = _Held(_taken(path, lock, wait), threading.get_ident())
    try:
        clear(path, alone=True)
        yield
    except BaseException as error:
        if not isinstance(error, Exception) and _held[lock].count == 1:  # stopped, as if it were killed
            _clear_halves(lock.parent, _owner(_held[lock].file))
        raise
    finally:
        held = _held[lock]
        held.count -= 1
        if not held.count:
            del _held[lock]
            if fcntl is None:  # Windows removes no file that is open
                os.close(held.file)
            with suppress(OSError):  # its folder may be gone
                lock.unlink(missing_ok=True)
            if fcntl is not None:
                os.close(held.file)


def lock_path(path: Path) -> Path:
    """Return the lock of an output, beside it."""
    return Path(os.path.realpath(path.parent)) / f".bida-{_hash(path.name)}.lock"


def _taken(path: Path, lock: Path, wait: bool) -> int:
    """Return the open file of a lock that this process has from now on."""
    start = time.monotonic()
    while True:
        try:
            made, file = True, os.open(lock, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
        except FileExistsError:
            try:
                made, file = False, os.open(lock, os.O_RDWR)
            except FileNotFoundError:  # was let go
                continue
            except OSError as error:
                raise _unwritable(path, error) from error
        except OSError as error:
            raise _unwritable(path, error) from error
        free = False
        try:
            locked, owner = _locked(file, made), _owner(file)
            free = locked is not False and _is(lock, file)
            if free and not made:
                # another machine's runs do not show here; a lock that is just made has no owner yet
                young = time.time() - os.fstat(file).st_mtime < YOUNG_S
                free = _is_dead(owner, bool(locked)) if owner else not young
            if free:
                _clear_halves(lock.parent, owner)
                _write(file, {"host": socket.gethostname(), "process": os.getpid(), "since": time.time()})
                return file
        finally:
            if not free:
                os.close(file)
        elsewhere = owner.get("host") not in (None, socket.gethostname())
        # let go in the meantime, just being made, or what a process that has died had started is about to end
        soon = not lock.exists() or not owner or (not elsewhere and not _lives(owner["process"]))
        if soon and time.monotonic() - start < SOON_S:
            time.sleep(POLL_S / 10)
            continue
        if not wait or elsewhere:
            since = time.strftime("%H:%M on %d %B", time.localtime(owner.get("since")))
            told = f"process {owner.get('process')} of {owner.get('host')} writes it since {since}"
            cure = f", or remove {lock} where that run has ended" if elsewhere else ", or choose another name"
            raise ScanError(f"{path}: output must be one run's alone, {told}; wait for it{cure}")
        time.sleep(POLL_S)


def _unwritable(path: Path, error: OSError) -> ScanError:
    reason = error.strerror or str(error)
    return ScanError(f"{path}: its folder must exist and be writable, got '{reason}'; choose another folder")


def _locked(file: int, own: bool) -> bool | None:
    """Take the system's lock of an open file; False where another process has it, None where there are no such locks.

    One that this process has made is another's for a moment at most.
    """
    if fcntl is None:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if own else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:  # a file system without them: the file itself is the lock, and its owner lives or not
        return None
    return True


def _is(lock: Path, file: int) -> bool:
    """Return whether a lock's name still leads to the open file; its owner before may have removed it."""
    try:
        return os.path.samestat(os.stat(lock), os.fstat(file))
    except FileNotFoundError:
        return False


def _owner(file: int) -> dict[str, Any]:
    """Return who a lock is of; empty where nobody has written that yet."""
    try:
        os.lseek(file, 0, os.SEEK_SET)
        found = json.loads(os.read(file, 1 << 20))
    except (OSError, ValueError):
        return {}
    told = isinstance(found, dict) and isinstance(found.get("process"), int) and isinstance(found.get("new", []), list)
    return found if told else {}


def _is_dead(owner: dict[str, Any], locked: bool) -> bool:
    """Return whether a lock's owner has ended, as far as this machine knows; it has where its system's lock is had."""
    return owner.get("host") == socket.gethostname() and (locked or not _lives(owner["process"]))


def _write(file: int, content: dict[str, Any]) -> None:
    os.lseek(file, 0, os.SEEK_SET)
    os.ftruncate(file, 0)
    os.write(file, json.dumps(content).encode())


def will_write(path: Path, files: Iterable[Path]) -> None:
    """Note in a claimed file's lock which of its run's files are not there yet: all shall come, or none stay.

    Where the run is stopped before it has written all of them, those that came are removed; where it is killed, by the
    next one on that output.
    """
    file = _held[lock_path(path)].file
    owner = _owner(file)
    new = [os.path.abspath(one) for one in files if not one.exists()]
    _write(file, {**owner, "new": list(dict.fromkeys([*owner.get("new", ()), *new]))})


def _clear_halves(folder: Path, owner: dict[str, Any]) -> None:
    """Remove what a run that has not come to write all its files has written into a folder."""
    files = [Path(one) for one in owner.get("new", ())]
    if not all(file.exists() for file in files):
        for file in files:
            if Path(os.path.realpath(file.parent)) == folder:
                _remove(file)


def temporary_name(path: Path, suffix: str) -> str:
    """Return a name for a temporary file of an output, which tells its process; the output's own may be too long."""
    return f"{_prefix(path.name)}{_here()}-{os.getpid()}-{uuid.uuid4().hex[:12]}{suffix}"


def clear(path: Path, alone: bool = False) -> None:
    """Remove the temporary files of an output whose process has ended.

    Args:
        path: The output.
        alone: No other process writes it: those of other machines go, too, and are no one's but this process's.
    """
    with suppress(FileNotFoundError, NotADirectoryError):
        for entry in os.scandir(path.parent):
            if entry.name.startswith(_prefix(path.name)) and _is_left(entry.name.split("-")[2:], alone):
                _remove(Path(entry.path))


def _is_left(words: Sequence[str], alone: bool) -> bool:
    """Return whether a temporary file, of which where and by whom it is written are told, has no one any more."""
    if len(words) < 3 or not words[1].isdigit():
        return False
    if words[0] != _here():
        return alone
    return not _lives(int(words[1]))


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)


@contextmanager
def scratch(what: str) -> Iterator[Path]:
    """Yield an empty folder among the system's temporary ones, removed at the end, with those of killed runs.

    Args:
        what: A word for its name.
    """
    place = Path(tempfile.gettempdir())
    for entry in os.scandir(place):
        words = entry.name.split("-")
        if words[:2] == ["bida", what] and _is_left(words[2:], alone=False):
            _remove(Path(entry.path))
    with tempfile.TemporaryDirectory(prefix=f"bida-{what}-{_here()}-{os.getpid()}-", dir=place) as folder:
        yield Path(folder)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Hold Ctrl-C and the request to end (SIGTERM) back until the block has ended."""
    if threading.current_thread() is not threading.main_thread():  # which alone gets them
        yield
        return
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for arrived in came:
            signal.raise_signal(arrived)


def _lives(process: int) -> bool:
    """Return whether a process of this machine runs."""
    import psutil  # where a lock or a leftover was found

    return psutil.pid_exists(process)  # os.kill(process, 0) would end it on Windows


@cache
def _here() -> str:
    """Return what tells this machine, and the container on it, from others: process numbers count there alone."""
    try:
        container = os.readlink("/proc/self/ns/pid")
    except OSError:  # not Linux
        container = ""
    return _hash(socket.gethostname() + container)[:6]


def _prefix(name: str) -> str:
    return f".bida-{_hash(name)}-"


def _hash(text: str) -> str:
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:12]
