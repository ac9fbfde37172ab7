"""What made a result: versions of the programs, and how long its parts took."""

from __future__ import annotations

import json
import time
from importlib.metadata import PackageNotFoundError, version

from bida.progress import LOG
from bida.shipped import shipped

DISTRIBUTION = "bida-mri"  # the name to install; `bida` on the package index is another project


class Clock:
    """Seconds by part of a run."""

    def __init__(self) -> None:
        """Start."""
        self.start, self.seconds = time.perf_counter(), dict[str, float]()

    def lap(self, part: str) -> None:
        """Add the time since the last lap to a part, and log it."""
        now = time.perf_counter()
        LOG.info("%s: %.1f s", part.replace("_", " "), now - self.start)
        self.seconds[part] = round(self.seconds.get(part, 0.0) + now - self.start, 3)
        self.start = now


def own_version() -> str:
    """Return the version of bida: of what is installed, or of the unzipped MONAI bundle that it runs from."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return str(json.loads((shipped("configs") / "metadata.json").read_text(encoding="utf-8"))["version"])


def versions() -> dict[str, str]:
    """Return the versions that a result depends on."""
    return {"bida": own_version()} | {name: version(name) for name in ("torch", "monai", "numpy", "scipy", "nibabel")}
