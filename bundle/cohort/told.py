"""What is printed of many scans at the end of a run."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from bida.cohort.job import Outcome
from bida.progress import note, say


def tell(outcomes: Sequence[Outcome], page: Path | None = None, as_json: bool = False) -> None:
    """Print what became of every scan: as JSON, or a line each, the failed ones last, and, with a page, a sum."""
    if as_json:
        print(json.dumps([asdict(one) for one in outcomes], indent=1))
        return
    for one in outcomes:
        if one.error is None:
            there = " (was there)" if one.state == "kept" else ""
            say(f"{one.output}: {one.told.get('verdict') or 'done, without a self-check'}{there}")
    for one in outcomes:
        if one.error is not None:
            print(f"failed: {one.error}", file=sys.stderr)
    noted = Counter(note for one in outcomes for note in dict.fromkeys(one.told.get("warnings") or ()))
    for told, count in noted.most_common():
        share = f", {count} of {len(outcomes)}" if page is not None else ""
        note(told, share)
    if page is None:
        return
    counted = Counter(one.state for one in outcomes)
    summed = f"{counted['done']} done, {counted['kept']} were there, {counted['failed']} failed"
    say(f"{len(outcomes)} scan{'s' if len(outcomes) != 1 else ''}: {summed}; see {page}")
