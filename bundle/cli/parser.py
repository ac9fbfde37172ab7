"""The command ``bida``: arguments in, one line of error out, exit code 2 for what the user can mend.

Only the standard library and errors are imported here, and a command's own file when it is named, so that
``bida --help`` answers at once; each file imports what it needs when its command is run.
"""

from __future__ import annotations

import argparse
import gc
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from importlib import import_module
from io import TextIOWrapper
from types import FrameType, ModuleType
from typing import Any, NoReturn

from bida.errors import BidaError, OutOfMemoryError, ScanError, SettingsError, cause_of, end_process
from bida.progress import LOG, QUIET, VERBOSE, log_values, loudness

ENDS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
SHELLS = ("bash", "zsh", "tcsh")  # that shtab knows
LOUDNESS = {QUIET: ("-q", "--quiet"), VERBOSE: ("-v", "--verbose")}
EPILOG = "Research use only, not for diagnosis."
TOP = ("command", "version", "print_completion")  # of the parser above those of commands
COMMANDS = {  # each is a module of this package, with add_options and run
    "superres": "turn a thick-slice scan into an isotropic volume, or many scans",
    "bids": "the same for a BIDS data set, as a BIDS-App",
    "simulate": "make thick slices from an isotropic volume",
    "info": "say what superres would do with a scan",
    "evaluate": "run the paper's experiment, and report",
    "strip": "find the brain of a scan",
    "volumes": "measure structures by labels carried over from atlases",
    "demo": "run the built-in sample and draw a picture",
    "adapt": "fine-tune the priors on the sharp slices of scans",
    "train": "train the priors on a BIDS data set of isotropic scans",
    "export": "write the networks as ONNX, TorchScript or a package of the BioImage Model Zoo",
    "isotropy": "say whether a microscopy stack looks alike along z, y and x",
    "train-masked": "train on the planes of microscopy stacks",
    "superres-masked": "restore an anisotropic microscopy stack",
    "evaluate-masked": "compare methods on a stack with planes left out",
}


class Parser(argparse.ArgumentParser):
    """A parser that names the nearest of its words where one is misspelt, in the line of the error."""

    def error(self, message: str) -> NoReturn:
        """Say in one line what is wrong, and leave with 2."""
        self.exit(2, f"bida: error: {self.prog}: {message}{self.nearest(message)}; {self.prog} --help lists all\n")

    def nearest(self, message: str) -> str:
        """Return what a command or an option that is not known may have meant, nothing where none is near."""
        choice = re.match(r"argument COMMAND: invalid choice: '([^']*)'", message)
        options = re.match(r"unrecognized arguments: (.*)", message)
        if choice:
            words, known = [choice[1]], list(COMMANDS)
        elif (
            options and self._subparsers is not None and {*options[1].split()} & {*LOUDNESS[QUIET], *LOUDNESS[VERBOSE]}
        ):
            return "; it is written behind the command"
        elif options:
            words = [word.partition("=")[0] for word in options[1].split() if word.startswith("--")]
            known = [option for option in self._option_string_actions if option.startswith("--")]
        else:
            return ""
        near = [close[0] for word in words for close in [get_close_matches(word, known, n=1)] if close]
        return f"; did you mean {' and '.join(near)}?" if near else ""

    def parse_known_args(self, args=None, namespace=None):  # type: ignore[no-untyped-def, override]
        """Parse as a parser does; a command's own parser tells itself what it does not know, by its own options."""
        found, left = super().parse_known_args(args, namespace)
        if left and self._subparsers is None:
            self.error(f"unrecognized arguments: {' '.join(left)}")
        return found, left


def parser(named: Sequence[str] = tuple(COMMANDS)) -> argparse.ArgumentParser:
    """Return the parser of every command; those that are not in ``named`` have no options yet."""
    main = Parser(prog="bida", description="Isotropic volumes from thick-slice rodent MR scans.", epilog=EPILOG)
    main.add_argument("--version", action="store_true", help="show versions and exit")
    main.add_argument("--print-completion", choices=SHELLS, help="print what completes commands and options in a shell")
    commands = main.add_subparsers(dest="command", metavar="COMMAND")
    for name, text in COMMANDS.items():
        sub = commands.add_parser(name, help=text, epilog=EPILOG, allow_abbrev=False)
        if name in named:
            command(name).add_options(sub)
            add_loudness(sub)
    return main


def add_loudness(sub: argparse.ArgumentParser) -> None:
    """Add the options of every command that say how much is printed."""
    either = sub.add_mutually_exclusive_group()
    how: dict[str, Any] = {"action": "store_const", "dest": "loudness", "default": argparse.SUPPRESS}
    either.add_argument(*LOUDNESS[QUIET], const=QUIET, help="print errors alone, and what is asked for, such as "
                        "--json; notes stay in the record", **how)  # fmt: skip
    either.add_argument(*LOUDNESS[VERBOSE], const=VERBOSE, help="print settings and the time of each stage, too", **how)


def command(name: str) -> ModuleType:
    """Return the module of a command."""
    with hidden("requests"):  # pydicom, which nibabel imports, takes it to download examples; it is 0.1 s of imports
        return import_module(f"bida.cli.{name.replace('-', '_')}")


@contextmanager
def hidden(name: str) -> Iterator[None]:
    """Let a package seem not to be installed, where it is not imported yet."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]  # as Python has it of modules that can't be imported
    try:
        yield
    finally:
        del sys.modules[name]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return its exit code.

    It is 0, 1 where some of many scans failed, 2 for an error that the user can mend, 130 after Ctrl-C, 143 after a
    request to end (SIGTERM), 129 after a terminal that closed (SIGHUP), or 141 after a closed pipe.
    """
    words, signal_number = sys.argv[1:] if argv is None else list(argv), 0
    if argv is None:  # a process of its own: torch's import makes objects by the hundred thousand, none of them garbage
        gc.set_threshold(1_000_000, 10, 10)
        # read when torch is imported: threads that wait sleep. By default they spin, and hold back what they wait for
        # where others use the cores too
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # NumPy's and SciPy's spin too, and have little to do
        end_as_by_ctrl_c()
        for stream in (sys.stdout, sys.stderr):  # a terminal of ASCII shows what it can of a name
            if isinstance(stream, TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
    try:
        code = run(words)
    except KeyboardInterrupt as stopped:
        signal_number = stopped.number if isinstance(stopped, Stopped) else signal.SIGINT
    finally:
        if argv is None:
            for number in ENDS:  # what is left to do is the interpreter's, and short
                signal.signal(number, signal.SIG_IGN)
            gc.freeze()  # the process ends: a last search for garbage among torch's objects takes a tenth of its time
    if signal_number:
        end_bars()
        print("bida: stopped", file=sys.stderr)
        code = 128 + signal_number
    if argv is None and all(one.daemon or one is threading.main_thread() for one in threading.enumerate()):
        with suppress(OSError):  # the interpreter says so, and what it returns then
            end_process(code)  # torch's modules take 0.1 s to take apart
    return code


def run(words: Sequence[str]) -> int:
    """Run a command; return its exit code, see ``main``."""
    arguments = parser([word for word in words if word in COMMANDS]).parse_args(words)
    asked = arguments.version or arguments.print_completion is not None
    if not asked and arguments.command is None:
        parser([]).print_help()
        return 2
    try:
        with memory_errors(), file_errors():
            check_current_folder()
            if arguments.print_completion is not None:
                code = print_completion(arguments.print_completion)
            else:
                code = print_versions() if arguments.version else run_command(arguments)
            sys.stdout.flush()
    except BrokenPipeError:  # who read what is printed has gone; what is written to files is whole
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter's own last flush goes there
        return 141
    except BidaError as error:
        end_bars()
        print(f"bida: error: {error}", file=sys.stderr)
        return error.exit_code
    return code


def run_command(arguments: argparse.Namespace) -> int:
    """Run the command that is named, as loud as is asked for; return its exit code."""
    start, given = time.monotonic(), {**vars(arguments)}
    name, wanted = given["command"], given.pop("loudness", None)
    with loudness(wanted):
        if wanted == VERBOSE:
            from bida.provenance import versions

            log_values("versions", versions())
            log_values("options", {one: value for one, value in given.items() if one not in TOP})
        code = command(name).run(arguments) or 0
        LOG.info("%s: %.1f s in all", name, time.monotonic() - start)
    return code


def end_bars() -> None:
    """End the lines of the bars that are still shown, so that what is said next has a line of its own."""
    shown = sys.modules.get("tqdm")
    for bar in list(getattr(shown.tqdm, "_instances", ())) if shown is not None else ():
        bar.close()


class Stopped(KeyboardInterrupt):
    """Another signal than Ctrl-C that asks a command to end, with its number: it ends on the same way."""

    def __init__(self, number: int) -> None:
        """Keep the number."""
        super().__init__()
        self.number = number


def end_as_by_ctrl_c() -> None:
    """Let signals that ask for an end be exceptions, on whose way out files are removed and other processes ended."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped(number)

    for number in ENDS:
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup has them ignored
            signal.signal(number, stop)


def check_current_folder() -> None:
    """Check that the folder in which the command runs is still there; libraries end the process where it is not.

    Raises:
        SettingsError: It is not.
    """
    try:
        os.getcwd()
    except OSError as error:
        raise SettingsError("the current folder: must exist, it was deleted; change to another one") from error


@contextmanager
def file_errors() -> Iterator[None]:
    """Turn what the operating system says of a named file into an error of one line."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        if error.filename is None or error.strerror is None:
            raise
        raise ScanError(f"{error.filename}: must be within reach, got '{error.strerror}'; choose another") from error


def print_versions() -> int:
    """Print the versions of bida and of what its results depend on; return 0."""
    from bida.provenance import versions

    print(", ".join(f"{name} {version}" for name, version in versions().items()))
    return 0


def print_completion(shell: str) -> int:
    """Print the script that completes commands, options and file names in a shell; return 0.

    Raises:
        SettingsError: shtab is not installed.
    """
    try:
        import shtab
    except ImportError:
        cure = "pip install 'bida-mri[completion]'"
        raise SettingsError(f"--print-completion: shtab must be installed, it is not; {cure}") from None
    main = parser()
    ahead: list[argparse.ArgumentParser] = [main]
    while ahead:
        for action in ahead.pop()._actions:
            if isinstance(action, argparse._SubParsersAction):
                ahead += action.choices.values()
            elif action.nargs != 0 and action.choices is None and action.type in (None, str):  # no numbers
                vars(action)["complete"] = shtab.FILE
    print(shtab.complete(main, shell))
    return 0


@contextmanager
def memory_errors() -> Iterator[None]:
    """Turn an allocation that failed, Python's, numpy's or torch's, into an error of one line."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        cause = cause_of(error)
        if isinstance(cause, OutOfMemoryError):
            raise cause from error
        # torch is not imported to know its classes: CUDA's is OutOfMemoryError, the CPU's allocator has none
        known = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
        if not (known or "allocate memory" in str(error)):
            raise
        reason = " ".join(str(error).split())[:120] or "allocation failed"
        raise OutOfMemoryError(
            f"memory: the run must fit, it does not ({reason}); give a larger --spacing, or crop"
        ) from error


if __name__ == "__main__":
    sys.exit(main())
