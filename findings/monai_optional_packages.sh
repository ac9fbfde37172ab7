#!/usr/bin/env bash
# A bundle's metadata.json with optional packages loses the required ones when MONAI reads it.
#
# Version: monai 1.6.1, with torch 2.13.0.
# Common belief: `required_packages_version` (schema of 2024) and `optional_packages_version` (bundle specification) stand
#   beside each other: what a bundle needs, and what it can use.
# Behaviour: MONAI takes the second for the old name of the first and puts its value in that place, whatever is there: a
#   program that asks the parsed metadata what to install gets the optional packages alone. The file itself passes the
#   schema.
# Output seen:
#   in the file: required ['nibabel'], optional ['onnx']
#   as MONAI reads it: required ['onnx'], optional None
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0
"$folder/venv/bin/pip" install --quiet monai==1.6.1 pyyaml==6.0.3
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import json
import sys
import warnings
from pathlib import Path

from monai.bundle import ConfigParser

warnings.simplefilter("ignore")
file = Path(sys.argv[1]) / "metadata.json"
written = {"required_packages_version": {"nibabel": "5.4.2"}, "optional_packages_version": {"onnx": "1.23.2"}}
file.write_text(json.dumps(written))
print("in the file: required ['nibabel'], optional ['onnx']")
parser = ConfigParser()
parser.read_config({})
parser.read_meta(str(file))
required = sorted(parser.get("_meta_")["required_packages_version"])
optional = parser.get("_meta_").get("optional_packages_version")
print(f"as MONAI reads it: required {required}, optional {optional}")
assert (required, optional) == (["onnx"], None), "both are kept now"
PYTHON
