"""What is installed: its name, and that a wheel holds every package and file and runs from anywhere."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from fnmatch import fnmatch
from importlib.metadata import packages_distributions, version
from pathlib import Path

import nibabel as nib
import pytest
from conftest import ROOT
from test_imports import imported

import bida
from bida.provenance import versions

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
METADATA = json.loads((ROOT / "metadata.json").read_text(encoding="utf-8"))
SETUPTOOLS = PYPROJECT["tool"]["setuptools"]
FOREIGN = re.compile(r"pip3? install[^\n`;]*?[\s'\"]bida(?![-\w.])")  # `bida` of the index is another project


def normal(name: str) -> str:
    """Return a distribution's name as the index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def packaged() -> dict[str, list[Path]]:
    """Package to its files, as the folders say it."""
    found: dict[str, list[Path]] = {}
    for package, folder in SETUPTOOLS["package-dir"].items():
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and path.suffix != ".pyc":
                parts = path.parent.relative_to(ROOT / folder).parts
                found.setdefault(".".join([package, *parts]), []).append(path)
    return found


def test_every_folder_of_python_files_is_a_package():
    assert sorted(SETUPTOOLS["packages"]) == sorted(
        package for package, files in packaged().items() if any(path.suffix == ".py" for path in files)
    )


def test_every_other_file_is_package_data():
    data = SETUPTOOLS["package-data"]
    forgotten = [
        str(path.relative_to(ROOT))
        for package, files in packaged().items()
        for path in files
        if path.suffix != ".py" and not any(fnmatch(path.name, pattern) for pattern in data.get(package, []))
    ]
    assert forgotten == []


def test_every_import_is_of_a_declared_dependency():
    project = PYPROJECT["project"]
    names = [re.match(r"[\w-]+", one)[0] for one in project["dependencies"]]
    declared = {normal(name) for name in names}
    sources = [path for files in packaged().values() for path in files if path.suffix == ".py"]
    used = {name.partition(".")[0]: path for path in sources for name in imported(path.read_text(encoding="utf-8"))}
    of, known = packages_distributions(), {*sys.stdlib_module_names, "bida"}
    missing = {
        f"{name} ({path.name})"
        for name, path in used.items()
        if name not in known and not declared & {normal(one) for one in of.get(name, [])}
    }
    # of extras, which an error names; of development: it makes the table that the package holds; of napari
    assert missing - {f"{name} (widget.py)" for name in ("napari", "magicgui", "superqt")} == {
        "bids (bids_app.py)",
        "brukerapi (jcamp.py)",
        "nipype (nipype.py)",
        "shtab (parser.py)",
        "sigpy (slice_profile.py)",
    }


def test_the_distribution_is_bida_mri_and_the_command_bida():
    assert PYPROJECT["project"]["name"] == "bida-mri"
    commands = {"bida": "bida.cli.parser:main", "bida-bids": "bida.cli.bids:main"}
    assert PYPROJECT["project"]["scripts"] == commands
    assert bida.__version__ == versions()["bida"] == version("bida-mri") == PYPROJECT["project"]["version"]


def test_the_metadata_asks_for_what_the_tests_ran_with():
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8") + (ROOT / "Makefile").read_text(encoding="utf-8")
    tested = {name.lower(): pin for name, pin in re.findall(r"([\w-]+)==([\w.]+)", pins)}
    required = METADATA["required_packages_version"]
    assert METADATA["version"] == PYPROJECT["project"]["version"]
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
    folders = [
        ROOT / name for name in ("bundle", "transforms", "eval", "configs", "models", "docs", "benchmarks", "zoo")
    ]
    files = [path for folder in folders for path in folder.rglob("*")] + list(ROOT.iterdir())
    texts = [
        path for path in files if path.suffix in {".py", ".md", ".yaml", ".json", ".toml", ".cff", ".txt", ".html"}
    ]
    assert {ROOT / "README.md", ROOT / "bundle" / "diffusion" / "export.py"} <= set(texts)
    assert [path for path in texts if FOREIGN.search(path.read_text(encoding="utf-8"))] == []


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Return a wheel built from a copy, so that neither leftovers of a build get in nor new ones stay."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for folder in SETUPTOOLS["package-dir"].values():
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    flags = ["--no-deps", "--no-build-isolation", "--quiet", "--wheel-dir", out]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *flags, source], check=True)
    (built,) = out.iterdir()
    return built


@pytest.mark.slow
def test_the_wheel_runs_in_an_empty_environment(wheel, make_scan, tmp_path):
    assert re.fullmatch(r"bida_mri-[\w.]+-py3-none-any\.whl", wheel.name)
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel]
    subprocess.run(pip, check=True)
    # its dependencies from here: a folder on the path, whose links to an editable install are not followed
    places = {"PYTHONPATH": sysconfig.get_path("purelib"), "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}"}

    def run(*words: object) -> str:
        done = subprocess.run(
            list(map(str, words)), capture_output=True, text=True, cwd=tmp_path, env=os.environ | places, timeout=300
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    assert run("python", "-c", "import bida; print(bida.__file__)").startswith(str(tmp_path / "venv"))
    scan = make_scan()
    assert run("bida", "--version").startswith(f"bida {PYPROJECT['project']['version']}, ")
    assert "profile" in run("bida", "info", scan)
    run("bida", "superres", scan, "out.nii.gz", "--steps", 1, "--no-n4", "--self-check", "off")
    assert nib.load(tmp_path / "out.nii.gz").shape == (20, 40, 18)
