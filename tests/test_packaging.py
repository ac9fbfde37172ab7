"""What is installed, and under which name."""

from __future__ import annotations

import json
import re
import tomllib
from importlib.metadata import version

import pytest
from conftest import ROOT

from bida.provenance import versions

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
METADATA = json.loads((ROOT / "metadata.json").read_text(encoding="utf-8"))
FOREIGN = re.compile(r"pip3? install[^\n`;]*?[\s'\"]bida(?![-\w.])")  # `bida` of the index is another project


def test_the_distribution_is_bida_mri_and_the_command_bida():
    assert PYPROJECT["project"]["name"] == "bida-mri"
    assert PYPROJECT["project"]["scripts"] == {"bida": "bida.cli.parser:main"}
    assert versions()["bida"] == version("bida-mri") == PYPROJECT["project"]["version"]


def test_the_metadata_asks_for_what_the_tests_ran_with():
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8") + (ROOT / "Makefile").read_text(encoding="utf-8")
    tested = {name.lower(): pin for name, pin in re.findall(r"([\w-]+)==([\w.]+)", pins)}
    tested["bida-mri"] = METADATA["version"]
    required = METADATA["required_packages_version"]
    assert METADATA["version"] == PYPROJECT["project"]["version"]
    assert "bida-mri" in required  # the configurations name its classes
    assert required == {name: tested[name.lower()] for name in required}
    assert [METADATA[f"{name}_version"] for name in ("monai", "pytorch", "numpy")] == [
        tested[name] for name in ("monai", "torch", "numpy")
    ]


@pytest.mark.parametrize("text", ["pip install bida", "pip install -U 'bida[export]'", 'pip install "bida"'])
def test_a_name_of_the_other_project_is_found(text):
    assert FOREIGN.search(text)


@pytest.mark.parametrize("text", ["pip install bida-mri", "pip install 'bida-mri[export]'", "pip install '.[export]'"])
def test_the_own_name_is_let_be(text):
    assert not FOREIGN.search(text)


def test_nothing_tells_a_user_to_install_the_other_project():
    folders = [ROOT / name for name in ("bundle", "transforms", "eval", "configs", "models", "docs", "benchmarks")]
    files = [path for folder in folders for path in folder.rglob("*")] + list(ROOT.iterdir())
    texts = [
        path for path in files if path.suffix in {".py", ".md", ".yaml", ".json", ".toml", ".cff", ".txt", ".html"}
    ]
    assert {ROOT / "README.md", ROOT / "bundle" / "diffusion" / "export.py"} <= set(texts)
    assert [path for path in texts if FOREIGN.search(path.read_text(encoding="utf-8"))] == []
