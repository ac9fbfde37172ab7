"""Options of microscopy: written once, and wrong ones answered before anything heavy is imported."""

import argparse
import json
import subprocess
import sys

import pytest

from bida.cli import evaluate_masked, masked_options, superres_masked
from bida.errors import SettingsError
from bida.microscopy.settings import MaskedSettings, check_sampling, check_tile

HEAVY = ("torch", "monai", "tifffile", "zarr", "skimage", "matplotlib")
SUPERRES = ["superres-masked", "there.tif", "out.tif", "--model", "there.pt", "--factor", "2"]
EVALUATE = ["evaluate-masked", "there.tif", "--out", "out"]
# runs every command given as JSON, and says what each ended with, said, and had imported by then
PROGRAM = f"""
import contextlib, io, json, sys
from bida.cli.parser import main
found = []
for words in json.loads(sys.argv[1]):
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        try:
            code = main(words)
        except SystemExit as end:
            code = end.code
    found.append([code, [name for name in {HEAVY} if name in sys.modules], said.getvalue()])
print(json.dumps(found))
"""
CASES = [
    (["superres-masked", "--help"], 0, ""),
    (["evaluate-masked", "--help"], 0, ""),
    (["isotropy", "--help"], 0, ""),
    (["superres-masked", "none.tif", *SUPERRES[2:]], 2, "none.tif: a stack must exist"),
    (["superres-masked", "none.tif[2:5]", *SUPERRES[2:]], 2, "none.tif: a stack must exist"),
    (["superres-masked", "none/*.tif", *SUPERRES[2:]], 2, "none/*.tif: a stack must exist"),
    (["superres-masked", "none.pt[0,1]", *SUPERRES[2:]], 2, "none.pt[0,1]: a stack must exist"),
    ([*SUPERRES, "--model", "none.pt"], 2, "none.pt: weights must exist"),
    (["superres-masked", "there.tif", "there.tif", *SUPERRES[3:]], 2, "a file of its own"),
    (["superres-masked", "there.tif", "written.tif", *SUPERRES[3:]], 2, "--overwrite"),
    ([*SUPERRES, "--steps", "0"], 2, "steps: must be at least 1"),
    ([*SUPERRES, "--factor", "0.5"], 2, "factor: must be a number >= 1"),
    ([*SUPERRES, "--tile", "32"], 2, "tile: must be at least twice the overlap of 32"),
    ([*SUPERRES, "--clip-percentile", "0"], 2, "clip_percentile: must be above 0"),
    ([*SUPERRES, "--fusion", "mean"], 2, "invalid choice"),
    (["evaluate-masked", "none.tif", "--out", "out"], 2, "none.tif: a stack must exist"),
    ([*EVALUATE, "--methods", "net=none.pt"], 2, "none.pt: weights must exist"),
    ([*EVALUATE, "--factors", "1"], 2, "factors: must be integers from 2 on"),
    ([*EVALUATE, "--steps", "4"], 2, "--steps: must not be given"),
    ([*EVALUATE, "--inception-weights", "none.ts", "--inception-sha256", "0"], 2, "none.ts: must exist"),
    (["evaluate-masked", "there.tif", "--out", "."], 2, "masked.csv: output must not exist"),
    (["isotropy", "none.tif"], 2, "none.tif: a stack must exist"),
    (["isotropy", "there.tif", "--json", "there.json"], 2, "--overwrite"),
]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """What each case came to, in one process: what a case imports shows in all after it, too."""
    folder = tmp_path_factory.mktemp("there")
    for name in ("there.tif", "there.pt", "written.tif", "there.json", "masked.csv"):
        (folder / name).touch()
    command = [sys.executable, "-c", PROGRAM, json.dumps([words for words, *_ in CASES])]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


@pytest.mark.parametrize("number", range(len(CASES)), ids=lambda number: " ".join(CASES[number][0]))
def test_what_is_wrong_is_said_before_anything_heavy_is_imported(outcomes, number):
    _, expected, message = CASES[number]
    code, imported, said = outcomes[number]
    assert (code, imported) == (expected, []), said
    assert message in said


def test_what_is_there_is_let_be(tmp_path):
    """A field of view, a range and a glob name files that are there."""
    (tmp_path / "a.pt").touch()
    (tmp_path / "plane1.tif").touch()
    for spec in ("a.pt[0,1]", "a.pt", "plane1.tif[2:5]", "plane*.tif", "."):
        program = f"from bida.microscopy.stacks.paths import check_stack; check_stack({spec!r})"
        subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)


@pytest.mark.parametrize("command", [superres_masked, evaluate_masked])
def test_a_default_is_written_once(monkeypatch, command):
    """One changed in the dataclass is changed in the help, and in what the command runs by."""
    field = MaskedSettings.__dataclass_fields__["tile"]
    assert "side of the tiles that the network sees, pixels (128)" in text(command)
    monkeypatch.setattr(field, "default", 256)
    assert "side of the tiles that the network sees, pixels (256)" in text(command)


def text(command):
    sub = argparse.ArgumentParser(formatter_class=lambda prog: argparse.HelpFormatter(prog, width=400))
    command.add_options(sub)
    return sub.format_help()


def test_only_what_is_given_leaves_the_defaults():
    given = argparse.Namespace(steps=3, overwrite=True, blur=True)
    assert masked_options.masked_settings(given) == MaskedSettings(steps=3, blur=True)


@pytest.mark.parametrize(
    "values, message",
    [
        ({"spacing_um": 0.0}, "spacing: must be above 0 um"),
        ({"factor": float("nan")}, "factor: must be a number >= 1"),
        ({"seed": -1}, "seed: must be at least 0"),
        ({"batch_size": 0}, "batch_size: must be at least 1"),
        ({"eta": 1.5}, "eta: must be from 0 to 1"),
        ({"fusion": "mean"}, "fusion: must be one of final, textured, step"),
        ({"overlap": -4}, "overlap: must be at least 0"),
        ({"tile": 0, "overlap": 0}, "tile: must be at least twice"),
    ],
)
def test_settings_out_of_their_range_are_refused(values, message):
    with pytest.raises(SettingsError, match=message):
        MaskedSettings(**values)


def test_the_ends_of_the_ranges_are_let_be():
    check_sampling("final", 1.0, 0, steps=1)
    check_tile(64, 32)
