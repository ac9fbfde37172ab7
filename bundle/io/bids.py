"""What a BIDS data set holds: animals, splits, groups, and the masks and labels beside them."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from bida.errors import ScanError, SettingsError
from bida.io.files import stem
from bida.io.own_results import check_scan

TABLE = "participants.tsv"  # of a BIDS data set
LABELS = Path("derivatives") / "labels"  # of a BIDS data set, where labels live by default
_SUBJECT = re.compile(r"(?:^|[\\/_])(sub-[0-9A-Za-z]+)")


@dataclass(frozen=True)
class Animal:
    """One image of one animal: ``subject`` is its BIDS label, ``path`` the image, ``data_set`` its folder's name."""

    subject: str
    path: Path
    data_set: str = ""

    @property
    def names(self) -> set[str]:
        """Return what it may be asked for by: sub-08 or 08, alone or after its data set's name and a slash."""
        labels = {self.subject, self.subject.removeprefix("sub-")}
        return labels | {f"{self.data_set}/{label}" for label in labels}


def find_animals(
    folders: Sequence[str | Path],
    split: str | None = None,
    include: Sequence[str] | None = None,
    exclude: Sequence[str] = (),
    suffixes: Sequence[str] = ("T2w", "T1w"),
) -> list[Animal]:
    """List the anatomical images of BIDS folders.

    Args:
        folders: BIDS data sets.
        split: Keep the animals whose ``split`` column in ``participants.tsv`` says so; a data set without that
            table or without that column is training data.
        include: Keep these subjects only: ``sub-01`` or ``01`` of every data set, or ``mouse-sherm/sub-01`` or
            ``mouse-sherm/01`` of the folder of that name alone.
        exclude: Drop these subjects, named likewise.
        suffixes: BIDS suffixes that count as images.

    Returns:
        The images, sorted by path.

    Raises:
        SettingsError: A folder is missing, a table does not say an animal's split, or nothing is left.
    """
    found = [
        animal for folder in map(Path, folders) for animal in animals_of(folder, split, include, exclude, suffixes)
    ]
    if not found:
        raise SettingsError(
            f"{', '.join(map(str, folders))}: at least one image must be left, got none for split={split}, "
            f"include={include}, exclude={list(exclude)}, suffixes={list(suffixes)}; "
            "check participants.tsv and the subjects asked for (validation takes its split val, or tuning_subjects)"
        )
    return sorted(found, key=lambda animal: str(animal.path))


def check_data_set(folder: Path) -> None:
    """Check that a data set is there.

    Raises:
        SettingsError: It is no folder.
    """
    if not folder.is_dir():
        raise SettingsError(f"{folder}: data folder must exist, it does not; name a BIDS data set")


def animals_of(
    folder: Path,
    split: str | None = None,
    include: Sequence[str] | None = None,
    exclude: Sequence[str] = (),
    suffixes: Sequence[str] = ("T2w", "T1w"),
) -> list[Animal]:
    """List the anatomical images of one BIDS folder, as `find_animals` does; there may be none.

    Raises:
        SettingsError: The folder is missing, its table does not say an animal's split, or an image is a result.
    """
    check_data_set(folder)
    splits, found, data_set = _splits(folder), [], folder.resolve().name
    for suffix, ending in product(suffixes, (".nii", ".nii.gz")):
        for path in folder.glob(f"[st]*-*/**/*_{suffix}{ending}"):  # sub-*, and tpl-* for templates
            subject = path.relative_to(folder).parts[0]
            animal = Animal(subject, path, data_set)
            if is_result(path):
                raise SettingsError(
                    f"{path}: an image of a data set must be a scan, got a result of super-resolution; move it to "
                    "derivatives, or leave its data set out"
                )
            wanted = include is None or not animal.names.isdisjoint(include)
            wanted = wanted and animal.names.isdisjoint(exclude)
            if wanted and (split is None or _split_of(subject, splits, folder) == split):
                found.append(animal)
    return sorted(found, key=lambda animal: str(animal.path))


def has_splits(folder: Path) -> bool:
    """Return whether a data set says which animals train and which validate."""
    return _splits(folder) is not None


def _splits(folder: Path) -> dict[str, str] | None:
    """Return each subject's split, None for a data set that does not say."""
    table = folder / TABLE
    if not table.exists():
        return None
    columns, rows = read_table(table)
    if "participant_id" not in columns:
        raise SettingsError(f"{table}: must have a column participant_id, got {columns}; name one so")
    for name in columns:
        if name != "split" and name.strip().lower() == "split":
            raise SettingsError(f"{table}: the column of splits must be called split, got {name!r}; rename it")
    return {row["participant_id"]: row["split"] for row in rows} if "split" in columns else None


def read_table(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Return the columns and the rows of a TSV file, empty text for what a short row lacks.

    Raises:
        SettingsError: It cannot be read, or is no UTF-8 text.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file, delimiter="\t", restval="")
            return list(rows.fieldnames or []), [{k: v for k, v in row.items() if k is not None} for row in rows]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or ("no UTF-8" if isinstance(error, UnicodeError) else str(error))
        raise SettingsError(f"{path}: a table must be UTF-8 text, got '{reason}'; save it as UTF-8") from error


def is_result(path: Path) -> bool:
    """Tell whether an image is one that bida made: by its name, its header or the record beside it."""
    if re.search(r"(^|_)(desc-)?superres(_|$)", stem(path)):
        return True
    try:
        check_scan(path)
    except ScanError:
        return True
    return False


def _split_of(subject: str, splits: dict[str, str] | None, folder: Path) -> str:
    if splits is None:
        return "train"
    if not splits.get(subject):
        raise SettingsError(f"{folder / TABLE}: must give the split of every subject, got none for {subject}; add it")
    return splits[subject]


def derivative(data: Path, animal: Animal, kind: str, suffix: str) -> Path | None:
    """Return the file of an animal's mask or labels; None where there is none."""
    folder = data / "derivatives" / kind / animal.path.parent.relative_to(data)
    return next(iter(sorted(folder.glob(f"*_{suffix}.nii*"))), None)


def group_of(data: Path, subject: str) -> str:
    """Return a subject's genotype, or group, from the data set's table; empty where it has none."""
    table = data / TABLE
    if table.exists():
        for row in read_table(table)[1]:
            if row.get("participant_id") == subject:
                return row.get("genotype") or row.get("group") or ""
    return ""


def subjects_of(scan: str | Path) -> list[str]:
    """Return the BIDS subjects that a scan's path names, as given and with its links followed."""
    return sorted(set(_SUBJECT.findall(str(scan)) + _SUBJECT.findall(str(Path(scan).resolve()))))


def subjects(own: str | Sequence[str]) -> Sequence[str]:
    """Return subjects as a sequence, where one may be given by itself."""
    return [own] if isinstance(own, str) else own


def label_file(folder: Path, subject: str) -> Path | None:
    """Return a subject's label map; None where it has none.

    Raises:
        SettingsError: It has several.
    """
    found = sorted((folder / subject).glob("**/*_dseg.nii*"))
    if len(found) > 1:
        listed = ", ".join(path.name for path in found)
        raise SettingsError(f"{folder / subject}: each atlas must have one label map, got {listed}; remove the others")
    return found[0] if found else None


def find_names(folder: Path) -> dict[int, str]:
    """Return the names in a data set's lookup table (``dseg.tsv`` or ``*_dseg.tsv``); empty where it has none.

    Raises:
        SettingsError: Several tables, or one that cannot be used.
    """
    tables = sorted([*folder.glob("dseg.tsv"), *folder.glob("*_dseg.tsv")])
    if len(tables) > 1:
        listed = ", ".join(path.name for path in tables)
        raise SettingsError(f"{folder}: must hold one lookup table, got {listed}; choose one by --names")
    return read_names(tables[0]) if tables else {}


def read_names(path: str | Path) -> dict[int, str]:
    """Return index to name of a BIDS lookup table: tab-separated, with columns ``index`` and ``name``.

    Raises:
        SettingsError: It cannot be read, lacks a column, or an index is not a whole number or stands there twice.
    """
    found: dict[int, str] = {}
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file, delimiter="\t")
            if not {"index", "name"} <= set(rows.fieldnames or []):
                raise SettingsError(f"{path}: must have the columns index and name, got {rows.fieldnames}; add them")
            for row in rows:
                if not re.fullmatch(r"\d+", row["index"] or "") or int(row["index"]) in found or not row["name"]:
                    raise SettingsError(
                        f"{path}, line {rows.line_num}: must give a new whole number and its name, got "
                        f"{row['index']!r} and {row['name']!r}; correct it"
                    )
                found[int(row["index"])] = row["name"]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise SettingsError(f"{path}: a table of names must be a TSV file, got '{reason}'; check --names") from error
    return found
