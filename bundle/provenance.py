"""What made a result: versions of the programs, and how long its parts took."""

from __future__ import annotations

import time
from importlib.metadata import version

DISTRIBUTION = "bida-mri"  # the name to install; `bida` on the package index is another project


class Clock:
    """Seconds by part of a run."""

    def __init__(self) -> None:
        """Start."""
        self.start, self.seconds = time.perf_counter(), dict[str, float]()

    def lap(self, part: str) -> None:
        """Add the time since the last lap to a part."""
        now = time.perf_counter()
        self.seconds[part] = round(self.seconds.get(part, 0.0) + now - self.start, 3)
        self.start = now


def versions() -> dict[str, str]:
    """Return the versions that a result depends on."""
    return {"bida": version(DISTRIBUTION)} | {
        name: version(name) for name in ("torch", "monai", "numpy", "scipy", "nibabel")
    }
