"""Imports go one way, room by room: parsed from the source, so that an import inside a function counts too."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {"bundle": "bida", "transforms": "bida.transforms", "eval": "bida.eval"}
TOP_LEVEL = {*FOLDERS, "configs", "models"}
# a room imports rooms of the rows above its own, and of its own row itself alone
ORDER = [
    {"errors", "progress", "shipped"},
    {"options"},
    {"provenance"},
    {"physics"},
    {"io"},
    {"drawing", "integers"},
    {"cpu_speed"},
    {"device"},
    {"parallel"},
    {"eval"},
    {"diffusion"},
    {"transforms"},
    {"training"},
    {"report"},
    {"mri", "microscopy"},
    {"experiment"},
    {"cohort"},
    {"cli"},
    {"nipype"},
]
ROW = {room: row for row, rooms in enumerate(ORDER) for room in rooms}
ALONE = {  # what a room or module may import beside itself, where that is less than its row
    "bida.eval": {"bida.errors", "bida.io.claim", "bida.io.weights", "bida.physics.grid"},
    "bida.cli.parser": {"bida.errors", "bida.progress", "bida.provenance"},
}
PASSAGES = {"bida", "bida.__main__", "bida.moved"}  # hand public names, the command and old names on
STRANGERS = [{"microscopy", "experiment"}]  # rows apart, and yet unknown to each other


def modules(root: Path) -> dict[str, Path]:
    """Name to file of every module that the folders map to."""
    found = {}
    for folder, package in FOLDERS.items():
        for path in (root / folder).rglob("*.py"):
            parts = path.relative_to(root / folder).with_suffix("").parts
            found[".".join([package, *(part for part in parts if part != "__init__")])] = path
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
    found = {name: (names & set(files)) - {name, "bida", "bida.moved"} for name, names in named.items()}
    for name, names in named.items():
        # `from bida import superres`, or `import bida` alone: a public name may come from any room, so it counts as all
        public = {one for one in names if one.startswith("bida.") and one.count(".") == 1} - set(files)
        if name not in PASSAGES and (public or names & {"bida"} == names & {"bida", *files} != set()):
            found[name].add("bida.cli")
    return found


def room(name: str) -> str:
    """Return the room of a module, the second part of its name."""
    return name.split(".")[1]


def layer_faults(arrows: dict[str, set[str]]) -> list[str]:
    """Say which arrows go against the order of the rooms."""
    faults = []
    for name, targets in arrows.items():
        if name in PASSAGES:
            continue
        for target in targets:
            here, there = room(name), room(target)
            apart = ROW[there] < ROW[here] and {here, there} not in STRANGERS
            if here != there and not apart:
                faults.append(f"{name} imports {target}, of a room that it must not know")
            for place, allowed in ALONE.items():
                inside = f"{name}.".startswith(f"{place}.")
                if inside and target not in allowed and not f"{target}.".startswith(f"{place}."):
                    faults.append(f"{name} imports {target}, but {place} knows {', '.join(sorted(allowed))} alone")
    return faults


def cycles(arrows: dict[str, set[str]]) -> list[str]:
    """Return the modules from which imports lead back to themselves."""

    def reach(name: str) -> set[str]:
        seen, ahead = set[str](), [name]
        while ahead:
            new = arrows.get(ahead.pop(), set()) - seen
            seen |= new
            ahead += new
        return seen

    return [name for name in arrows if name in reach(name)]


def test_every_module_has_a_room_of_the_order():
    assert {name for name in modules(ROOT) if name not in PASSAGES and room(name) not in ROW} == set()


def test_few_modules_lie_beside_the_rooms():
    assert len(list((ROOT / "bundle").glob("*.py"))) <= 13


def test_no_module_but_the_commands_takes_their_arguments():
    takers = {name for name, path in modules(ROOT).items() if "argparse" in imported(path.read_text(encoding="utf-8"))}
    assert {name for name in takers if not name.startswith("bida.cli.")} == set()


def test_imports_go_one_way():
    assert layer_faults(graph(ROOT)) == []


def test_no_import_goes_in_a_circle():
    assert cycles(graph(ROOT)) == []


@pytest.mark.parametrize(
    "name, target",
    [
        ("bida.physics.operators", "bida.io.scan"),
        ("bida.errors", "bida.progress"),
        ("bida.diffusion.sampling", "bida.mri.inferer"),
        ("bida.mri.pipeline", "bida.cli.superres"),
        ("bida.mri.pipeline", "bida.microscopy.restore"),
        ("bida.microscopy.restore", "bida.mri.pipeline"),
        ("bida.experiment.runner", "bida.microscopy.restore"),
        ("bida.eval.metrics", "bida.physics.operators"),
        ("bida.eval.slices.panel", "bida.io.scan"),
        ("bida.transforms.pad", "bida.mri.inferer"),
        ("bida.cli.parser", "bida.mri.settings"),
    ],
)
def test_an_import_the_wrong_way_is_found(name, target):
    assert layer_faults({name: {target}}), f"{name} -> {target} should be a fault"


@pytest.mark.parametrize(
    "name, target",
    [
        ("bida.physics.operators", "bida.physics.grid"),
        ("bida.eval.slices.panel", "bida.eval.metrics"),
        ("bida.eval.skullstrip.network", "bida.io.weights"),
        ("bida.cli.superres", "bida.mri.pipeline"),
        ("bida.experiment.runner", "bida.mri.pipeline"),
    ],
)
def test_an_import_the_right_way_is_let_be(name, target):
    assert layer_faults({name: {target}}) == []


def test_a_public_name_of_the_package_counts(tmp_path):
    for folder in FOLDERS:
        (tmp_path / folder / "physics").mkdir(parents=True)
    (tmp_path / "bundle" / "cli").mkdir()
    (tmp_path / "bundle" / "cli" / "__init__.py").write_text("")
    for source in ("from bida import superres\n", "import bida\n"):
        (tmp_path / "bundle" / "physics" / "grid.py").write_text(source)
        assert layer_faults(graph(tmp_path))


def test_a_circle_is_found():
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == ["a", "b", "c"]


def test_imports_inside_functions_count():
    source = "def f():\n    from bida import cli\n    import bida.physics.grid\n"
    assert imported(source) == {"bida", "bida.cli", "bida.physics.grid"}


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
    assert named.search("_target_: transforms.LoadScan") and not named.search("_target_: monai.transforms.Compose")
    wrong = [
        f"{path.name}:{number}"
        for path in sorted((ROOT / "configs").glob("*.y*ml"))
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if named.search(line.partition(" #")[0]) and not line.lstrip().startswith("#")
    ]
    assert wrong == []
