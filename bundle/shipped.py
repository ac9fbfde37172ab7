"""Where the files lie that are shipped with the package."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path


def shipped(folder: str) -> Path:
    """Return a folder shipped with the package, ``configs`` or ``models``.

    It is part of the package, but in an unzipped MONAI bundle: there it lies beside the package, where MONAI looks.
    """
    try:
        return Path(str(files(f"bida.{folder}")))
    except ModuleNotFoundError:
        return Path(__file__).resolve().parents[1] / folder
