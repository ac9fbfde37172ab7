"""The command `bida`: one file a command, with its options and what it does. Start reading at `parser.py`."""

import sys
from typing import Any

if not {"nibabel", "pydicom"} & {*sys.modules}:
    # nibabel loads pydicom, a fifth of a second, for a header's extension of DICOM's, which goes on as bytes here
    _modules: dict[str, Any] = sys.modules
    _modules["pydicom"] = None
    import nibabel as nibabel

    del _modules["pydicom"]
