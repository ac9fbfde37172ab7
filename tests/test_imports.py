"""Imports go one way: parsed from the source, so that an import inside a function counts too."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {"bundle": "bida", "transforms": "bida.transforms", "eval": "bida.eval"}
TOP_LEVEL = {*FOLDERS, "configs", "models"}
# each may import what stands before it, never what stands after, not even through others
ORDER = ["slice_profile", "degradation", "schedule", "samplers", "volume", "inferer", "pipeline", "experiment", "cli"]
PHYSICS, DIFFUSION = {"bida.slice_profile", "bida.degradation"}, {"bida.schedule", "bida.samplers"}


def modules(root: Path) -> dict[str, Path]:
    """Name to file of every module that the folders map to."""
    found = {}
    for folder, package in FOLDERS.items():
        for path in (root / folder).glob("*.py"):
            found[package if path.stem == "__init__" else f"{package}.{path.stem}"] = path
    return found


def imported(source: str) -> set[str]:
    """Every module that a source names in an import; `from bida import x` gives `bida` and `bida.x`."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the package's name"
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def graph(root: Path) -> dict[str, set[str]]:
    files = modules(root)
    # the bare package is what every import passes through; its own names are lazy
    named = {name: imported(path.read_text(encoding="utf-8")) for name, path in files.items()}
    return {name: (names & set(files)) - {name, "bida"} for name, names in named.items()}


def reach(name: str, arrows: dict[str, set[str]]) -> set[str]:
    seen, ahead = set(), [name]
    while ahead:
        for target in arrows.get(ahead.pop(), ()):
            if target not in seen:
                seen.add(target)
                ahead.append(target)
    return seen


def layer_faults(arrows: dict[str, set[str]]) -> list[str]:
    """Say which arrows of DESIGN's order are broken."""
    faults = []
    chain = [f"bida.{name}" for name in ORDER]
    for i, name in enumerate(chain):
        below = reach(name, arrows)
        faults += [f"{name} reaches {later}" for later in chain[i:] if later in below]
        if name not in {"bida.pipeline", "bida.experiment", "bida.cli"}:
            faults += [f"{name} reaches {n}" for n in below if n.startswith(("bida.transforms", "bida.eval"))]
    for first, second in ((PHYSICS, DIFFUSION), (DIFFUSION, PHYSICS)):
        faults += [f"{name} reaches {n}" for name in first for n in reach(name, arrows) & second]
    for name in arrows:
        if name.startswith("bida.eval"):
            allowed = {"bida.weights", "bida.errors"}
            faults += [
                f"{name} imports {n}" for n in arrows[name] if n not in allowed and not n.startswith("bida.eval")
            ]
        if name.startswith("bida.transforms"):
            banned = {f"bida.{n}" for n in ("samplers", "inferer", "pipeline", "experiment", "cli")}
            faults += [f"{name} reaches {n}" for n in reach(name, arrows) if n in banned or n.startswith("bida.eval")]
    # a leaf: the atomic writer is all it may share, and that knows of errors alone
    leaf = reach("bida.weights", arrows) - {"bida.errors", "bida.output"}
    return faults + [f"bida.weights is a leaf but reaches {n}" for n in leaf]


def cycles(arrows: dict[str, set[str]]) -> list[str]:
    return [name for name in arrows if name in reach(name, arrows)]


def test_arrows_go_one_way():
    assert layer_faults(graph(ROOT)) == []


def test_no_import_goes_in_a_circle():
    assert cycles(graph(ROOT)) == []


@pytest.mark.parametrize(
    "name, target",
    [
        ("bida.slice_profile", "bida.degradation"),
        ("bida.degradation", "bida.schedule"),
        ("bida.samplers", "bida.inferer"),
        ("bida.volume", "bida.transforms.pad"),
        ("bida.inferer", "bida.pipeline"),
        ("bida.pipeline", "bida.cli"),
        ("bida.eval.metrics", "bida.volume"),
        ("bida.transforms.pad", "bida.inferer"),
        ("bida.weights", "bida.volume"),
    ],
)
def test_an_arrow_the_wrong_way_is_found(name, target):
    arrows = {
        name: {"bida.via"} if name not in ("bida.eval.metrics", "bida.weights") else {target},
        "bida.via": {target},
    }
    assert layer_faults(arrows), f"{name} -> {target} should be a fault"


def test_a_circle_is_found():
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == ["a", "b", "c"]


def test_imports_inside_functions_count():
    source = "def f():\n    from bida import cli\n    import bida.volume\n"
    assert imported(source) == {"bida", "bida.cli", "bida.volume"}


def test_only_bida_is_named():
    """Under `python -m` a folder's own name would import a second copy of every class."""
    files = [p for folder in (*TOP_LEVEL, "tests", "benchmarks") for p in (ROOT / folder).rglob("*.py")]
    assert files
    wrong = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in files
        for name in imported(path.read_text(encoding="utf-8"))
        if name.partition(".")[0] in TOP_LEVEL
    ]
    assert wrong == []


def test_configs_name_only_bida():
    named = re.compile(r"(?<![\w.])(?:bundle|transforms|eval)\.\w")
    assert named.search("_target_: transforms.LoadScand") and not named.search("_target_: monai.transforms.Compose")
    wrong = [
        f"{path.name}:{number}"
        for path in sorted((ROOT / "configs").glob("*.y*ml"))
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if named.search(line.partition(" #")[0]) and not line.lstrip().startswith("#")
    ]
    assert wrong == []
