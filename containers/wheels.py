"""Ask the package index which packages have wheels where, and write the answer into docs/containers.md.

    python containers/wheels.py [--index URL]

What the installed bida needs, by the metadata of this environment and the markers of each platform and Python, at the
versions that are installed here, which are those of constraints.txt. One request a package, of the index that pip is
configured with (PEP 691). Needs packaging.
"""

from __future__ import annotations

import argparse
import json
import os
import ssl
import subprocess
import sys
import tomllib
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from itertools import chain
from pathlib import Path
from typing import Any

from packaging import tags
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_sdist_filename, parse_wheel_filename
from packaging.version import Version

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = REPOSITORY / "docs/containers.md"
START, END = "<!-- made by containers/wheels.py -->\n", "<!-- end -->\n"
GLIBC = 28  # 2.28: Debian 10, Ubuntu 20.04, RHEL 8 and later
MACOS = (14, 0)
PYTHONS = ((3, 11), (3, 12), (3, 13))
MICRO = 9  # of each Python: ">3.11" leaves out 3.11.0, but not what people have


@dataclass(frozen=True, eq=False)
class Platform:
    """A platform, as markers and as the tags of wheels name it.

    Attributes:
        name: as a reader knows it.
        markers: what requirements can ask of it.
        tags: what wheels for it are tagged with.
    """

    name: str
    markers: Mapping[str, str]
    tags: tuple[str, ...]


def linux(machine: str) -> Platform:
    old = {"x86_64": ("manylinux2014", "manylinux2010", "manylinux1"), "aarch64": ("manylinux2014",)}[machine]
    names = (*(f"manylinux_2_{minor}" for minor in range(GLIBC, 4, -1)), *old, "linux")
    markers = {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix", "platform_machine": machine}
    return Platform(f"Linux {machine}", markers, tuple(f"{name}_{machine}" for name in names))


def mac(machine: str) -> Platform:
    markers = {"sys_platform": "darwin", "platform_system": "Darwin", "os_name": "posix", "platform_machine": machine}
    return Platform(f"macOS {machine}", markers, tuple(tags.mac_platforms(MACOS, machine)))


WINDOWS = {"sys_platform": "win32", "platform_system": "Windows", "os_name": "nt", "platform_machine": "AMD64"}
PLATFORMS = (
    linux("x86_64"),
    linux("aarch64"),
    mac("arm64"),
    mac("x86_64"),
    Platform("Windows x86_64", WINDOWS, ("win_amd64",)),
)


@cache
def taken(platform: Platform, python: tuple[int, int]) -> frozenset[tags.Tag]:
    """Return the tags of the wheels that CPython takes on a platform."""
    name = f"cp{python[0]}{python[1]}"
    own = tags.cpython_tags(python, abis=[name], platforms=platform.tags)
    return frozenset(chain(own, tags.compatible_tags(python, interpreter=name, platforms=platform.tags)))


def verdict(files: Iterable[Mapping[str, Any]], version: Version, platform: Platform, python: tuple[int, int]) -> str:
    """Return ``wheel``, ``source`` or ``nothing``: what the index has of a version for a platform and a Python.

    Args:
        files: Of a project, as PEP 691 lists them.
        version: The release; a local part (``+cpu``) is left out.
        platform: Where it shall run.
        python: Major and minor version.
    """
    sought, fitting = Version(version.public), taken(platform, python)
    found = "nothing"
    for file in files:
        name = file["filename"]
        if not SpecifierSet(file.get("requires-python") or "").contains(f"{python[0]}.{python[1]}.{MICRO}"):
            continue
        if name.endswith(".whl"):
            try:
                _, theirs, _, offered = parse_wheel_filename(name)
            except InvalidWheelFilename:
                continue  # older than the rule
            if theirs == sought and fitting & offered:
                return "wheel"
        elif name.endswith((".tar.gz", ".zip")):
            try:
                _, theirs = parse_sdist_filename(name)
            except ValueError:
                continue
            if theirs == sought:
                found = "source"
    return found


def needed(asked: Iterable[str], markers: Mapping[str, str], requires: Callable[[str], Iterable[str]]) -> set[str]:
    """Return the names of all packages that requirements need on a platform, those of their dependencies included.

    Args:
        asked: Requirements.
        markers: Of the platform and its Python.
        requires: Returns the requirements of a package by its name.
    """
    found = set[tuple[str, str]]()
    waiting = [(one, "") for one in asked]
    while waiting:
        text, extra = waiting.pop()
        one = Requirement(text)
        if one.marker is not None and not one.marker.evaluate({**markers, "extra": extra}):
            continue
        name = canonicalize_name(one.name)
        for each in {"", *one.extras}:
            if (name, each) not in found:
                found.add((name, each))
                waiting += [(text, each) for text in requires(name)]
    return {name for name, _ in found}


def markers_of(platform: Platform, python: tuple[int, int]) -> dict[str, str]:
    """Return what the markers of requirements are compared with."""
    version = f"{python[0]}.{python[1]}"
    named = {"implementation_name": "cpython", "platform_python_implementation": "CPython"}
    return {**platform.markers, **named, "python_version": version, "python_full_version": f"{version}.{MICRO}"}


def table(results: Mapping[str, Mapping[tuple[str, tuple[int, int]], str]]) -> str:
    """Return what was found in Markdown: a row for each package that lacks a wheel, a line for the rest.

    Args:
        results: By package (``name version``), then by platform and Python, where it is needed there.
    """
    rows = []
    for package, found in sorted(results.items()):
        if set(found.values()) != {"wheel"}:
            cells = [cell({python: found.get((one.name, python)) for python in PYTHONS}) for one in PLATFORMS]
            rows.append(f"| {' | '.join([package, *cells])} |\n")
    whole = f"{len(results) - len(rows)} packages have wheels wherever they are needed"
    if not rows:
        return f"All {whole}.\n"
    head = ["package", *(one.name for one in PLATFORMS)]
    return f"| {' | '.join(head)} |\n|{' --- |' * len(head)}\n{''.join(rows)}\nAll other {whole}.\n"


def cell(found: Mapping[tuple[int, int], str | None]) -> str:
    """Return what a platform has of a package, for each Python that differs."""
    words = {"wheel": "yes", "source": "source only", "nothing": "no", None: "not needed"}
    by_word: dict[str, list[str]] = {}
    for python, one in found.items():
        by_word.setdefault(words[one], []).append(f"{python[0]}.{python[1]}")
    if len(by_word) == 1:
        return next(iter(by_word))
    return "; ".join(f"{word} on {', '.join(pythons)}" for word, pythons in by_word.items())


def index_of_pip() -> str:
    """Return the index that pip asks: of its variable, of its files, or its own."""
    command = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
    told = os.environ.get("PIP_INDEX_URL") or subprocess.run(command, capture_output=True, text=True).stdout.strip()
    if told:
        return told
    from pip._internal.models.index import PyPI  # no public name has it

    return PyPI.simple_url


def files_of(name: str, index: str) -> list[dict[str, Any]]:
    """Return the files of a project, as PEP 691 lists them."""
    accepted = {"Accept": "application/vnd.pypi.simple.v1+json"}
    request = urllib.request.Request(f"{index.rstrip('/')}/{name}/", headers=accepted)
    context = ssl.create_default_context(cafile=os.environ.get("PIP_CERT"))
    with urllib.request.urlopen(request, timeout=60, context=context) as answer:
        files: list[dict[str, Any]] = json.load(answer)["files"]
    return files


def installed(name: str) -> list[str]:
    """Return the requirements of a package of this environment; [] for one that is needed elsewhere alone."""
    try:
        return distribution(name).requires or []
    except PackageNotFoundError:
        return []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--index", help="a simple index, as pip takes it")
    index = parser.parse_args().index or index_of_pip()
    asked = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    places = [(one, python) for one in PLATFORMS for python in PYTHONS]
    where = {place: needed(asked, markers_of(*place), installed) for place in places}
    results = {}
    for name in sorted(set[str]().union(*where.values())):
        try:
            version = Version(distribution(name).version)
        except PackageNotFoundError:
            sys.exit(
                f"{name}: is needed on another platform and not installed here; add it to constraints.txt, install it"
            )
        files = files_of(name, index)
        results[f"{name} {version.public}"] = {
            (one.name, python): verdict(files, version, one, python)
            for one, python in places
            if name in where[one, python]
        }
        print(name, version.public, sorted(set(results[f"{name} {version.public}"].values())), flush=True)
    before, rest = PAGE.read_text(encoding="utf-8").split(START)
    PAGE.write_text(f"{before}{START}\n{table(results)}\n{END}{rest.split(END)[1]}", encoding="utf-8")


if __name__ == "__main__":
    main()
