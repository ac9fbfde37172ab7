"""Where the weights lie that are shipped with the package; without torch, for commands check their paths first."""

from __future__ import annotations

import re
from pathlib import Path

from bida.shipped import shipped


def released_path(name: str) -> Path:
    """Return the path of weights shipped with the package, such as ``model.pt``."""
    return shipped("models") / name


def weights_file(path: str | Path | None = None, name: str = "model.pt") -> Path:
    """Return the path of weights.

    Args:
        path: A file, or the version of released weights of the prior that came before, such as ``0.1``; None for the
            released ones.
        name: Of those, as they lie in the package.
    """
    if path is None:
        return released_path(name)
    before = released_path(f"model-{path}.pt") if re.fullmatch(r"\d+\.\d+", str(path)) else None
    return before if before is not None and before.is_file() else Path(path)
