"""Write Boutiques descriptors of `bida superres` and `bida bids`, made from the commands' own parsers.

    python zoo/descriptors.py

writes them anew beside this file; `bosh exec launch zoo/boutiques_superres.json invocation.json` runs one.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

from bida.cli.inputs import FILE, FLAG, NUMBER, WHOLE, Input, exclusive, inputs_of
from bida.cli.parser import COMMANDS, EPILOG

HERE = Path(__file__).parent
DESCRIBED = ("superres", "bids")
TYPES = {FLAG: "Flag", NUMBER: "Number", WHOLE: "Number", FILE: "File"}
SUFFIXES = [".nii.gz", ".nii"]
SCANS = "scans; one gives a file, -o OUT.nii.gz, many, or a folder of them, go to a folder, -o DIR"
OUTPUTS: dict[str, list[dict[str, Any]]] = {
    "superres": [
        {"id": "result", "name": "isotropic volume, or folder of them", "path-template": "[OUT]", "optional": False},
        {"id": "record", "name": "record of the run", "path-template": "[OUT].json"},
        {"id": "page", "name": "page to look at, of --report", "path-template": "[OUT].html"},
        {"id": "uncertainty_map", "name": "standard deviation of the error", "path-template": "[UNCERTAINTY]"},
        {"id": "picture", "name": "picture of scan and result", "path-template": "[PREVIEW]"},
    ],
    "bids": [{"id": "derivative", "name": "BIDS derivative", "path-template": "[OUT_DIR]", "optional": False}],
}


def descriptor(command: str) -> dict[str, Any]:
    """Return the descriptor of a command, by version 0.5 of Boutiques' schema."""
    project = tomllib.loads((HERE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    inputs = [described for one in inputs_of(command) for described in described_input(one, command)]
    groups = [group(f"{'_or_'.join(names)}", names) for names in exclusive(command)]
    groups += [group(f"{one.name}_or_not", (one.name, f"no_{one.name}")) for one in inputs_of(command) if one.off]
    if command == "superres":
        groups.append({**group("scans_or_combine", ("words", "combine")), "one-is-required": True})
    outputs = [{"optional": True, **one} for one in OUTPUTS[command]]
    for one in outputs:
        if one["path-template"].count("."):
            one["path-template-stripped-extensions"] = SUFFIXES
    return {
        "name": f"bida {command}",
        "description": f"{COMMANDS[command].capitalize()}. {EPILOG}",
        "author": ", ".join(author["name"] for author in project["authors"]),
        "tool-version": project["version"],
        "schema-version": "0.5",
        "command-line": " ".join(["bida", command, *(one["value-key"] for one in inputs)]),
        "inputs": inputs,
        "groups": groups,
        "output-files": outputs,
        "error-codes": [
            {"code": 1, "description": "some of many scans failed, the others are done"},
            {
                "code": 2,
                "description": "an input or an option cannot be used, the line of error says how to mend it",
            },
        ],
        "tags": {"domain": ["neuroinformatics", "mri"]},
    }


def described_input(one: Input, command: str) -> list[dict[str, Any]]:
    """Return what Boutiques calls an input; of an option that can be refused two, its flag and the other one."""
    # OUT of the words is always given by -o, so that there is a value to name the result by
    required = one.required or (command, one.name) == ("superres", "out")
    found: dict[str, Any] = {
        "id": one.name,
        "name": one.name.replace("_", " "),
        "description": SCANS if one.name == "words" else one.help,
        "value-key": f"[{one.name.upper()}]",
        "type": TYPES.get(one.kind, "String"),
        "optional": not required,
    }
    if one.name == "words":
        found["name"] = "scans"
    if one.flag is not None:
        found["command-line-flag"] = one.flag
    if one.kind == WHOLE:
        found["integer"] = True
    if one.many:
        found |= {"list": True, "min-list-entries": 1}
    if one.choices:
        found["value-choices"] = list(one.choices)
    if one.off is None:
        return [found]
    name = f"no_{one.name}"
    refused = {
        "id": name,
        "name": name.replace("_", " "),
        "value-key": f"[{name.upper()}]",
        "command-line-flag": one.off,
    }
    return [found, found | refused | {"description": f"not: {one.help}"}]


def group(name: str, members: tuple[str, ...]) -> dict[str, Any]:
    """Return a group of inputs of which one alone may be given."""
    return {"id": name, "name": name.replace("_", " "), "members": list(members), "mutually-exclusive": True}


def text(command: str) -> str:
    """Return the descriptor of a command as it stands in its file."""
    return json.dumps(descriptor(command), indent=2) + "\n"


def path(command: str) -> Path:
    """Return the file of a command's descriptor."""
    return HERE / f"boutiques_{command}.json"


if __name__ == "__main__":
    for name in DESCRIBED:
        path(name).write_text(text(name), encoding="utf-8")
        print(path(name))
