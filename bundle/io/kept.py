"""What is found out about this machine once and kept, in a file of rows by key."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import platformdirs

from bida.errors import ScanError
from bida.io.files import atomic

T = TypeVar("T")  # a dataclass


@dataclass(frozen=True)
class Kept(Generic[T]):
    """What was found, and where it comes from.

    Attributes:
        value: what was found.
        kept: by an earlier run.
        problem: why it could not be kept or taken from where it is kept, a sentence; None where all is well.
    """

    value: T
    kept: bool
    problem: str | None = None


def kept_or_found(
    file: Path, key: str, find: Callable[[], T], read: Callable[[Mapping[str, Any]], T], what: str
) -> Kept[T]:
    """Return what a file keeps under a key, or find it and keep it there; the other keys stay.

    A file that cannot be read or written costs a search and is told of in `Kept.problem`.

    Args:
        file: of JSON; it and its folder are made.
        key: what it depends on.
        find: finds it out, a dataclass of JSON's values.
        read: makes it of its row; raises ValueError, TypeError or KeyError for what is not one.
        what: what it is, in words.
    """
    rows, problem = _read(file, read, what)
    if key in rows:
        return Kept(rows[key], kept=True)
    value = find()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic(file) as temporary:
            text = json.dumps({name: asdict(one) for name, one in {**rows, key: value}.items()}, indent=1)  # type: ignore[call-overload]
            temporary.write_text(text + "\n", encoding="utf-8")
    except (OSError, ScanError) as error:  # the second is what the writer makes of the first
        reason = error.strerror if isinstance(error, OSError) else str(error)
        problem = f"{file}: {what} cannot be kept ({reason}); every run measures it again"
    return Kept(value, kept=False, problem=problem)


def _read(file: Path, read: Callable[[Mapping[str, Any]], T], what: str) -> tuple[dict[str, T], str | None]:
    """Return what a file keeps, and why it keeps nothing that can be used."""
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))
        return {key: read(row) for key, row in rows.items()}, None
    except FileNotFoundError:
        return {}, None
    except OSError as error:
        reason = str(error.strerror)
    except (ValueError, TypeError, KeyError, AttributeError):
        reason = "it is not what bida wrote"
    return {}, f"{file}: {what} cannot be read ({reason}); it was measured again"


def cache_file(name: str) -> Path:
    """Return a file in the user's cache folder, by the rules of the platform (Linux: XDG Base Directory, 0.8)."""
    return platformdirs.user_cache_path("bida", appauthor=False, opinion=False) / name
