"""The Boutiques descriptors are what the parsers say, and command lines made by them are taken."""

from __future__ import annotations

import json
import shlex
from typing import Any

import pytest
from conftest import load_benchmark

from bida.cli.inputs import FILE, FLAG, MIXED, NUMBER, SWITCH, TEXT, WHOLE, Input, exclusive, inputs_of
from bida.cli.parser import parser
from bida.errors import SettingsError

descriptors = load_benchmark("descriptors", "zoo")
VALUES: dict[str, Any] = {"Flag": True, "Number": 2, "String": "2", "File": "a scan's $1.nii.gz"}


def test_inputs_are_what_the_parser_has():
    found = {one.name: one for one in inputs_of("superres")}
    assert found["words"].many and found["words"].flag is None and found["words"].kind == FILE
    assert found["n4"] == Input("n4", "--n4", FLAG, found["n4"].help, "--no-n4")
    assert (found["factor"].kind, found["samples"].kind, found["spacing"].kind) == (NUMBER, WHOLE, MIXED)
    assert found["axis"].choices == ("R", "A", "S") and found["self_check"].choices == ("on", "off")
    assert (found["self_check"].kind, found["device"].kind) == (SWITCH, TEXT)
    assert found["combine"].kind == FILE and {one.name: one for one in inputs_of("bids")}["combine"].kind == FLAG
    assert [one.name for one in found.values() if one.written] == ["out", "uncertainty", "preview"]
    assert [one.name for one in inputs_of("bids") if one.required] == ["bids_dir", "out_dir", "level"]
    assert exclusive("superres") == [("quiet", "verbose")]
    with pytest.raises(SettingsError, match="superress: must be a command"):
        inputs_of("superress")


@pytest.mark.parametrize("command", descriptors.DESCRIBED)
def test_descriptors_are_up_to_date(command):
    told = "run python zoo/descriptors.py, and look at what changes"
    assert descriptors.path(command).read_text(encoding="utf-8") == descriptors.text(command), told


@pytest.mark.parametrize("command", descriptors.DESCRIBED)
@pytest.mark.parametrize("member", [0, -1])  # of each group of which one alone may be given
def test_boutiques_makes_commands_of_them_that_the_parser_takes(command, member, tmp_path):
    boutiques = pytest.importorskip("boutiques", reason="boutiques is not installed")
    path = str(descriptors.path(command))
    boutiques.validate(path)
    described = json.loads(descriptors.path(command).read_text(encoding="utf-8"))
    left_out = {name for one in described["groups"] for name in set(one["members"]) - {one["members"][member]}}
    given = {}
    for one in described["inputs"]:
        value = one["value-choices"][-1] if "value-choices" in one else VALUES[one["type"]]
        if one["id"] not in left_out:
            given[one["id"]] = [value, value] if one.get("list") else value
    (tmp_path / "invocation.json").write_text(json.dumps(given))
    made = boutiques.execute("simulate", path, "-i", str(tmp_path / "invocation.json")).shell_command
    assert made.startswith(f"bida {command} ")
    found = vars(parser().parse_args(shlex.split(made)[1:]))
    for name, value in given.items():
        if name in ("quiet", "verbose"):
            assert found["loudness"] == name
        elif name.startswith("no_"):
            assert found[name.removeprefix("no_")] is False
        elif value in ("on", "off"):
            assert found[name] is (value == "on")
        else:
            assert found[name] == (float(value) if isinstance(found[name], float) else value), name


def test_boutiques_refuses_what_does_not_go_together(tmp_path):
    boutiques = pytest.importorskip("boutiques", reason="boutiques is not installed")
    path, file = str(descriptors.path("superres")), tmp_path / "invocation.json"
    for given in (
        {"out": "o.nii"},
        {"words": ["a.nii"]},
        {"words": ["a.nii"], "combine": ["b.nii"], "out": "o.nii"},
        {"words": ["a.nii"], "out": "o.nii", "n4": True, "no_n4": True},
        {"words": ["a.nii"], "out": "o.nii", "fusion": "none"},
    ):
        file.write_text(json.dumps(given))
        # of two flags boutiques' schema is told by jsonschema 4.26's search for the best error, which fails itself
        with pytest.raises((boutiques.invocationSchemaHandler.InvocationValidationError, TypeError)):
            boutiques.execute("simulate", path, "-i", str(file))
