"""What a command costs before it works: wrong paths are told at once, and no library is imported that is not used."""

import subprocess
import sys

import pytest

# runs a command, then says which of the heavy libraries it has imported
PROGRAM = """
import sys
from bida.cli.parser import main
code = main(sys.argv[1:])
heavy = {"torch", "monai", "ants", "sigpy", "numba", "matplotlib", "skimage", "sklearn", "statsmodels", "pandas"}
print(f"code={code} imported={sorted(heavy & set(sys.modules))}")
"""


def outcome(*words: str) -> tuple[str, str]:
    run = subprocess.run([sys.executable, "-c", PROGRAM, *words], capture_output=True, text=True)
    assert run.stdout, run.stderr
    return run.stdout.strip().splitlines()[-1], run.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["superres", "nowhere.nii", "out.nii"],
        ["info", "nowhere.nii"],
        ["adapt", "nowhere.nii", "-o", "out.pt"],
        ["simulate", "nowhere.nii", "out.nii", "--factor", "5"],
        ["volumes", "nowhere.nii", "--atlas", "nowhere", "--labels", "nowhere", "-o", "out.tsv"],
        ["export", "nowhere.pt", "-o", "out"],
        ["train", "nowhere"],
        ["evaluate", "--data", "nowhere", "--out", "out"],
    ],
)
def test_a_path_that_is_not_there_is_told_before_anything_heavy_is_imported(words: list[str]) -> None:
    last, errors = outcome(*words)
    assert last == "code=2 imported=[]"
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
    last, errors = outcome("superres", "nowhere.nii", "out.nii", *options)
    assert last == "code=2 imported=[]"
    assert errors.startswith(f"bida: error: {message}") and errors.count("\n") == 1


def test_restoring_a_scan_takes_torch_alone(make_scan, tmp_path) -> None:
    scan = str(make_scan((16, 4, 16)))
    for words in (["info", scan], ["superres", scan, str(tmp_path / "out.nii"), "--no-n4", "--self-check", "off"]):
        last, errors = outcome(*words, "--steps", "1")
        assert last == "code=0 imported=['torch']", errors
