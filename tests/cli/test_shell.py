"""What a shell does to a command: closed pipes, terminals of ASCII, folders that are gone, names that are too long."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import MakeScan

from bida.cli.options import check_outputs
from bida.cli.parser import file_errors, main
from bida.errors import ScanError, SettingsError


def bida(*words: str, **how: object) -> subprocess.Popen[bytes]:
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-m", "bida", *words], stdout=pipe, stderr=pipe, **how)  # type: ignore[call-overload, no-any-return]


def test_a_closed_pipe_is_no_traceback() -> None:
    run = bida("--version")
    assert run.stdout is not None and run.stderr is not None
    run.stdout.close()
    assert run.wait(60) == 141 and run.stderr.read() == b""


def test_a_terminal_of_ascii_shows_what_it_can(tmp_path: Path) -> None:
    run = bida("info", f"{tmp_path}/gr\xf6\xdfe.nii", env={**os.environ, "PYTHONIOENCODING": "ascii:strict"})
    error = run.communicate(timeout=60)[1]
    assert run.returncode == 2 and b"must exist" in error and b"Traceback" not in error


def test_a_folder_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert main(["info", str(tmp_path)]) == 2
    assert "the current folder: must exist, it was deleted" in capsys.readouterr().err
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("place", ["scan", "output"])
def test_a_name_that_is_too_long_is_one_line(make_scan: MakeScan, tmp_path: Path, capsys, place: str) -> None:
    long = str(tmp_path / ("a" * 260 + ".nii.gz"))
    words = [long, str(tmp_path / "out.nii.gz")] if place == "scan" else [str(make_scan()), long]
    assert main(["superres", *words]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "File name too long" in error and long in error


def test_a_name_of_254_characters_is_read(make_scan: MakeScan) -> None:
    from bida.io.scan import read_scan

    path = make_scan()
    long = path.rename(path.with_name("a" * 247 + ".nii.gz"))
    assert read_scan(long).data.shape == (20, 8, 18)


@pytest.mark.slow
def test_a_result_with_a_name_of_254_characters_is_written(make_scan: MakeScan, tmp_path: Path, capsys) -> None:
    out = tmp_path / ("a" * 250 + ".nii")
    words = ["superres", str(make_scan()), str(out), "--no-n4", "--self-check", "off", "--device", "cpu"]
    assert main(words) in (0, None), capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("a")) == [
        f"{'a' * 250}.json",
        out.name,
    ]


def test_what_the_system_says_of_a_file_is_one_line() -> None:
    with pytest.raises(ScanError, match=r"^/x: must be within reach, got 'No space left on device'"), file_errors():
        raise OSError(28, "No space left on device", "/x")
    with pytest.raises(OSError, match="nameless"), file_errors():
        raise OSError("nameless")


def test_sidecars_of_links_and_files_that_are_read_are_never_written(make_scan: MakeScan, tmp_path: Path) -> None:
    annex = make_scan(values=lambda shape, affine: np.ones(shape))
    (tmp_path / "study").mkdir()
    link = tmp_path / "study" / "sub-1_T2w.nii.gz"
    link.symlink_to(annex)
    like = make_scan(name="like.nii.gz")
    for output in (link.with_name("sub-1_T2w.nii"), annex.with_name("scan.nii"), like, like.with_name("like.nii")):
        with pytest.raises(SettingsError, match="must be a file of its own"):
            check_outputs(str(link), str(output), True, read=[like])
    assert check_outputs(str(link), str(tmp_path / "study" / "out.nii"), True, read=[like]).name == "out.nii"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_what_asks_for_an_end_gets_it_in_one_line_and_nothing_half_written_stays(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    program = (
        "import sys, time; from types import SimpleNamespace; from tqdm import tqdm; from bida.cli import parser\n"
        "from bida.io.claim import claimed; from bida.io.files import atomic\n"
        "def run(arguments):\n"
        "  global bar; bar = tqdm(total=2); bar.update()\n"
        "  with claimed(sys.argv[2]), atomic(sys.argv[2]) as half:\n"
        "    half.touch(); print('ready', flush=True); time.sleep(60)\n"
        "options = lambda sub: sub.add_argument('out')\n"
        "parser.command = lambda name: SimpleNamespace(add_options=options, run=run)\n"
        "sys.exit(parser.main())"
    )
    pipe = subprocess.PIPE
    words = [sys.executable, "-c", program, "info", str(tmp_path / "out.nii.gz")]
    process = subprocess.Popen(words, stdout=pipe, stderr=pipe, encoding="utf-8")
    assert process.stdout is not None and process.stdout.readline() == "ready\n" and list(tmp_path.iterdir())
    process.send_signal(number)
    said = process.communicate(timeout=60)[1]
    assert said.splitlines()[-1] == "bida: stopped" and "Traceback" not in said
    assert process.returncode == code
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", [["superres"], ["adapt", "--minutes", "0.01", "-o"]])
def test_an_output_of_another_run_is_refused(make_scan: MakeScan, tmp_path: Path, capsys, words: list[str]) -> None:
    scan, out = make_scan(), tmp_path / ("own.pt" if words[0] == "adapt" else "out.nii.gz")
    hold = "import sys, time; from bida.io.claim import claimed\nwith claimed(sys.argv[1]): "
    hold += "print(1, flush=True); time.sleep(60)"
    other = subprocess.Popen([sys.executable, "-c", hold, str(out)], stdout=subprocess.PIPE)
    assert other.stdout is not None and other.stdout.readline()
    before = sorted(tmp_path.iterdir())
    assert main([words[0], str(scan), *words[1:], str(out)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and f"{out}: output must be one run's alone, process {other.pid} of" in said
    assert sorted(tmp_path.iterdir()) == before
    other.kill()
    other.communicate()


def test_weights_that_are_read_are_never_written(make_scan: MakeScan, tmp_path: Path, capsys) -> None:
    weights = tmp_path / "own.pt"
    weights.write_bytes(b"mine")
    assert main(["adapt", str(make_scan()), "-o", str(weights), "--model", str(weights), "--overwrite"]) == 2
    assert "own.pt: output must be a file of its own, not the weights of --model" in capsys.readouterr().err
    assert weights.read_bytes() == b"mine"
