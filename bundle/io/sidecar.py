"""JSON sidecars of images: beside the file, and inherited from higher folders of a BIDS data set."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from bida.errors import ScanError
from bida.io.files import sidecar_path, stem

DESCRIPTION = "dataset_description.json"  # stands at the root of a BIDS data set


def read_sidecar(path: str | Path) -> dict[str, Any]:
    """Read what JSON files say of an image: that beside it, over those of higher folders in a BIDS data set.

    BIDS, principle of inheritance: a file counts where its suffix is the image's and all its entities are, too; a
    deeper one goes before a higher one. A value that is null counts as not given. A link is not followed: its own
    place counts.

    Returns:
        The values; empty when there are none.

    Raises:
        ScanError: A sidecar is not a JSON object.
    """
    if Path(path).name in ("", ".."):  # a folder by its place alone; abspath, since links are not to be followed
        path = os.path.abspath(path)
        if not Path(path).name:  # the root, which has nothing beside it
            return {}
    found: dict[str, Any] = {}
    for file in [*_inherited(Path(path)), sidecar_path(path)]:
        if file.is_file():
            found |= _read(file)
    return {key: value for key, value in found.items() if value is not None}


def _inherited(path: Path) -> list[Path]:
    """Return the sidecars of an image in the folders from its data set's root to its own, the image's own left out."""
    own = sidecar_path(path)
    entities, suffix = _parts(stem(path))
    if not suffix or not entities:
        return []
    folder = Path(os.path.abspath(path)).parent
    folders = [folder, *folder.parents]
    root = next((k for k, one in enumerate(folders) if (one / DESCRIPTION).is_file()), None)
    if root is None:
        return []
    found = list[Path]()
    for one in reversed(folders[: root + 1]):
        fitting = []
        for file in sorted(one.glob(f"*{suffix}.json")):
            theirs, kind = _parts(file.stem)
            if kind == suffix and theirs <= entities and file.name != own.name:
                fitting.append((len(theirs), file))
        found += [file for _, file in sorted(fitting)]
    return found


def _parts(name: str) -> tuple[set[str], str]:
    """Return the entities of a BIDS name and its suffix: ``sub-01_run-2_T2w`` gives {sub-01, run-2} and T2w."""
    *entities, suffix = name.split("_")
    return set(entities), suffix


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ScanError(f"{file}: a sidecar must be JSON, got '{reason}'; correct or remove it") from error
    if not isinstance(content, dict):
        raise ScanError(f"{file}: a sidecar must be a JSON object, got {type(content).__name__}; correct it")
    return content
