"""Checkpoints of trainings for a time, which lie beside the output that they are of."""

from __future__ import annotations

import os
from pathlib import Path

from bida.io.files import discard


def discard_used(checkpoint: str | Path, output: str | Path) -> None:
    """Remove the checkpoint of a training for a time that was killed when its output was written; a newer one stays.

    Raises:
        WeightsError: It is damaged.
    """
    times = [os.stat(one).st_mtime_ns for one in (checkpoint, output) if os.path.isfile(one)]
    if len(times) == 2 and times[0] <= times[1]:
        from bida.io.weights import read_checkpoint  # torch, where there is one

        if "made_from" in read_checkpoint(checkpoint):  # and no other program's
            discard(checkpoint)
