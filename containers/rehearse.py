"""Do what containers/Dockerfile says, without an engine, in a folder: every COPY and every RUN line.

    python containers/rehearse.py FOLDER [--torch torch==2.13.0] [--torch-index URL]

The base image is this Python, and the folders that the file names as arguments (ROOT, WHEELS) lie in FOLDER; so does
/src. What an engine adds (layers, the user, the network that is not there) is not tried. Needs dockerfile-parse.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

from dockerfile_parse import DockerfileParser

REPOSITORY = Path(__file__).resolve().parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--torch", default="torch==2.13.0")
    parser.add_argument("--torch-index", default="")
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    folder.mkdir(parents=True)
    python = folder / "base"  # where the image's `python` is
    python.mkdir()
    (python / "python").symlink_to(sys.executable)
    given = {"ROOT": str(folder / "opt"), "WHEELS": str(folder / "wheels")}
    given |= {"TORCH": arguments.torch, "TORCH_INDEX": arguments.torch_index}
    environment = os.environ | {"PATH": f"{python}:{os.environ['PATH']}"}
    environment.pop("PYTHONPATH", None)
    arguments_seen, where = dict[str, str](), REPOSITORY
    with (REPOSITORY / "containers/Dockerfile").open("rb") as file:
        steps = DockerfileParser(fileobj=file).structure
    for step in steps:
        kind, value = step["instruction"], step["value"]
        if kind == "ARG":
            name, _, default = value.partition("=")
            arguments_seen[name] = given.get(name, default)
        elif kind == "WORKDIR":
            where = folder / value.lstrip("/")
            where.mkdir(parents=True, exist_ok=True)
        elif kind == "COPY" and not value.startswith("--from"):
            source, target = (replaced(word, arguments_seen) for word in value.split())
            copy(source, where / target)
        elif kind == "ENV":
            print("environment:", value)
        elif kind == "RUN":
            print("run:", value, flush=True)
            command = ["sh", "-e", "-c", value]
            subprocess.run(command, cwd=where, env=environment | arguments_seen, check=True)
    print(f"every line ran; {folder / 'opt/venv/bin/bida'}")


def replaced(word: str, values: dict[str, str]) -> str:
    """Return a word with the arguments in it replaced."""
    for name, value in values.items():
        word = word.replace("${" + name + "}", value)
    return word


def copy(source: str, target: Path) -> None:
    """Copy what the image may see (.dockerignore) of the repository."""
    if source != ".":
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / source, target)
        return
    lines = (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").splitlines()
    for line in lines:
        if line.startswith("!"):
            path = REPOSITORY / line[1:]
            if path.is_dir():
                shutil.copytree(path, target / line[1:], ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(path, target / line[1:])


if __name__ == "__main__":
    main()
