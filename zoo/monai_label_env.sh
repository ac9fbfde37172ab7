#!/usr/bin/env bash
# Make the environment that MONAI Label serves the bundle from, in build/monai-label: Python 3.11, some 6 GB.
# MONAI Label 0.8.5 wants older pydicom, pynetdicom and dicomweb-client, so that it cannot share an environment with bida.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=build/monai-label
"${PYTHON:-python3.11}" -m venv "$folder"
"$folder/bin/python" - metadata.json > "$folder/requirements.txt" <<'PY'
import json
import sys

for name, version in json.load(open(sys.argv[1]))["required_packages_version"].items():
    print(f"{name}=={version}" if name in ("scipy", "antspyx", "nibabel") else name)  # the rest as MONAI Label allows
PY
"$folder/bin/pip" install --quiet monailabel==0.8.5 "pydicom<3" "dicomweb-client<0.60" "pynetdicom<3"
# in a second step: MONAI Label's pydicom-seg asks for numpy 1, and works with what bida was tested with
"$folder/bin/pip" install --quiet "numpy<2.4" --requirement "$folder/requirements.txt"
"$folder/bin/python" -c "import monailabel; print('MONAI Label', monailabel.__version__, 'in $folder')"
