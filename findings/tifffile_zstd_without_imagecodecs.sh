#!/usr/bin/env bash
# tifffile says of a Zstandard TIFF, where imagecodecs is missing, that there is no module named 'compression'.
#
# Version: tifffile 2026.3.3, with numpy 2.3.5 and imagecodecs 2026.3.6, on Python 3.11.
# Common belief: a compression whose decoder is not installed raises tifffile's ValueError, which names the cure,
#   "requires the 'imagecodecs' package", so that programs catch ValueError and pass that on.
# Behaviour: so it is for LZW. Zstandard goes to the standard library's compression.zstd, which came with Python 3.14:
#   before it, what is raised is a ModuleNotFoundError of a package 'compression', which is no ValueError, does not name
#   imagecodecs, and can't be cured by installing a package of that name.
# Output seen:
#   lzw: ValueError <COMPRESSION.LZW: 5> requires the 'imagecodecs' package
#   zstd: ModuleNotFoundError No module named 'compression'
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet numpy==2.3.5 tifffile==2026.3.3 imagecodecs==2026.3.6
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import sys

import numpy as np
import tifffile

planes = np.arange(6 * 32 * 32, dtype=np.uint16).reshape(6, 32, 32)
for name in ("lzw", "zstd"):
    path = f"{sys.argv[1]}/{name}.tif"
    tifffile.imwrite(path, planes, compression=name, photometric="minisblack")
    assert (tifffile.imread(path) == planes).all(), "the file is not what was written"
PYTHON
"$folder/venv/bin/pip" uninstall --quiet --yes imagecodecs
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import sys

import tifffile

seen = {}
for name in ("lzw", "zstd"):
    try:
        tifffile.imread(f"{sys.argv[1]}/{name}.tif")
    except Exception as error:
        seen[name] = error
        print(f"{name}: {type(error).__name__} {error}")
assert isinstance(seen["lzw"], ValueError) and "imagecodecs" in str(seen["lzw"]), "LZW is told otherwise now"
if sys.version_info < (3, 14):
    assert isinstance(seen["zstd"], ModuleNotFoundError), "Zstandard is told as the others now"
    assert "imagecodecs" not in str(seen["zstd"]), "imagecodecs is named now"
PYTHON
