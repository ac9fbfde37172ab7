#!/usr/bin/env bash
# MONAI's configurations import the first name of an import alone.
#
# Version: monai 1.6.1, with torch 2.13.0.
# Common belief: an entry `$from math import floor, ceil` under `imports` is a Python statement, so both names are there.
# Behaviour: the first name is imported, the others are left out with a warning; the expression that uses one of them
#   fails later with a NameError, far from its cause. One name an entry works.
# Output seen:
#   one name an entry: 2
#   two names in one: UserWarning: ignoring multiple import alias 'from math import floor, ceil'.
#   two names in one: NameError
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0
"$folder/venv/bin/pip" install --quiet monai==1.6.1 pyyaml==6.0.3
"$folder/venv/bin/python" - <<'PYTHON'
import warnings

from monai.bundle import ConfigParser


def evaluate(imports):
    parser = ConfigParser({"imports": imports, "value": "$ceil(1.5)"})
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        try:
            result = parser.get_parsed_content("value")
        except Exception as error:
            causes = [error]
            while causes[-1].__cause__ is not None:
                causes.append(causes[-1].__cause__)
            result = type(causes[-1]).__name__
    return result, [str(one.message) for one in seen if "multiple import" in str(one.message)]


apart, quiet = evaluate(["$from math import floor", "$from math import ceil"])
print("one name an entry:", apart)
together, told = evaluate(["$from math import floor, ceil"])
print("two names in one: UserWarning:", *told)
print("two names in one:", together)
assert (apart, quiet) == (2, []), "one name an entry no longer works"
assert together == "NameError" and told, "several names in one import are taken now"
PYTHON
