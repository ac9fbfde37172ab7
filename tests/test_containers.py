"""The files that make containers: what an engine would do is done without one, as far as that goes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from conftest import ROOT

from bida.cli import bids, parser

CONTAINERS = ROOT / "containers"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_all_name_the_version_of_the_project():
    version = PROJECT["project"]["version"]
    for name, pattern in (
        ("Dockerfile", r'image\.version="([^"]+)"'),
        ("bida.def", r"^From: bida:(\S+)"),
        ("bida.def", r"image\.version (\S+)"),
        ("conda/recipe.yaml", r'version: "([^"]+)"'),
    ):
        assert re.findall(pattern, (CONTAINERS / name).read_text(encoding="utf-8"), re.MULTILINE) == [version], name


def test_the_image_is_made_of_what_the_wheel_needs():
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    seen = {line[1:] for line in ignored if line.startswith("!")}
    folders = {Path(folder).parts[0] for folder in PROJECT["tool"]["setuptools"]["package-dir"].values()}
    assert seen == {*folders, "pyproject.toml", "constraints.txt", "README.md", "LICENSE"}


def test_the_recipe_asks_for_what_the_project_asks_for():
    recipe = (CONTAINERS / "conda/recipe.yaml").read_text(encoding="utf-8")
    run = recipe[recipe.index("  run:") : recipe.index("tests:")]
    found = {
        other or name: bounds
        for name, bounds, other in re.findall(r"^    - (\S+) (\S+)(?:  # (\S+))?$", run, re.MULTILINE)
    }
    assert found.pop("python") == PROJECT["project"]["requires-python"]
    asked = [re.match(r"([\w-]+)(\S*)", one).groups() for one in PROJECT["project"]["dependencies"]]
    assert found == {name.lower(): bounds for name, bounds in asked}


def test_bida_bids_is_bida_s_command(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["bida-bids", "--nonsense"])
    monkeypatch.setattr(parser, "main", lambda: parser.run(sys.argv[1:]))
    with pytest.raises(SystemExit) as left:
        bids.main()
    assert left.value.code == 2
    assert "bida bids" in capsys.readouterr().err


def test_a_linter_finds_nothing_in_the_dockerfile():
    linter = shutil.which("hadolint", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if linter is None:
        pytest.skip("hadolint is not installed")
    done = subprocess.run([linter, CONTAINERS / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.slow
def test_every_line_of_the_dockerfile_runs(tmp_path):
    folder = tmp_path / "image"
    command = [sys.executable, CONTAINERS / "rehearse.py", folder]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    programs = folder / "opt/venv/bin"
    for name in ("bida", "bida-bids"):
        assert (programs / name).exists()
    # nothing of it comes from the repository's folder or this environment
    command = [programs / "python", "-P", "-c", "import bida; print(bida.__file__)"]
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    where = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout
    assert Path(where.strip()).is_relative_to(folder)
    shutil.rmtree(folder)
