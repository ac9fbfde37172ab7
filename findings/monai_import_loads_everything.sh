#!/usr/bin/env bash
# One name of MONAI imports all of MONAI, and with it ignite, matplotlib and scikit-learn where they are installed.
#
# Version: monai 1.6.1, pytorch-ignite 0.5.5, matplotlib 3.11.2, scikit-learn 1.9.1, torch 2.13.0.
# Common belief: `from monai.data import MetaTensor` costs that module and torch; what is optional is imported when used.
# Behaviour: monai/__init__.py loads every module of the package, and those import the optional libraries where they are
#   installed. On two cores it took twice the CPU seconds of `import torch`, in each process that needs one class.
# Output seen:
#   from monai.data import MetaTensor: 432 modules of monai; ignite.engine, matplotlib.pyplot, sklearn.metrics are loaded
#   2.6 s of CPU beside 1.1 s of torch
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0
"$folder/venv/bin/pip" install --quiet monai==1.6.1 pytorch-ignite==0.5.5 matplotlib==3.11.2 scikit-learn==1.9.1 \
    scikit-image==0.26.0
"$folder/venv/bin/python" - <<'PYTHON'
import sys
import time

start = time.process_time()
import torch  # noqa: F401, E402

alone = time.process_time() - start
from monai.data import MetaTensor  # noqa: F401, E402

both = time.process_time() - start
own = [name for name in sys.modules if name.partition(".")[0] == "monai"]
others = [name for name in ("ignite.engine", "matplotlib.pyplot", "sklearn.metrics") if name in sys.modules]
print(f"from monai.data import MetaTensor: {len(own)} modules of monai; {', '.join(others)} are loaded")
print(f"{both - alone:.1f} s of CPU beside {alone:.1f} s of torch")
assert "monai.apps" in sys.modules and "monai.losses" in sys.modules, "monai no longer loads all of itself"
assert len(others) == 3, "monai no longer imports what is optional at once"
PYTHON
