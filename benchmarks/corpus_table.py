"""Make every input of tests/corpus.py, read it, and write the table of what was expected and what came.

python benchmarks/corpus_table.py docs/corpus.md
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from corpus import CASES, Refused, outcome

HEAD = """# What becomes of what a lab has

`tests/corpus.py` makes these inputs, and `tests/io/test_corpus.py` holds what is expected of them.
`python benchmarks/corpus_table.py docs/corpus.md` makes this page. Of {total} inputs {right} come out right and
{refused} are refused in one line. Places are those of the brightest voxel in the world.
[promises.md](promises.md) says what is promised beside that.

| input | expected | got |
| --- | --- | --- |
"""


def plain(text: str) -> str:
    """Return a text as a table's cell takes it."""
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "\\<")


def table() -> tuple[str, int]:
    """Return the page, and how many inputs went otherwise than expected."""
    rows, wrong = list[str](), 0
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            held, got = outcome(case, Path(folder))
        wrong += not held
        expected = f"`{case.expected}`" if isinstance(case.expected, str) else str(case.expected)
        cells = [plain(cell) for cell in (case.title, expected, got if held else f"WRONG: {got}")]
        rows.append(f"| {' | '.join(cells)} |\n")
    refused = sum(isinstance(case.expected, Refused) for case in CASES)
    return HEAD.format(total=len(CASES), right=len(CASES) - refused, refused=refused) + "".join(rows), wrong


if __name__ == "__main__":
    page, failed = table()
    Path(sys.argv[1]).write_text(page, encoding="utf-8")
    print(f"{sys.argv[1]}: {len(CASES)} inputs, {failed} otherwise than expected")
    sys.exit(failed > 0)
