"""Isotropic volumes from thick-slice rodent MR scans.

import bida

result = bida.superres("scan.nii.gz", samples=4)
result.save("scan_superres.nii.gz")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bida.mri.pipeline import restore, superres
    from bida.mri.result import Result
    from bida.mri.settings import Settings

__all__ = ["Result", "Settings", "restore", "superres"]


def __getattr__(name: str) -> Any:
    """Import the pipeline, and with it torch and MONAI, when it is first asked for."""
    if name in __all__:
        from bida.mri import pipeline  # it holds all four names

        return getattr(pipeline, name)
    raise AttributeError(f"module 'bida' has no attribute {name!r}")
