"""What a command costs before it works: wrong paths are told at once, and no library is imported that is not used."""

import os
import subprocess
import sys

import pytest

# runs commands, a + between them, and says after each which of the heavy libraries have been imported
PROGRAM = """
import itertools, sys
from bida.cli.parser import main
heavy = {"torch", "monai", "ants", "sigpy", "numba", "matplotlib", "skimage", "sklearn", "statsmodels", "pandas"}
for between, words in itertools.groupby(sys.argv[1:], "+".__eq__):
    if not between:
        print(f"code={main(list(words))} imported={sorted(heavy & set(sys.modules))}")
"""


def outcome(*words: str) -> tuple[list[str], str]:
    run = subprocess.run([sys.executable, "-c", PROGRAM, *words], capture_output=True, text=True)
    return [line for line in run.stdout.splitlines() if line.startswith("code=")], run.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["superres", "nowhere.nii", "out.nii"],
        ["info", "nowhere.nii"],
        ["adapt", "nowhere.nii", "-o", "out.pt"],
        ["simulate", "nowhere.nii", "out.nii", "--factor", "5"],
        ["strip", "nowhere.nii", "mask.nii"],
        ["volumes", "nowhere.nii", "--atlas", "nowhere", "--labels", "nowhere", "-o", "out.tsv"],
        ["export", "nowhere.pt", "-o", "out"],
        ["train", "nowhere"],
        ["evaluate", "--data", "nowhere", "--out", "out"],
    ],
)
def test_a_path_that_is_not_there_is_told_before_anything_heavy_is_imported(words: list[str]) -> None:
    found, errors = outcome(*words)
    assert found == ["code=2 imported=[]"], errors
    assert errors.startswith("bida: error: nowhere") and errors.count("\n") == 1


@pytest.mark.parametrize(
    "options, message",
    [
        (["--steps", "0"], "steps: must be at least 1, got 0"),
        (["--model", "nope.pt"], "nope.pt: weights must exist, none found"),
        (["--like", "nope.nii"], "nope.nii: must exist, nothing is there"),
        (["--profile", "nope.txt"], "profile must be slr, gaussian, box or a file"),
        (["--spacing", "0.2", "--factor", "5"], "--factor excludes --spacing"),
        (["--thickness", "0"], "--thickness must be a number above 0"),
    ],
)
def test_an_option_that_cannot_be_too(options: list[str], message: str) -> None:
    found, errors = outcome("superres", "nowhere.nii", "out.nii", *options)
    assert found == ["code=2 imported=[]"], errors
    assert errors.startswith(f"bida: error: {message}") and errors.count("\n") == 1


@pytest.mark.slow
def test_restoring_a_scan_takes_torch_alone(make_scan, tmp_path) -> None:
    scan, steps = str(make_scan((16, 4, 16))), ["--steps", "1"]
    restore = ["superres", scan, str(tmp_path / "out.nii"), "--no-n4", "--self-check", "off", *steps]
    found, errors = outcome("info", scan, *steps, "+", *restore)
    assert found == ["code=0 imported=['torch']"] * 2, errors


def test_requests_is_not_imported_with_nibabel_and_can_be_later() -> None:
    program = (
        "import sys; from bida.cli import parser; parser.command('info'); "
        "print('nibabel' in sys.modules, 'requests' in sys.modules); import requests; print(requests.__name__); "
        "parser.command('superres'); print('requests' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.stdout.split() == ["True", "False", "requests", "True"], run.stderr


@pytest.mark.parametrize("code", [0, 2])
def test_the_process_ends_with_what_is_to_be_done_at_its_end(code: int) -> None:
    program = (
        "import atexit, sys; from bida.cli import parser\n"
        "class Late:\n  def __del__(self): print('taken apart')\n"
        "late = Late(); atexit.register(print, 'at its end'); sys.argv = ['bida']\n"
        f"parser.run = lambda words: print('ran') or {code}\n"
        "sys.exit(parser.main())"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (run.returncode, run.stdout.split("\n"), run.stderr) == (code, ["ran", "at its end", ""], "")


def test_the_process_waits_for_its_threads() -> None:
    program = (
        "import sys, threading, time; from bida.cli import parser; sys.argv = ['bida']\n"
        "def late(): time.sleep(0.3); print('done', flush=True)\n"
        "parser.run = lambda words: threading.Thread(target=late).start() or 1\n"
        "sys.exit(parser.main())"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (run.returncode, run.stdout, run.stderr) == (1, "done\n", "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_what_can_not_be_printed_is_an_error() -> None:
    program = "import sys; from bida.cli import parser; sys.argv = ['bida', '--version']; sys.exit(parser.main())"
    with open("/dev/full", "w") as full:
        run = subprocess.run([sys.executable, "-c", program], stdout=full, stderr=subprocess.PIPE, text=True)
    assert run.returncode != 0 and "space" in run.stderr


@pytest.mark.parametrize("given, found", [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")])
def test_threads_that_wait_sleep_unless_the_user_says_otherwise(given: dict[str, str], found: str) -> None:
    program = (
        "import os, sys; from bida.cli import parser; sys.argv = ['bida']; "
        "parser.run = lambda words: print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules) or 0; "
        "sys.exit(parser.main())"
    )
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"} | given
    run = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert run.stdout.split() == [found, "False"], run.stderr
