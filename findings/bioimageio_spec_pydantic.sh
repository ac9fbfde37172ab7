#!/usr/bin/env bash
# bioimageio.spec calls every BioImage Model Zoo package invalid beside the pydantic that pip chooses for it.
#
# Version: bioimageio.spec 0.5.12.0 with pydantic 2.14.4 (which its requirements allow) and 2.13.5.
# Common belief: whether a package of the BioImage Model Zoo is valid depends on the package and the specification alone,
#   and a validation that fails says what is wrong with the package.
# Behaviour: the same sound package is valid beside pydantic 2.13 and "invalid-format" beside 2.14. The one error has no
#   place in the package and speaks of an 'index_key': the library hands pydantic's serialisation info on to the next
#   serialiser as the index of an item, which 2.14 no longer takes. Every model is hit, for all name weights and test
#   tensors by file. Cure: pydantic<2.14.
# Output seen:
#   pydantic 2.13.5: ModelDescr
#   pydantic 2.14.4: InvalidDescr: Value error, Error calling function package_file_descr_serializer: TypeError: 'index_key' ...
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
export HOME="$folder" XDG_CACHE_HOME="$folder/cache"
for version in 2.13.5 2.14.4; do
  "$folder/venv/bin/pip" install --quiet bioimageio.spec==0.5.12.0 "pydantic==$version"
  "$folder/venv/bin/python" - "$folder/package" "$version" <<'PYTHON'
import json
import sys
from hashlib import sha256
from pathlib import Path

import numpy as np
from bioimageio.spec import InvalidDescr, load_description

folder, version = Path(sys.argv[1]), sys.argv[2]
folder.mkdir(exist_ok=True)
np.save(folder / "image.npy", np.arange(64, dtype="float32").reshape(1, 1, 8, 8))
(folder / "weights.pt").write_bytes(b"weights are not looked into here")
(folder / "README.md").write_text("# A model\n\n# Validation\n\nBy eye.\n")


def named(name):
    return {"source": name, "sha256": sha256((folder / name).read_bytes()).hexdigest()}


def tensor(name):
    axes = [{"type": "batch"}, {"type": "channel", "channel_names": ["grey"]}]
    axes += [{"type": "space", "id": axis, "size": 8} for axis in "yx"]
    return {"id": name, "axes": axes, "test_tensor": named("image.npy")}


description = {
    "type": "model", "format_version": "0.5.4", "name": "a model", "description": "nothing", "license": "MIT",
    "authors": [{"name": "Anyone"}], "cite": [{"text": "nobody", "doi": "10.1000/182"}], "documentation": "README.md",
    "inputs": [tensor("before")], "outputs": [tensor("after")],
    "weights": {"torchscript": {**named("weights.pt"), "pytorch_version": "2.5.0"}},
}
(folder / "rdf.yaml").write_text(json.dumps(description))  # JSON is YAML
found = load_description(folder / "rdf.yaml")
valid = not isinstance(found, InvalidDescr)
errors = [one for detail in found.validation_summary.details for one in detail.errors]
told = "; ".join(" ".join(one.msg.split())[:110] for one in errors)
print(f"pydantic {version}: {type(found).__name__}{'' if valid else ': ' + told}")
if version == "2.13.5":
    assert valid, told
else:
    assert not valid and len(errors) == 1 and errors[0].loc == () and "index_key" in told, "it has changed"
PYTHON
done
