#!/usr/bin/env bash
# Nipype: run() of an interface whose command fails raises nothing, and hands out what an earlier run left.
#
# Version: nipype 1.11.0.
# Common belief: an interface's run() raises where its command ends with another exit code than 0, as subprocess does with
#   check=True; what comes back in outputs was written by this run.
# Behaviour: it is noted in runtime.returncode and in runtime.traceback, and run() returns. Where the output's file lies
#   there, of an earlier run, outputs names it; where it doesn't, the error is one about that file, not about the command.
#   A Node raises. A script that calls run() must look at runtime.returncode, or the interface raise in _run_interface.
# Output seen:
#   nothing there: FileNotFoundError
#   of an earlier run: exit code 3, out_file made by the run before, no error
#   as a node: NodeExecutionError
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet nipype==1.11.0
export HOME="$folder" NO_ET=1 PATH="$folder/venv/bin:$PATH"
cd "$folder"
python - <<'PYTHON'
import logging
from pathlib import Path

from nipype import Node
from nipype.interfaces.base import CommandLine, CommandLineInputSpec, File, TraitedSpec

logging.getLogger("nipype").setLevel(logging.CRITICAL)


class Inputs(CommandLineInputSpec):
    out_file = File("made.txt", usedefault=True, argstr="'%s'")


class Outputs(TraitedSpec):
    out_file = File(exists=True)


class Fails(CommandLine):
    _cmd = "sh -c 'exit 3'"
    input_spec, output_spec = Inputs, Outputs

    def _list_outputs(self):
        return {"out_file": str(Path(self.inputs.out_file).absolute())}


def told(what, run):
    try:
        result = run()
    except Exception as error:
        line = type(error).__name__
    else:
        code, text = result.runtime.returncode, Path(result.outputs.out_file).read_text()
        line = f"exit code {code}, out_file made by {text}, no error"
    print(f"{what}: {line}")
    return line


assert told("nothing there", Fails().run) == "FileNotFoundError", "it is another now"
Path("made.txt").write_text("the run before")
assert told("of an earlier run", Fails().run).startswith("exit code 3, out_file made by"), "it raises now"
assert told("as a node", Node(Fails(), name="node", base_dir=".").run) == "NodeExecutionError", "it is another now"
PYTHON
